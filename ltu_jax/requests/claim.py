"""Tests the claim of a receipt: that the model no longer tells the forgotten rows from rows that it never saw.

Two-sided: rows that are still too well known leak, and so do rows that are known worse than any stranger. A fake that
moves nothing, or ruins the model as a whole, is refused by what it leaves or costs.
"""

from typing import NamedTuple

import numpy as np

from ltu_jax.evaluation.likeness import likeness
from ltu_jax.requests.calibration import accuracy_lost
from ltu_jax.requests.evidence import Measured
from ltu_jax.types import ArrayTree


class Claim(NamedTuple):
    """What the test found."""

    numbers: dict[str, float]
    findings: list[str]  # why the claim is refused, a line each; empty where it is not


def moved_share(before: ArrayTree, after: ArrayTree) -> float:
    import jax

    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    moved = [np.linalg.norm(np.asarray(b) - np.asarray(a)) > 1e-3 * np.linalg.norm(np.asarray(a)) for a, b in pairs]
    return float(sum(a.size for (a, _), m in zip(pairs, moved) if m) / sum(a.size for a, _ in pairs))


def judge(before: Measured, after: Measured, moved: float) -> Claim:
    numbers = {}
    for word, told in (("before", before), ("after", after)):
        alike = likeness(told["forget"], told["held_out"])
        numbers |= {f"{name}_{word}": getattr(alike, name) for name in alike._fields}
    for name in ("remain", "held_out"):
        numbers[f"lost_{name}"] = accuracy_lost(before[name].correct, after[name].correct)
        numbers[f"raw_lost_{name}"] = 100 * float(before[name].correct.mean() - after[name].correct.mean())
    numbers["moved"] = moved
    return Claim(numbers, [])
