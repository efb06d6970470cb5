"""Audit: a lower bound on epsilon from canaries in one run (Steinke et al. 2023, arXiv:2305.08846).

Canaries are rows of their own with a random wrong label. A fair coin decides which are trained on and then forgotten;
an attacker guesses the coins from the unlearned model's margins. If unlearning were retraining, the model would know
nothing of the coins. It claims that with 95 % no smaller epsilon holds for this recipe, worst-case rows and this run;
it bounds nothing from above, and says nothing of ordinary rows. The bounds are those of the package ``jax_privacy``.
"""

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import (
    LEVEL,
    RESAMPLES,
    Figure,
    auc_of_weights,
    bootstrap,
    figure,
    finite,
    smallest_auc,
)

DELTA = 1e-5


class OneRun(NamedTuple):
    """What a model gives away of the coins. Two-sided: forgotten canaries may stand out below the others too."""

    epsilon: Figure  # the main figure: a lower bound, 0 if there is none, with no upper limit
    p_value: float  # two-sided, of a model that is independent of the coins
    effective_epsilon: float  # the same by f-DP (arXiv:2410.22235); it presumes a Gaussian trade-off curve
    largest: float  # the bound if every guess were right: no more can be shown by so many
    unlearning_epsilon: float  # for unlearning against Retrain, of one row: epsilon / 2 (ours)
    set_epsilon: float  # the same of the whole set of canaries; it grows with their number (ours)
    auc: Figure  # P[score of an included canary > of another], a description
    right: tuple[int, int]  # of the guesses that high scores are of included canaries, and that low ones are
    guesses: int  # of each
    included: int
    canaries: int


def jax_privacy_auditing() -> ModuleType:
    """The module that has the bounds; to be asked for before anything is trained.

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    try:
        from jax_privacy import auditing
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the bound of canaries needs jax_privacy: pip install 'ltu-jax[audit]'") from error
    return auditing


def guess(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The canaries that are guessed to be in: those of the highest scores, bool[m].

    Args:
      scores: higher for canaries that are thought to be in, f64[m].
      count: how many are guessed; the attacker abstains from the others.
      rng: breaks ties.
    """
    guesses = np.zeros(len(scores), bool)
    guesses[np.lexsort((rng.random(len(scores)), scores))[len(scores) - count :]] = True
    return guesses


def coin_p_value(right: int, guesses: int) -> float:
    """P[at least so many right] where guesses are of fair coins that the model is independent of (epsilon = 0)."""
    return math.exp(coin_log_p_value(right, guesses))


def coin_log_p_value(right: int, guesses: int) -> float:
    """The logarithm of ``coin_p_value``, which is 0 in floating point where a thousand guesses are right."""
    from scipy.special import logsumexp
    from scipy.stats import binom

    return float(logsumexp(binom.logpmf(np.arange(right, guesses + 1), guesses, 0.5)))


def epsilon_bound(
    right: int, guesses: int, canaries: int, *, delta: float = DELTA, level: float = LEVEL, effective: bool = False
) -> float:
    """The largest epsilon that the guesses reject at ``level``, 0 if none.

    Args:
      right: v of the guesses.
      guesses: r, fewer than the canaries; how many was fixed beforehand, which canaries may depend on the scores.
      canaries: m.
      delta: in (0, 1].
      level: probability that the bound is too high.
      effective: by f-DP rather than by arXiv:2305.08846.

    Raises:
      ValueError: the numbers do not belong together, or one is out of range.
      ModuleNotFoundError: ``jax_privacy`` is not installed.
    """
    if not 0 <= right <= guesses < canaries or canaries < 2:
        raise ValueError(
            f"right guesses {right} of {guesses} for {canaries} canaries: need right <= guesses < canaries"
        )
    of = jax_privacy_auditing()
    # The bound knows nothing but m, r and v: these scores have them. Both of its lists need one.
    wrong, kept = guesses - right, canaries - guesses
    kept_in = kept if wrong else kept - 1
    auditor = of.CanaryScoreAuditor(
        np.repeat([1.0, 0.0], [right, kept_in]), np.repeat([1.0, 0.0], [wrong, kept - kept_in])
    )
    bound = auditor.epsilon_one_run_fdp if effective else auditor.epsilon_one_run
    return float(bound(level, delta, threshold_strategy=of.Explicit(0.5)))


def smallest_epsilon(guesses: int, level: float = LEVEL) -> float:
    """The epsilon that so many guesses find with 80 %: each is right with probability 1 / (1 + exp(-epsilon))."""
    from scipy.special import logit
    from scipy.stats import beta, binom

    needed = int(binom.isf(level, guesses, 0.5)) + 1  # the fewest right that reject epsilon = 0
    return float(logit(beta.ppf(0.8, needed, guesses - needed + 1))) if needed <= guesses else float("inf")


def one_run(
    scores: np.ndarray,
    is_in: np.ndarray,
    rng: np.random.Generator,
    guesses: int | None = None,
    delta: float = DELTA,
    resamples: int = RESAMPLES,
) -> OneRun:
    """The bound from one unlearned model, from high and from low scores, each at half the level.

    Args:
      scores: of the canaries, f64[m]: the margin of the label that they were trained with, less, if there are any,
        the mean margin of models that saw no canary.
      is_in: the coins, which canaries were trained on and forgotten, bool[m].
      rng: breaks ties, and resamples the AUC.
      guesses: r in each direction, fixed beforehand; a quarter of the canaries if None.
      delta: of (epsilon, delta).
      resamples: for the interval of the AUC.

    Raises:
      ValueError: a score is not finite, the coins are all the same, or there are too many guesses or none.
      ModuleNotFoundError: ``jax_privacy`` is not installed.
    """
    scores, is_in, num = finite("scores of canaries", scores), np.asarray(is_in, bool), len(is_in)
    count = num // 4 if guesses is None else guesses
    if len(scores) != num or is_in.all() or not is_in.any() or not 0 < count < num:
        found = f"{len(scores)} scores, {int(is_in.sum())} of {num} coins are in, {count} guesses"
        raise ValueError(f"canaries: {found}; need a score for each, coins of both kinds, 0 < guesses < canaries")
    right = [int(np.sum(is_in[guess(sign * scores, count, rng)])) for sign in (1, -1)]

    def bound(of: int, effective: bool = False) -> float:
        return epsilon_bound(of, count, num, delta=delta, level=LEVEL / 2, effective=effective)

    best = max(right)
    log_p_value = coin_log_p_value(best, count)
    epsilon, apart = bound(best), auc_of_weights(scores[is_in], scores[~is_in])
    sides = np.ones(is_in.sum()), np.ones((~is_in).sum())
    drawn = bootstrap(apart, (np.zeros(len(sides[0])), np.zeros(len(sides[1]))), sides[1], rng, resamples)
    return OneRun(
        Figure(epsilon, epsilon, float("inf"), smallest_epsilon(count, LEVEL / 2)),
        min(1.0, 2 * math.exp(log_p_value)),
        bound(best, effective=True),
        bound(count),
        epsilon / 2,
        max(0.0, math.log(LEVEL / 2 - delta) - log_p_value),
        figure(apart(*sides), drawn, smallest_auc(len(sides[0]), len(sides[1]))),
        (right[0], right[1]),
        count,
        int(is_in.sum()),
        num,
    )
