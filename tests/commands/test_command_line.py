"""A mistake on the command line: its whole answer."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.reliability.mistakes import ANSWERS, REFERENCES, answers, make_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes").resolve()
    make_files(folder)
    return folder


def unlearn(folder, *words, **env):
    command = [sys.executable, "-m", "ltu_jax.unlearn", *words]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


@pytest.mark.parametrize(
    "words", [*ANSWERS, *(pytest.param(words, marks=pytest.mark.slow) for words in REFERENCES)], ids=" ".join
)
def test_a_mistake_is_this_line(folder, words):
    done = unlearn(folder, *words)
    errors = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("reading "))  # progress
    assert errors == f"{dict(answers(folder))[words]}\n"
    assert done.returncode == 2 and done.stdout == ""


def test_the_shipped_configurations_name_the_methods(folder):
    root = pathlib.Path(__file__).parents[2]
    done = unlearn(folder, "--config", f"{root}/experiments/configs/digits.py:slun")
    assert done.stderr == f"error: {ANSWERS['--config', 'good.py:slun']}\n"


@pytest.mark.parametrize("words", [["--config"], ["--config=nowhere.py:ssd"], ["--config.seed=many"]])
def test_help_is_given_whatever_else_is_there(folder, words):
    done = unlearn(folder, "--help", *words)
    assert done.returncode == 0 and done.stderr == ""
    assert ("config.method.dampening" in done.stdout) == ("--config=nowhere.py:ssd" in words)


def test_a_mistake_in_a_file_does_not_wait_for_jax(folder):
    import_log = unlearn(folder, "--config=good.py:slun", PYTHONPROFILEIMPORTTIME="1").stderr
    assert "absl.flags" in import_log and "| jax" not in import_log and "numpy" not in import_log
