"""The one-run bound against its formula by loops, jax_privacy on real scores, the reference's table, Monte Carlo."""

import functools
import sys

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom, norm

from ltu_jax.auditing.canaries import (
    coin_p_value,
    epsilon_bound,
    guess,
    jax_privacy_auditing,
    one_run,
    smallest_epsilon,
)


@pytest.fixture(scope="module")
def jax_privacy():
    return pytest.importorskip("jax_privacy.auditing", reason="the extra 'audit' is not installed")


def is_rejected(epsilon, right, guesses, canaries, delta, level):
    """The theorem, term by term."""
    q = 1 / (1 + np.exp(-epsilon))
    beta = sum(binom.pmf(w, guesses, q) for w in range(right, guesses + 1))
    worst = max(sum(binom.pmf(w, guesses, q) for w in range(right - i, right)) / i for i in range(1, right + 1))
    return beta + 2 * canaries * delta * worst <= level


def is_rejected_by_f_dp(epsilon, right, guesses, canaries, delta, level):
    """The recursion of arXiv:2410.22235 with the Gaussian curve through (epsilon, delta)."""

    def at(sigma):
        return norm.cdf(1 / (2 * sigma) - epsilon * sigma) - np.exp(epsilon) * norm.cdf(
            -1 / (2 * sigma) - epsilon * sigma
        )

    sigma = brentq(lambda one: at(one) - delta, 0.02, 1e6)
    r, h = level * right / canaries, level * (guesses - right) / canaries
    for i in range(right - 1, -1, -1):
        larger = max(h, norm.cdf(norm.ppf(r) - 1 / sigma))
        if larger == h:
            break
        r, h = min(1, r + i / (guesses - i) * (larger - h)), larger
    return r + h > guesses / canaries


@pytest.mark.parametrize("right, guesses, canaries", [(20, 25, 100), (50, 50, 100), (95, 120, 400), (30, 50, 60)])
@pytest.mark.parametrize("rejected, effective", [(is_rejected, False), (is_rejected_by_f_dp, True)])
def test_the_bound_is_the_largest_rejected_epsilon(jax_privacy, right, guesses, canaries, rejected, effective):
    for delta, level in ((1e-5, 0.05), (1e-3, 0.025)):
        bound = epsilon_bound(right, guesses, canaries, delta=delta, level=level, effective=effective)
        numbers = right, guesses, canaries, delta, level
        if bound > 0:
            assert rejected(bound - 1e-4, *numbers) and not rejected(bound + 1e-4, *numbers)
        else:
            assert not rejected(1e-6, *numbers)


@pytest.mark.parametrize("canaries, bound", [(100, 2.78), (200, 3.49), (500, 4.40), (1000, 5.09), (2000, 5.76)])
def test_all_of_half_the_canaries_right_is_the_last_column_of_the_references_table(jax_privacy, canaries, bound):
    assert epsilon_bound(canaries // 2, canaries // 2, canaries, delta=1e-5) == pytest.approx(bound, abs=6e-3)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_is_below_the_epsilon_of_randomised_coins_in_95_of_100_runs(jax_privacy, epsilon, monkeypatch):
    """Scores are the coins themselves, each flipped with probability 1 / (1 + e^epsilon): as private as epsilon."""
    real = functools.cache(lambda *args: epsilon_bound(*args[:3], level=args[3]))  # of how many were right
    monkeypatch.setattr(
        "ltu_jax.auditing.canaries.epsilon_bound", lambda right, of, num, **given: real(right, of, num, given["level"])
    )
    rng, above, found = np.random.default_rng(7), 0, []
    for _ in range(300):
        is_in = rng.random(200) < 0.5
        told = is_in ^ (rng.random(200) < 1 / (1 + np.exp(epsilon)))
        found.append(one_run(told + rng.random(200) / 2, is_in, rng, resamples=2).epsilon.value)
        above += found[-1] > epsilon
    assert above <= binom.ppf(0.9995, 300, 0.05) and np.mean(found) > 0.1 * epsilon


@pytest.mark.parametrize("effective", [False, True])
def test_the_bound_is_jax_privacys_at_the_score_of_the_last_guess(jax_privacy, effective):
    rng = np.random.default_rng(0)
    is_in = rng.random(300) < 0.5
    scores = rng.normal(1.5 * is_in, 1)
    auditor = jax_privacy.CanaryScoreAuditor(scores[is_in], scores[~is_in])
    theirs = (auditor.epsilon_one_run_fdp if effective else auditor.epsilon_one_run)(
        0.025, 1e-5, threshold_strategy=jax_privacy.Explicit(np.sort(scores)[-75])
    )
    found = one_run(scores, is_in, rng, resamples=19)
    assert (found.effective_epsilon if effective else found.epsilon.value) == theirs > 0.3
    assert found.guesses == 75 and found.unlearning_epsilon == found.epsilon.value / 2


def test_guesses_are_of_the_highest_and_ties_are_broken_at_random():
    rng = np.random.default_rng(1)
    assert guess(np.array([3.0, -1, 0, 9, 5]), 2, rng).tolist() == [False, False, False, True, True]
    assert not guess(np.array([3.0, -1, 0]), 0, rng).any()
    called = np.array([guess(np.array([1.0, 1, 1, 0, 0]), 1, rng) for _ in range(600)])
    assert (np.abs(called.sum(axis=0)[:3] - 200) < 60).all() and not called[:, 3:].any()


@pytest.mark.parametrize("guesses, needed", [(25, 18), (50, 32), (100, 59), (250, 139), (500, 269)])
def test_the_fewest_right_are_those_of_the_reference(guesses, needed):
    assert coin_p_value(needed, guesses) < 0.05 <= coin_p_value(needed - 1, guesses)


@pytest.mark.parametrize("guesses", [25, 50, 250])
def test_the_smallest_epsilon_is_found_with_80_percent(guesses):
    epsilon = smallest_epsilon(guesses, 0.025)
    found = [coin_p_value(right, guesses) <= 0.025 for right in range(guesses + 1)]
    assert np.sum(binom.pmf(np.arange(guesses + 1), guesses, expit(epsilon))[found]) == pytest.approx(0.8)
    assert smallest_epsilon(5, 0.025) == np.inf  # five right of five: one in 32


@pytest.mark.parametrize(
    "canaries, auc, power", [(100, 0.7, 0.66), (200, 0.6, 0.42), (200, 0.7, 0.92), (500, 0.6, 0.81)]
)
def test_its_power_is_that_of_the_references_table(canaries, auc, power):
    rng, found = np.random.default_rng(2), 0
    for _ in range(300):
        is_in = rng.random(canaries) < 0.5
        scores = rng.normal(is_in * norm.ppf(auc) * 2**0.5, 1)
        highest = guess(scores, canaries // 4, rng)
        found += coin_p_value(int(is_in[highest].sum()), canaries // 4) <= 0.05
    assert abs(found / 300 - power) < 3.3 * (power * (1 - power) / 300) ** 0.5 + 0.01


def without_bounds(monkeypatch):
    monkeypatch.setattr("ltu_jax.auditing.canaries.epsilon_bound", lambda *_, **__: 0.0)


def test_a_model_that_is_independent_of_the_coins_is_accused_at_the_level(monkeypatch):
    without_bounds(monkeypatch)
    rng, accused = np.random.default_rng(3), 0
    for _ in range(300):
        accused += one_run(rng.normal(size=200), rng.random(200) < 0.5, rng, resamples=2).p_value <= 0.05
    level = 2 * coin_p_value(33, 50)  # the two-sided level of 50 fair coins that is next below 5 %
    assert 0.02 < level < 0.05 and binom.ppf(0.0005, 300, level) <= accused <= binom.ppf(0.9995, 300, level)


def test_included_canaries_that_stand_out_below_are_found_too(monkeypatch):
    without_bounds(monkeypatch)
    rng = np.random.default_rng(4)
    is_in = np.arange(100) % 2 == 0
    for sign in (1, -1):
        found = one_run(sign * is_in + rng.normal(0, 0.01, 100), is_in, rng, resamples=50)
        assert found.p_value == pytest.approx(2 * 0.5**25) and max(found.right) == 25 and min(found.right) == 0
        assert found.auc.value == (sign == 1) and (found.included, found.canaries, found.guesses) == (50, 100, 25)
        assert found.set_epsilon == pytest.approx(np.log(0.025 - 1e-5) + 25 * np.log(2))


def test_so_many_right_guesses_that_their_probability_is_0_in_floating_point_are_bounded_too(monkeypatch):
    without_bounds(monkeypatch)
    is_in = np.arange(4400) % 2 == 0
    found = one_run(1.0 * is_in, is_in, np.random.default_rng(4), resamples=2)
    assert found.right[0] == 1100 and found.p_value == 0
    assert found.set_epsilon == pytest.approx(np.log(0.025 - 1e-5) + 1100 * np.log(2))


def test_equal_scores_show_nothing(jax_privacy):
    is_in = np.arange(200) % 2 == 0
    found = one_run(np.zeros(200), is_in, np.random.default_rng(5), resamples=20)
    assert found.epsilon.value == found.effective_epsilon == found.set_epsilon == 0 and found.epsilon.high == np.inf
    assert found.auc.value == 0.5 and found.p_value > 0.05
    assert found.largest == pytest.approx(epsilon_bound(50, 50, 200, level=0.025))


def test_without_jax_privacy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_privacy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ltu-jax\[audit\]'"):
        jax_privacy_auditing()


def test_bad_canaries_are_named():
    rng, coins = np.random.default_rng(6), np.arange(8) % 2 == 0
    with pytest.raises(ValueError, match="8 of 8 coins are in"):
        one_run(np.zeros(8), np.ones(8, bool), rng)
    with pytest.raises(ValueError, match="7 scores"):
        one_run(np.zeros(7), coins, rng)
    with pytest.raises(ValueError, match="8 guesses"):
        one_run(np.zeros(8), coins, rng, guesses=8)
    with pytest.raises(ValueError, match="scores of canaries: 1 of 8 are not finite"):
        one_run(np.where(np.arange(8) == 2, np.nan, 0.0), coins, rng)
    with pytest.raises(ValueError, match="right guesses 5 of 4 for 10 canaries"):
        epsilon_bound(5, 4, 10)
