"""KLoM: the divergence, row by row, of the margins of many unlearned models from those of as many oracles.

Georgiev et al. (arXiv:2410.23232, section E.1). An oracle is trained without the forget rows. The paper states
KL(unlearned || oracle); its published numbers are KL(oracle || unlearned), for the script passes the arguments the
other way round: both are computed here, and named. No figure is near 0: its floor is that of oracles against other
oracles of the same number (means of about 6.4 with 8 models, 1.7 with 32, .35 with 100), so ``klom`` of those belongs
beside it; with fewer than 64 models the floor hides most. It says nothing of the joint behaviour of several rows.
"""

from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import POWER, Figure, populations

BOUND = 100.0
"""Margins are clipped at this many nats."""
BINS = 20
LEAST_FREQUENCY = 1e-5


class Divergence(NamedTuple):
    """KL in one direction, nats; the intervals are over models and rows."""

    mean: Figure
    p95: Figure  # 95th percentile over the rows
    rows: np.ndarray  # f64[M]


class Klom(NamedTuple):
    """KLoM in both directions."""

    unlearned_to_oracle: Divergence  # KL(unlearned || oracle), as defined
    oracle_to_unlearned: Divergence  # KL(oracle || unlearned), as published
    models: tuple[int, int]  # unlearned ones and oracles


def klom(unlearned: np.ndarray, oracles: np.ndarray, *, seed: int = 0, resamples: int = 200) -> Klom:
    """KLoM of two populations of models on the same rows; its floor is the same of oracles and other oracles.

    The interval is the figure and 1.96 standard errors on either side, whose squares are a jackknife over the models
    plus a bootstrap over the rows. A bootstrap of the models would draw some twice, which raises the divergence of
    their histograms as fewer models would: on Gaussian margins its errors are 1.3 to 5 times too large, these 1.4 to
    2, and 3 for the percentile.

    Args:
      unlearned: margins, f64[N, M]: of N models, each of an original of its own where these are at hand; N at least 2.
      oracles: margins f64[K, M] of models that never saw the forget rows, K at least 2.
      seed: of the bootstrap.
      resamples: of the rows.

    Returns:
      ``Klom``.

    Raises:
      ValueError: for margins that are not finite, of different rows, or of one model.
    """
    unlearned, oracles = populations(unlearned, oracles, ("unlearned", "oracles"), 2)
    forth, back = _both_directions(unlearned, oracles)
    without = [
        np.array(
            [_figures(*_both_directions(np.delete(unlearned, i, axis=0), oracles)) for i in range(len(unlearned))]
        ),
        np.array([_figures(*_both_directions(unlearned, np.delete(oracles, i, axis=0))) for i in range(len(oracles))]),
    ]
    rng, num_rows = np.random.default_rng(seed), len(forth)
    drawn = [rng.integers(num_rows, size=num_rows) for _ in range(resamples)]
    variance = np.var([_figures(forth[at], back[at]) for at in drawn], axis=0)
    variance = variance + sum((len(one) - 1) * one.var(axis=0) for one in without)
    mean, p95, mean_back, p95_back = map(_figure, _figures(forth, back), np.sqrt(variance))
    models = len(unlearned), len(oracles)
    return Klom(Divergence(mean, p95, forth), Divergence(mean_back, p95_back, back), models)


def _figures(forth: np.ndarray, back: np.ndarray) -> list[float]:
    """Mean and 95th percentile of both directions."""
    return [float(of(rows)) for rows in (forth, back) for of in (np.mean, lambda rows: np.quantile(rows, 0.95))]


def _figure(value: float, error: float) -> Figure:
    error = float(error)
    return Figure(value, max(0.0, value - 1.96 * error), value + 1.96 * error, POWER * error)


def _both_directions(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL(first || second) and KL(second || first) of each row, f64[M] each."""
    first, second = (np.clip(one, -BOUND, BOUND) for one in (first, second))
    low = np.minimum(first.min(axis=0), second.min(axis=0))
    width = np.maximum(first.max(axis=0), second.max(axis=0)) - low
    p, q = (_frequencies(one, low, width) for one in (first, second))
    return _kl(p, q), _kl(q, p)


def _frequencies(margins: np.ndarray, low: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Frequencies f64[M, BINS] in equal bins over each row's range, of which the last holds its end."""
    place = (margins - low) / np.where(width > 0, width, 1) * BINS
    place = np.minimum(place.astype(int), BINS - 1) + BINS * np.arange(margins.shape[1])
    return np.bincount(place.ravel(), minlength=BINS * margins.shape[1]).reshape(-1, BINS) / len(margins)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) over the last axis, where q is at least 1e-5 wherever p is above 0; at most about 11.5."""
    q = np.where(p > 0, np.maximum(q, LEAST_FREQUENCY), q)
    q = q / q.sum(axis=-1, keepdims=True)
    return np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1)), 0), axis=-1)
