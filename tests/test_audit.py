"""The command line of audits: a mistake is one line at once, before JAX is imported; nothing is written."""

import json
import os
import re
import subprocess
import sys

import pytest

from ltu_jax.config import resolve
from ltu_jax.default import get_config
from ltu_jax.setting import to_dict


def command(folder, *args):
    words = [sys.executable, "-X", "importtime", "-m", "ltu_jax.audit", *args]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=os.environ, timeout=600)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--workdir: None; allowed: the folder of a finished run"),
        (["--workdir=none"], "--workdir: 'none' has no result.json; allowed: a folder that python -m ltu_jax.unlearn"),
        (["--workdir=run", "--level=3"], r"--level: 3; allowed: 0\.\.2"),
        (["--workdir=run", "--retrains=0"], r"--retrains: 0; allowed: 1\.\.64"),
        (["--workdir=run", "--shadows=4"], r"--shadows: 4; allowed: 6\.\.512"),
        (["--workdir=run", "--shadows=7"], "--shadows: 7; allowed: an even number, for they come in pairs"),
        (["--workdir=run", "--oracles=5"], r"--oracles: 5; allowed: 6\.\.512"),
        (["--workdir=run", "--canaries=39"], "--canaries: 39; allowed: 0, or 40 and more"),
        (["--workdir=run", "--config.num_seeds=2"], "config.num_seeds: 2; allowed: 1, the folder of one seed"),
        (["--workdir=run", "--audits=rima"], "--audits: 'rima' is no audit; allowed: .*did you mean 'rmia'"),
        (["--workdir=run", "--audits=held_out,lira"], "--audits: 'lira' is of level 2; allowed: with --level 2"),
        (["--workdir=run", "--audits=rmia", "--level=0"], "--audits: 'rmia' is of level 1; allowed: with --level 1"),
        (["--workdir=run", "--audits="], "--audits: '' is no audit; allowed: "),
        (["--workdir=run", "--config.seed=1"], r"--workdir: 'run' holds another run \(config.seed was 0, is 1"),
        (["--workdir=run", "--cache=run/result.json"], "--cache: 'run/result.json' cannot be made"),
        (["--wrkdir=run"], "--wrkdir: no such flag; allowed: .*did you mean 'workdir'"),
    ],
)
def test_a_mistake_is_one_line_at_once_and_nothing_is_written(tmp_path, words, message):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(to_dict(resolve(get_config()))))
    (run / "result.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    done = command(tmp_path, *words)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2 and len(said) == 1, said
    assert re.match(f"error: {message}", said[0]), said[0]
    assert not re.search(r"\| +(jax|numpy)$", done.stderr, re.M)
    assert sorted(tmp_path.rglob("*")) == before and done.stdout == ""


def test_help_does_not_wait_for_jax(tmp_path):
    done = command(tmp_path, "--help")
    assert done.returncode == 0 and "--audits" in done.stdout and "--level" in done.stdout
    assert not re.search(r"\| +(jax|numpy)$", done.stderr, re.M)
