"""Prints the outcome of a deletion request."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltu_jax.deletion import few
from ltu_jax.reporting.table import number
from ltu_jax.reporting.terminal import bare_table
from ltu_jax.setting import plain

if TYPE_CHECKING:
    from rich.console import Console

FIGURES = {
    "forget_accuracy": "accuracy on the forget rows",
    "held_out_accuracy": "accuracy on held-out rows",
    "remain_accuracy": "accuracy on the remaining rows given",
    "attack_auc": "AUC of an attacker, forget against held-out rows",
    "earlier_accuracy": "accuracy on the rows of earlier requests",
    "earlier_attack_auc": "AUC of an attacker on those",
}


def print_request(receipt: Mapping[str, Any], folder: Path, is_new: bool, console: "Console | None" = None) -> None:
    """Prints the figures before and after a request with their intervals, warnings, and the files.

    ``is_new`` is False if earlier requests had already forgotten all ids.
    """
    from rich.console import Console
    from rich.text import Text

    console, shown = console or Console(), bare_table(2)

    def line(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style=style))

    request, evidence = receipt["request"], receipt["evidence"]
    done = f"{request['count']} rows forgotten by {receipt['method']}"
    repeated = f"; {request['repeated']} ids were forgotten by earlier requests" if request["repeated"] else ""
    was = "" if is_new else f": already done on {receipt['time']['finished']}"
    console.print()
    line(f"request {request['number']}{was}", "bold")
    line(f"{done}{repeated}")
    if receipt["calibration"]:
        line(receipt["calibration"])
    for head in ("", "before", "after", f"{evidence['level']} % interval"):
        shown.add_column(head, justify="right" if head else "left")
    for name, words in FIGURES.items():
        if name in evidence["after"]:
            before, (value, low, high) = (evidence["before"] or {}).get(name), few.ranged(evidence, name)
            digits = 3 if name.endswith("auc") else 1
            cells = (before and before[0], value)
            ends = "too few" if low is None else f"{number(low, digits)} to {number(high, digits)}"
            shown.add_row(Text(plain(words)), *(number(cell, digits) for cell in cells), ends)
    console.print(shown)
    for warning in receipt.get("warnings") or ():
        line(f"Warning: {warning}", "yellow")
    if claim := receipt.get("claim"):
        words, style = ("forgetting is shown", "bold") if claim["shown"] else ("forgetting is NOT SHOWN:", "bold red")
        line(words, style)
        for finding in claim["findings"]:
            line(f"- {finding}")
    files = receipt.get("files_salted_sha256") or receipt.get("files") or ()  # as receipts of schema 1 had it
    names = ", ".join(sorted({name.partition("/")[0] for name in files}))
    line(f"receipt in {folder}: receipt.json, {names}")
