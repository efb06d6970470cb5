"""A table in every format, read back."""

import csv
import io
import re

import made_cells
import numpy as np
import pytest
from made_cells import SEEDS


def test_every_format_has_every_command_and_as_many_cells_in_each_row(show):
    cells = made_cells.noisy_cells(["FT", "NegGrad+", "my_method"], SEEDS) + made_cells.noisy_cells(
        ["FT"], SEEDS, fraction=0.5
    )
    commands = [cell["command"] for cell in cells]
    markdown, latex, table = (show(1, cells, "--format", name) for name in ("markdown", "latex", "csv"))
    assert set(commands) <= set(markdown.splitlines())
    assert {f"% {command}" for command in commands} <= set(latex.splitlines())
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:]
    heads = latex[latex.index(r"\toprule") : latex.index(r"\midrule")].splitlines()[2]
    assert {len(re.split(r"(?<!\\)&", line)) for line in (heads, *body)} == {1 + 2 * 8}
    assert r"my\_method" in latex and "±" not in latex
    rows = list(csv.DictReader(io.StringIO(table)))
    assert sorted("\n".join(row["commands"] for row in rows if row["commands"]).splitlines()) == sorted(commands)


def test_latex_marks_the_best_and_escapes_the_rest(show):
    cells = [made_cells.cell(label, (off, 1, 1, 1), seed) for label, off in (("a_b", 3), ("50 %", 1)) for seed in SEEDS]
    latex = show(1, cells, "--format", "latex")
    assert r"50 \%, rho 1 & 12.00 $\pm$ 1.00 (\textbf{1.00})" in latex
    assert latex.count(r"\textbf") == 2  # UA and the mean gap


def test_csv_has_the_unrounded_numbers(show):
    cells = made_cells.noisy_cells(["FT", "LTU"], SEEDS)
    [row] = [r for r in csv.DictReader(io.StringIO(show(1, cells, "--format", "csv"))) if r["row"] == "LTU"]
    own = [cell["result"] for cell in cells if cell["label"] == "LTU"]
    for name in made_cells.MEASURES:
        values = np.array([r["scores"][name] for r in own])
        shown = [float(row[f"{name}_{part}"]) for part in ("mean", "std", "gap")]
        assert shown == pytest.approx([values.mean(), values.std(ddof=1), np.mean([r["gap"][name] for r in own])])
    assert float(row["gap_mean"]) == pytest.approx(np.mean([r["gap"]["mean"] for r in own]))
    assert (row["source"], row["num_seeds"], row["rho"], row["flops"]) == ("ours", "3", "1.0", "1000000000000.0")


@pytest.mark.parametrize("name", ["ece", "UA", "UT"])  # of one's own, even if it is called like another
def test_figures_of_one_s_own_are_columns_of_the_methods_that_have_them_of_every_seed(show, name):
    def of(seed, **values):
        return {model: {name: value} for model, value in values.items()}

    values = [0.1, 0.14, 0.18]
    cells = [
        made_cells.cell("FT", seeds=seeds, measures=of(seeds[0], unlearned=value, original=0.5, retrain=0.2 + value))
        for seeds, value in zip(SEEDS, values, strict=True)
    ]
    cells = [made_cells.cell("LTU", seeds=seeds) for seeds in SEEDS] + cells  # the first of a pair has none
    text = show(1, cells)
    lines = [line.strip("|").split(" | ") for line in text.split("\n\n")[1].splitlines()]
    at = [i for i, head in enumerate(map(str.strip, lines[0])) if head == name][-1 if name != "UT" else 0]
    rows = {line[0].strip().split(",")[0]: line[at].strip() for line in lines[2:]}
    assert rows["FT"] == "0.140 ± 0.040" and rows["Original"] == "0.500 ± 0.000" and rows["Retrain"] == "0.340 ± 0.040"
    assert rows["LTU"] == ""
    row = {row["row"]: row for row in csv.DictReader(io.StringIO(show(1, cells, "--format", "csv")))}
    assert float(row["FT"][f"measure_{name}_mean"]) == pytest.approx(0.14) and row["LTU"][f"measure_{name}_mean"] == ""
    assert "figures by config.evaluation.measure" in text
    assert "config.evaluation.measure" not in show(1, [made_cells.cell("LTU", seeds=seeds) for seeds in SEEDS])
