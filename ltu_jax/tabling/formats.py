"""A table as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table
from ltu_jax.reporting.table import minutes, number
from ltu_jax.tabling.layout import CLOSE, Entry, Row, Score, Table
from ltu_jax.tabling.runs import MEASURES

Bold = Callable[[str], str]
HEADS = {**{name: name.upper() for name in MEASURES}, "mean": "mean gap", "js_forget": "JS", "margin_forget": "margin"}
HEADS |= audit_table.HEADS
"""Of the columns of scores; one that no row has is left out."""
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
LATEX |= {"^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$"}


def markdown(table: Table) -> str:
    """The table for a README, with the commands in a folded section."""
    columns = _columns(table)
    several = len(table.blocks) > 1
    heads = [f"{block}: {one.head}" if several else one.head for block in table.blocks for one in columns]
    lines = [f"**{table.title}**", "", _line(["", *heads]), "|---" * (len(heads) + 1) + "|"]
    lines += [_line(_cells(table, row, columns, lambda text: f"**{text}**")) for row in table.rows]
    lines += [f"\n{note}" for note in (*table.notes, _about(table))]
    commands = _commands(table)
    if commands:
        lines.append("\n<details><summary>The command of every run</summary>\n")
        lines += ["```sh", *commands, "```", "\n</details>"]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def latex(table: Table) -> str:
    """The table for a paper that uses the package booktabs; the commands are comments."""
    columns = _columns(table)
    width = len(columns)
    lines = [r"\begin{table*}", f"\\caption{{{_escape(table.title)}}}", r"\centering\small"]
    lines += [f"\\begin{{tabular}}{{l{'r' * width * len(table.blocks)}}}", r"\toprule"]
    if len(table.blocks) > 1:
        spans = [f"\\multicolumn{{{width}}}{{c}}{{{_escape(block)}}}" for block in table.blocks]
        lines.append(f" & {' & '.join(spans)} \\\\")
    heads = [_escape(column.head) for column in columns]
    lines += [" & ".join(["", *heads * len(table.blocks)]) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = _cells(table, row, columns, lambda text: f"\0{text}\1")
        # The bold marks are replaced last, so that they are not escaped.
        texts = [_escape(cell).replace("\0", r"\textbf{").replace("\1", "}") for cell in cells]
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\footnotesize"]
    lines += [_escape(note) + r"\par" for note in (*table.notes, _about(table))]
    return "\n".join([*lines, r"\end{table*}", *(f"% {line}" for line in _commands(table))]) + "\n"


def _escape(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in text)


def to_csv(tables: Sequence[Table]) -> str:
    """One line per row and block, with unrounded numbers; ``best`` names the gaps that would be bold."""
    scores = [f"{name}_{part}" for name in MEASURES for part in ("mean", "std", "gap")]
    costs = ["forward_images", "backward_images", "flops"]
    heads = ["source", "table", "block", "row", "hint", "num_seeds", *scores, "gap_mean", "gap_std", "best"]
    heads += ["ut_minutes", "rho", "remain_per_forget", *costs]
    heads += [f"{name}_{part}" for name in CLOSE for part in ("mean", "std")]
    entries = [entry for table in tables for row in table.rows for entry in row.entries.values()]
    audits = [name for name in AUDITS if any(name in entry.scores for entry in entries)]
    heads += [f"audit_{name}_{part}" for name in audits for part in ("mean", "std", "low", "high")]
    own = own_names(entries)
    heads += [f"measure_{name}_{part}" for name in own for part in ("mean", "std")]
    about = list(dict.fromkeys(name for table in tables for name in table.about))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*heads, *about, "commands"])
    for table in tables:
        for row in table.rows:
            for block, entry in row.entries.items():
                values: list[Any] = [table.source, table.title, block, row.label, row.hint, entry.num_seeds]
                for name in MEASURES:
                    values += entry.scores[name][:3]
                values += entry.scores["mean"][:2]
                values += [
                    " ".join(name for name, score in entry.scores.items() if score.best),
                    entry.minutes,
                    entry.rho,
                ]
                values += [entry.ratio, *(entry.cost.get(name) for name in costs)]
                for name in CLOSE:
                    values += entry.scores.get(name, Score(None))[:2]
                for name in audits:
                    score = entry.scores.get(name, Score(None))
                    values += [*score[:2], *(score.ends or (None, None))]
                for name in own:
                    values += entry.own.get(name, Score(None))[:2]
                writer.writerow([*values, *(table.about.get(name) for name in about), "\n".join(entry.commands)])
    return buffer.getvalue()


class Column(NamedTuple):
    """A column of one block."""

    name: str  # of a score, of a figure of the user's own, or in ABOUT
    head: str
    is_own: bool = False


ABOUT = {"minutes": "UT", "images": "images, k", "ratio": "remain per forget"}


def _columns(table: Table) -> list[Column]:
    """The columns of one block; one that would be empty in every row is left out."""
    entries = [entry for row in table.rows for entry in row.entries.values()]
    found = [Column(name, head) for name, head in HEADS.items() if any(name in entry.scores for entry in entries)]
    found += [Column(name, name, is_own=True) for name in own_names(entries)]
    known = {"minutes": True, "images": any(entry.cost for entry in entries)}
    known |= {"ratio": any(entry.ratio is not None for entry in entries)}
    return [*found, *(Column(name, head) for name, head in ABOUT.items() if known[name])]


def own_names(entries: Sequence[Entry]) -> list[str]:
    """The figures of the user's own that any entry has."""
    return list(dict.fromkeys(name for entry in entries for name in entry.own))


def _cells(table: Table, row: Row, columns: Sequence[Column], bold: Bold) -> list[str]:
    cells = [", ".join(filter(None, (row.label, row.hint)))]
    for block in table.blocks:
        entry = row.entries.get(block)
        cells += [_cell(entry, column, bold) if entry else "" for column in columns]
    return cells


def _cell(entry: Entry, column: Column, bold: Bold) -> str:
    name = column.name
    if column.is_own:
        return _score(entry.own.get(name, Score(None)), bold, 3)
    if name == "minutes":
        return minutes(entry.minutes) if entry.minutes is not None else ""
    if name == "images":
        return _images(entry)
    if name == "ratio":
        return f"{entry.ratio:.3g}" if entry.ratio is not None else ""
    places = audit_table.digits(name) if name in AUDITS else 3 if name == "js_forget" else 2
    return _score(entry.scores.get(name, Score(None)), bold, places)


def _score(score: Score, bold: Bold, digits: int) -> str:
    """``mean ± deviation (gap)``; the number that is compared is bold if it is the best."""
    text = number(score.mean, digits) if score.mean is not None else audit_table.between(score.ends, digits)
    text += f" ± {number(score.deviation, digits)}" if score.deviation is not None else ""
    if score.gap is None:
        return bold(text) if score.best else text
    gap = bold(number(score.gap)) if score.best else number(score.gap)
    return f"{text} ({gap})".strip()


def _images(entry: Entry) -> str:
    if "forward_images" not in entry.cost:
        return f"{entry.cost['flops']:.2g} flops" if "flops" in entry.cost else ""
    passed = (entry.cost.get(name, 0) / 1000 for name in ("forward_images", "backward_images"))
    return " / ".join(f"{images:.3g}" for images in passed)


def _about(table: Table) -> str:
    return ". ".join(f"{name}: {text}" for name, text in table.about.items())


def _commands(table: Table) -> list[str]:
    """Each row's commands under its name."""
    lines = []
    for row in table.rows:
        commands = [command for entry in row.entries.values() for command in entry.commands]
        lines += [f"# {row.label}", *commands] if commands else []
    return lines
