"""A copy of the package to which a test adds what a contributor would."""

import os
import pathlib
import shutil
import subprocess
import sys

import ltu_jax

TESTS = pathlib.Path(__file__).parent


def copy_package(folder):
    """The copy's folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(pathlib.Path(ltu_jax.__file__).parent, folder / "ltu_jax", ignore=ignored)


def add_entry(registry, name, entry, before="", above=""):
    """Writes an entry as the first of the dictionary ``name``, and more lines above the one that is ``above``."""
    text = registry.read_text()
    [start] = [line for line in text.splitlines() if line.startswith(name) and line.endswith("{")]
    text = text.replace(start, f"{start}\n{entry}")
    registry.write_text(text.replace(above, before + above, 1) if before else text)


def printed(folder, *arguments):
    """What Python prints that finds the copy in a folder, and beside it what tests use."""
    path = os.pathsep.join(map(str, (folder, TESTS / "deletion", TESTS)))
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
