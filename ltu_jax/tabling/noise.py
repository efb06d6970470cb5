"""How scores vary with the seeds: mean and deviation, the two parts of the variance, and significant differences."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ltu_jax.tabling.runs import Seeds

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """A mean over seeds, and the standard deviation (n - 1), which is None for a single seed."""

    mean: float
    deviation: float | None


class Parts(NamedTuple):
    """Variance between (train, split) pairs, and within them, between unlearn seeds."""

    between: float
    within: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of one or more values."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def split_variance(values: Mapping[Seeds, float]) -> Parts | None:
    """One-way random-effects analysis of variance over (train, split) pairs.

    With n_i values of mean m_i in pair i, a pairs, N values of mean m: MSB = sum n_i (m_i - m)^2 / (a - 1) expects
    within + n0 between, with n0 = (N - sum n_i^2 / N) / (a - 1); MSW = sum (x - m_i)^2 / (N - a) expects within.

    Args:
      values: one value for each triple of seeds.

    Returns:
      The variances, ``between`` cut at zero; None without two pairs of which one has two unlearn seeds.
    """
    groups = list(by_pair(values).values())
    a, n = len(groups), len(values)
    if a < 2 or n == a:
        return None
    means, mean = [statistics.fmean(group) for group in groups], statistics.fmean(values.values())
    msb = sum(len(g) * (m - mean) ** 2 for g, m in zip(groups, means, strict=True)) / (a - 1)
    within = sum((x - m) ** 2 for g, m in zip(groups, means, strict=True) for x in g) / (n - a)
    n0 = (n - sum(len(g) ** 2 for g in groups) / n) / (a - 1)
    return Parts(max(0.0, (msb - within) / n0), within)


def by_pair(values: Mapping[Seeds, float]) -> dict[tuple[int, int], list[float]]:
    """The values of each (train, split) pair."""
    groups: dict[tuple[int, int], list[float]] = {}
    for seeds, value in values.items():
        groups.setdefault(seeds.pair, []).append(value)
    return groups


class Interval(NamedTuple):
    """A mean difference and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def difference(ours: Mapping[Seeds, float], theirs: Mapping[Seeds, float]) -> Interval | None:
    """Student's paired interval of ``ours`` less ``theirs``.

    Only common seeds are paired. Differences within one (train, split) pair share its original and Retrain, so they
    are averaged first: only pairs are independent.

    Returns:
      The interval; None with fewer than two pairs.
    """
    from scipy import stats

    differences = {seeds: ours[seeds] - theirs[seeds] for seeds in ours if seeds in theirs}
    independent = [statistics.fmean(group) for group in by_pair(differences).values()]
    if len(independent) < 2:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(independent) - 1))
    mean, error = statistics.fmean(independent), statistics.stdev(independent) / math.sqrt(len(independent))
    return Interval(mean, mean - quantile * error, mean + quantile * error)


def is_lower(ours: Mapping[Seeds, float], theirs: Mapping[Seeds, float]) -> bool:
    """Whether ``ours`` is lower beyond the noise: the interval of the difference is below zero."""
    interval = difference(ours, theirs)
    return interval is not None and interval.high < 0


def best(rows: Mapping[str, Mapping[Seeds, float]]) -> str | None:
    """The row that is lower than every other beyond the noise; None if there is none, or no other row."""
    for label, ours in rows.items():
        others = [theirs for other, theirs in rows.items() if other != label]
        if others and all(is_lower(ours, theirs) for theirs in others):
            return label
    return None
