"""Tests the claim of a receipt: that the model no longer tells the forgotten rows from rows that it never saw.

Two-sided: rows that are still too well known leak, and so do rows that are known worse than those of any stranger. The
rows that stay must be known better than those forgotten: a model that was ruined as a whole, or that forgot other rows,
has forgotten nothing of these in particular. A fake that moves nothing, or the head alone, is refused too. How often
the test is wrong was counted (docs/forget-my-data.md); it is no proof of forgetting.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.deletion.calibration import accuracy_lost
from ltu_jax.deletion.measures import Measured
from ltu_jax.evaluation.likeness import attack_auc, comparable, ks_noise, likeness
from ltu_jax.types import ArrayTree

MARGIN = 5.0
"""Points of Kolmogorov-Smirnov distance, beyond noise, that approximate unlearning may leave."""
LOSS = 10.0
"""Points of accuracy, beyond noise, that forgetting may cost on remaining and on held-out rows."""
SHARE = 0.5
"""Least share of what the attacker knew before (AUC away from one half) that must be gone."""
MOVED = 0.1
"""Least share of the weights that must have changed: the head alone does not forget."""
FEWEST = 20
"""Forgotten rows below which nothing can be shown: a bootstrap of few rows knows of no chance."""
RESAMPLES = 1000
RATES = (
    "the claim's test refused 109 of 110 fakes and 6 of 100 genuine unlearnings of 90 digits; docs/forget-my-data.md"
)
"""How often it is wrong, as counted by ``experiments/evidence_power.py``."""


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
        "auc_stay": areas.stay,
        "auc_stay_low": areas.stay_low,
        "lost_remain": lost["remain"],
        "lost_held_out": lost["held_out"],
        "moved": moved,
    }
    found, num_rows = [], len(after["forget"].labels)
    if num_rows < FEWEST:
        found.append(f"it cannot be shown of {num_rows} rows: at least {FEWEST} are needed")
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
    if areas.stay_low <= 0.5:
        found.append(
            f"nothing was forgotten of these rows in particular: rows that stay are not shown to be known better than"
            f" they are (AUC {areas.stay:.3f}, at least {areas.stay_low:.3f}; above 0.5 is asked for)"
        )
    for name, words in (("remain", "the remaining rows"), ("held_out", "held-out rows")):
        if lost[name] > LOSS:
            found.append(f"the model was damaged: {lost[name]:.1f} points lost on {words}, {LOSS:g} are allowed")
    if moved < MOVED:
        found.append(f"only {100 * moved:.1f} % of the weights changed, at least {100 * MOVED:g} % must")
    return Claim(numbers, found)


class Areas(NamedTuple):
    """AUC of an attacker who tells forget rows from held-out rows, and rows that stay from forget rows.

    Lower ends are those of bootstrap intervals.
    """

    before: float
    knew_low: float  # of its distance from one half; 97.5 %
    drop: float  # how far it moved towards one half
    drop_low: float  # 97.5 %
    stay: float  # after, of rows that stay against those forgotten
    stay_low: float  # 90 %


def auc_areas(before: Measured, after: Measured) -> Areas:
    """What the attacker knew, what of it is gone, and whether that is true of the forget rows alone.

    Rows are resampled together before and after: both models are asked about the same ones.
    """

    def areas(at: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
        now = {name: after[name].at(index) for name, index in at.items()}
        was = attack_auc(*(before[name].at(at[name]) for name in ("forget", "held_out")))
        return was, attack_auc(now["forget"], now["held_out"]), 1 - attack_auc(now["forget"], now["remain"])

    rng = np.random.default_rng(0)
    sizes = {name: len(after[name].labels) for name in ("forget", "held_out", "remain")}
    was, now, stay = areas({name: np.arange(size) for name, size in sizes.items()})
    drawn = [areas({name: rng.integers(0, size, size) for name, size in sizes.items()}) for _ in range(RESAMPLES)]
    again_was, again_now, again_stay = np.array(drawn).T
    side = 1 if was >= 0.5 else -1  # members may be known worse than strangers: that gives them away as well
    low = [float(np.percentile(x, 2.5)) for x in (side * (again_was - 0.5), side * (again_was - again_now))]
    return Areas(was, low[0], side * (was - now), low[1], stay, float(np.percentile(again_stay, 10)))


def moved_share(before: ArrayTree, after: ArrayTree, least: float = 1e-3) -> float:
    """Share of the weights that lie in a tensor which moved by more than ``least`` of its norm."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(before)), map(np.asarray, jax.tree.leaves(after)), strict=True))
    moved = sum(old.size for old, new in pairs if np.linalg.norm(new - old) > least * np.linalg.norm(old))
    return moved / sum(old.size for old, _ in pairs)
