"""The rows of the paper's Tables 1 to 4 as the paper prints them, read from one file."""

import json
import statistics
from pathlib import Path
from typing import Any

from ltu_jax.tabling.layout import Entry, Row, Score, Table
from ltu_jax.tabling.runs import MEASURES

FILE = Path(__file__).with_name("paper.json")


def paper_tables(number: int) -> list[Table]:
    """The paper's Table ``number``; for Table 1 two tables, its top and its bottom.

    The mean gap is computed here from the printed gaps: the paper has none.
    """
    paper = json.loads(FILE.read_text(encoding="utf-8"))
    notes = (
        f"{paper['source']}. The paper's runs, not ours: other code and hardware, and another data set or "
        "model unless both are named alike.",
        f"{paper['note']} mean gap is ours, of the printed gaps.",
    )
    return [
        Table(
            title=f"The paper's own {table['name']}: {table['dataset']}, {table['model']}",
            source="paper",
            blocks=tuple(table["blocks"]),
            rows=tuple(_row(row, table["blocks"]) for row in table["rows"]),
            notes=notes,
            about={name: table[name] for name in ("dataset", "model")},
        )
        for table in paper["tables"]
        if table["number"] == number
    ]


def _row(row: dict[str, Any], blocks: list[str]) -> Row:
    entries = {}
    for block, (*scores, ut_minutes) in zip(blocks, row["blocks"], strict=True):
        by_measure = {name: Score(*score) for name, score in zip(MEASURES, scores, strict=True)}
        mean = statistics.fmean(gap for _, _, gap in scores) if row["label"] != "Retrain" else None
        entries[block] = Entry({**by_measure, "mean": Score(mean)}, minutes=ut_minutes)
    return Row(row["label"], row["hint"], entries)
