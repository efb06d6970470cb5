"""A job runs its command until that has once succeeded, and records how it ended."""

import json
import subprocess
import sys

import pytest

from ltu_jax.sweeping import execute

COUNT = "import os, sys; print(os.getcwd()); open('runs', 'a').write('x'); sys.exit(int(open('status').read()))"


@pytest.fixture
def job(tmp_path):
    """Runs the command as a job, which takes the signals of its process; returns its record and its log."""

    def run(status):
        (tmp_path / "status").write_text(str(status))
        log = tmp_path / "job.txt"
        start = "import json, runpy, sys; runpy.run_path(sys.argv[1])['run_command'](*json.loads(sys.argv[2]))"
        given = json.dumps([["python", "-c", COUNT], str(log), str(tmp_path)])
        subprocess.run([sys.executable, "-c", start, execute.__file__, given], check=True, cwd="/")
        return json.loads(log.with_suffix(".json").read_text()), log.read_text()

    return run


def test_a_command_that_failed_is_run_again_and_one_that_succeeded_is_not(job, tmp_path):
    assert job(3)[0]["status"] == 3
    record, log = job(0)
    assert record["status"] == 0 and record["command"].startswith("python -c ") and record["seconds"] > 0
    assert log.count("$ python -c ") == 2 and log.splitlines().count(str(tmp_path)) == 2
    assert job(1)[0] == record and (tmp_path / "runs").read_text() == "xx"
