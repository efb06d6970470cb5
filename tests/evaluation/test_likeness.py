"""Likeness against SciPy, scikit-learn and hand-worked cases."""

import numpy as np
import scipy.special
import scipy.stats
from sklearn.metrics import roc_auc_score

from ltu_jax.evaluation.likeness import (
    Predictions,
    attack_auc,
    in_rows,
    ks_distance,
    ks_noise,
    matched_weights,
    predictions,
)


def drawn(count, seed, shift=0.0, num_classes=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count)
    logits = rng.normal(0, 2, (count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += shift
    return predictions(logits, labels)


def test_answers_are_the_log_odds_confidence_and_correctness_of_the_true_label():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    predicted = predictions(logits, labels)
    p = scipy.special.softmax(logits.astype(float), axis=1)[np.arange(50), labels]
    np.testing.assert_allclose(predicted.confidence, p, rtol=1e-9)
    np.testing.assert_allclose(predicted.margin, scipy.special.logit(p), rtol=1e-6)
    np.testing.assert_array_equal(predicted.correct, logits.argmax(1) == labels)


def test_a_margin_is_finite_where_the_probability_is_one():
    predicted = predictions(np.array([[90.0, 0.0, 0.0]], np.float32), np.array([0]))
    assert predicted.confidence[0] == 1 and np.isclose(predicted.margin[0], 90 - np.log(2))


def test_auc_and_ks_are_those_of_scikit_learn_and_scipy_where_all_classes_weigh_alike():
    forget, held_out = drawn(80, 1, 1.5), drawn(300, 2, 0.5)
    one = [x._replace(labels=np.zeros(len(x.labels), int)) for x in (forget, held_out)]  # one class: equal weights
    is_member = np.repeat([1, 0], [80, 300])
    margins = np.concatenate([forget.margin, held_out.margin])
    assert np.isclose(attack_auc(*one), roc_auc_score(is_member, margins))
    assert np.isclose(ks_distance(*one), 100 * scipy.stats.ks_2samp(forget.margin, held_out.margin).statistic)


def test_weights_count_as_if_rows_were_repeated():
    """Held-out rows of weight 3/n and 1/n are the same as three copies and one, to scikit-learn and to SciPy."""
    forget, held_out = drawn(40, 3, 1.0), drawn(60, 4)
    labels = np.repeat([0, 1], 30)
    forget, held_out = forget._replace(labels=np.repeat([0, 1], [30, 10])), held_out._replace(labels=labels)
    repeated = np.concatenate([held_out.margin[:30]] * 3 + [held_out.margin[30:]])
    margins = np.concatenate([forget.margin, repeated])
    assert np.isclose(attack_auc(forget, held_out), roc_auc_score(np.repeat([1, 0], [40, 120]), margins))
    assert np.isclose(ks_distance(forget, held_out), 100 * scipy.stats.ks_2samp(forget.margin, repeated).statistic)


def test_rows_of_a_class_without_a_held_out_row_have_no_say_unless_there_are_no_others():
    forget, held_out = drawn(40, 5, 1.0), drawn(90, 6)
    labels = np.repeat([0, 7, 1], [10, 20, 10])  # no held-out row is of class 7, or beyond what they have
    forget, held_out = forget._replace(labels=labels), held_out._replace(labels=np.arange(90) % 3)
    kept, alone = (forget.at(np.flatnonzero(chosen)) for chosen in (labels != 7, labels == 7))
    for tells in (attack_auc, ks_distance):
        assert tells(forget, held_out) == tells(kept, held_out)
        assert tells(forget, held_out) != tells(forget._replace(labels=np.minimum(labels, 1)), held_out)
    margins = np.concatenate([alone.margin, held_out.margin])
    assert np.isclose(attack_auc(alone, held_out), roc_auc_score(np.repeat([1, 0], [20, 90]), margins))


def test_a_model_that_answers_nan_is_as_unlike_as_can_be():
    whole, broken = drawn(50, 1), drawn(50, 2)
    all_nan = broken._replace(margin=np.full(50, np.nan))
    one_nan = broken._replace(margin=np.where(np.arange(50) == 7, np.nan, broken.margin))
    assert ks_distance(all_nan, all_nan) == ks_distance(one_nan, whole) == ks_distance(whole, one_nan) == 100.0


def test_ties_count_half():
    one = Predictions(np.zeros(2, int), np.ones(2, bool), np.ones(2), np.array([1.0, 2.0]))
    assert attack_auc(one, one) == 0.5 and ks_distance(one, one) == 0


def test_weights_give_held_out_rows_the_classes_of_the_forget_rows():
    weights = matched_weights(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(weights, [1 / 8, 1 / 8, 3 / 4, 0])
    # a class that nobody held out has no say; where none is left all count alike
    np.testing.assert_allclose(matched_weights(np.array([0, 1]), np.array([1, 4, 4])), [0, 1])
    np.testing.assert_allclose(matched_weights(np.array([0, 1]), np.array([4])), [0.5, 0.5])


def test_the_noise_is_exceeded_about_once_in_twenty_by_samples_of_one_distribution():
    rng = np.random.default_rng(0)
    labels = np.zeros(90, int), np.zeros(360, int)
    limit = ks_noise(*labels) / 100
    beyond = [scipy.stats.ks_2samp(rng.normal(size=90), rng.normal(size=360)).statistic > limit for _ in range(2000)]
    assert 0.03 < np.mean(beyond) < 0.07
    # a weighted sample is worth fewer rows: three quarters of the weight on 30 rows of 60
    few = ks_noise(np.repeat([0, 1], [30, 10]), np.repeat([0, 1], 30))
    assert np.isclose(few, 136 * np.sqrt(1 / 40 + 30 * (0.75 / 30) ** 2 + 30 * (0.25 / 30) ** 2))


def test_a_figure_is_rounded_to_whole_rows():
    assert in_rows(31.7, 8) == 37.5 and in_rows(31.2, 8) == 25.0 and in_rows(0.64, 10, 1.0) == 0.6
    assert np.isnan(in_rows(np.nan, 8))
