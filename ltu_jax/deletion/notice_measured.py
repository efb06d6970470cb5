"""Figures of parts 3 to 5 of a notice: lost accuracy, predictions on forgotten images, success of an attacker."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltu_jax.deletion import notice_plots
from ltu_jax.deletion.few import ranged

MARKED = 5.0
"""A class that lost at least so many points is marked."""
AT_FIRST = 20
"""Number of classes shown unfolded."""
FEWEST_DRAWN = 100
"""With fewer images the reader is warned of wide ranges, and no histogram is drawn: it would show single images."""
NAMES = ("remain_accuracy", "held_out_accuracy", "forget_accuracy", "forget_confidence", "held_out_confidence")


def figures(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Template values: the figures before and after; before is None if that model no longer exists."""
    before, after = evidence["before"], evidence["after"]
    earlier = "earlier_attack_auc" in after
    bars = [(when, _hits(evidence, "attack_auc", when)) for when in ("before", "after") if evidence[when]]
    if earlier:
        bars.append(("earlier requests, after", _hits(evidence, "earlier_attack_auc", "after")))
    return {
        "rows": evidence["rows"],
        "level": f"{evidence['level']:g}",
        "few": evidence["rows"]["forget"] < FEWEST_DRAWN,
        "known_before": bool(before),
        "measured": {
            name: (ranged(evidence, name, "before") if before else None, ranged(evidence, name)) for name in NAMES
        },
        "attack": {**_before_and_after(evidence, "attack_auc"), "ranges": notice_plots.hits_ranges(bars)},
        "cutoff": {
            "before": before["attack_ks"][0] if before else None,
            "after": after["attack_ks"][0],
            "by_chance": evidence["chance_ks"],
        },
        "not_compared": evidence["not_compared"],
        "earlier": _before_and_after(evidence, "earlier_attack_auc") if earlier else None,
    }


def _before_and_after(evidence: Mapping[str, Any], name: str) -> dict[str, Any]:
    has_before = bool(evidence["before"]) and name in evidence["before"]
    before = _hits(evidence, name, "before") if has_before else None
    return {"before": before, "after": _hits(evidence, name, "after")}


def _hits(evidence: Mapping[str, Any], name: str, when: str) -> tuple[float, float | None, float | None]:
    """In how many of 100 cases the attacker is right, with the range or None."""
    value, *ends = ranged(evidence, name, when)
    low, high = (None if share is None else 100 * share for share in ends)
    return 100 * value, low, high


def classes(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Template values: accuracy by class, largest loss first."""
    # Stable: equal classes keep the order of their labels.
    ordered = sorted(evidence["classes"], key=_change)
    judged = sum(row["held_out"][1] is not None for row in ordered)
    return {
        "classes": [{**row, "lost": -worst if (worst := _change(row)) <= -MARKED else None} for row in ordered],
        "at_first": AT_FIRST,
        "marked": f"{MARKED:g}",
        "of_a_class": evidence["rows"]["held_out"] / judged if judged else None,
        "few_of_a_class": any(row["forgotten"] is None for row in ordered),
        "fewest": evidence["fewest"],
    }


def _change(row: Mapping[str, Any]) -> float:
    """The worst change of a class, in points."""
    pairs = [row[name] for name in ("remain", "held_out") if None not in row[name]]
    return min((after - before for before, after in pairs), default=math.inf)


def sureness(confidence: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]] | None:
    """Histograms of confidence for ``receipt["report"]["sureness"]``, in whole percent: the receipt is handed out.

    Args:
      confidence: probability of the true label, f[.]: ``before`` (optional) and ``after`` on the forget rows, and
        ``held out`` of the unlearned model on held-out rows.

    Returns:
      By set ``shares``: of the images in each twentieth of 0 to 1; and ``median``. None of fewer than ``FEWEST_DRAWN``
      images.
    """
    if len(confidence["after"]) < FEWEST_DRAWN:
        return None
    shown = {}
    for name, values in confidence.items():
        values = values[np.isfinite(values)]
        if len(values):
            counts, _ = np.histogram(values, np.linspace(0, 1, notice_plots.BINS + 1))
            shares = [round(100 * count / len(values)) for count in counts.tolist()]
            shown[name] = {"shares": shares, "median": round(100 * float(np.median(values)))}
    return shown
