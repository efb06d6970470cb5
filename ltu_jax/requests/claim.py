"""Tests the claim of a receipt: that the model no longer tells the forgotten rows from rows that it never saw.

Two-sided: rows that are still too well known leak, and so do rows that are known worse than those of any stranger. A
fake that moves nothing, the head alone, or ruins the model as a whole is refused by what it leaves, or by what it
costs. How often the test is wrong was counted (docs/forget-my-data.md); it is no proof of forgetting.
"""

from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.evaluation.likeness import attack_auc, comparable, ks_noise, likeness
from ltu_jax.requests.calibration import accuracy_lost
from ltu_jax.requests.measures import Measured
from ltu_jax.types import ArrayTree

MARGIN = 5.0
"""Points of Kolmogorov-Smirnov distance, beyond noise, that approximate unlearning may leave."""
LOSS = 5.0
"""Points of accuracy, beyond noise, that forgetting may cost on remaining and on held-out rows."""
SHARE = 0.5
"""Least share of what the attacker knew before (AUC away from one half) that must be gone."""
MOVED = 0.1
"""Least share of the weights that must have changed: the head alone does not forget."""
RESAMPLES = 1000


class Claim(NamedTuple):
    """What the test found."""

    numbers: dict[str, float]  # what was compared with the limits
    findings: list[str]  # why the claim is refused, a line each; empty where it is not


def judge(before: Measured, after: Measured, moved: float) -> Claim:
    """Tests whether rows were forgotten.

    Args:
      before: what the model before says of its forget, remaining and held-out rows.
      after: what the unlearned one says.
      moved: share of the weights that changed, see ``moved_share``.

    Returns:
      ``Claim``.
    """
    alike = likeness(after["forget"], after["held_out"])
    limit = MARGIN + ks_noise(after["forget"].labels, after["held_out"].labels)
    areas = auc_areas(before, after)
    lost = {name: accuracy_lost(before[name].correct, after[name].correct) for name in ("remain", "held_out")}
    numbers = {
        "ks": alike.ks,
        "ks_limit": limit,
        "auc": alike.auc,
        "auc_before": areas.before,
        "knew_low": areas.knew_low,
        "auc_drop": areas.drop,
        "auc_drop_low": areas.drop_low,
        "lost_remain": lost["remain"],
        "lost_held_out": lost["held_out"],
        "moved": moved,
    }
    found, num_rows = [], len(after["forget"].labels)
    if alone := num_rows - len(comparable(after["forget"], after["held_out"]).labels):
        found.append(f"it cannot be shown for {alone} of {num_rows} forgotten rows: no held-out row has their class")
    if alike.ks > limit:
        side = "are still known better" if alike.auc > 0.5 else "are known worse"
        found.append(
            f"the forgotten rows {side} than held-out rows: an attacker gains {alike.ks:.1f} points on guessing,"
            f" at most {limit:.1f} are allowed for so many rows"
        )
    if areas.knew_low <= 0:
        found.append(
            f"it cannot be shown: the model before did not give these rows away either (AUC {areas.before:.3f}, which"
            " chance alone may leave of so many rows), so nothing tells a model that forgot them from one that did not"
        )
    elif areas.drop_low <= 0 or areas.drop < SHARE * abs(areas.before - 0.5):
        found.append(
            f"too little was forgotten to be shown: the attacker's AUC went from {areas.before:.3f} towards 0.5 by"
            f" {areas.drop:.3f} (at least {areas.drop_low:.3f}); {100 * SHARE:g} % of the way are asked for"
        )
    for name, words in (("remain", "the remaining rows"), ("held_out", "held-out rows")):
        if lost[name] > LOSS:
            found.append(f"the model was damaged: {lost[name]:.1f} points lost on {words}, {LOSS:g} are allowed")
    if moved < MOVED:
        found.append(f"only {100 * moved:.1f} % of the weights changed, at least {100 * MOVED:g} % must")
    return Claim(numbers, found)


class Areas(NamedTuple):
    """AUC of an attacker who tells forget rows from held-out rows, before, and how far it moved towards one half."""

    before: float
    knew_low: float  # lower end of the 95 % interval of its distance from one half (one-sided 97.5 %)
    drop: float
    drop_low: float


def auc_areas(before: Measured, after: Measured) -> Areas:
    """What the attacker knew, and what of it is gone, with bootstrap intervals.

    Rows are resampled together before and after: both models are asked about the same ones.
    """

    def areas(drawn: dict[str, np.ndarray]) -> list[float]:
        return [attack_auc(*(told[name].at(rows) for name, rows in drawn.items())) for told in (before, after)]

    rng = np.random.default_rng(0)
    sizes = {name: len(after[name].labels) for name in ("forget", "held_out")}
    own = areas({name: np.arange(size) for name, size in sizes.items()})
    side = 1 if own[0] >= 0.5 else -1  # members may be known worse than strangers: that gives them away as well
    drawn = [areas({name: rng.integers(0, size, size) for name, size in sizes.items()}) for _ in range(RESAMPLES)]
    knew = [side * (was - 0.5) for was, _ in drawn]
    drops = [side * (was - now) for was, now in drawn]
    low = [float(np.percentile(values, 2.5)) for values in (knew, drops)]
    return Areas(own[0], low[0], side * (own[0] - own[1]), low[1])


def moved_share(before: ArrayTree, after: ArrayTree, least: float = 1e-3) -> float:
    """Share of the weights that lie in a tensor which moved by more than ``least`` of its norm."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(before)), map(np.asarray, jax.tree.leaves(after)), strict=True))
    moved = sum(old.size for old, new in pairs if np.linalg.norm(new - old) > least * np.linalg.norm(old))
    return moved / sum(old.size for old, _ in pairs)
