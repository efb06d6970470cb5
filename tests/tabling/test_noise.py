"""Variance over seeds: against arithmetic done by hand, and against SciPy's own tests."""

import numpy as np
import pytest
from scipy import stats

from ltu_jax.tabling import noise
from ltu_jax.tabling.runs import Seeds


def keyed(groups):
    """Values of unlearn seeds, by (train, split) pair."""
    return {Seeds(pair, pair, i): x for pair, group in enumerate(groups) for i, x in enumerate(group)}


def test_one_value_has_no_deviation_and_several_have_that_of_n_minus_one():
    assert noise.spread([3.0]) == (3.0, None)
    mean, deviation = noise.spread([1.0, 2.0, 6.0])
    assert mean == 3
    assert deviation == pytest.approx(np.sqrt((4 + 1 + 9) / 2))


def test_the_variance_splits_as_worked_out_by_hand():
    # Pair means 2, 6, 4; grand mean 11/3. MSB = (2 (5/3)^2 + (7/3)^2 + 3 (1/3)^2) / 2 = 17/3, MSW = (2 + 0 + 8) / 3,
    # n0 = (6 - 14/6) / 2 = 11/6, so between = (17/3 - 10/3) / (11/6) = 14/11.
    parts = noise.split_variance(keyed([[1.0, 3.0], [6.0], [2.0, 4.0, 6.0]]))
    assert parts == pytest.approx((14 / 11, 10 / 3))


@pytest.mark.parametrize("seed", range(4))
def test_the_parts_give_back_the_f_statistic_of_scipy(seed):
    rng = np.random.default_rng(seed)
    groups = [list(rng.normal(4 * rng.normal(), 1, size)) for size in (2, 4, 3, 1, 5)]
    parts = noise.split_variance(keyed(groups))
    n0 = (15 - (4 + 16 + 9 + 1 + 25) / 15) / 4
    assert 1 + n0 * parts.between / parts.within == pytest.approx(stats.f_oneway(*groups).statistic)


def test_variance_between_pairs_is_never_negative():
    assert noise.split_variance(keyed([[0.0, 10.0], [1.0, 9.0]])).between == 0


@pytest.mark.parametrize("groups", [[[1.0, 2.0, 3.0]], [[1.0], [2.0], [4.0]], [[1.0]]])
def test_without_two_pairs_and_a_pair_of_two_nothing_is_split(groups):
    assert noise.split_variance(keyed(groups)) is None


@pytest.mark.parametrize("seed", range(30))
def test_lower_means_that_the_paired_t_test_of_scipy_rejects(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(0, 1, 5), rng.normal(1.2, 1, 5)
    rejects = stats.ttest_rel(ours, theirs).pvalue < 0.05 and ours.mean() < theirs.mean()
    assert noise.is_lower(keyed([[x] for x in ours]), keyed([[x] for x in theirs])) == rejects
    assert noise.is_lower(keyed([[x] for x in theirs]), keyed([[x] for x in ours])) is False or not rejects


def test_the_thirty_cases_above_hold_both_answers():
    rngs = [np.random.default_rng(seed) for seed in range(30)]
    rejected = [stats.ttest_rel(rng.normal(0, 1, 5), rng.normal(1.2, 1, 5)).pvalue < 0.05 for rng in rngs]
    assert 5 < sum(rejected) < 25


def test_unlearn_seeds_of_one_original_count_as_one_difference():
    ours, theirs = [[0.0, 0.2, 0.1], [0.0, 0.3, 0.1]], [[1.0, 1.1, 1.0], [3.0, 3.2, 3.1]]
    means = np.array([np.mean(ours[i]) - np.mean(theirs[i]) for i in range(2)])
    as_six = [a - b for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)]
    assert stats.ttest_1samp(as_six, 0).pvalue < 0.05 < stats.ttest_1samp(means, 0).pvalue
    assert not noise.is_lower(keyed(ours), keyed(theirs))


def test_only_common_seeds_are_paired():
    ours = {Seeds(s, s, s): value for s, value in enumerate([1.0, 1.1, 1.2, 500.0])}
    theirs = {Seeds(s, s, s): value for s, value in enumerate([2.0, 2.2, 2.1])}
    assert noise.is_lower(ours, theirs)


def test_one_common_seed_decides_nothing():
    ours, theirs = {Seeds(0, 0, 0): 1.0, Seeds(1, 1, 1): 1.0}, {Seeds(0, 0, 0): 9.0, Seeds(2, 2, 2): 9.0}
    assert not noise.is_lower(ours, theirs)


def test_the_best_must_beat_every_other_row():
    a, b, c = (keyed([[x + e] for e in (0, 0.01, 0.02)]) for x in (1.0, 2.0, 3.0))
    wide = keyed([[0.0], [9.0], [2.0]])
    assert noise.best({"b": b, "a": a, "c": c}) == "a"
    assert noise.best({"b": b, "a": a, "wide": wide}) is None
    assert noise.best({"a": a}) is None
    assert noise.best({"a": a, "same": a}) is None
