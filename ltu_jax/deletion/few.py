"""Requests on few rows: what is said of them beforehand, and which range of a figure is honest for any number of rows.

A bootstrap of one row always draws that row: its range is a point, and says nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

from ltu_jax.auditing.intervals import clopper_pearson

FEWEST_TO_CLAIM = 20
"""Least number of forgotten rows: a bootstrap of fewer underestimates chance."""


def warnings(num_rows: int) -> list[str]:
    """What must be said before so many rows are forgotten, at most one line."""
    if num_rows >= FEWEST_TO_CLAIM:
        return []
    noise = min(100.0, 136 / math.sqrt(num_rows))  # of the Kolmogorov-Smirnov distance, at 5 %: see ``ks_noise``
    return [
        f"{num_rows} {'row is' if num_rows == 1 else 'rows are'} too few to show anything of: chance alone sets so many"
        f" up to {noise:.0f} points apart from rows never seen, and of fewer than {FEWEST_TO_CLAIM} nothing is claimed;"
        " collect requests and forget them together, where the law lets you wait"
    ]


def ranged(evidence: Mapping[str, Any], name: str, when: str = "after") -> tuple[float, float | None, float | None]:
    """A figure of the evidence and the range to show with it: a function of the receipt alone.

    Args:
      evidence: ``receipt["evidence"]``, which has the model ``when``.
      name: of the figure, such as ``forget_accuracy``.
      when: ``before`` or ``after``.

    Returns:
      ``(value, low, high)``: the bootstrap's range. Of an accuracy the exact binomial one (Clopper-Pearson) where that
      is a point, or of fewer than ``FEWEST_TO_CLAIM`` rows; of any other figure of so few rows None.
    """
    value, low, high = evidence[when][name]
    rows, (of, _, kind) = evidence["rows"], name.partition("_")
    count = rows[of] if of in rows else rows["held_out"] if of == "held" else rows["forget"]
    if kind.endswith("accuracy") and (count < FEWEST_TO_CLAIM or low == high):
        low, high = (round(100 * end, 6) for end in clopper_pearson(round(value * count / 100), count))
    elif count < FEWEST_TO_CLAIM:
        low = high = None
    return value, low, high
