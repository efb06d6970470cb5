"""How similar a model's predictions are on forget rows and on held-out rows; needs no retrained model.

A model that never saw the forget rows would treat them like held-out rows of the same classes. Every measure is
two-sided: being better and being worse than on held-out rows are both differences, and both leak membership.
"""

import math
from typing import NamedTuple

import numpy as np

from ltu_jax.evaluation.svc_mia import confidence


class Predictions(NamedTuple):
    """A model's predictions on labelled rows."""

    labels: np.ndarray  # i32[M]
    correct: np.ndarray  # bool[M]
    confidence: np.ndarray  # f64[M], probability of the true label
    margin: np.ndarray  # f64[M], log-odds of the true label, the input of threshold attacks

    def at(self, index: np.ndarray) -> "Predictions":
        """The predictions on the rows at ``index``."""
        return Predictions(*(x[index] for x in self))


def predictions(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    """The predictions of logits f32[M, C] on rows with labels i32[M]."""
    z, rows = logits.astype(np.float64), np.arange(len(labels))
    others = z.copy()
    others[rows, labels] = -np.inf
    largest = others.max(axis=1)
    margin = z[rows, labels] - largest - np.log(np.exp(others - largest[:, None]).sum(axis=1))
    return Predictions(labels, logits.argmax(axis=1) == labels, confidence(logits, labels), margin)


def matched_weights(held_out: np.ndarray, forget: np.ndarray) -> np.ndarray:
    """Weights that give held-out rows the class frequencies of the forget rows, which are often of few classes.

    Args:
      held_out: labels, i32[V].
      forget: labels, i32[F].

    Returns:
      f64[V] with sum 1; equal weights if no class of the forget rows has a held-out row.
    """
    size = 1 + max(held_out.max(), forget.max())
    wanted, available = np.bincount(forget, minlength=size), np.bincount(held_out, minlength=size)
    weights = (wanted / np.maximum(available, 1))[held_out]
    return weights / weights.sum() if weights.sum() else np.full(len(held_out), 1 / len(held_out))


def comparable(forget: Predictions, held_out: Predictions) -> Predictions:
    """The forget rows whose class has a held-out row; if no class has one, all of them."""
    kept = comparable_rows(forget.labels, held_out.labels)
    return forget if kept.all() else forget.at(np.flatnonzero(kept))


def comparable_rows(forget: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """The same of labels i32[F] and i32[V], bool[F]. Faster than np.isin, which matters for resampling."""
    has_held_out = np.bincount(held_out, minlength=1 + forget.max())[forget] > 0
    return has_held_out if has_held_out.any() else ~has_held_out


def attack_auc(forget: Predictions, held_out: Predictions) -> float:
    """AUC of the margin for forget rows against held-out rows, weighted as in ``ks_distance``; ties count half."""
    forget = comparable(forget, held_out)
    margins, below = _distribution(forget, held_out)
    left, right = (below[np.searchsorted(margins, forget.margin, side)] for side in ("left", "right"))
    return float(np.mean(left + right) / 2)


def ks_distance(forget: Predictions, held_out: Predictions) -> float:
    """Kolmogorov-Smirnov distance of the margins, points: what the best threshold tells forget from held-out rows by.

    Forget rows of a class without held-out rows are ignored; held-out rows are weighted by ``matched_weights``. Where a
    margin is NaN it is 100.
    """
    forget = comparable(forget, held_out)
    margins, below = _distribution(forget, held_out)
    points = np.concatenate([forget.margin, held_out.margin])
    if np.isnan(points).any():
        return 100.0  # a broken model is not one that never saw the rows
    forget_cdf = np.searchsorted(np.sort(forget.margin), points, "right") / len(forget.margin)
    held_out_cdf = below[np.searchsorted(margins, points, "right")]
    return float(100 * np.max(np.abs(forget_cdf - held_out_cdf)))


def _distribution(forget: Predictions, held_out: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """The sorted held-out margins f64[V], and the cumulative weights f64[V + 1] below each."""
    order = np.argsort(held_out.margin, kind="stable")
    weights = matched_weights(held_out.labels, forget.labels)
    return held_out.margin[order], np.concatenate([[0.0], np.cumsum(weights[order])])


def ks_noise(forget: np.ndarray, held_out: np.ndarray) -> float:
    """The value that ``ks_distance`` exceeds by chance once in twenty, points.

    Args:
      forget: labels of the forget rows, i32[F].
      held_out: labels of the held-out rows, i32[V]; weighted as in ``ks_distance``.

    Returns:
      The critical value of the two-sample Kolmogorov-Smirnov test at 5 %, with the effective size of a weighted sample.
    """
    weights = matched_weights(held_out, forget)
    compared = comparable_rows(forget, held_out).sum()
    return 100 * 1.36 * math.sqrt(1 / compared + float(np.sum(weights**2)))


def in_rows(value: float, num_rows: int, unit: float = 100.0) -> float:
    """Rounds a figure to multiples of what one row contributes; ``unit`` is the contribution of all rows."""
    return round(round(value * num_rows / unit) * unit / num_rows, 6) if np.isfinite(value) else value
