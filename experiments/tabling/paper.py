"""The paper's own rows of Tables 1 to 4, from one file."""

import json
import statistics
from pathlib import Path
from typing import Any

from experiments.tabling.layout import Entry, Row, Score, Table
from experiments.tabling.runs import MEASURES

FILE = Path(__file__).parents[1] / "results" / "paper.json"


def paper_tables(number: int) -> list[Table]:
    """What the paper prints as Table ``number``; two tables for Table 1, its top and its bottom.

    The mean gap is ours, of the printed gaps: the paper has none.
    """
    told = json.loads(FILE.read_text(encoding="utf-8"))
    notes = (
        f"{told['source']}. The paper's runs, not ours: other code and hardware, and another data set or "
        "model unless both are named alike.",
        f"{told['note']} mean gap is ours, of the printed gaps.",
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
        for table in told["tables"]
        if table["number"] == number
    ]


def _row(row: dict[str, Any], blocks: list[str]) -> Row:
    entries = {}
    for block, (*scores, ut_minutes) in zip(blocks, row["blocks"], strict=True):
        told = {name: Score(*score) for name, score in zip(MEASURES, scores, strict=True)}
        mean = statistics.fmean(gap for _, _, gap in scores) if row["label"] != "Retrain" else None
        entries[block] = Entry({**told, "mean": Score(mean)}, minutes=ut_minutes)
    return Row(row["label"], row["hint"], entries)
