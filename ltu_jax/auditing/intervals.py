"""Intervals, p-values and the smallest effects that could have been found, for all audits.

Each interval is of 95 %; over rows and given the models at hand, but for that of ``one_more``. Each test is two-sided:
a model that treats forget rows worse than unseen ones leaks as much as one that treats them better.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05
POWER = 2.8
"""Standard errors of an effect that a two-sided test at 5 % finds with 80 %: 1.96 + 0.84."""
RESAMPLES = 1000
FEW = 2
"""Resamples where the figure alone is read."""
OfWeights = Callable[[np.ndarray, np.ndarray], float]
"""A statistic of two sets of rows as a function of the rows' weights f64[n1] and f64[n0]."""


class Figure(NamedTuple):
    """A figure, its 95 % interval, and the smallest effect that would have been found (80 %, two-sided 5 %)."""

    value: float
    low: float
    high: float
    smallest: float  # distance from the value without an effect, in the figure's own unit


class Tail(NamedTuple):
    """How many positives a threshold finds at a low rate of false positives."""

    asked: float  # the FPR that was asked for
    tpr: Figure  # Clopper-Pearson; its smallest effect is a distance from the FPR that was asked for
    fpr: float  # as measured, at most what was asked for
    fpr_limit: float  # upper limit of its two-sided 95 % interval


def span(floor: Sequence[float]) -> tuple[float, float] | None:
    """The smallest and largest of the figures of Retrains; None of fewer than two, which have no range."""
    return (min(floor), max(floor)) if len(floor) > 1 else None


def populations(first: np.ndarray, second: np.ndarray, names: tuple[str, str], least: int) -> tuple[np.ndarray, ...]:
    """Margins f64[N, M] and f64[K, M] of two populations of models on the same rows.

    Raises:
      ValueError: one is not finite, or there are fewer models than ``least`` on a side, or other rows.
    """
    first, second = finite(names[0], first), finite(names[1], second)
    shapes = first.shape, second.shape
    if any(len(shape) != 2 or shape[0] < least for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"{names[1]}: shape {shapes[1]} beside {names[0]} {shapes[0]}; allowed: at least"
            f" {('no', 'one', 'two', 'three')[least]} models each, on the same rows"
        )
    return first, second


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values in 64 bits.

    Raises:
      ValueError: there are none, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    wrong = int(np.sum(~np.isfinite(values)))
    if not values.size or wrong:
        found = f"{wrong} of {values.size} are not finite" if values.size else "there are none"
        raise ValueError(f"{name}: {found}; an audit needs at least one row and finite values")
    return values


def auc_of_weights(positives: np.ndarray, negatives: np.ndarray) -> OfWeights:
    """The AUC as a function of the rows' weights: for resampling, the scores are sorted only once.

    Args:
      positives: scores, f64[n1].
      negatives: scores, f64[n0].

    Returns:
      A function of weights f64[n1] and f64[n0] (any scale): P[positive > negative], ties half.
    """
    order = np.argsort(negatives, kind="stable")
    left, right = (np.searchsorted(negatives[order], positives, side) for side in ("left", "right"))

    def of_weights(of_positives: np.ndarray, of_negatives: np.ndarray) -> float:
        below = np.concatenate([[0.0], np.cumsum(of_negatives[order])])
        won = np.sum(of_positives * (below[left] + below[right]))  # no @: its threads cost more than the sum
        return float(won / (2 * of_positives.sum() * below[-1]))

    return of_weights


def auc(positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray | None = None) -> float:
    """P[a positive's score f64[n1] > a negative's f64[n0]], ties half; the negatives weighted by f64[n0]."""
    weights = np.ones(len(negatives)) if weights is None else weights
    return auc_of_weights(positives, negatives)(np.ones(len(positives)), weights)


def ks_of_weights(one: np.ndarray, other: np.ndarray) -> Callable[[np.ndarray], float]:
    """The Kolmogorov-Smirnov distance of two models' values f64[M] on the same rows, as a function of their weights.

    Returns:
      A function of weights f64[M] (any scale): points.
    """
    both = np.concatenate([one, other])
    order = np.argsort(both)
    last = np.flatnonzero(np.append(np.diff(both[order]) > 0, True))  # of its value: both functions step there at once

    def of_weights(weights: np.ndarray) -> float:
        apart = np.cumsum(np.concatenate([weights, -weights])[order])
        return float(100 * np.abs(apart[last]).max() / weights.sum())

    return of_weights


def auc_error(value: float, n1: float, n0: float) -> float:
    """Standard error of an AUC of n1 and n0 rows (Hanley and McNeil 1982); for weights w, n0 is 1 / sum(w^2)."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n1 - 1) * (q1 - value**2) + (n0 - 1) * (q2 - value**2)
    return math.sqrt(max(variance, 0.0) / (n1 * n0))


def smallest_auc(n1: float, n0: float) -> float:
    """The smallest distance of an AUC from 1/2 that n1 and n0 rows find with 80 % at two-sided 5 %."""
    return POWER * auc_error(0.5, n1, n0)


def effective(weights: np.ndarray) -> float:
    """How many equally weighted rows are worth as much as rows with weights f64[M]."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def resampled_weights(classes: np.ndarray, rng: np.random.Generator, number: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Bootstrap weights of rows, each class resampled on its own.

    Of the n rows of a class n - 1 are drawn, and count n / (n - 1) each: so the variance of a mean is right for small
    classes too, where n draws make it too small by the factor 1 - 1/n (Rao and Wu 1988). Classes of one row, which
    have no spread of their own, are drawn from as one class.

    Args:
      classes: of the rows, i32[M].
      rng: for the draws.
      number: of resamples.

    Yields:
      Weights f64[M] with sum M, for ``number`` resamples.
    """
    stratum, size = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    stratum = np.unique(np.where(size[stratum] == 1, -1, stratum), return_inverse=True)[1]
    size = np.bincount(stratum)
    order, first = np.argsort(stratum, kind="stable"), np.cumsum(size) - size
    draws = np.maximum(size - 1, 1)  # a single such row is always there
    of_draw = np.repeat(np.arange(len(size)), draws)
    scale = (size / draws)[stratum]
    for _ in range(number):
        drawn = order[first[of_draw] + rng.integers(size[of_draw])]
        yield np.bincount(drawn, minlength=len(classes)) * scale


def bootstrap(
    statistic: OfWeights,
    classes: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray,
    rng: np.random.Generator,
    number: int = RESAMPLES,
) -> np.ndarray:
    """A statistic of two sets of rows over resamples, which are drawn from each set on its own, classes kept.

    Args:
      statistic: of the weights of both sets.
      classes: of the rows of both, i32[n1] and i32[n0].
      weights: how much each row of the second set counts, f64[n0].
      rng: for the draws.
      number: of resamples.

    Returns:
      f64[number].
    """
    first, second = (resampled_weights(of_rows, rng, number) for of_rows in classes)
    return np.array([statistic(w1, w0 * weights) for w1, w0 in zip(first, second, strict=True)])


def figure(value: float, resampled: np.ndarray, smallest: float | None = None) -> Figure:
    """A figure with the percentile interval of its resamples f64[B]; the smallest effect from them unless given."""
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    spread = POWER * float(np.std(resampled, ddof=1)) if smallest is None else smallest
    return Figure(float(value), float(low), float(high), spread)


def normal_p_value(value: Figure, neutral: float) -> float:
    """Two-sided p-value of ``neutral``, of a figure whose error is normal: its smallest effect is 2.8 of them."""
    from scipy.stats import norm

    error = value.smallest / POWER
    return float(2 * norm.sf(abs(value.value - neutral) / error)) if error else float(value.value == neutral)


def permutation_p_value(
    scores: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    number: int = RESAMPLES,
) -> float:
    """Two-sided p-value of an AUC of 1/2: the rows of each class change sides at random.

    Exact, whatever the spread between and within classes, where forget and held-out rows of a class are exchangeable:
    for a random forget set, not for one that was chosen.

    Args:
      scores: of positives and negatives, (f64[n1], f64[n0]); of several AUCs over the same rows the mean is tested.
      classes: of these rows, i32[n1] and i32[n0]. If no class is on both sides, all rows change sides with each other.
      rng: for the permutations.
      number: of permutations; no p-value is below 1 / (number + 1).
    """
    n1, both = len(classes[0]), np.concatenate(classes)
    stratum = both if np.isin(*classes).any() else np.zeros_like(both)
    wanted = np.bincount(stratum[:n1], minlength=1 + stratum.max())
    there = np.bincount(stratum[n1:], minlength=1 + stratum.max())
    weights = (wanted / np.maximum(there, 1))[stratum]
    at_start = np.argsort(stratum, kind="stable") < n1  # who is positive, class by class
    of_all = [auc_of_weights(both_scores, both_scores) for both_scores in map(np.concatenate, scores)]

    def mean_auc(is_positive: np.ndarray) -> float:
        return float(np.mean([one(is_positive.astype(float), weights * ~is_positive) for one in of_all]))

    apart, at_least = abs(mean_auc(np.arange(len(both)) < n1) - 0.5), 1
    for _ in range(number):
        shuffled = np.argsort(stratum + rng.random(len(stratum)))  # the rows of each class in a new order
        is_positive = np.empty(len(stratum), bool)
        is_positive[shuffled] = at_start
        at_least += abs(mean_auc(is_positive) - 0.5) >= apart - 1e-12
    return at_least / (number + 1)


def clopper_pearson(right: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a rate, ``right`` of ``of``."""
    from scipy.special import betaincinv  # scipy.stats takes seconds to import, and a recipient's check waits for this

    low = betaincinv(right, of - right + 1, LEVEL / 2) if right else 0.0
    high = betaincinv(right + 1, of - right, 1 - LEVEL / 2) if right < of else 1.0
    return float(low), float(high)


def fpr_limit(fpr: float, negatives: float) -> float:
    """Upper limit of the 95 % interval (Clopper-Pearson) of a measured FPR; 1 - .025^(1/n) where none was seen."""
    from scipy.stats import beta

    seen = fpr * negatives
    return float(beta.ppf(1 - LEVEL / 2, seen + 1, negatives - seen)) if seen < negatives else 1.0


def tpr_at_fpr(positives: np.ndarray, negatives: np.ndarray, asked: float, weights: np.ndarray | None = None) -> Tail:
    """The largest TPR of a threshold whose measured FPR is at most ``asked``; higher scores are called positive.

    Args:
      positives: scores, f64[n1].
      negatives: scores, f64[n0].
      asked: FPR in [0, 1).
      weights: how much each negative counts, f64[n0]; equal ones if None.
    """
    weights = np.ones(len(negatives)) if weights is None else weights
    order = np.argsort(negatives)
    from_here = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]]) / weights.sum()
    fpr = from_here[np.searchsorted(negatives[order], positives, "left")]  # with each positive as the threshold
    allowed = fpr <= asked + 1e-12
    found, n1, n0 = int(allowed.sum()), len(positives), effective(weights)
    spread = math.sqrt(asked * (1 - asked) * (1 / n1 + 1 / n0))
    measured = float(fpr[allowed].max()) if found else 0.0
    return Tail(
        asked, Figure(found / n1, *clopper_pearson(found, n1), POWER * spread), measured, fpr_limit(measured, n0)
    )


def tails(
    positives: np.ndarray,
    negatives: np.ndarray,
    weights: np.ndarray | None = None,
    asked: Sequence[float] = (1e-2, 1e-3),
) -> dict[str, tuple[Tail, ...]]:
    """``tpr_at_fpr`` for high scores (``high``) and low ones (``low``); only an FPR of 10 negatives or more."""
    rows = len(negatives) if weights is None else effective(weights)
    asked = [rate for rate in asked if rows * rate >= 10 - 1e-9]
    return {
        name: tuple(tpr_at_fpr(sign * positives, sign * negatives, rate, weights) for rate in asked)
        for name, sign in (("high", 1), ("low", -1))
    }


def roc(
    positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray | None = None, points: int = 100
) -> dict[str, np.ndarray]:
    """The ROC of scores, thinned for a picture: exact points, at both ends in equal steps of the rate's logarithm.

    Args:
      positives: scores, f64[n1].
      negatives: scores, f64[n0].
      weights: how much each negative counts, f64[n0]; equal ones if None.
      points: at most so many towards each end.

    Returns:
      ``fpr`` and ``tpr``, rising: of each FPR that is asked for the largest TPR of a threshold that keeps to it.
    """
    weights = np.ones(len(negatives)) if weights is None else weights
    order, values = np.argsort(negatives), np.unique(np.concatenate([positives, negatives]))[::-1]
    from_here = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]]) / weights.sum()
    fpr = np.append(0.0, from_here[np.searchsorted(negatives[order], values, "left")])
    tpr = np.append(0.0, 1 - np.searchsorted(np.sort(positives), values, "left") / len(positives))
    steps = np.geomspace(0.5 / len(negatives), 0.5, points)
    asked = np.concatenate([[0.0], steps, 1 - steps[::-1], [1.0]])
    kept = np.unique(np.searchsorted(fpr, asked + 1e-12, "right") - 1)
    return {"fpr": fpr[kept], "tpr": tpr[kept]}


def paired_difference(first: np.ndarray, second: np.ndarray) -> Figure:
    """The difference of two models' rates on the same rows, points.

    Where no row differs, it spreads as if one did.

    Args:
      first: which rows the first model has right, bool[M].
      second: the same of the second.
    """
    rows, b, c = len(first), int(np.sum(first & ~second)), int(np.sum(~first & second))
    return _difference((b - c) / rows, math.sqrt(max(b + c, 1) - (b - c) ** 2 / rows) / rows)


def _difference(value: float, error: float) -> Figure:
    return Figure(*(100 * x for x in (value, value - 1.96 * error, value + 1.96 * error, POWER * error)))


def spread_of_rows(of_rows: np.ndarray) -> float:
    """The standard deviation over seeds that a mean over rows has at least: that of rows which move independently.

    Args:
      of_rows: of K >= 2 Retrains on the same rows, f64[K, M].
    """
    return math.sqrt(float(of_rows.var(axis=0, ddof=1).mean()) / of_rows.shape[1])


@functools.cache
def _noncentrality(freedom: int) -> float:
    """The effect, in true standard errors, that Student's two-sided test at 5 % finds with 80 %."""
    from scipy.stats import nct, t

    needed, low, high = float(t.isf(LEVEL / 2, freedom)), 1.0, 100.0
    for _ in range(40):  # by halves: the power rises with the effect
        middle = (low + high) / 2
        low, high = (low, middle) if nct.sf(needed, freedom, middle) > 0.8 else (middle, high)
    return high


def one_more(value: float, others: np.ndarray, *, each_other: bool = False, least: float = 0.0) -> tuple[Figure, float]:
    """The difference of a model's figure to those of K >= 2 Retrains, with the interval that one more Retrain lies in.

    Student's t with K - 1 degrees of freedom: the figure is taken to be normal over seeds. Of 3 Retrains a model has to
    lie 5 of their standard deviations off, of 5 Retrains 3. A few Retrains may agree by luck, so their spread counts as
    ``least`` if it is below; where neither tells how far one more may lie, the p-value is 1.

    Args:
      value: of the model.
      others: of the Retrains, f64[K].
      each_other: each of ``others`` was measured against the mean of the others, as the model was against all of them:
        so their values lie K / (K - 1) times as far from each other as the Retrains do.
      least: the standard deviation over seeds that is certain, see ``spread_of_rows``.

    Returns:
      The difference to their mean, with its interval; the two-sided p-value of being one of them.

    Raises:
      ValueError: one is not finite.
    """
    from scipy.stats import t

    others = finite("of Retrains, or of the model beside them", np.append(others, value))[:-1]
    count, freedom = len(others), len(others) - 1
    spread = max(float(np.std(others, ddof=1)) * (freedom / count if each_other else 1.0), least)
    apart, error = float(value - others.mean()), spread * math.sqrt(1 + 1 / count)
    half = float(t.isf(LEVEL / 2, freedom)) * error
    p_value = float(2 * t.sf(abs(apart) / error, freedom)) if spread > 1e-9 else 1.0  # below is rounding
    return Figure(apart, apart - half, apart + half, _noncentrality(freedom) * error), p_value


def holm(p_values: Sequence[float]) -> np.ndarray:
    """The p-values f64[A] of several audits, corrected for their number (Holm 1979): reject what is at most 5 %."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
