"""The files for clusters start the command, with its arguments as they were, on stand-ins for the clusters."""

import os
import pathlib
import shlex
import subprocess

import pytest

CLUSTER = pathlib.Path(__file__).parents[2] / "experiments" / "cluster"
WORDS = ["--config", "my file.py:ltu", "--config.data.classes=1,2", "--workdir", "runs/it's"]


@pytest.mark.parametrize("name, stand_in", [("slurm.sh", "srun"), ("tpu_pod.sh", "gcloud")])
def test_every_host_gets_the_command_as_it_was_given(tmp_path, name, stand_in):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text(f'PATH="{tmp_path}:$PATH"\n')  # else srun is not found
    (tmp_path / stand_in).write_text('#!/bin/bash\nprintf "%s\\0" "$@" > given\n')
    (tmp_path / stand_in).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}" if stand_in == "gcloud" else os.environ["PATH"]
    env = {**os.environ, "PATH": path, "NAME": "pod", "ZONE": "a"}
    subprocess.run([CLUSTER / name, *WORDS], cwd=tmp_path, env=env, check=True)
    given = (tmp_path / "given").read_text().split("\0")[:-1]
    if stand_in == "gcloud":
        assert given[:-1] == [*"compute tpus tpu-vm ssh pod --zone a --worker=all --command".split()]
        there, _, command = given[-1].partition("cd ltu_jax && .venv/bin/")
        assert there == ""
        given = shlex.split(command)
    assert given == ["python", "-m", "ltu_jax.unlearn", "--distributed", *WORDS]
