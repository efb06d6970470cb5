"""How much the rows that were to be forgotten look like rows that the model never saw: no Retrain is needed for that.

A model that never saw the forget rows would treat them as it treats held-out rows of the same classes. Every measure
here is of two sides: known better than held-out rows and known worse are both differences (and both leaks).
"""

import math
from typing import NamedTuple

import numpy as np

from ltu_jax.evaluation.svc_mia import confidence


class Answers(NamedTuple):
    """What a model says of labelled rows."""

    labels: np.ndarray  # i32[M]
    correct: np.ndarray  # bool[M]
    confidence: np.ndarray  # f64[M], probability of the true label
    margin: np.ndarray  # f64[M], log-odds of the true label: what attackers threshold

    def at(self, index: np.ndarray) -> "Answers":
        """Of the rows at ``index``."""
        return Answers(*(x[index] for x in self))


class Likeness(NamedTuple):
    """Forget rows beside held-out rows of the same classes; zero everywhere, AUC 0.5, where they look alike."""

    accuracy: float  # forget less held-out, points
    ks: float  # Kolmogorov-Smirnov distance of the margins, points: what the best threshold gains on guessing
    confidence: float  # |difference| of the mean confidence by class, averaged over the forget rows, points
    auc: float  # of the margin in telling forget rows (members) from held-out ones

    @property
    def distance(self) -> float:
        """How unlike they are: the mean of the three differences, points."""
        return (abs(self.accuracy) + self.ks + self.confidence) / 3


def answers(logits: np.ndarray, labels: np.ndarray) -> Answers:
    """What logits f32[M, C] say of rows with labels i32[M]."""
    z, rows = logits.astype(np.float64), np.arange(len(labels))
    others = z.copy()
    others[rows, labels] = -np.inf
    largest = others.max(axis=1)
    margin = z[rows, labels] - largest - np.log(np.exp(others - largest[:, None]).sum(axis=1))
    return Answers(labels, logits.argmax(axis=1) == labels, confidence(logits, labels), margin)


def matched_weights(held_out: np.ndarray, forget: np.ndarray) -> np.ndarray:
    """Weights under which held-out rows have the classes of the forget rows; a request is often of few classes.

    Args:
      held_out: labels, i32[V].
      forget: labels, i32[F].

    Returns:
      f64[V], of sum 1. Where no class of theirs has a held-out row, all rows count alike.
    """
    size = 1 + max(held_out.max(), forget.max())
    wanted, there = np.bincount(forget, minlength=size), np.bincount(held_out, minlength=size)
    weights = (wanted / np.maximum(there, 1))[held_out]
    return weights / weights.sum() if weights.sum() else np.full(len(held_out), 1 / len(held_out))


def comparable(forget: Answers, held_out: Answers) -> Answers:
    """Those of the forget rows whose class has a held-out row to compare them with; where none has, all of them."""
    there = _has_held_out(forget.labels, held_out.labels)
    return forget if there.all() or not there.any() else forget.at(np.flatnonzero(there))


def _has_held_out(forget: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Which labels of ``forget`` are among ``held_out``; asked of each resampling, where np.isin takes longer."""
    return np.bincount(held_out, minlength=1 + forget.max())[forget] > 0


def likeness(forget: Answers, held_out: Answers) -> Likeness:
    """Compares what a model says of forget rows and of held-out rows.

    Args:
      forget: of the rows that were to be forgotten; those of a class without a held-out row have no say.
      held_out: of rows that the model never saw; weighted so that their classes are as often as the forget rows'.

    Returns:
      ``Likeness``.
    """
    forget = comparable(forget, held_out)
    weights = matched_weights(held_out.labels, forget.labels)
    apart = 0.0
    for label, count in zip(*np.unique(forget.labels, return_counts=True), strict=True):
        here = held_out.labels == label
        if here.any():
            means = forget.confidence[forget.labels == label].mean(), held_out.confidence[here].mean()
            apart += count / len(forget.labels) * abs(means[0] - means[1])
    return Likeness(
        accuracy=float(100 * (forget.correct.mean() - weights @ held_out.correct)),
        ks=ks_distance(forget, held_out),
        confidence=float(100 * apart),
        auc=attack_auc(forget, held_out),
    )


def attack_auc(forget: Answers, held_out: Answers) -> float:
    """AUC of the margin in telling forget rows from held-out rows, weighted as in ``likeness``; ties count half."""
    forget = comparable(forget, held_out)
    margins, below = _distribution(forget, held_out)
    left, right = (below[np.searchsorted(margins, forget.margin, side)] for side in ("left", "right"))
    return float(np.mean(left + right) / 2)


def ks_distance(forget: Answers, held_out: Answers) -> float:
    """Largest distance between the distribution functions of the margins, weighted as in ``likeness``, points."""
    forget = comparable(forget, held_out)
    margins, below = _distribution(forget, held_out)
    places = np.concatenate([forget.margin, held_out.margin])
    ours = np.searchsorted(np.sort(forget.margin), places, "right") / len(forget.margin)
    theirs = below[np.searchsorted(margins, places, "right")]
    return float(100 * np.max(np.abs(ours - theirs)))


def _distribution(forget: Answers, held_out: Answers) -> tuple[np.ndarray, np.ndarray]:
    """The held-out margins in their order, and the weight below each place in it."""
    order = np.argsort(held_out.margin, kind="stable")
    weights = matched_weights(held_out.labels, forget.labels)
    return held_out.margin[order], np.concatenate([[0.0], np.cumsum(weights[order])])


def ks_noise(forget: np.ndarray, held_out: np.ndarray) -> float:
    """What ``ks`` exceeds once in twenty where nothing but chance tells the rows apart, points.

    Args:
      forget: labels of the forget rows, i32[F].
      held_out: labels of the held-out rows, i32[V]; weighted as in ``likeness``.

    Returns:
      The critical value of the two-sample Kolmogorov-Smirnov test at 5 %, with the effective size of a weighted sample.
    """
    weights, there = matched_weights(held_out, forget), _has_held_out(forget, held_out)
    compared = there.sum() or len(forget)
    return 100 * 1.36 * math.sqrt(1 / compared + float(np.sum(weights**2)))
