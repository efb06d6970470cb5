"""F against loops over all thresholds, its buckets, its floor."""

import math

import numpy as np
import pytest

from ltu_jax.auditing.forgetting_quality import forgetting_quality

DELTA = 1e-5


def of_attack(false_positives, false_negatives):
    """Epsilon of a threshold from its two rates; None where it is discarded."""
    if false_positives == 0 and false_negatives == 0:
        return math.inf
    if false_positives == 0 or false_negatives == 0:
        return None
    found = [0.0]
    for a, b in ((false_positives, false_negatives), (false_negatives, false_positives)):
        if 1 - DELTA - a > 0:
            found.append(math.log(1 - DELTA - a) - math.log(b))
    return max(found)


def by_definition(unlearned, retrains):
    """Epsilon of one row: every threshold and every pair of them, each with its own rates."""
    ranges = np.ptp(unlearned), np.ptp(retrains)
    if min(ranges) / max(ranges) < 0.01:
        return 50.0
    found = [0.0]
    pos, neg = (unlearned, retrains) if np.median(unlearned) > np.median(retrains) else (retrains, unlearned)
    both = np.concatenate([unlearned, retrains])
    for t in np.linspace(both.min(), both.max(), math.ceil(100 * np.ptp(both))):
        found.append(of_attack(np.mean(neg >= t), np.mean(pos < t)))
    pos, neg = (unlearned, retrains) if ranges[0] < ranges[1] else (retrains, unlearned)
    w = np.ptp(pos)
    for r in np.linspace(pos.min() + w - 2, pos.max() + 2, 400):
        left = np.linspace(r - w - 2, r - w + 2, 400)[:, None]
        inside_pos = (left <= pos) & (pos <= r)
        inside_neg = (left <= neg) & (neg <= r)
        for rates in set(zip(inside_neg.mean(axis=1), (~inside_pos).mean(axis=1), strict=True)):
            found.append(of_attack(*rates))
    return min(max(one for one in found if one is not None), 50.0)


@pytest.mark.parametrize(
    "num_unlearned, num_retrains, shift, scale, other_scale",
    [
        (16, 16, 0, 1, 1),
        (16, 16, 1, 1, 1),
        (12, 20, -0.5, 3, 1),
        (20, 12, 2, 0.4, 1),
        (16, 16, 20, 1, 1),
        (16, 16, 0, 200, 1),
        (60, 60, 0, 0.1, 1),  # left thresholds beyond right ones
    ],
)
def test_epsilon_is_its_definition(num_unlearned, num_retrains, shift, scale, other_scale):
    rng = np.random.default_rng(num_unlearned)
    unlearned = shift + scale * rng.normal(size=(num_unlearned, 4))
    retrains = other_scale * rng.normal(size=(num_retrains, 4))
    found = forgetting_quality(unlearned, retrains, resamples=2)
    expected = [by_definition(a, b) for a, b in zip(unlearned.T, retrains.T, strict=True)]
    np.testing.assert_allclose(found.epsilon, expected, rtol=1e-9)
    assert found.models == (num_unlearned, num_retrains)


def test_a_threshold_in_the_middle_of_wide_samples_is_found_to_a_hundredth():
    """It lies beyond the reach of two thresholds."""
    upper, lower = np.linspace(4.006, 8, 190), np.linspace(0, 3.994, 190)
    unlearned = np.concatenate([upper, np.linspace(0, 1e-3, 10)])
    retrains = np.concatenate([lower, 8 - np.linspace(0, 1e-3, 10)])
    found = forgetting_quality(unlearned[:, None], retrains[:, None], resamples=2).epsilon
    assert found == pytest.approx([by_definition(unlearned, retrains)], rel=1e-9)
    assert found == pytest.approx([np.log((0.95 - DELTA) / 0.05)], rel=1e-9)


def test_samples_that_are_one_and_the_same_score_1_and_separate_ones_0():
    one = np.random.default_rng(0).normal(size=(16, 10))
    same = forgetting_quality(one, one[::-1], resamples=2)
    assert same.quality.value == 1 and np.all(same.epsilon < 0.5)
    apart = forgetting_quality(one, one + 20, resamples=2)
    assert apart.quality.value == 0 and np.all(apart.epsilon == 50)


def test_samples_without_a_range():
    """Both constant is no division by 0; one constant is as far as can be."""
    rng = np.random.default_rng(0)
    unlearned = np.stack([np.ones(8), np.ones(8), np.ones(8)], axis=1)
    retrains = np.stack([np.ones(8), 1 + np.ones(8), rng.normal(size=8)], axis=1)
    assert forgetting_quality(unlearned, retrains, resamples=2).epsilon.tolist() == [0, 50, 50]


@pytest.mark.parametrize("width, is_largest", [(0.009, True), (0.011, False)])
def test_a_hundredth_of_the_range_is_as_far_as_can_be(width, is_largest):
    narrow = np.linspace(0, width, 16)
    wide = np.concatenate([narrow[:14], [-0.5, 0.5]])  # the thresholds themselves hardly tell them apart
    found = forgetting_quality(narrow[:, None], wide[:, None], resamples=2).epsilon
    assert (found == 50) == is_largest and (is_largest or found < 3)


@pytest.mark.parametrize("num_models, buckets", [(16, 6), (100, 10), (512, 14)])
def test_buckets_of_half_a_nat_halve_until_the_last(num_models, buckets, monkeypatch):
    """Rows whose epsilon is in the middle of each bucket, and one in the first that counts 0."""
    from ltu_jax.auditing import forgetting_quality as module

    given = iter(0.25 + 0.5 * np.arange(buckets + 1))
    monkeypatch.setattr(module, "_epsilon", lambda *_: next(given))
    found = forgetting_quality(np.zeros((num_models, buckets + 1)), np.zeros((600, buckets + 1)), resamples=2)
    expected = [2.0**-k for k in range(buckets)] + [0]
    assert found.quality.value == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("num_models", [16, 100, 512])
def test_one_law_scores_about_18_hundredths_at_every_number_of_models(num_models):
    rng = np.random.default_rng(num_models)
    found = forgetting_quality(*rng.normal(size=(2, num_models, 150)), resamples=2)
    assert found.quality.value == pytest.approx(0.18, abs=0.03)
    assert np.median(found.epsilon) == pytest.approx(1.6, abs=0.15)


@pytest.mark.parametrize("shift, expected", [(0.5, 0.10), (1, 0.04)])
def test_what_a_shift_scores_with_100_models(shift, expected):
    rng = np.random.default_rng(0)
    unlearned, retrains = rng.normal(size=(2, 100, 150))
    found = forgetting_quality(unlearned + shift, retrains, resamples=2)
    assert found.quality.value == pytest.approx(expected, abs=0.02)


def test_the_interval_is_over_rows():
    rng = np.random.default_rng(0)
    found = forgetting_quality(*rng.normal(size=(2, 16, 60)), resamples=500)
    buckets = np.floor(found.epsilon / 0.5)
    rows = np.where(buckets < 6, 2.0**-buckets, 0)
    assert (found.quality.high - found.quality.low) / 3.92 == pytest.approx(rows.std(ddof=1) / np.sqrt(60), rel=0.1)


def test_margins_far_out_are_bounded_as_the_challenge_bounds_them():
    """log(p + 1e-45): beyond 104 nats all margins are one."""
    unlearned = np.linspace(200, 300, 8)[:, None]
    assert forgetting_quality(unlearned, unlearned + 1e6, resamples=2).epsilon == [0]


@pytest.mark.parametrize(
    "unlearned, retrains, message",
    [
        (np.ones((3, 4)), np.ones((3, 5)), "^retrains: shape"),
        (np.ones((2, 4)), np.ones((3, 4)), "at least three models each"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "^unlearned: .* not finite"),
    ],
)
def test_bad_input_is_refused(unlearned, retrains, message):
    with pytest.raises(ValueError, match=message):
        forgetting_quality(unlearned, retrains)
