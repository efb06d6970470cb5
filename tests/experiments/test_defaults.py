"""The table of LTU's defaults."""

import json
import pathlib
import statistics
import sys

import pytest

from experiments import defaults
from ltu_jax.sweeping.grid import cells, load_sweep

ROOT = pathlib.Path(__file__).parents[2]


def result(gap, floor, fraction=0.1, warnings=(), seconds=6.0):
    return {
        "dataset": "digits",
        "model": "resnet8",
        "forget": {"fraction": fraction, "count": 90},
        "gap": {"mean": gap},
        "original_gap": {"mean": 4.0},
        "retrain_spread": {"mean": floor},
        "warnings": list(warnings),
        "scores": {"ut_minutes": seconds / 60},
    }


def test_a_line_has_mean_deviation_floor_and_their_ratio(tmp_path, monkeypatch, capsys):
    gaps, floors = (1.0, 2.0, 4.5), (1.0, 2.0, 0.0)
    results = [result(*both, seconds=s) for *both, s in zip(gaps, floors, (6.0, 1.0, 2.0), strict=True)]
    results[1]["warnings"] = ["forgets too little", "remembers too little"]
    for i, some in enumerate((results[:2], [result(9.0, 3.0, fraction=0.5), results[2]])):
        (tmp_path / f"{i}.jsonl").write_text(
            "".join(json.dumps({"label": "LTU", "result": one}) + "\n" for one in some)
        )
    monkeypatch.setattr(sys, "argv", ["defaults.py", str(tmp_path / "0.jsonl"), str(tmp_path / "1.jsonl")])
    defaults.main()
    lines = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in capsys.readouterr().out.splitlines()]
    mean, deviation = sum(gaps) / 3, statistics.stdev(gaps)
    wanted = [f"{mean:.2f}", f"{deviation:.2f}", "1.00", f"{mean:.2f}", "1 of 3", "2.0"]
    assert lines[2] == ["digits, resnet8", "10 %, 90 rows", "3", "4.00", *wanted]
    assert lines[3] == ["digits, resnet8", "50 %, 90 rows", "1", "4.00", "9.00", "", "3.00", "3.00", "0 of 1", "6.0"]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4


@pytest.mark.parametrize(
    ("name", "seeds"),
    [("defaults", range(100, 120)), ("defaults_cifar10_jpeg", range(10)), ("defaults_tiny_imagenet32", range(3))],
)
def test_nothing_but_the_problem_is_set(name, seeds, tmp_path):
    planned = cells(load_sweep(ROOT / "experiments" / "sweeps" / f"{name}.py"), tmp_path, tmp_path)
    assert {cell.config.seed for cell in planned} == set(seeds)
    assert len(planned) == 3 * len(seeds) and {c.config.data.forget_fraction for c in planned} == {0.1, 0.3, 0.5}
    assert all("config.method" not in word for cell in planned for word in cell.job.command)
    assert {cell.config.evaluation.num_retrain for cell in planned} == {2}
