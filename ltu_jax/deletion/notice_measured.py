"""Figures of parts 3 to 5 of a notice: what a request cost, how images look now, what an attacker can still tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.deletion import notice_plots

MARKED = 5.0
"""Points lost from which a class is marked."""
AT_FIRST = 20
"""Classes shown before the others are folded."""
FEW = 100
"""Images below which the reader is warned of the ranges, and of which no histogram is drawn: each would show."""
NAMES = ("remain_accuracy", "held_out_accuracy", "forget_accuracy", "forget_confidence", "held_out_confidence")
Figure = Sequence[float]
"""``[value, low, high]``."""


def figures(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured on all images of a kind, before and after; before is None where that model was gone.

    Args:
      shown: the evidence of a receipt, as for what follows.

    Returns:
      Values of the template.
    """
    before, after = shown["before"], shown["after"]
    earlier = "earlier_attack_auc" in after
    bars = [(name, _hits(told, "attack_auc")) for name, told in (("before", before), ("after", after)) if told]
    if earlier:
        bars.append(("earlier requests, after", _hits(after, "earlier_attack_auc")))
    return {
        "rows": shown["rows"],
        "level": f"{shown['level']:g}",
        "few": shown["rows"]["forget"] < FEW,
        "known_before": bool(before),
        "measured": {name: ((before or {}).get(name), after[name]) for name in NAMES},
        "attack": {**_before_and_after(shown, "attack_auc"), "ranges": notice_plots.hits_ranges(bars)},
        "cutoff": {
            "before": before["attack_ks"][0] if before else None,
            "after": after["attack_ks"][0],
            "by_chance": shown["chance_ks"],
        },
        "not_compared": shown["not_compared"],
        "earlier": _before_and_after(shown, "earlier_attack_auc") if earlier else None,
    }


def _before_and_after(shown: Mapping[str, Any], name: str) -> dict[str, Any]:
    before = shown["before"]
    return {"before": _hits(before, name) if before else None, "after": _hits(shown["after"], name)}


def _hits(told: Mapping[str, Figure], name: str) -> list[float]:
    """Of 100 cases."""
    return [100 * share for share in told[name]]


def classes(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy class by class, those first that lost most."""
    # Python's sort keeps the order of the labels among equals.
    ordered = sorted(shown["classes"], key=_change)
    judged = sum(row["held_out"][1] is not None for row in ordered)
    return {
        "classes": [{**row, "lost": -worst if (worst := _change(row)) <= -MARKED else None} for row in ordered],
        "at_first": AT_FIRST,
        "marked": f"{MARKED:g}",
        "of_a_class": shown["rows"]["held_out"] / judged if judged else None,
        "few_of_a_class": any(row["forgotten"] is None for row in ordered),
        "fewest": shown["fewest"],
    }


def _change(row: Mapping[str, Any]) -> float:
    """The worst change of a class, in points."""
    pairs = [row[name] for name in ("remain", "held_out") if None not in row[name]]
    return min((after - before for before, after in pairs), default=math.inf)


def look(
    shown: Mapping[str, Any],
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]],
) -> dict[str, Any]:
    """The forgotten images beside those never shown.

    Args:
      shown: the evidence of a receipt.
      confidence: see ``notice.render_notice``.
      changed: images to show, if any.

    Returns:
      Values of the template.
    """
    names = {row["label"]: row["name"] for row in shown["classes"]}
    return {
        "histograms": notice_plots.sureness_histograms(confidence) if shown["rows"]["forget"] >= FEW else None,
        "changed": [
            (name, pixels, names.get(label, label), before, after) for name, pixels, label, before, after in changed
        ],
    }
