"""Tests the claim of a receipt: that the model treats the forgotten rows like rows that it never saw.

The test is two-sided: rows that are known better than held-out rows leak, and so do rows that are known worse. The
remaining rows must be known better than the forgotten ones; otherwise the model was damaged as a whole, or forgot other
rows. A model with unchanged weights, or with only a new head, is refused too. The test is no proof of forgetting; its
error rates were measured (docs/forget-my-data.md).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.deletion.measures import RESAMPLES, Measured
from ltu_jax.evaluation.likeness import attack_auc, comparable, ks_distance, ks_noise
from ltu_jax.types import ArrayTree
from ltu_jax.unlearning.monitor import accuracy_lost

MARGIN = 5.0
"""Points of Kolmogorov-Smirnov distance beyond noise that approximate unlearning may leave."""
LOSS = 10.0
"""Points of accuracy beyond noise that forgetting may cost on remaining and on held-out rows."""
SHARE = 0.5
"""The attacker's distance of AUC from 0.5 must shrink by at least this share."""
MOVED = 0.1
"""Least share of the weights that must have changed: changing only the head is not forgetting."""
FEWEST = 20
"""Least number of forgotten rows: a bootstrap of fewer underestimates chance."""
RATES = (
    "the claim's test refused 109 of 110 fakes and 6 of 100 genuine unlearnings of 90 digits; docs/forget-my-data.md"
)
"""Its error rates, measured by ``experiments/evidence_power.py``."""


class Claim(NamedTuple):
    """The result of the test."""

    numbers: dict[str, float]  # the values compared with the limits
    findings: list[str]  # why the claim is refused, one line each; empty if it is accepted


def judge(before: Measured, after: Measured, moved: float) -> Claim:
    """Tests whether rows were forgotten, from the predictions before and after, and the ``moved_share``."""
    ks, auc = (tells(after["forget"], after["held_out"]) for tells in (ks_distance, attack_auc))
    limit = MARGIN + ks_noise(after["forget"].labels, after["held_out"].labels)
    aucs = attack_aucs(before, after)
    lost = {name: accuracy_lost(before[name].correct, after[name].correct) for name in ("remain", "held_out")}
    numbers = {
        "ks": ks,
        "ks_limit": limit,
        "auc": auc,
        "auc_before": aucs.before,
        "knew_low": aucs.knew_low,
        "auc_drop": aucs.drop,
        "auc_drop_low": aucs.drop_low,
        "auc_stay": aucs.stay,
        "auc_stay_low": aucs.stay_low,
        "lost_remain": lost["remain"],
        "lost_held_out": lost["held_out"],
        "moved": moved,
    }
    found, num_rows = [], len(after["forget"].labels)
    if num_rows < FEWEST:
        found.append(f"it cannot be shown of {num_rows} rows: at least {FEWEST} are needed")
    if alone := num_rows - len(comparable(after["forget"], after["held_out"]).labels):
        found.append(f"it cannot be shown for {alone} of {num_rows} forgotten rows: no held-out row has their class")
    if ks > limit:
        side = "are still known better" if auc > 0.5 else "are known worse"
        found.append(
            f"the forgotten rows {side} than held-out rows: an attacker gains {ks:.1f} points on guessing,"
            f" at most {limit:.1f} are allowed for so many rows"
        )
    if aucs.knew_low <= 0:
        found.append(
            f"it cannot be shown: the model before did not give these rows away either (AUC {aucs.before:.3f}, which"
            " chance alone may leave of so many rows), so nothing tells a model that forgot them from one that did not"
        )
    elif aucs.drop_low <= 0 or aucs.drop < SHARE * abs(aucs.before - 0.5):
        found.append(
            f"too little was forgotten to be shown: the attacker's AUC went from {aucs.before:.3f} towards 0.5 by"
            f" {aucs.drop:.3f} (at least {aucs.drop_low:.3f}); {100 * SHARE:g} % of the way are asked for"
        )
    if aucs.stay_low <= 0.5:
        found.append(
            f"nothing was forgotten of these rows in particular: rows that stay are not shown to be known better than"
            f" they are (AUC {aucs.stay:.3f}, at least {aucs.stay_low:.3f}; above 0.5 is asked for)"
        )
    for name, words in (("remain", "the remaining rows"), ("held_out", "held-out rows")):
        if lost[name] > LOSS:
            found.append(f"the model was damaged: {lost[name]:.1f} points lost on {words}, {LOSS:g} are allowed")
    if moved < MOVED:
        found.append(f"only {100 * moved:.1f} % of the weights changed, at least {100 * MOVED:g} % must")
    return Claim(numbers, found)


class AttackAucs(NamedTuple):
    """AUC of attackers who tell forget rows from held-out rows, and remaining rows from forget rows.

    ``..._low`` are lower bootstrap bounds.
    """

    before: float  # forget against held-out rows
    knew_low: float  # of its distance from 0.5; 97.5 %
    drop: float  # how far it moved towards 0.5
    drop_low: float  # 97.5 %
    stay: float  # remaining against forget rows, after
    stay_low: float  # 90 %


def attack_aucs(before: Measured, after: Measured) -> AttackAucs:
    """What attackers could tell before and after; both models are measured on the same resampled rows."""

    def aucs(at: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
        now = {name: after[name].at(index) for name, index in at.items()}
        old = attack_auc(*(before[name].at(at[name]) for name in ("forget", "held_out")))
        return old, attack_auc(now["forget"], now["held_out"]), 1 - attack_auc(now["forget"], now["remain"])

    rng = np.random.default_rng(0)
    sizes = {name: len(after[name].labels) for name in ("forget", "held_out", "remain")}
    old, new, stay = aucs({name: np.arange(size) for name, size in sizes.items()})
    drawn = [aucs({name: rng.integers(0, size, size) for name, size in sizes.items()}) for _ in range(RESAMPLES)]
    drawn_old, drawn_new, drawn_stay = np.array(drawn).T
    side = 1 if old >= 0.5 else -1  # members that are known worse than held-out rows can be told apart as well
    low = [float(np.percentile(x, 2.5)) for x in (side * (drawn_old - 0.5), side * (drawn_old - drawn_new))]
    return AttackAucs(old, low[0], side * (old - new), low[1], stay, float(np.percentile(drawn_stay, 10)))


def moved_share(before: ArrayTree, after: ArrayTree, least: float = 1e-3) -> float:
    """Share of the weights in tensors that changed by more than ``least`` of their norm."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(before)), map(np.asarray, jax.tree.leaves(after)), strict=True))
    moved = sum(old.size for old, new in pairs if np.linalg.norm(new - old) > least * np.linalg.norm(old))
    return moved / sum(old.size for old, _ in pairs)
