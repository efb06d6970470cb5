"""U-LiRA: can an attacker with a population of shadows tell, row by row, what was unlearned from what was never seen?

Hayes et al. (arXiv:2403.01218), and RULI's two variants of it (arXiv:2506.13009). Shadows come in complementary pairs:
each trains on the common rows and on one half of the candidates, and forgets exactly that half. A model that makes all
margins constant passes: read it beside the utility. Targets and rows are both resampled, and without an effect its
interval is then wider than it need be: the test accuses less often than its level. It bounds neither the distance to
Retrain (privacy variant) nor an attacker who also holds the original.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import RESAMPLES, Figure, figure, finite, resampled_weights

FALSE_POSITIVES = {1e-2: 1000, 1e-3: 10_000}
"""Rates at which true positives are counted, and the candidates from which on that means something."""
LEAST_SIGMA = 1e-3
POOLED_UP_TO = 64
"""Shadows up to which a pooled sigma is the main reading."""


class Attack(NamedTuple):
    """What the attacker gains, with the intervals of candidates and targets resampled alike."""

    auc: Figure  # .5 without an effect; a difference in either direction raises it
    balanced_accuracy: Figure  # of calling unlearned what is likelier so
    tpr: dict[float, Figure]  # at a measured FPR of at most so much; only with enough candidates for it
    row_accuracy: np.ndarray  # f64[M], balanced accuracy on each row, over its targets
    unlearned: np.ndarray  # f64[targets, M], log ratios of what was unlearned
    unseen: np.ndarray  # f64[targets, M], of what was never seen


class ULira(NamedTuple):
    """U-LiRA with two ways of estimating sigma."""

    variant: str  # privacy: unseen rows of shadows, unlearned too; efficacy: of Retrains
    references: tuple[int, int]  # models a row is compared with, unlearned and unseen, those left out not counted
    num_shadows: int
    pooled: Attack  # one sigma for all rows
    own: Attack  # one for each row

    @property
    def main(self) -> Attack:
        """The reading to quote: own sigmas only with more than 64 shadows."""
        return self.pooled if self.num_shadows <= POOLED_UP_TO else self.own


def privacy(
    margins: np.ndarray,
    masks: np.ndarray,
    pairs: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ULira:
    """Was a model made by training with a row and unlearning it, or without it, unlearning others?

    A target shadow is scored without itself **and its complement**: without itself alone, one side had a model less
    than the other, and without any effect the AUC would be .41 of 4 shadows, .476 of 8, .492 of 16.

    Args:
      margins: of the shadows after unlearning, f64[S, M] on M candidates.
      masks: which shadow trained on a candidate and forgot it, bool[S, M].
      pairs: which shadows are complements, i64[S/2, 2].
      seed: of the bootstrap.
      resamples: of candidates and of target pairs, both at once.

    Returns:
      ``ULira``, its targets the pairs.

    Raises:
      ValueError: for masks that are no complements, fewer than three pairs, or margins that are not finite.
    """
    unlearned, unseen = sides(margins, masks, pairs)
    targets = [(i, i) for i in range(len(unlearned))]
    return _lira("privacy", unlearned, unseen, targets, seed, resamples)


def efficacy(
    margins: np.ndarray,
    masks: np.ndarray,
    pairs: np.ndarray,
    retrains: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ULira:
    """Was a row unlearned, or is this a Retrain, which trained on the common rows alone?

    A pair of shadows and a Retrain are the targets together, and both left out: so no side has a model less. Each
    target is met equally often where the numbers of pairs and Retrains divide each other.

    Args:
      margins: of the shadows after unlearning, f64[S, M].
      masks: which shadow trained on a candidate and forgot it, bool[S, M].
      pairs: which shadows are complements, i64[S/2, 2].
      retrains: margins of the Retrains, f64[N, M], N at least 3.
      seed: of the bootstrap.
      resamples: of candidates and of targets, both at once.

    Returns:
      ``ULira``, its targets a pair and a Retrain each.

    Raises:
      ValueError: as ``privacy``.
    """
    unlearned, _ = sides(margins, masks, pairs)
    unseen = finite("retrains", retrains)
    if len(unseen) < 3 or unseen.shape[1:] != unlearned.shape[1:]:
        raise ValueError(f"retrains: shape {unseen.shape}; allowed: at least 3 Retrains, on {margins.shape[1]} rows")
    pairs_count, others = len(unlearned), len(unseen)
    targets = [(k % pairs_count, k % others) for k in range(max(pairs_count, others))]
    return _lira("efficacy", unlearned, unseen, targets, seed, resamples)


def sides(margins: np.ndarray, masks: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The margins f64[S/2, M] of the shadow of each pair that forgot a row, and of the other, which never saw it."""
    margins, pairs = finite("margins", margins), np.asarray(pairs)
    if margins.ndim != 2 or masks.shape != margins.shape:
        raise ValueError(f"masks: shape {masks.shape}; allowed: that of the margins, [shadows, rows] {margins.shape}")
    if pairs.shape[1:] != (2,) or sorted(pairs.flat) != list(range(len(margins))) or len(pairs) < 3:
        raise ValueError(
            f"pairs: shape {pairs.shape}; allowed: at least 3 pairs, of each of {len(margins)} shadows once"
        )
    first, second = pairs.T
    if wrong := np.flatnonzero((masks[first] == masks[second]).any(axis=1)).tolist():
        raise ValueError(f"pairs: {pairs[wrong[0]].tolist()} share rows; allowed: shadows that forgot opposite halves")
    of_first, of_second = margins[first], margins[second]
    return np.where(masks[first], of_first, of_second), np.where(masks[first], of_second, of_first)


def _lira(
    variant: str,
    unlearned: np.ndarray,
    unseen: np.ndarray,
    targets: Sequence[tuple[int, int]],
    seed: int,
    resamples: int,
) -> ULira:
    attacks = []
    for is_pooled in (True, False):
        scores = [], []
        for of_unlearned, of_unseen in targets:
            one, other = np.delete(unlearned, of_unlearned, axis=0), np.delete(unseen, of_unseen, axis=0)
            scores[0].append(_log_ratio(unlearned[of_unlearned], one, other, is_pooled))
            scores[1].append(_log_ratio(unseen[of_unseen], one, other, is_pooled))
        attacks.append(_attack(np.stack(scores[0]), np.stack(scores[1]), seed, resamples))
    return ULira(variant, (len(unlearned) - 1, len(unseen) - 1), 2 * len(unlearned), *attacks)


def _log_ratio(margins: np.ndarray, unlearned: np.ndarray, unseen: np.ndarray, is_pooled: bool) -> np.ndarray:
    """Log N(unlearned) - log N(unseen) at margins f64[M], of references f64[n, M]; above 0 where s / (s + t) > 1/2."""
    densities = []
    for side in (unlearned, unseen):
        variance = side.var(axis=0, ddof=1)
        sigma = np.maximum(np.sqrt(variance.mean() if is_pooled else variance), LEAST_SIGMA)
        densities.append(-0.5 * ((margins - side.mean(axis=0)) / sigma) ** 2 - np.log(sigma))
    return densities[0] - densities[1]


def _attack(unlearned: np.ndarray, unseen: np.ndarray, seed: int, resamples: int) -> Attack:
    """The figures of log ratios f64[targets, M]."""
    num_targets, num_rows = unlearned.shape
    rates = [rate for rate, least in FALSE_POSITIVES.items() if num_rows >= least]
    of_weights = _figures(unlearned, unseen, rates)
    value = of_weights(np.ones(num_targets), np.ones(num_rows))
    rng = np.random.default_rng(seed)
    of_targets, of_rows = (resampled_weights(np.zeros(n, int), rng, resamples) for n in (num_targets, num_rows))
    resampled = np.array([of_weights(*both) for both in zip(of_targets, of_rows, strict=True)])
    auc, accuracy, *tpr = (figure(one, many) for one, many in zip(value, resampled.T, strict=True))
    by_row = ((unlearned > 0).mean(axis=0) + (unseen <= 0).mean(axis=0)) / 2
    return Attack(auc, accuracy, dict(zip(rates, tpr, strict=True)), by_row, unlearned, unseen)


def _figures(
    unlearned: np.ndarray, unseen: np.ndarray, rates: Sequence[float]
) -> Callable[[np.ndarray, np.ndarray], list[float]]:
    """AUC, balanced accuracy, TPR at each rate, as a function of the weights of targets and of rows: sorted once."""
    values, place = np.unique(np.concatenate([unlearned.ravel(), unseen.ravel()]), return_inverse=True)
    places = place.ravel().reshape(2, -1)
    first_above = int(np.searchsorted(values, 0.0, "right"))

    def of_weights(targets: np.ndarray, rows: np.ndarray) -> list[float]:
        weights = np.outer(targets, rows).ravel() / (targets.sum() * rows.sum())
        found, false = (np.bincount(at, weights, len(values)) for at in places)
        below = np.cumsum(false) - false
        auc = float(found @ (below + false / 2))
        accuracy = float(found[first_above:].sum() + false[:first_above].sum()) / 2
        tpr, fpr = (np.concatenate([[0.0], np.cumsum(one[::-1])]) for one in (found, false))
        # The rates of a threshold above everything, then of each value from the highest on.
        return [auc, accuracy, *(float(tpr[np.searchsorted(fpr, rate + 1e-12, "right") - 1]) for rate in rates)]

    return of_weights
