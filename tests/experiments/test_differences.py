"""Paired differences to the best method, against SciPy's own intervals."""

import sys

import made_cells
import numpy as np
import pytest
from scipy import stats

from experiments import differences


def closeness(ours):
    figures = {"unlearned": ours, "original": 7.0, "retrain": 3.0}
    return {model: {"margin_forget": figure} for model, figure in figures.items()}


def cells(values, **more):
    """Rows with these values of ``margin_forget`` at the seeds 0, 1, ...; the original's are 7, another Retrain's 3."""
    return [
        made_cells.cell(label, seeds=(seed, seed, seed), closeness=closeness(x), **more)
        for label, row in values.items()
        for seed, x in enumerate(row)
    ]


def run(measure, path, monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["differences.py", measure, str(path), *words])
    status = differences.main()
    out, err = capsys.readouterr()
    return status, [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in out.splitlines()], err


def test_the_intervals_are_those_of_scipy_and_the_best_has_the_lowest_mean(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    b = rng.normal(3.5, 0.5, 7)
    rows = {"A": b + rng.normal(1.0, 0.1, 7), "B": b, "C": b + [0.6, -0.5, 0.4, -0.2, 0.5, -0.3, 0.2]}
    path = made_cells.write(tmp_path / "results.jsonl", cells(rows))
    status, (_, _, first, *lines), _ = run("margin_forget", path, monkeypatch, capsys)
    assert status == 0
    assert first == ["B", "7", f"{b.mean():.3f} ± {b.std(ddof=1):.3f}", "", "", "best"]
    by_name = {line[0]: line for line in lines}
    assert list(by_name) == [*sorted("AC", key=lambda name: rows[name].mean()), "nothing done", "another Retrain"]
    for name, x in {**rows, "nothing done": np.full(7, 7.0), "another Retrain": np.full(7, 3.0)}.items():
        if name != "B":
            low, high = stats.ttest_rel(x, b).confidence_interval()
            wanted = f"{(x - b).mean():+.3f} [{low:+.3f}, {high:+.3f}]", f"{(high - low) / 2:.3f}"
            assert tuple(by_name[name][3:]) == (*wanted, "within noise" if low < 0 < high else "")
    assert [by_name[name][5] for name in "AC"] == ["", "within noise"]  # the made-up rows hold both answers


def test_a_row_that_is_named_takes_the_place_of_the_best(tmp_path, monkeypatch, capsys):
    rows = {"A": np.array([2.0, 4.0, 3.0]), "B": np.array([1.0, 2.5, 2.5]), "C": np.array([5.0, 5.5, 4.0])}
    path = made_cells.write(tmp_path / "results.jsonl", cells(rows))
    _, (header, _, *lines), _ = run("margin_forget", path, monkeypatch, capsys, "--to", "A")
    assert header[3] == "to A [95 %]"
    assert [line[0] for line in lines] == ["A", "B", "C", "nothing done", "another Retrain"]
    assert lines[0][3:] == ["", "", ""]
    for line in lines[1:3]:
        x = rows[line[0]] - rows["A"]
        low, high = stats.t.interval(0.95, 2, x.mean(), stats.sem(x))
        assert line[3] == f"{x.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    status, _, err = run("margin_forget", path, monkeypatch, capsys, "--to", "D")
    assert status == 2 and err == "error: --to: 'D'; allowed: A, B, C\n"


def test_the_gap_is_that_of_the_four_scores(tmp_path, monkeypatch, capsys):
    made = [made_cells.cell("FT", off=(1.0, 2.0, 3.0, seed), seeds=(seed, seed, seed)) for seed in range(2)]
    _, (_, _, *lines), _ = run("gap", made_cells.write(tmp_path / "r.jsonl", made), monkeypatch, capsys)
    original = [(10 + seed + 1 + 2 + 40 + seed) / 4 for seed in range(2)]  # Retrain's UA and MI grow with the seed
    wanted = {"FT": (6 / 4, 7 / 4), "nothing done": original, "another Retrain": (1.5, 1.75)}
    assert {line[0]: line[2].split(" ±")[0] for line in lines} == {k: f"{np.mean(v):.3f}" for k, v in wanted.items()}


def test_one_seed_decides_nothing(tmp_path, monkeypatch, capsys):
    path = made_cells.write(tmp_path / "r.jsonl", cells({"A": [1.0], "B": [5.0]}))
    _, lines, _ = run("margin_forget", path, monkeypatch, capsys)
    assert lines[3] == ["B", "1", "5.000", "", "", "too few seeds"]


@pytest.mark.parametrize(
    ("made", "names"),
    [
        ([made_cells.cell()], ("FT", "margin_forget")),
        (cells({"A": [1.0]}) + cells({"B": [1.0]}, fraction=0.3), ("10 %", "30 %")),
        (cells({"A": [1.0]}) + cells({"A": [1.0]}, rho=0.3), ("label", "remain_fraction")),
    ],
)
def test_what_cannot_be_compared_is_one_line(made, names, tmp_path, monkeypatch, capsys):
    status, lines, err = run("margin_forget", made_cells.write(tmp_path / "r.jsonl", made), monkeypatch, capsys)
    assert (status, lines) == (2, []) and err.startswith("error: ") and err.count("\n") == 1
    assert all(name in err for name in names)
