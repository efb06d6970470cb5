"""Intervals against double loops, scikit-learn, SciPy, the reference's tables, and Monte Carlo without an effect."""

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, mannwhitneyu, norm, ttest_ind
from scipy.stats import t as t_of
from sklearn.metrics import roc_auc_score, roc_curve

from ltu_jax.auditing.intervals import (
    Figure,
    auc,
    auc_error,
    auc_of_weights,
    bootstrap,
    clopper_pearson,
    effective,
    figure,
    finite,
    fpr_limit,
    holm,
    ks_of_weights,
    normal_p_value,
    one_more,
    paired_difference,
    permutation_p_value,
    resampled_weights,
    roc,
    smallest_auc,
    spread_of_rows,
    tails,
    tpr_at_fpr,
)

SEEDS = 300


def held(hits, level=0.95):
    """Whether a share of seeds is what a rate of ``level`` gives, within its own noise (one in a thousand outside)."""
    low, high = binom.ppf([0.0005, 0.9995], len(hits), level)
    return low <= np.sum(hits) <= high


def test_the_auc_is_that_of_a_double_loop_with_weights_and_ties():
    rng = np.random.default_rng(0)
    positives, negatives, weights = rng.integers(0, 6, 30), rng.integers(0, 6, 40), rng.random(40)
    loops = sum(w * ((p > n) + (p == n) / 2) for p in positives for n, w in zip(negatives, weights, strict=True)) / (
        30 * weights.sum()
    )
    assert auc(positives, negatives, weights) == pytest.approx(loops)
    assert auc(positives, negatives) == pytest.approx(
        roc_auc_score(np.repeat([1, 0], [30, 40]), np.concatenate([positives, negatives]))
    )


def test_gaussians_at_distance_d_have_auc_phi_of_d_over_root_two():
    rng = np.random.default_rng(1)
    for d in (0.5, 1.0, 2.0):
        assert auc(rng.normal(d, 1, 100_000), rng.normal(0, 1, 100_000)) == pytest.approx(
            norm.cdf(d / 2**0.5), abs=0.005
        )


@pytest.mark.parametrize(
    "n1, n0, half_width, found",
    [
        (90, 90, 0.085, 0.62),
        (90, 300, 0.068, 0.597),
        (500, 500, 0.036, 0.551),
        (500, 2000, 0.028, 0.540),
        (4500, 5000, 0.012, 0.517),
        (4500, 10000, 0.010, 0.515),
    ],
)
def test_the_smallest_auc_is_that_of_the_references_table(n1, n0, half_width, found):
    assert 1.96 * auc_error(0.5, n1, n0) == pytest.approx(half_width, abs=6e-4)
    assert 0.5 + smallest_auc(n1, n0) == pytest.approx(found, abs=1.1e-3)


def test_the_error_of_an_auc_of_a_half_is_that_of_mann_whitney():
    for n1, n0 in ((20, 30), (7, 90)):
        assert auc_error(0.5, n1, n0) ** 2 == pytest.approx((n1 + n0 + 1) / (12 * n1 * n0))


def test_hanley_mcneils_error_is_the_spread_of_aucs_of_exponentials():
    """Their formula is exact for exponential scores."""
    rng = np.random.default_rng(2)
    drawn = [auc(rng.exponential(3, 40), rng.exponential(1, 60)) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.005)
    assert np.std(drawn) == pytest.approx(auc_error(0.75, 40, 60), rel=0.05)


def test_the_ks_distance_of_weighted_rows_is_scipys_of_repeated_ones():
    rng = np.random.default_rng(14)
    one, other, weights = rng.integers(0, 7, 40), rng.integers(1, 9, 40), rng.integers(0, 3, 40)
    theirs = ks_2samp(np.repeat(one, weights), np.repeat(other, weights)).statistic
    assert ks_of_weights(one, other)(weights / 7) == pytest.approx(100 * theirs)
    assert ks_of_weights(one, one)(weights / 7) < 1e-9  # ties step at once


def test_effective_rows_of_weights():
    assert effective(np.full(7, 0.2)) == pytest.approx(7) and effective(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_resampled_weights_keep_classes_and_give_a_mean_its_own_spread():
    """The spread of a mean with classes kept is that of the textbook, for classes of 2, 3 and 20 rows alike."""
    rng = np.random.default_rng(3)
    classes = np.repeat([4, 0, 7], [2, 3, 20])[rng.permutation(25)]
    values = rng.normal(size=25)
    drawn = np.array(list(resampled_weights(classes, rng, 20_000)))
    for one in (0, 4, 7):
        np.testing.assert_allclose(drawn[:, classes == one].sum(axis=1), np.sum(classes == one))
    textbook = sum(np.sum(classes == one) * np.var(values[classes == one], ddof=1) for one in (0, 4, 7)) / 25**2
    assert np.var(drawn @ values / 25) == pytest.approx(textbook, rel=0.05)


def test_classes_of_one_row_are_drawn_from_together():
    drawn = np.array(list(resampled_weights(np.arange(6), np.random.default_rng(4), 400)))
    np.testing.assert_allclose(drawn.sum(axis=1), 6)
    assert (drawn.std(axis=0) > 0).all()
    np.testing.assert_array_equal(
        list(resampled_weights(np.zeros(1, int), np.random.default_rng(0), 3)), np.ones((3, 1))
    )


def rows_by_class(rng, count, num_classes, shift=0.0):
    classes = np.arange(count) % num_classes
    return rng.normal(2.0 * classes + shift, 1), classes  # classes lie far apart, as easy and hard ones do


@pytest.mark.parametrize("count, num_classes, shift", [(60, 1, 0.0), (30, 10, 0.0), (30, 10, 0.7)])
def test_an_interval_holds_the_true_auc_in_95_of_100_seeds(count, num_classes, shift):
    rng = np.random.default_rng(5)
    many = rows_by_class(rng, 20_000, num_classes, shift)[0], rows_by_class(rng, 20_000, num_classes)[0]
    truth, hits = auc(*many), []
    for _ in range(SEEDS):
        (positives, first), (negatives, second) = (
            rows_by_class(rng, count, num_classes, shift),
            rows_by_class(rng, 40, num_classes),
        )
        statistic = auc_of_weights(positives, negatives)
        ones = np.ones(count), np.ones(40)
        found = figure(statistic(*ones), bootstrap(statistic, (first, second), ones[1], rng, 200))
        hits.append(found.low <= truth <= found.high)
    assert held(hits) or np.mean(hits) > 0.95  # not too narrow


def test_the_bootstrap_is_of_both_sets_and_of_the_weights():
    rng = np.random.default_rng(6)
    positives, negatives = rng.normal(size=20), rng.normal(size=30)
    only = np.zeros(30)
    only[3] = 1.0
    statistic = auc_of_weights(positives, negatives)
    classes = np.zeros(20, int), np.where(np.arange(30) == 3, 1, np.arange(30) // 10 + 2)  # row 3 is always drawn
    aucs = bootstrap(statistic, classes, only, rng, 50)
    share = np.mean(positives > negatives[3])  # only the positives vary, against one negative: a mean of 20 rows
    assert aucs.mean() == pytest.approx(share, abs=0.06)
    assert aucs.std() == pytest.approx((share * (1 - share) / 19) ** 0.5, rel=0.4)
    np.testing.assert_allclose(aucs * 19 % 1 * (1 - aucs * 19 % 1), 0, atol=1e-9)  # 19 draws, each above or below
    assert figure(0.3, aucs).smallest == pytest.approx(2.8 * np.std(aucs, ddof=1))
    assert figure(0.3, aucs, 0.1) == Figure(0.3, *np.quantile(aucs, [0.025, 0.975]), 0.1)


def test_the_permutation_p_value_is_that_of_mann_whitney_for_one_class():
    rng = np.random.default_rng(7)
    for shift in (0.0, 0.4, -0.6):
        positives, negatives = rng.normal(shift, 1, 40), rng.normal(0, 1, 50)
        exact = mannwhitneyu(positives, negatives, method="exact").pvalue
        found = permutation_p_value([(positives, negatives)], (np.zeros(40, int), np.zeros(50, int)), rng, 4000)
        assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4000) ** 0.5 + 1e-3)


def test_the_permutation_test_holds_its_level_and_finds_what_classes_hide():
    """Small classes of different sizes that lie far apart: without an effect 5 % of p-values are below 5 %."""
    rng, below, found = np.random.default_rng(8), [], []
    for _ in range(SEEDS):
        first, second = rng.integers(0, 4, 24), np.arange(40) % 4
        negatives = rng.normal(3.0 * second, 1)
        for shift, into in ((0.0, below), (0.9, found)):
            scores = (rng.normal(3.0 * first + shift, 1), negatives)
            into.append(permutation_p_value([scores], (first, second), rng, 99) <= 0.05)
    assert held(below, 0.05)
    assert np.mean(found) > 0.8  # an effect of .9 within classes 3 apart: Mann-Whitney would drown in them


def test_rows_without_a_class_in_common_change_sides_all_together():
    rng = np.random.default_rng(9)
    apart = permutation_p_value(
        [(rng.normal(3, 1, 20), rng.normal(0, 1, 20))], (np.zeros(20, int), np.ones(20, int)), rng, 99
    )
    assert apart == 0.01


def test_several_aucs_are_tested_by_their_mean():
    rng = np.random.default_rng(10)
    positives, negatives, classes = rng.normal(1.5, 1, 20), rng.normal(0, 1, 20), (np.zeros(20, int), np.zeros(20, int))
    against = (-positives, -negatives)
    assert permutation_p_value([(positives, negatives), against], classes, rng, 99) == 1.0  # the mean is always 1/2
    assert permutation_p_value([(positives, negatives)] * 2, classes, rng, 99) < 0.05


def test_clopper_pearson_is_where_the_binomial_tails_are_two_and_a_half_percent():
    low, high = clopper_pearson(7, 40)
    assert binom.sf(6, 40, low) == pytest.approx(0.025) and binom.cdf(7, 40, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 10)[0] == 0 and clopper_pearson(10, 10)[1] == 1


@pytest.mark.parametrize("negatives, limit", [(100, 0.036), (500, 0.0074), (1000, 0.0037), (5000, 0.0007)])
def test_the_limit_without_a_false_positive_is_that_of_the_reference(negatives, limit):
    assert fpr_limit(0.0, negatives) == pytest.approx(limit, rel=0.06)
    assert fpr_limit(0.0, negatives) == pytest.approx(1 - 0.025 ** (1 / negatives))
    assert fpr_limit(3 / negatives, negatives) == pytest.approx(clopper_pearson(3, negatives)[1])


@pytest.mark.parametrize("asked", [0.0, 0.05, 0.051, 0.3, 0.9])
def test_the_tpr_is_the_largest_of_all_thresholds_with_an_fpr_that_is_low_enough(asked):
    rng = np.random.default_rng(11)
    positives, negatives, weights = rng.integers(0, 9, 50) + 1.0, rng.integers(0, 9, 60) * 1.0, rng.random(60)
    best = 0.0
    for threshold in [*positives, *negatives, np.inf]:
        fpr = weights[negatives >= threshold].sum() / weights.sum()
        best = max(best, float(np.mean(positives >= threshold))) if fpr <= asked else best
    found = tpr_at_fpr(positives, negatives, asked, weights)
    assert found.tpr.value == pytest.approx(best) and found.fpr <= asked <= found.asked
    assert (found.tpr.low, found.tpr.high) == clopper_pearson(round(best * 50), 50)


def test_the_threshold_is_never_the_nearest():
    """With 3 of 60 negatives above it a threshold has an FPR of .05, which is nearer to .049 than none."""
    positives, negatives = np.array([1.0, 3.0]), np.repeat([0.0, 2.0], [57, 3])
    assert [tpr_at_fpr(positives, negatives, asked).tpr.value for asked in (0.049, 0.05)] == [0.5, 1.0]


def test_both_tails_are_read_only_where_negatives_are_enough():
    rng = np.random.default_rng(12)
    positives, negatives = rng.normal(-2, 1, 200), rng.normal(0, 1, 1000)
    both = tails(positives, negatives)
    assert [one.asked for one in both["high"]] == [1e-2]  # .001 needs 10,000
    assert both["low"][0].tpr.value > 0.2 > 0.01 > both["high"][0].tpr.value
    assert both["low"][0] == tpr_at_fpr(-positives, -negatives, 1e-2)
    assert tails(positives, negatives[:999]) == {"high": (), "low": ()}


@pytest.mark.parametrize("rows, points", [(90, 9.3), (500, 4.0), (4500, 1.3)])
def test_paired_differences_find_what_the_reference_says(rows, points):
    differ = rows // 10
    first, second = np.arange(rows) < differ // 2, (np.arange(rows) >= differ // 2) & (np.arange(rows) < differ)
    assert paired_difference(first, second).smallest == pytest.approx(points, abs=0.1)


def test_differences_hold_the_truth_in_95_of_100_seeds():
    rng, paired = np.random.default_rng(13), []
    for _ in range(SEEDS):
        first = rng.random(200) < 0.8
        second = np.where(rng.random(200) < 0.2, rng.random(200) < 0.5, first)  # right with .8 * .8 + .2 * .5 = .74
        one = paired_difference(first, second)
        paired.append(one.low <= 6.0 <= one.high)
    assert held(paired)


def test_where_no_row_differs_one_row_is_the_least_that_counts():
    right = np.ones(50, bool)
    assert paired_difference(right, right).smallest == pytest.approx(280 / 50)


@pytest.mark.parametrize("value, others", [(np.nan, [1.0, 2, 3]), (1.0, [1.0, np.inf, 3])])
def test_of_a_figure_that_is_not_finite_there_is_no_verdict(value, others):
    with pytest.raises(ValueError, match="1 of 4 are not finite"):
        one_more(value, np.array(others))


def test_one_more_retrain_is_judged_by_the_spread_of_retrains_over_seeds():
    """The interval is SciPy's for one more draw of a normal, and it finds its smallest effect in 4 of 5 cases."""
    values = np.array([1.0, 1.4, 0.9])
    found, p_value = one_more(2.5, values)
    pooled = ttest_ind([2.5], values, equal_var=True)  # one against three is the same test
    assert p_value == pytest.approx(pooled.pvalue) and found.value == pytest.approx(2.5 - 1.1)
    low, high = pooled.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    for count in (3, 5, 40):
        rng, draws, unit = np.random.default_rng(9), [], np.resize([-1.0, 1.0], count)
        shift = one_more(0.0, unit)[0].smallest / np.std(unit, ddof=1)  # the smallest effect where the spread is 1
        for _ in range(2000):
            others = rng.normal(0, 1, count)
            draws.append([one_more(rng.normal(by, 1), others)[1] <= 0.05 for by in (0, shift, -shift)])
        np.testing.assert_allclose(np.mean(draws, axis=0), [0.05, 0.8, 0.8], atol=0.03)
    assert one_more(2.5, values, least=0.1) == (found, p_value)  # they spread by .26
    theirs = 2 * t_of(2).sf(1.4 / (0.5 * (4 / 3) ** 0.5))
    assert one_more(2.5, values, least=0.5)[1] == pytest.approx(theirs)
    assert one_more(2.5, np.full(3, 1.1), least=0.5)[1] == pytest.approx(theirs)  # that they agree is luck
    for value in (1.0, 2.0, 0.9):  # as of counts: nobody knows how far one more may lie
        assert one_more(value, np.ones(3))[1] == one_more(value, np.full(3, 0.1 * 3))[1] == 1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_of_few_retrains_is_accused_at_the_level_whatever_it_is_measured_against(count):
    rng, accused, outside = np.random.default_rng(16), [], []
    for _ in range(SEEDS):
        own, means = rng.normal(2, 3), rng.normal(2, 3, count)
        found, p_value = one_more(own, means)
        outside.append(not found.low <= 0 <= found.high)
        accused.append(p_value <= 0.05)
    assert held(accused, 0.05) and accused == outside


def test_the_spread_of_rows_is_that_of_means_where_rows_move_on_their_own():
    rng = np.random.default_rng(17)
    sigmas = rng.uniform(0.5, 1.5, 50)
    means, known = [], []
    for _ in range(2000):
        of_rows = rng.normal(np.arange(50), sigmas, (3, 50))
        means.append(of_rows.mean(axis=1).std(ddof=1) ** 2)
        known.append(spread_of_rows(of_rows) ** 2)
    assert np.mean(means) == pytest.approx(np.sum(sigmas**2) / 2500, rel=0.08)
    assert np.mean(known) == pytest.approx(np.sum(sigmas**2) / 2500, rel=0.02) and np.std(known) < 0.4 * np.std(means)


def test_retrains_against_each_other_lie_farther_apart_than_they_do_and_that_is_taken_back():
    """Where figures are differences of means it is the test of the means themselves."""
    rng = np.random.default_rng(15)
    for count in (2, 3, 6):
        own, means = rng.normal(), rng.normal(size=count)
        floor = np.array([mean - np.delete(means, k).mean() for k, mean in enumerate(means)])
        found, p_value = one_more(own - means.mean(), floor, each_other=True)
        wanted, of_means = one_more(own, means)
        np.testing.assert_allclose([*found, p_value], [*wanted, of_means], rtol=1e-9)
        assert one_more(own - means.mean(), floor)[1] > of_means


def test_holm_rejects_in_steps():
    """Ordered p-values against .05/3, .05/2, .05: the first that fails ends it."""
    np.testing.assert_allclose(holm([0.03, 0.01, 0.04]), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm([0.01, 0.02, 0.04]), [0.03, 0.04, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    assert holm([]).shape == (0,)


def test_what_is_not_finite_is_named():
    with pytest.raises(ValueError, match="forget margins: 2 of 3 are not finite"):
        finite("forget margins", np.array([1, np.nan, np.inf]))
    with pytest.raises(ValueError, match="margins: there are none"):
        finite("margins", np.zeros(0))


@pytest.mark.parametrize("errors, wanted", [(0, 1), (1.959964, 0.05), (-1.959964, 0.05), (2.575829, 0.01)])
def test_the_normal_p_value_counts_errors_of_which_2_8_are_the_smallest_effect(errors, wanted):
    found = normal_p_value(Figure(0.5 + 0.02 * errors, 0, 1, 2.8 * 0.02), 0.5)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_points_of_a_thinned_roc_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    positives, negatives = np.round(rng.normal(0.5, 1, 300), 1), np.round(rng.normal(0, 1, 900), 1)  # many ties
    weights = rng.integers(1, 4, 900).astype(float)
    found = roc(positives, negatives, weights, points=20)
    fpr, tpr, _ = roc_curve(
        np.repeat([1, 0], [300, 900]),
        np.concatenate([positives, negatives]),
        sample_weight=np.concatenate([np.ones(300), weights]),
        drop_intermediate=False,
    )
    for false, true in zip(*found.values(), strict=True):
        assert true == pytest.approx(tpr[fpr <= false + 1e-9].max())
    assert 10 < len(found["fpr"]) <= 42
    assert found["fpr"][-1] == found["tpr"][-1] == 1 and (np.diff(found["fpr"]) > 0).all()


def test_a_roc_begins_at_what_is_found_without_a_false_positive():
    above = roc(np.array([3.0, 4.0, 0.0]), np.array([1.0, 2.0]))
    assert (above["fpr"][0], above["tpr"][0]) == (0, pytest.approx(2 / 3))
    below = roc(np.array([0.0]), np.array([1.0, 2.0]))
    assert (below["fpr"][0], below["tpr"][0]) == (0, 0)
    assert (below["fpr"][-2:].tolist(), below["tpr"][-2:].tolist()) == ([0.5, 1.0], [0.0, 1.0])
