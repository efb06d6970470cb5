"""Audit: RMIA, a membership attack with a few reference models (Zarifzadeh et al. 2024, arXiv:2312.03262).

A row's score is the ratio of the target's probability of the true label to what reference models give it. References
are Retrains: for them forget and held-out rows are equally unseen, so a Retrain as target has an AUC of 1/2. It claims
that an attacker with so much compute gains no more than this on average; it claims nothing of each row.
"""

import itertools
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import (
    RESAMPLES,
    Figure,
    Tail,
    auc_of_weights,
    bootstrap,
    effective,
    figure,
    finite,
    permutation_p_value,
    smallest_auc,
    tails,
)
from ltu_jax.evaluation.likeness import comparable_rows, matched_weights

FLOOR = 1e-12
"""The smallest mean probability of references that a ratio is taken to."""
SCALES = tuple(i / 10 for i in range(11))


class Margins(NamedTuple):
    """The margins (log-odds of the true label) of a target and of references on the same rows."""

    target: np.ndarray  # f64[M]
    references: np.ndarray  # f64[K, M]
    labels: np.ndarray  # i32[M]


class Rmia(NamedTuple):
    """What RMIA tells forget from held-out rows by."""

    auc: Figure  # the main figure: mean over the subsets of references; 1/2 if nothing is told
    p_value: float  # two-sided, of an AUC of 1/2
    tails: dict[str, tuple[Tail, ...]]  # of each row's mean score over the subsets, see ``intervals.tails``
    scale: float  # a
    subsets: int  # of two references, or the one that there is
    forget_rows: int  # those of classes that have held-out rows
    held_out_rows: float  # equally weighted rows that would say as much


def log_probability(margins: np.ndarray) -> np.ndarray:
    """Log p of the true label from margins, any shape: log p = -log(1 + exp(-margin))."""
    return -np.logaddexp(0.0, -np.asarray(margins, np.float64))


def expected(references: np.ndarray, scale: float) -> np.ndarray:
    """What a model may be expected to give a row, offline: ((1 + a) p_out + 1 - a) / 2, f64[M].

    Args:
      references: margins of models that did not see the rows, f64[K, M].
      scale: a in [0, 1].
    """
    mean = np.exp(log_probability(references)).mean(axis=0)
    return np.maximum(((1 + scale) * mean + 1 - scale) / 2, FLOOR)


def log_ratio(target: np.ndarray, of_references: np.ndarray) -> np.ndarray:
    """Log R: of the target's probability (margins f64[M]) to what is expected f64[M]. It ranks rows as RMIA does."""
    return log_probability(target) - np.log(of_references)


def chosen_scale(forget: Margins, held_out: Margins) -> float:
    """The a of ``SCALES`` with the largest AUC for a model that is not the one scored; the first of several.

    Args:
      forget: of the original, which saw these rows, and the references.
      held_out: the same on held-out rows.
    """
    forget = _comparable(forget, held_out)
    weights = matched_weights(held_out.labels, forget.labels)

    def found(scale: float) -> float:
        aucs = [auc_of_weights(*both) for both in zip(scores(forget, scale), scores(held_out, scale), strict=True)]
        return float(np.mean([one(np.ones(len(forget.labels)), weights) for one in aucs]))

    return max(SCALES, key=found)


def rmia(
    forget: Margins, held_out: Margins, scale: float, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Rmia:
    """Attacks a target with every subset of two of its references, or with the one that there is.

    Args:
      forget: margins on the forget rows. The target is none of the references; no reference saw either set of rows.
      held_out: on held-out rows, which are weighted to the classes of the forget rows.
      scale: a, see ``chosen_scale``.
      rng: for resamples and permutations.
      resamples: how many of each.

    Raises:
      ValueError: a margin is not finite, there is no row, or the two sets have other references.
    """
    for name, rows in (("forget", forget), ("held-out", held_out)):
        finite(f"{name} margins", rows.target)
        finite(f"{name} margins of references", rows.references)
    if len(forget.references) != len(held_out.references):
        found = f"{len(forget.references)} on forget and {len(held_out.references)} on held-out rows"
        raise ValueError(f"references: {found}; they have to be the same")
    forget = _comparable(forget, held_out)
    classes, ones = (forget.labels, held_out.labels), np.ones(len(forget.labels))
    weights = matched_weights(held_out.labels, forget.labels)
    pairs = list(zip(scores(forget, scale), scores(held_out, scale), strict=True))
    of_each = [auc_of_weights(*one) for one in pairs]

    def auc(w1: np.ndarray, w0: np.ndarray) -> float:
        return float(np.mean([one(w1, w0) for one in of_each]))

    rows = len(forget.labels), effective(weights)
    drawn = bootstrap(auc, classes, weights, rng, resamples)
    of_forget, of_held_out = (np.mean(one, axis=0) for one in zip(*pairs, strict=True))
    return Rmia(
        figure(auc(ones, weights), drawn, smallest_auc(*rows)),
        permutation_p_value(pairs, classes, rng, resamples),
        tails(of_forget, of_held_out, weights),
        scale,
        len(pairs),
        *rows,
    )


def scores(rows: Margins, scale: float) -> list[np.ndarray]:
    """Log R f64[M] of rows for each subset of two references, or for the one that there is."""
    count = len(rows.references)
    subsets = itertools.combinations(range(count), min(2, count))
    return [log_ratio(rows.target, expected(rows.references[list(of)], scale)) for of in subsets]


def _comparable(forget: Margins, held_out: Margins) -> Margins:
    """The forget rows whose class has a held-out row; if no class has one, all of them."""
    kept = comparable_rows(forget.labels, held_out.labels)
    return Margins(forget.target[kept], forget.references[:, kept], forget.labels[kept])
