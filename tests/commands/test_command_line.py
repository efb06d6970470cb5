"""A mistake on the command line: its whole answer."""

import csv
import logging
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments.reliability.mistakes import ANSWERS, REFERENCES, answers, make_files
from ltu_jax.commands import command_line
from ltu_jax.setting import plain


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


HOSTILE = "a\x1b[2J\nverified: all\u202eb\x9b1A"
"""Clears the screen, writes a line of its own, turns what follows around, and goes up a line."""


def controls(text):
    """The characters of a text that do more than stand there, but for ends of lines."""
    return [c for c in text.replace("\n", "") if not c.isprintable()]


COMMANDS = {
    "a table with such paths": ["unlearn", "--config.data.name=table", "--config.data.table=rows.csv", "--dry_run"],
    "a table of such a name": ["unlearn", "--config.data.name=table", f"--config.data.table={HOSTILE}.csv"],
    "a folder with such classes": ["unlearn", "--config.data.name=folder", "--config.data.data_dir=classes"],
    "images that are left out": [
        *("unlearn", "--config.data.name=folder", "--config.data.data_dir=classes", "--dry_run"),
        *("--config.data.skip_unreadable=True", "--config.data.image_size=8", "--config.data.train_size=20"),
        *("--config.model.name=vit_micro", "--config.model.patch_size=4"),
    ],
    "ids": ["unlearn", "--config.data.train_size=300", "--forget", "ids.txt", "--workdir", "new"],
    "a workdir": ["unlearn", "--workdir", HOSTILE],
    "a value": ["unlearn", f"--config.model.name={HOSTILE}"],
    "a flag": ["unlearn", f"--{HOSTILE}=1"],
    "a run": ["report", HOSTILE],
    "a page": ["report", HOSTILE, "--out", f"{HOSTILE}.html"],
    "a receipt": ["verify", f"{HOSTILE}.json"],
    "leftovers": ["verify", "--leftovers", HOSTILE, "--forget", "ids.txt", "--config.data.train_size=300"],
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), (f"{HOSTILE}.png", 0), ("none.png", 1)])
    (folder / "ids.txt").write_text(HOSTILE)
    (folder / HOSTILE).mkdir()
    (folder / HOSTILE / f"{HOSTILE}.json").write_text("{}")
    for name in (f"{HOSTILE}0", f"{HOSTILE}1"):
        (folder / "classes" / name).mkdir(parents=True)
        for i in range(40):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / "classes" / name / f"{HOSTILE}{i}.png")
        (folder / "classes" / name / f"{HOSTILE}.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_names_from_outside_are_shown_and_do_nothing(hostile, words):
    command = [sys.executable, "-m", f"ltu_jax.{words[0]}", *words[1:]]
    done = subprocess.run(command, cwd=hostile, capture_output=True, text=True)
    assert not controls(done.stdout) and not controls(done.stderr)
    assert "\nverified: all" not in done.stdout + done.stderr
    assert "\\x1b[2J" in done.stdout + done.stderr or "\\u001b[2J" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_a_note_in_a_log_is_one_plain_line():
    record = logging.LogRecord("ltu_jax", logging.WARNING, "", 0, "%s is damaged", (HOSTILE,), None)
    line = command_line._Plain("note: %(message)s").format(record)
    assert line == plain(f"note: {HOSTILE} is damaged") and not controls(line) and "\n" not in line


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


@pytest.mark.parametrize("count", [3, 10**5])
def test_a_reader_that_wants_no_more_lines_is_no_mistake(count):
    program = f"from ltu_jax.commands.command_line import print_lines; print_lines('line' for _ in range({count}))"
    ours, theirs = os.pipe()
    os.close(ours)  # as head does, once it has its lines
    done = subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")
