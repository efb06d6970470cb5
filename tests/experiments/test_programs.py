"""A program of experiments/ is started by its path, as the README does, or as a module."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
QUICK = {"sweep", "tune", "tables", "paper_size", "audits"}  # the others wait for JAX
NO_HELP = {"damage", "disk_full"}  # they take no arguments, and begin at once
FOUND = sorted(path for path in (ROOT / "experiments").rglob("*.py") if "__main__" in path.read_text())
PROGRAMS = [
    pytest.param(path.relative_to(ROOT), marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem)
    for path in FOUND
    if path.stem not in NO_HELP
]


def started(*words, folder):
    done = subprocess.run(
        [sys.executable, *map(str, words), "--help"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\n\n")[2]  # the line before names the program, as it was started


@pytest.mark.parametrize("path", PROGRAMS)
def test_its_help_is_the_same_either_way(path, tmp_path):
    by_path = started(ROOT / path, folder=tmp_path)
    assert by_path and by_path == started("-m", ".".join(path.with_suffix("").parts), folder=ROOT)


def test_no_program_changes_where_python_searches():
    # grid.py imports what is one's own from where its jobs will; pool.py hands on to its jobs what it has itself.
    files = [path for name in ("experiments", "ltu_jax") for path in (ROOT / name).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if "sys." + "path" in path.read_text()}
    assert found == {"ltu_jax/sweeping/grid.py", "ltu_jax/sweeping/pool.py"}
