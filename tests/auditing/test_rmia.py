"""RMIA against double loops and algebra, and Monte Carlo: a Retrain as target is not accused."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom

from ltu_jax.auditing.intervals import auc, smallest_auc, tpr_at_fpr
from ltu_jax.auditing.rmia import (
    Margins,
    chosen_scale,
    expected,
    log_probability,
    log_ratio,
    rmia,
)


def drawn(rng, labels, num_references=3, seen=0.0):
    """Rows of their own difficulty, which all models share; the target saw them if ``seen``."""
    difficulty = rng.normal(1.0 + labels, 1.5)
    models = difficulty + rng.normal(0, 0.7, (num_references + 1, len(labels)))
    return Margins(models[0] + seen, models[1:], labels)


def test_probabilities_come_from_margins():
    p = np.array([1e-9, 0.2, 0.9])
    np.testing.assert_allclose(log_probability(logit(p)), np.log(p), rtol=1e-9)
    assert log_probability(np.array([-800.0, 800.0])).tolist() == [-800.0, -0.0]


def test_what_is_expected_of_references():
    p = np.array([[0.2, 0.5], [0.4, 0.9]])
    for a in (0.0, 0.3, 1.0):
        for i in (0, 1):
            mean = (p[0, i] + p[1, i]) / 2
            assert expected(logit(p), a)[i] == pytest.approx(0.5 * ((1 + a) * mean + (1 - a)))
    assert expected(np.array([[-700.0]]), 1.0) == 1e-12


def test_with_a_of_one_and_one_reference_the_ratio_is_of_the_two_probabilities():
    target, reference = np.array([0.3, -1.0, 4.0]), np.array([[1.0, -2.0, 3.0]])
    ratio = expit(target) / expit(reference[0])
    np.testing.assert_allclose(np.exp(log_ratio(target, expected(reference, 1.0))), ratio)


def test_the_population_changes_no_rank():
    rng = np.random.default_rng(1)
    labels = np.zeros(80, int)
    forget, others = drawn(rng, labels, seen=1.0), drawn(rng, labels)
    x, y = (log_ratio(rows.target, expected(rows.references, 0.4)) for rows in (forget, others))
    for seed in (2, 3):
        of = drawn(np.random.default_rng(seed), np.zeros(20_000, int))
        z = np.sort(log_ratio(of.target, expected(of.references, 0.4)))
        for gamma in (1.0, 2.0):  # RMIA's score as defined: the share of population rows with R(x) / R(z) > gamma
            share_x, share_y = (np.searchsorted(z, one - np.log(gamma)) / len(z) for one in (x, y))
            assert auc(share_x, share_y) == pytest.approx(auc(x, y), abs=2e-3)  # ties alone


def by_hand(forget, others, scale):
    """The AUC, class by class, for each pair of references; p, p_out and R in plain probabilities."""
    kept, aucs = np.isin(forget.labels, others.labels), []
    for pair in itertools.combinations(range(len(forget.references)), 2):
        ratios = []
        for rows in (forget, others):
            out = sum(expit(rows.references[k]) for k in pair) / 2
            ratios.append(expit(rows.target) / (((1 + scale) * out + 1 - scale) / 2))
        total = 0.0
        for i in np.flatnonzero(kept):
            for j, y in enumerate(others.labels):
                share = np.mean(forget.labels[kept] == y) / np.sum(others.labels == y)
                total += share * ((ratios[0][i] > ratios[1][j]) + (ratios[0][i] == ratios[1][j]) / 2) / kept.sum()
        aucs.append(total)
    return np.mean(aucs)


def test_the_audit_is_the_mean_over_pairs_of_references_with_classes_matched():
    rng = np.random.default_rng(4)
    forget, others = drawn(rng, np.repeat([0, 1, 7], [10, 20, 2]), seen=0.8), drawn(rng, np.repeat([0, 1], [30, 15]))
    found = rmia(forget, others, 0.3, rng, 99)
    assert found.auc.value == pytest.approx(by_hand(forget, others, 0.3))
    assert found.auc.low < found.auc.value < found.auc.high and found.subsets == 3 and found.scale == 0.3
    assert found.forget_rows == 30
    assert found.held_out_rows == pytest.approx(1 / (1 / 9 / 30 + 4 / 9 / 15))
    assert found.auc.smallest == smallest_auc(30, found.held_out_rows)
    one = Margins(forget.target, forget.references[:1], forget.labels)
    assert rmia(one, others._replace(references=others.references[:1]), 0.3, rng, 9).subsets == 1


def test_scale_is_the_one_that_tells_another_model_apart_best():
    rng = np.random.default_rng(5)
    forget, others = drawn(rng, np.zeros(40, int), seen=1.0), drawn(rng, np.zeros(40, int))
    grid = [by_hand(forget, others, i / 10) for i in range(11)]
    assert chosen_scale(forget, others) == np.argmax(grid) / 10


def test_both_tails_are_read_from_the_mean_score():
    rng = np.random.default_rng(6)
    forget, others = drawn(rng, np.zeros(300, int), 2, seen=-2.0), drawn(rng, np.zeros(1500, int), 2)
    found = rmia(forget, others, 0.5, rng, 19)
    scores = [log_ratio(rows.target, expected(rows.references, 0.5)) for rows in (forget, others)]
    assert found.tails["low"] == (tpr_at_fpr(-scores[0], -scores[1], 0.01, np.full(1500, 1 / 1500)),)
    assert found.tails["low"][0].tpr.low > 0.01 and found.tails["high"][0].tpr.value < 0.02
    assert found.auc.high < 0.5 and found.p_value == 0.05  # the smallest of 19 permutations


def test_a_retrain_is_accused_at_the_level_and_the_original_found():
    rng, accused, outside, found = np.random.default_rng(7), 0, 0, []
    for seed in range(300):
        labels = rng.choice(4, 40, p=[0.7, 0.1, 0.1, 0.1])  # the other classes are easier, and the more frequent
        forget, others = drawn(rng, labels), drawn(rng, np.arange(60) % 4)
        null = rmia(forget, others, 0.5, rng, 99)
        accused += null.p_value <= 0.05
        outside += not null.auc.low <= 0.5 <= null.auc.high
        if seed < 20:
            found.append(rmia(forget._replace(target=forget.target + 1.5), others, 0.5, rng, 99).p_value <= 0.05)
    assert binom.ppf(0.0005, 300, 0.05) <= accused <= binom.ppf(0.9995, 300, 0.05)
    assert outside <= binom.ppf(0.9995, 300, 0.06)  # a percentile interval of 40 rows
    assert np.mean(found) > 0.8


def test_bad_margins_are_named():
    rng = np.random.default_rng(8)
    rows = drawn(rng, np.zeros(4, int))
    with pytest.raises(ValueError, match="held-out margins of references: 1 of 12 are not finite"):
        broken = rows.references.copy()
        broken[1, 2] = np.inf
        rmia(rows, rows._replace(references=broken), 0.5, rng)
    with pytest.raises(ValueError, match="references: 3 on forget and 2 on held-out rows"):
        rmia(rows, rows._replace(references=rows.references[:2]), 0.5, rng)
    with pytest.raises(ValueError, match="forget margins of references: there are none"):
        rmia(rows._replace(references=rows.references[:0]), rows, 0.5, rng)
