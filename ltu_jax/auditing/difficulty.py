"""Audit: hard, random and easy rows, told apart by the losses that were recorded in the model's own training.

The LT-IQR, the spread of a row's loss over the epochs (arXiv:2411.05743), finds most of the rows that attacks with
many shadows call vulnerable; the mean training confidence falls with memorisation (arXiv:2410.16516). Both are
proxies of one training: no claim is made that these are the rows of the largest true memorisation. Retrains know
nothing of the choice, and hard rows have no equally hard held-out rows: what is found on a stratum counts only
against Retrains on the same rows.
"""

from typing import NamedTuple

import numpy as np


class Difficulty(NamedTuple):
    """How hard each row is."""

    iqr: np.ndarray  # f64[M], upper less lower quartile of the loss over the epochs, nats; large is hard
    confidence: np.ndarray  # f64[M], mean of exp(-loss), the probability of the label; large is easy


class Strata(NamedTuple):
    """Disjoint sets of equally many rows, each sorted, i64[n]."""

    hard: np.ndarray
    random: np.ndarray
    easy: np.ndarray


def difficulty(losses: np.ndarray) -> Difficulty:
    """How hard rows are, from their losses in training.

    Args:
      losses: of each row in each epoch, f[E, M]; NaN where a row was not reached.

    Raises:
      ValueError: a row has fewer than two losses, or one that is not finite.
    """
    losses = np.asarray(losses, np.float64)
    if np.isinf(losses).any() or (np.sum(~np.isnan(losses), axis=0) < 2).any():
        raise ValueError("losses: a row with fewer than two, or an infinite one; allowed: two or more for each row")
    low, high = np.nanquantile(losses, [0.25, 0.75], axis=0)
    return Difficulty(high - low, np.nanmean(np.exp(-losses), axis=0))


def strata(rows: np.ndarray, found: Difficulty, size: int, rng: np.random.Generator) -> Strata:
    """The hardest rows by LT-IQR; of the others the easiest by confidence; of all others random ones.

    Args:
      rows: the candidates, i64[M].
      found: how hard each is; of equal ones the first come first.
      size: rows of each stratum.
      rng: draws the random ones.

    Raises:
      ValueError: there are fewer candidates than three strata take.
    """
    if not 0 < 3 * size <= len(rows):
        raise ValueError(f"size: three strata of {size} of {len(rows)} rows; allowed: 1 to a third of them")
    by_iqr = np.argsort(-found.iqr, kind="stable")
    hard, others = by_iqr[:size], np.sort(by_iqr[size:])
    by_confidence = others[np.argsort(-found.confidence[others], kind="stable")]
    easy, others = by_confidence[:size], np.sort(by_confidence[size:])
    drawn = rng.choice(others, size, replace=False)
    return Strata(*(np.sort(rows[index]) for index in (hard, drawn, easy)))
