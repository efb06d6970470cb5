"""What the command that says how hard rows are writes: of each training row, of the original's own training, once."""

import csv
import dataclasses

import numpy as np
from small import small_config

from ltu_jax.auditing.difficulty import difficulty
from ltu_jax.commands import trace
from ltu_jax.commands.options import Options
from ltu_jax.training.jobs import Trainer
from ltu_jax.types import silent
from ltu_jax.unlearning.preparation import original_job
from ltu_jax.unlearning.problem import load_problem


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_training_row_has_its_line_and_nothing_is_trained_twice(tmp_path, labels, capsys):
    config, out = small_config(), tmp_path / "new" / "rows.csv"
    options = Options(out.parent, tmp_path / "cache")
    assert trace.write_difficulty(config, out, options) == 0
    assert capsys.readouterr().out == f"80 rows in {out}; the training is kept in {tmp_path / 'cache'}\n"
    loaded, found = load_problem(config), read(out)
    assert [row["id"] for row in found] == loaded.source.ids[loaded.splits.train].tolist()
    trainer = Trainer(config, loaded.source, loaded.spec, None, silent)
    wanted = difficulty(trainer.traced(original_job(loaded.splits))["losses"])
    for name in ("iqr", "confidence"):
        np.testing.assert_array_equal([float(row[name]) for row in found], getattr(wanted, name))
    for kind in ("hard", "easy", "class"):  # the same training rows, whatever is to be forgotten of them
        data = dataclasses.replace(config.data, forget_kind=kind, difficulty=str(tmp_path / "none.csv"))
        again = tmp_path / f"{kind}.csv"
        assert trace.write_difficulty(dataclasses.replace(config, data=data), again, options) == 0
        assert again.read_bytes() == out.read_bytes()
    assert [label for label in labels if not label.startswith("reading")] == ["original, recorded"]


def test_a_training_that_diverges_is_one_line(tmp_path, labels, monkeypatch, capsys):
    def diverge(self, job):
        raise FloatingPointError("original: loss not finite in steps 1..5")

    monkeypatch.setattr(Trainer, "traced", diverge)
    assert trace.write_difficulty(small_config(), tmp_path / "rows.csv", Options(tmp_path, tmp_path / "cache")) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'rows.csv'}: original: loss not finite in steps 1..5\n"
    assert not (tmp_path / "rows.csv").exists()
