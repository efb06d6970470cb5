"""The paper's own rows: as it prints them, and marked as its own."""

import csv
import io
import itertools
import json

import made_cells
import pytest
from made_cells import read_table

from ltu_jax.tabling.paper import FILE


def test_the_papers_gaps_are_the_differences_of_its_means_but_where_it_prints_otherwise():
    printed_otherwise = {
        ("Table 1, top", "GA", "50 %", "ra"): 0.30,
        ("Table 1, bottom", "Amnesiac", "10 %", "ta"): 51.44,
        ("Table 1, bottom", "Fisher", "10 %", "ua"): 59.12,
        ("Table 1, bottom", "Fisher", "10 %", "ra"): 79.40,
        ("Table 2", "LTU", "rho 0.3", "ta"): 0.31,
    }
    different = {}
    for table in json.loads(FILE.read_text())["tables"]:
        retrain = table["rows"][0]["blocks"]
        for row, (place, block) in itertools.product(table["rows"], enumerate(table["blocks"])):
            cells = zip(made_cells.MEASURES, row["blocks"][place][:4], retrain[place][:4], strict=True)
            for name, (mean, _, gap), (reference, _, _) in cells:
                if abs(abs(mean - reference) - gap) > 0.031:  # the paper rounds before and after it subtracts
                    different[table["name"], row["label"], block, name] = gap
    assert different == printed_otherwise


@pytest.mark.parametrize(("number", "rows"), [(1, [10, 10]), (2, [6]), (3, [5]), (4, [4])])
def test_the_papers_own_rows_stand_below_ours_and_are_marked_as_its_own(show, number, rows):
    ours, *papers = show(number, [made_cells.cell("LTU")], "--paper").split("**The paper's own ")
    assert "4.37 ± 0.55 (0.87)" not in ours
    assert [len(read_table(paper)) for paper in papers] == rows
    assert "4.37 ± 0.55 (0.87)" in papers[0] and "arXiv:2407.10494" in papers[0] and "not ours" in papers[0]
    table = csv.DictReader(io.StringIO(show(number, [made_cells.cell("LTU")], "--paper", "--format", "csv")))
    assert [row["source"] for row in table if row["row"] == "LTU"].count("ours") == 1
