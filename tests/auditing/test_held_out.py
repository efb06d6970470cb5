"""Closeness to held-out rows against double loops, and Monte Carlo: a model that saw neither set is not accused."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, norm

from ltu_jax.auditing.held_out import held_out
from ltu_jax.auditing.intervals import smallest_auc
from ltu_jax.evaluation.likeness import Predictions, ks_distance, ks_noise


def drawn(rng, labels, shift=0.0):
    """Margins that differ between classes as much as they spread within one."""
    margin = rng.normal(1.0 + labels + shift, 1)
    return Predictions(labels, margin > 0.5, expit(margin), margin)


def test_each_figure_is_that_of_a_double_loop():
    rng = np.random.default_rng(0)
    forget, others = drawn(rng, np.repeat([0, 1, 5], [10, 20, 3]), 0.5), drawn(rng, np.repeat([0, 1, 2], [40, 30, 9]))
    found = held_out(forget, others, rng)
    above = right = 0.0
    for c, rows in ((0, 10), (1, 20)):  # class 5 has no held-out row, class 2 no forget row
        of_class = others.labels == c
        right -= rows / 30 * others.correct[of_class].mean()
        for d in (0, 1):
            for margin in forget.margin[forget.labels == d]:
                wins = (margin > others.margin[of_class]) + (margin == others.margin[of_class]) / 2
                above += wins.mean() * rows / 30 / 30
    assert found.auc.value == pytest.approx(above)
    assert found.accuracy.value == pytest.approx(100 * (right + forget.correct[:30].mean()))
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.ks == ks_distance(forget, others) and found.ks_noise == ks_noise(forget.labels, others.labels)
    assert found.confidence == {
        c: forget.confidence[forget.labels == c].mean() - others.confidence[others.labels == c].mean() for c in (0, 1)
    }
    assert found.forget_rows == 30
    assert found.held_out_rows == pytest.approx(1 / (40 * (10 / 30 / 40) ** 2 + 30 * (20 / 30 / 30) ** 2))
    assert found.auc.smallest == smallest_auc(30, found.held_out_rows)


def test_a_model_that_saw_the_forget_rows_and_one_that_forgot_too_far_are_both_found():
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 5
    for shift in (1.0, -1.0):
        found = held_out(drawn(rng, labels, shift), drawn(rng, labels), rng)
        assert found.p_value < 0.01
        expected = np.mean([norm.cdf((c - d + shift) / 2**0.5) for c in range(5) for d in range(5)])
        assert found.auc.low < expected < found.auc.high and not found.auc.low < 0.5 < found.auc.high
        assert np.sign(found.accuracy.value) == np.sign(shift) and not found.accuracy.low < 0 < found.accuracy.high


def test_without_an_effect_it_holds_its_level():
    rng, accused, outside = np.random.default_rng(2), 0, np.zeros(2)
    for _ in range(300):
        labels = rng.integers(0, 4, 40)
        found = held_out(drawn(rng, labels), drawn(rng, np.arange(60) % 4), rng, 99)
        accused += found.p_value <= 0.05
        outside += [not one.low <= at <= one.high for one, at in ((found.accuracy, 0), (found.auc, 0.5))]
    assert binom.ppf(0.0005, 300, 0.05) <= accused <= binom.ppf(0.9995, 300, 0.05)
    assert outside.max() <= binom.ppf(0.9995, 300, 0.06)  # a percentile interval of 40 rows


def test_a_broken_model_is_not_one_that_forgot():
    one = drawn(np.random.default_rng(3), np.zeros(4, int))
    with pytest.raises(ValueError, match="held-out margins: 1 of 4 are not finite"):
        held_out(one, one._replace(margin=np.array([0, 1, np.nan, 2])), np.random.default_rng(0))
