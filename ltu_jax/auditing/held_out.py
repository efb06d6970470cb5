"""Audit: do forget rows look like rows that nobody saw? One model's answers, no reference (``evaluation/likeness``).

It claims that no threshold on the margin tells forget from held-out rows of the same classes better than AUC and KS
say. It claims nothing of single rows, whose gains and losses may cancel. Forget and held-out rows are taken to be
equally difficult: true of a random forget set; of a chosen one, only the difference to a Retrain's figure counts.
"""

from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import (
    RESAMPLES,
    Figure,
    auc_of_weights,
    bootstrap,
    effective,
    figure,
    finite,
    permutation_p_value,
    smallest_auc,
)
from ltu_jax.evaluation.likeness import Predictions, comparable, ks_distance, ks_noise, matched_weights


class HeldOut(NamedTuple):
    """How a model's answers on forget rows compare with those on held-out rows of the same classes."""

    auc: Figure  # the main figure: P[margin of a forget row > of a held-out row], 1/2 if they look alike
    p_value: float  # two-sided, of an AUC of 1/2
    accuracy: Figure  # forget - held-out, points
    ks: float  # Kolmogorov-Smirnov distance of the margins, points
    ks_noise: float  # what chance exceeds once in twenty, points
    confidence: dict[int, float]  # mean probability of the true label by class, forget - held-out
    forget_rows: int  # those of classes that have held-out rows
    held_out_rows: float  # equally weighted rows that would say as much


def held_out(forget: Predictions, others: Predictions, rng: np.random.Generator, resamples: int = RESAMPLES) -> HeldOut:
    """Compares the forget rows with held-out rows, which are weighted to the classes of the forget rows.

    Args:
      forget: of the model on forget rows.
      others: of the same model on rows that it never saw, none of them in reserve or validation.
      rng: for the resamples and the permutations.
      resamples: how many of each.

    Raises:
      ValueError: a margin is not finite, or there is no row.
    """
    finite("forget margins", forget.margin)
    finite("held-out margins", others.margin)
    forget = comparable(forget, others)
    weights = matched_weights(others.labels, forget.labels)
    classes, rows = (forget.labels, others.labels), (len(forget.labels), effective(weights))

    def accuracy(w1: np.ndarray, w0: np.ndarray) -> float:
        return 100 * float(np.average(forget.correct, weights=w1) - np.average(others.correct, weights=w0))

    statistics, ones = (auc_of_weights(forget.margin, others.margin), accuracy), np.ones(len(forget.labels))
    auc, right = (one(ones, weights) for one in statistics)
    of_auc, of_right = (bootstrap(one, classes, weights, rng, resamples) for one in statistics)
    in_both = np.intersect1d(*classes)
    by_class = {int(c): _mean(forget, c) - _mean(others, c) for c in in_both}
    p_value = permutation_p_value([(forget.margin, others.margin)], classes, rng, resamples)
    return HeldOut(
        figure(auc, of_auc, smallest_auc(*rows)),
        p_value,
        figure(right, of_right),
        ks_distance(forget, others),
        ks_noise(*classes),
        by_class,
        *rows,
    )


def _mean(predicted: Predictions, label: int) -> float:
    return float(predicted.confidence[predicted.labels == label].mean())
