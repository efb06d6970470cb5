"""The command line of the command that says how hard rows are: a mistake is one line at once, nothing is written."""

import csv
import re

import pytest
from refused import command, imports, refusal

SMALL = [f"--config.{field}" for field in ("data.train_size=60", "training.epochs=2", "training.batch_size=20")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out: None; allowed: a file that ends in .csv"),
        (["--out=rows.txt"], "--out: 'rows.txt'; allowed: a file that ends in .csv"),
        (["--out=folder.csv"], "--out: 'folder.csv'; allowed: a file that ends in .csv"),
        (["--out=folder.csv/there.txt/rows.csv"], "--out: 'folder.csv/there.txt' cannot be made"),
        (["--out=rows.csv", "--cache=folder.csv/there.txt"], "--cache: 'folder.csv/there.txt' cannot be made"),
        (["--out=rows.csv", "--config.num_seeds=2"], "config.num_seeds: 2; allowed: 1, for each split has a file"),
        (["--out=rows.csv", "--config.weights=a.pth"], "config.weights: 'a.pth' are trained already; allowed: unset"),
        (["--out=rows.csv", "--config.training.epochs=1"], "config.training.epochs: 1 gives no spread of losses; all"),
        (["--out=rows.csv", "--config.data.forget_kind=hard"], "config.data.difficulty: None; allowed: what python"),
        (["--uot=rows.csv"], "--uot: no such flag; allowed: .*did you mean 'out'"),
    ],
)
def test_a_mistake_is_one_line_at_once_and_nothing_is_written(tmp_path, words, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "there.txt").touch()
    said, done = refusal("ltu_jax.difficulty", tmp_path, *words)
    assert re.match(f"error: {message}", said), said
    assert not imports(done, "jax", "numpy")


def test_help_does_not_wait_for_jax(tmp_path):
    done = command("ltu_jax.difficulty", tmp_path, "--help")
    assert done.returncode == 0 and "--out" in done.stdout and "--config.data.difficulty" in done.stdout
    assert not imports(done, "jax", "numpy")


@pytest.mark.slow
def test_the_rows_that_it_calls_hardest_are_those_that_are_forgotten(tmp_path):
    done = command("ltu_jax.difficulty", tmp_path, "--out=made/rows.csv", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "60 rows in made/rows.csv; the training is kept in made/cache\n"
    with (tmp_path / "made" / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and all(0 <= float(row["confidence"]) <= 1 and float(row["iqr"]) >= 0 for row in rows)
    request = ["--config.data.forget_kind=hard", "--config.data.difficulty=made/rows.csv"]
    done = command("ltu_jax.unlearn", tmp_path, "--dry_run", *request, *SMALL)
    assert done.returncode == 0 and '"forget": 6' in done.stdout, done.stderr
    done = command("ltu_jax.unlearn", tmp_path, "--dry_run", *request, *SMALL, "--config.seed=1")
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(said) == 1 and "ids are not in the training set" in said[0]
