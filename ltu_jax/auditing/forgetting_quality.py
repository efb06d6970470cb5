"""Forgetting quality F of the NeurIPS 2023 challenge: do many unlearned models and Retrains differ, row by row?

From google-deepmind/unlearning_evaluation's ``metric.py`` and the challenge's technical report (arXiv:2406.09073). All
models are of one original and one forget set. F is out of reach of 1: epsilon is the largest over 160,000 thresholds
and more, all noisy, so two populations of one law score about .18, whatever their number from 16 to 512. F of Retrains
against Retrains belongs beside it. It is no epsilon with confidence: the maximum is not corrected.
"""

import math
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import RESAMPLES, Figure, figure, populations, resampled_weights

DELTA = 1e-5
LARGEST = 50.0
"""Epsilon is clipped at this; it is that of populations of which one has a hundredth of the other's range."""
BUCKET = 0.5
SMALLEST_TERM = 1e-45
"""Added to both probabilities before their logarithms are taken."""
POINTS = 400
"""Thresholds on each side of the attack with two."""


class ForgettingQuality(NamedTuple):
    """F, with the interval of other forget rows, given these models."""

    quality: Figure
    epsilon: np.ndarray  # f64[F], of each forget row
    models: tuple[int, int]  # unlearned ones and Retrains; the largest finite epsilon is about ln(models - 1)


def forgetting_quality(
    unlearned: np.ndarray, retrains: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> ForgettingQuality:
    """F: the mean over forget rows of 2^-k, where k is the bucket of half a nat that the row's epsilon is in.

    A row counts 0 from the bucket on that ends above ``ceil(ln(N - 1))``, N the smaller number of models.

    Args:
      unlearned: margins on the forget rows, f64[N, F], of one original unlearned N times.
      retrains: margins of Retrains on the same rows, f64[K, F].
      seed: of the bootstrap.
      resamples: of the rows.

    Returns:
      ``ForgettingQuality``.

    Raises:
      ValueError: for margins that are not finite, of different rows, or of fewer than three models.
    """
    unlearned, retrains = populations(unlearned, retrains, ("unlearned", "retrains"), 3)
    models = len(unlearned), len(retrains)
    of_errors = _epsilon_of_errors(*models)
    ours, theirs = (np.sort(_bounded(side), axis=0).T for side in (unlearned, retrains))
    epsilon = np.array([_epsilon(*both, of_errors) for both in zip(ours, theirs, strict=True)])
    bucket = np.floor(epsilon / BUCKET)
    quality = np.where(BUCKET * (bucket + 1) <= math.ceil(math.log(min(models) - 1)), 2.0**-bucket, 0)
    rng, rows = np.random.default_rng(seed), np.zeros(len(quality), int)
    resampled = [np.average(quality, weights=weights) for weights in resampled_weights(rows, rng, resamples)]
    return ForgettingQuality(figure(quality.mean(), np.array(resampled)), epsilon, models)


def _bounded(margins: np.ndarray) -> np.ndarray:
    """Margins as the challenge takes them, log(p + 1e-45) - log(1 - p + 1e-45): within 104 nats."""
    least = math.log(SMALLEST_TERM)
    return np.logaddexp(-np.logaddexp(0, -margins), least) - np.logaddexp(-np.logaddexp(0, margins), least)


def _epsilon_of_errors(num_unlearned: int, num_retrains: int) -> np.ndarray:
    """Epsilon of an attack by how many models of each side it takes for the other, f64[N + 1, K + 1].

    Which side is called positive does not matter. Of two rates that are 0 epsilon is infinite; an attack with one rate
    of 0 is left out, and so is a logarithm that is none: they count 0.
    """
    one = np.linspace(0, 1, num_unlearned + 1)[:, None]
    other = np.linspace(0, 1, num_retrains + 1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.stack([np.log(1 - DELTA - a) - np.log(b) for a, b in ((one, other), (other, one))])
    epsilon = np.maximum(np.where(np.isnan(each), 0, each).max(axis=0), 0)
    epsilon[0], epsilon[:, 0] = 0, 0
    epsilon[0, 0] = np.inf
    return epsilon


def _epsilon(unlearned: np.ndarray, retrains: np.ndarray, of_errors: np.ndarray) -> float:
    """Epsilon of one row: the largest over all attacks. Both samples f64[.] are sorted."""
    ranges = unlearned[-1] - unlearned[0], retrains[-1] - retrains[0]
    if max(ranges) == 0:
        return 0.0 if unlearned[0] == retrains[0] else LARGEST
    if min(ranges) / max(ranges) < 0.01:
        return LARGEST
    found = max(_with_one_threshold(unlearned, retrains, of_errors), _with_two(unlearned, retrains, ranges, of_errors))
    return min(found, LARGEST)


def _with_one_threshold(unlearned: np.ndarray, retrains: np.ndarray, of_errors: np.ndarray) -> float:
    """What is at or above a threshold is called the side with the larger median; a point every hundredth nat."""
    low, high = min(unlearned[0], retrains[0]), max(unlearned[-1], retrains[-1])
    thresholds = np.linspace(low, high, math.ceil(100 * (high - low)))
    below = [np.searchsorted(side, thresholds, "left") for side in (unlearned, retrains)]
    if np.median(unlearned) >= np.median(retrains):
        errors = below[0], len(retrains) - below[1]
    else:
        errors = len(unlearned) - below[0], below[1]
    return float(of_errors[errors].max(initial=0))


_RIGHT = np.arange(POINTS)[:, None]
_LEFT = _RIGHT + np.arange(POINTS)[None]


def _with_two(unlearned: np.ndarray, retrains: np.ndarray, ranges: tuple[float, float], of_errors: np.ndarray) -> float:
    """What is between two thresholds is called the side with the smaller range, w.

    The right one, r, runs over 2 nats on either side of that side's largest margin; the left one over as many around
    r - w. Both in equal steps, so of the 160,000 left ones only 799 differ: the i-th r has those from the i-th on.
    """
    narrow = unlearned if ranges[0] < ranges[1] else retrains
    steps = np.arange(2 * POINTS - 1) * 4 / (POINTS - 1)
    right, left = narrow[-1] - 2 + steps[:POINTS], narrow[0] - 4 + steps
    inside = []
    for side in (unlearned, retrains):
        up_to, before = np.searchsorted(side, right, "right"), np.searchsorted(side, left, "left")
        inside.append(np.maximum(up_to[_RIGHT] - before[_LEFT], 0))
    if narrow is unlearned:
        errors = len(unlearned) - inside[0], inside[1]
    else:
        errors = inside[0], len(retrains) - inside[1]
    return float(of_errors[errors].max())
