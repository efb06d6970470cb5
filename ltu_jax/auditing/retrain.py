"""Audit: does a model answer as a Retrain does, row by row, within the spread of Retrains among themselves?

One set of rows at a time (forget, remaining, test): all models answer the same rows. Intervals are over rows, given
these models, but for ``over_seeds``. By chance alone one more Retrain is the farthest of K + 1 once in K + 1 times: to
lie outside the floor is no proof. It does not claim equal distributions over seeds, nor that another recipe for
Retrain would give the same distance.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import (
    RESAMPLES,
    Figure,
    auc_of_weights,
    figure,
    finite,
    ks_of_weights,
    one_more,
    resampled_weights,
    spread_of_rows,
)
from ltu_jax.evaluation.closeness import BOUND, divergence
from ltu_jax.evaluation.likeness import predictions

MEASURES = "js", "agreement", "margin", "margin_apart", "ks", "auc"
NEUTRAL = {"margin": 0.0, "auc": 0.5}
"""The measures with a sign, which change sides about this value when the two models do."""


class Distance(NamedTuple):
    """A measure of a model against Retrains, beside the same measure of Retrains against each other."""

    figure: Figure  # mean over the Retrains
    floor: tuple[float, float] | None  # range over pairs of Retrains; None for one Retrain, which has no floor
    excess: Figure | None  # figure - mean over those pairs, on the same rows


class ClosenessToRetrain(NamedTuple):
    """How close a model's answers on a set of rows are to those of Retrains."""

    js: Distance  # Jensen-Shannon divergence of the probabilities, bits
    agreement: Distance  # rows with the same answer, points
    margin: Distance  # the main figure: margin - Retrain's, nats; margins count up to ``closeness.BOUND``
    margin_apart: Distance  # |margin - Retrain's|, nats
    ks: Distance  # Kolmogorov-Smirnov distance of the two sets of margins, points
    auc: Distance  # P[a margin > one of a Retrain], any two rows
    over_seeds: Figure | None  # ``margin`` with the 95 % interval over Retrains' seeds; None for one Retrain
    p_value: float | None  # two-sided, of being one more Retrain, by the mean margin; None for one Retrain
    rows: int
    retrains: int


def closeness_to_retrain(
    logits: np.ndarray,
    retrains: Sequence[np.ndarray],
    labels: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> ClosenessToRetrain:
    """Compares a model with K Retrains, which it is none of, on one set of rows.

    Args:
      logits: of the model, f32[M, C].
      retrains: of each Retrain on the same rows, K times f32[M, C].
      labels: i32[M].
      rng: for the resamples of the rows, classes kept.
      resamples: their number.

    Raises:
      ValueError: a logit is not finite, or there is no row or no Retrain.
    """
    if not retrains:
        raise ValueError("retrains: there are none; closeness to Retrain needs at least one")
    finite("logits", logits)
    for k, one in enumerate(retrains):
        finite(f"logits of Retrain {k}", one)
    models = [(one, np.clip(predictions(one, labels).margin, -BOUND, BOUND)) for one in (logits, *retrains)]
    pairs = [(models[0], one) for one in models[1:]] + list(itertools.combinations(models[1:], 2))
    measures = [_measures(*pair) for pair in pairs]
    found = np.array([one(np.ones(len(labels))) for one in measures])
    drawn = np.array([[one(w) for one in measures] for w in resampled_weights(labels, rng, resamples)])
    num = len(retrains)

    def distance(name: str) -> Distance:
        i = MEASURES.index(name)
        value, resampled = found[:num, i].mean(), drawn[:, :num, i].mean(axis=1)
        theirs, theirs_drawn = found[num:, i], drawn[:, num:, i]
        if not theirs.size:
            return Distance(figure(value, resampled), None, None)
        if name in NEUTRAL:  # either Retrain of a pair could stand first
            theirs, theirs_drawn = (np.append(x, 2 * NEUTRAL[name] - x, axis=-1) for x in (theirs, theirs_drawn))
        excess = figure(value - theirs.mean(), resampled - theirs_drawn.mean(axis=1))
        return Distance(figure(value, resampled), (float(theirs.min()), float(theirs.max())), excess)

    over_seeds = p_value = None
    if num > 1:
        own, theirs = models[0][1], np.array([margins for _, margins in models[1:]])
        over_seeds, p_value = one_more(own.mean(), theirs.mean(axis=1), least=spread_of_rows(theirs))
    distances = {name: distance(name) for name in MEASURES}
    return ClosenessToRetrain(**distances, over_seeds=over_seeds, p_value=p_value, rows=len(labels), retrains=num)


def _measures(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """The measures of two models as a function of the rows' weights, in the order of ``MEASURES``, f64[6].

    Args:
      one: a model's logits f32[M, C] and margins f64[M].
      other: those of the other.
    """
    (logits, margins), (others, their_margins) = one, other
    js, is_same = divergence(logits, others), logits.argmax(axis=1) == others.argmax(axis=1)
    apart = margins - their_margins
    of_row = np.stack([js, 100.0 * is_same, apart, np.abs(apart)])
    ks, auc = ks_of_weights(margins, their_margins), auc_of_weights(margins, their_margins)
    return lambda w: np.array([*(of_row @ w / w.sum()), ks(w), auc(w, w)])
