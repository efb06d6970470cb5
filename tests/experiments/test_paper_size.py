"""The program for one GPU: what it writes is whole, it goes on where it stopped, and its steps fill whole calls."""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from experiments import one_process, paper_size
from experiments.sweeps.paper_size import get_sweep
from ltu_jax.data.splits import make_splits
from ltu_jax.methods import build_method
from ltu_jax.sweeping.grid import cells
from ltu_jax.tabling import layout, runs
from ltu_jax.training.dispatch import STEPS_PER_CALL
from ltu_jax.training.supervised import num_train_steps
from ltu_jax.types import Parts, Rows, Source, Visible

ROOT = pathlib.Path(__file__).parents[2]
FINISH = one_process.finish
LABELS = ["LTU", "BadT", "SalUn", "RandL", "AMUN"]


def start(*words):
    command = [sys.executable, "experiments/paper_size.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def planned(folder):
    return cells(get_sweep(), folder / "cells", folder / "cache")


def test_the_problem_is_whole_and_every_run_takes_whole_calls_of_steps(tmp_path):
    """A remainder of steps would be one more program to compile."""
    nothing = np.broadcast_to(np.zeros((), np.uint8), (60_000, 32, 32, 3))
    source = Source("c", nothing, np.zeros(60_000, np.int32), np.arange(60_000).astype(str), 10, 50_000)
    todo = [cell for cell in planned(tmp_path) if cell.config.seed == 0]
    assert [cell.label for cell in todo] == LABELS
    for cell in todo:
        config = cell.config
        splits = make_splits(source, config.data, 0)
        assert (len(splits.train), len(splits.forget), len(splits.test)) == (45_000, 4_500, 10_000)
        forget, visible = (Rows(nothing[rows], source.labels[rows]) for rows in (splits.forget, splits.visible))
        parts = Parts(lambda *_: None, 10, init_params=lambda key: ({}, {}), features=lambda *_: None, bank=())
        steps = [build_method(config.method, parts).num_steps(Visible(forget, visible))]
        steps += [num_train_steps(config.training, len(rows)) for rows in (splits.train, splits.remain)]
        assert [count % STEPS_PER_CALL[-1] for count in steps] == [0, 0, 0], cell.label
        model = config.model
        assert (model.name, model.width, model.dtype, config.evaluation.num_retrain) == ("resnet18", 64, "bfloat16", 2)
        assert len(splits.visible) == (12_150 if cell.label == "LTU" else 40_500)


@pytest.fixture
def stubs(monkeypatch):
    """Everything that takes time is a line in the list; a name that it also lists under ``diverges`` raises."""
    made, diverges = [], set()

    def note(name):
        made.append(name)
        if name in diverges:
            raise FloatingPointError("loss not finite")

    def write(cell, *_):
        note(cell.label)
        cell.result.parent.mkdir(parents=True)
        cell.result.write_text("{}")

    job = types.SimpleNamespace(label="original")
    again = types.SimpleNamespace(label="retrain 0")
    monkeypatch.setattr(one_process.processes, "keep_compiled", lambda cache: None)
    monkeypatch.setattr(one_process, "load_problem", lambda *_: (None, None, None, None))
    monkeypatch.setattr(one_process, "original_job", lambda splits: job)
    monkeypatch.setattr(one_process, "retrain_jobs", lambda config, splits: [again])
    monkeypatch.setattr(one_process, "Trainer", lambda *_: types.SimpleNamespace(model=lambda job: note(job.label)))
    monkeypatch.setattr(one_process, "prepared", lambda *_: types.SimpleNamespace(retrained=note("attackers") or []))
    monkeypatch.setattr(one_process, "finish", write)
    return made, diverges


class Countdown(one_process.Clock):
    """Over when it was asked so often."""

    asked = 0

    @property
    def is_over(self):
        Countdown.asked -= 1
        return Countdown.asked < 0


def test_nothing_starts_when_the_time_is_over_and_the_next_call_goes_on(tmp_path, stubs, capsys):
    made, _ = stubs
    todo = planned(tmp_path)[::3]  # seed 0
    Countdown.asked = 0
    assert one_process.run(todo, tmp_path, Countdown(0.0, 0.0)) == [] and made == []
    Countdown.asked = 6  # before the data, two models, the attackers and two methods
    assert one_process.run(todo, tmp_path, Countdown(0.0, 0.0)) == []
    assert made == ["original", "retrain 0", "attackers", "LTU", "BadT"]
    assert [cell.label for cell in todo if cell.result.exists()] == ["LTU", "BadT"]
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()][-2:] == ["LTU", "BadT"]
    made.clear()
    Countdown.asked = 99
    assert one_process.run(todo, tmp_path, Countdown(0.0, 0.0)) == []
    assert made[3:] == ["SalUn", "RandL", "AMUN"]
    made.clear()
    assert one_process.run(todo, tmp_path, Countdown(0.0, 0.0)) == [] and made == []


def test_the_retrains_are_asked_once_for_all_methods(tmp_path, stubs, monkeypatch):
    asked, passed = [], []
    problem = types.SimpleNamespace(retrained=[asked.append])
    monkeypatch.setattr(one_process, "prepared", lambda *_: problem)
    monkeypatch.setattr(one_process, "run_problem", lambda *_, **__: (None, None))
    monkeypatch.setattr(one_process, "make_result", lambda *args: passed.append([one("forget") for one in args[-1]]))
    monkeypatch.setattr(one_process, "finish", FINISH)
    assert one_process.run(planned(tmp_path)[::3], tmp_path, one_process.Clock(0.0, np.inf)) == []
    assert len(passed) == 5 and asked == ["forget"]


def test_a_method_that_diverges_stops_no_other_and_a_model_that_does_stops_all(tmp_path, stubs):
    made, diverges = stubs
    todo, clock = planned(tmp_path)[::3], one_process.Clock(0.0, np.inf)
    diverges.add("BadT")
    assert one_process.run(todo, tmp_path, clock) == ["BadT: loss not finite"]
    assert made[3:] == LABELS and not todo[1].result.exists() and todo[4].result.exists()
    made.clear()
    diverges.add("retrain 0")
    assert one_process.run(todo, tmp_path, clock) == ["retrain 0: loss not finite"]
    assert made == ["original", "retrain 0"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--out: not given"),
        (["--out", "D", "--minutes", "-1"], "--minutes: -1"),
        (["--out", "D", "--minutes", "nan"], "--minutes: nan"),
        (["--out", "D", "--seed", "-1"], "config.seed: -1"),
        (["--out", "D", "--sed", "1"], "--sed: no such flag"),
        (["--out", "D"], "device: JAX finds a CPU alone"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    with pytest.raises(paper_size.ConfigError) as caught:
        paper_size.main([str(out) if word == "D" else word for word in words])
    assert named in str(caught.value) and "allowed" in str(caught.value) and not out.exists()


@pytest.mark.slow
def test_a_tiny_run_is_whole_can_be_continued_and_makes_a_table(tmp_path):
    assert start("--tiny", "--out", tmp_path, "--minutes", 0).stdout.startswith("0 of 5 methods in 0 minutes")
    assert not list(tmp_path.iterdir())

    done = start("--tiny", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    parts = [line[:22].strip() for line in done.stdout.splitlines() if " of them compiling; " in line]
    assert parts == ["data", "original", "retrain 0", "retrain 1", "attackers and scores", *LABELS]
    lines = [json.loads(line) for line in (tmp_path / "seed-0.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == LABELS
    files = {json.loads(path.read_text())["method"]: path for path in tmp_path.glob("cells/*/result.json")}
    for line in lines:
        result = line["result"]
        assert result == json.loads(files[result["method"]].read_text())
        assert result["provenance"]["device"].startswith("CPU") and f":{result['method']} " in line["command"]
        near = result["closeness"]
        assert list(near) == ["unlearned", "original", "retrain"] and 0 <= near["unlearned"]["js_forget"] <= 1
    table = layout.build(1, runs.read([str(tmp_path / "seed-0.jsonl")]))
    assert [row.label for row in table.rows] == ["Original", "Retrain", *LABELS, "between two Retrains"]
    shown = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[-9:]}
    assert [len(shown[label]) for label in ("original", "Retrain", *LABELS)] == [8, 8, *[12] * 5]
    assert shown["AMUN"][1] == f"{lines[4]['result']['scores']['ua']:.2f}"

    again = start("--tiny", "--out", tmp_path)
    assert "compiling; " not in again.stdout and again.stdout.splitlines() == done.stdout.splitlines()[-9:]
    files["amun"].unlink()
    last = start("--tiny", "--out", tmp_path)
    assert "unlearning: " in last.stderr and "original: " not in last.stderr and "retrain 0: " not in last.stderr
    made = json.loads(files["amun"].read_text())
    assert made["scores"].items() - lines[4]["result"]["scores"].items() <= {
        ("ut_minutes", made["scores"]["ut_minutes"])
    }
