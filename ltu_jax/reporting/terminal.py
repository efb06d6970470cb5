"""Progress and results on a terminal or in a log."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from ltu_jax.reporting import audit_table, table
from ltu_jax.setting import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ltu_jax.types import Progress

LINE_FRACTION, LINE_SECONDS = 0.1, 5.0
AT_ONCE = 1.0
"""Seconds within which come the steps that an earlier call had taken: they are no measure of the rest."""
"""A log gets a line after both this share of the work and this time since the last line."""


def print_result(result: Mapping[str, Any], console: "Console | None" = None) -> None:
    """Prints the table of ``result.json``, its attackers, times and warnings; in plain text outside of a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()

    def line(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style=style))

    console.print()
    line(f"{result['method']} on {result['dataset']}", "bold")
    line(table.title(result))
    console.print()
    console.print(_scores(result, console.width))
    console.print()
    if result.get("retrain"):
        note = "In parentheses: absolute difference to Retrain, in points."
        if result.get("retrain_spread"):
            note += " spread: mean difference between two Retrain models; a gap within it is noise."
        line(note, "dim")
    else:
        line("No Retrain model to compare with.", "dim")
    for text in table.sentences(result):
        line(text)
    if result.get("attackers"):
        console.print()
        console.print(_attackers(result["attackers"]))
        if result.get("attackers_fitted_on") == "original":
            line(table.FITTED_ON_ORIGINAL, "dim")
    console.print()
    times = [(words, result["time"].get(name)) for name, words in table.TIMES.items()]
    line(f"Time: {', '.join(f'{words} {table.duration(t)}' for words, t in times if t is not None) or '-'}")
    if ratio := table.speed(result):
        line(ratio)
    for warning in result.get("warnings") or ():
        line(f"Warning: {warning}", "yellow")


def print_audit(audit: Mapping[str, Any], console: "Console | None" = None) -> None:
    """Prints the table of ``audit.json``, what was found in words, and notes; in plain text outside of a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()

    def line(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style=style))

    lines, (found, tested) = audit_table.lines(audit), audit_table.tests(audit)
    console.print()
    line(f"Audit of {audit_table.title(audit['run'])}", "bold")
    line(audit_table.about(audit["run"]))
    console.print()
    heads = ("", "figure", "95 %", "before", "Retrains", "finds", "p", "")
    rows = [
        (audit_table.HEADS[one.audit], one.value, one.interval, one.original, one.floor, one.smallest, one.p_value)
        for one in lines
    ]
    shown = bare_table(1)
    for place, head in enumerate(heads):
        ends = place in (0, len(heads) - 1)
        shown.add_column(head, justify="left" if ends else "right", no_wrap=place > 0, overflow="fold")
    for one, (name, *cells) in zip(lines, rows, strict=True):
        texts = [cell.replace(" to ", "..").replace("< 0", "<") or "-" for cell in cells]
        shown.add_row(
            *(Text(plain(cell), style="bold" if one.verdict == "found" else "") for cell in (name, *texts, one.verdict))
        )
    console.print(shown)
    console.print()
    line("before: the original. Retrains: the range of the same figure, each against the others.", "dim")
    line("finds: the smallest effect that so many rows show. An AUC below 0.5 leaks as one above does.", "dim")
    line(f"{found} of {tested} tests tell the model from one that never saw the forget rows (Holm, 5 % for all).")
    for one in lines:
        line(f"{one.title}: {one.sentence}", "yellow" if one.verdict == "found" else "")
    for note in audit.get("notes") or ():
        line(f"Note: {note}", "dim")
    line(f"Time: {table.duration(audit['seconds'].get('total'))}")


def bare_table(space: int) -> "Table":
    """A table without borders, its columns ``space`` spaces apart."""
    from rich import box
    from rich.table import Table

    # The divider of this box is itself one space wide.
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, space - 1, 0, 0), pad_edge=False)


def _scores(result: Mapping[str, Any], width: int) -> "Table":
    from rich.text import Text

    rows = [(row, "") for row in table.rows(result)]
    rows[-1] = rows[-1][0], "bold"
    if spread := result.get("retrain_spread"):
        gaps = tuple(spread.get(measure) for measure in table.MEASURES)
        rows.append((table.Row("spread", (None,) * len(gaps), gaps, spread.get("mean"), None), "dim"))
    columns = [["", *(row.name for row, _ in rows)]]
    for index, measure in enumerate(table.MEASURES):
        columns.append(_aligned(measure.upper(), [(row.values[index], row.gaps[index]) for row, _ in rows]))
    columns.append(["gap", *(table.number(row.mean_gap) for row, _ in rows)])
    columns.append(["UT min", *(table.minutes(row.minutes) for row, _ in rows)])
    needed = sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)
    shown = bare_table(2 if needed <= width else 1)
    for number, (head, *_) in enumerate(columns):
        # Only the name may wrap: a number on two lines would be misread.
        justify = "right" if number > len(table.MEASURES) else "left"
        shown.add_column(head, justify=justify, no_wrap=number > 0, overflow="fold")
    for (_, style), cells in zip(rows, list(zip(*columns, strict=True))[1:], strict=True):
        shown.add_row(*(Text(plain(cell), style=style) for cell in cells))
    return shown


def _aligned(head: str, cells: list[tuple[float | None, float | None]]) -> list[str]:
    """A column of ``value (gap)`` with values and gaps aligned."""
    values = [head, *(table.number(value) if value is not None or gap is None else "" for value, gap in cells)]
    gaps = ["", *("" if gap is None else f" ({table.number(gap)})" for _, gap in cells)]
    wide, narrow = (max(map(len, part)) for part in (values, gaps))
    return [value.rjust(wide) + gap.rjust(narrow) for value, gap in zip(values, gaps, strict=True)]


def _attackers(attackers: list[Mapping[str, Any]]) -> "Table":
    from rich.text import Text

    shown = bare_table(2)
    for head in ("\nattacker", "AUC\nheld out", "\noriginal", "\nunlearned", ""):
        shown.add_column(head, justify="left" if head in ("\nattacker", "") else "right")
    for attacker in attackers:
        aucs = [table.number(attacker.get(f"auc_{on}"), 3) for on in ("shadow", "original", "unlearned")]
        note = "gives no guidance" if table.gives_no_guidance(attacker) else ""
        shown.add_row(Text(plain(str(attacker["name"]))), *aucs, Text(plain(note), style="yellow"))
    return shown


def progress_for(stream: TextIO | None = None) -> "Progress":
    """A ``Progress`` that shows a bar on a terminal, and a few plain lines in a log; on standard error by default."""
    to = sys.stderr if stream is None else stream
    report = _bar if to.isatty() else _lines
    return lambda label, total: report(plain(label), total, to)


@contextlib.contextmanager
def _bar(label: str, total: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left", style="progress.remaining"),
    )
    with progress.Progress(*columns, console=Console(file=stream), refresh_per_second=4) as bar:
        task = bar.add_task(f"{label} (starting)", total=total)

        def advance(n: int) -> None:
            if n:
                bar.update(task, description=label, advance=n)

        yield advance


@contextlib.contextmanager
def _lines(label: str, total: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    start = last = monotonic()
    first: tuple[int, float] | None = None  # steps and time of the first report: the start is no measure of the rest
    done = reported = 0

    def advance(n: int) -> None:
        nonlocal done, reported, last, first
        done += n
        now = monotonic()
        if first is None and now - start < AT_ONCE:
            reported = done
            return  # steps of an earlier call
        if first is None and n:
            first = done, now
            if done < total and now - start >= LINE_SECONDS:
                last, took = now, table.duration(now - start)
                print(plain(f"{label}: {done}/{total} steps, {took} after the start"), file=stream, flush=True)
        elif first and done < total and done - reported >= LINE_FRACTION * total and now - last >= LINE_SECONDS:
            reported, last = done, now
            left = table.duration((now - first[1]) / (done - first[0]) * (total - done))
            line = f"{label}: {done}/{total} steps ({100 * done // total} %), {left} left"
            print(plain(line), file=stream, flush=True)

    try:
        yield advance
    except BaseException:
        print(plain(f"{label}: stopped at {done}/{total} steps"), file=stream, flush=True)
        raise
    print(plain(f"{label}: {done} steps in {table.duration(monotonic() - start)}"), file=stream, flush=True)
