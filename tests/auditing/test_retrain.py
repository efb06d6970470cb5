"""Closeness to Retrain against SciPy and loops, and Monte Carlo: a Retrain lies within the spread of Retrains."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp, softmax
from scipy.stats import binom, ks_2samp
from sklearn.metrics import roc_auc_score

from ltu_jax.auditing.intervals import one_more
from ltu_jax.auditing.retrain import closeness_to_retrain

C = 4


def answers(rng, labels, shift=0.0, spread=1.0):
    """Logits of a model on rows that every model finds as easy as their class is."""
    logits = rng.normal(0, spread, (len(labels), C)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 1.0 + 0.5 * labels + shift
    return logits


def margins_of(logits, labels):
    z = logits.astype(float)
    return np.array([row[y] - logsumexp(np.delete(row, y)) for row, y in zip(z, labels, strict=True)])


def by_hand(one, other, labels):
    mine, theirs = margins_of(one, labels), margins_of(other, labels)
    p, q = softmax(one.astype(float), axis=1), softmax(other.astype(float), axis=1)
    return {
        "js": np.mean(jensenshannon(p, q, axis=1, base=2) ** 2),
        "agreement": 100 * np.mean([a.argmax() == b.argmax() for a, b in zip(one, other, strict=True)]),
        "margin": np.mean(mine - theirs),
        "margin_apart": np.mean(np.abs(mine - theirs)),
        "ks": 100 * ks_2samp(mine, theirs).statistic,
        "auc": roc_auc_score(np.repeat([1, 0], len(labels)), np.concatenate([mine, theirs])),
    }


def test_each_measure_is_a_mean_over_retrains_and_its_floor_the_range_over_their_pairs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, 40)
    target, retrains = answers(rng, labels, 1.0), [answers(rng, labels) for _ in range(3)]
    found = closeness_to_retrain(target, retrains, labels, rng, 200)
    mine = [by_hand(target, one, labels) for one in retrains]
    pairs = [by_hand(*pair, labels) for pair in itertools.combinations(retrains, 2)]
    swapped = [by_hand(b, a, labels) for a, b in itertools.combinations(retrains, 2)]
    for name in ("js", "agreement", "margin", "margin_apart", "ks", "auc"):
        measure, both_ways = getattr(found, name), [one[name] for one in pairs + swapped]
        value = np.mean([one[name] for one in mine])
        assert measure.figure.value == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(measure.floor, (min(both_ways), max(both_ways)), rtol=1e-5)
        assert measure.excess.value == pytest.approx(value - np.mean(both_ways), rel=1e-4, abs=1e-6)
        assert measure.excess.low < measure.excess.value < measure.excess.high
    assert (found.rows, found.retrains) == (40, 3)
    own, *theirs = (margins_of(one, labels) for one in (target, *retrains))
    least = (np.var(theirs, axis=0, ddof=1).mean() / 40) ** 0.5
    over_seeds, p_value = one_more(own.mean(), np.mean(theirs, axis=1), least=least)
    np.testing.assert_allclose(found.over_seeds, over_seeds)
    assert found.p_value == pytest.approx(p_value) and found.margin.figure.value == pytest.approx(over_seeds.value)


def test_the_excess_is_resampled_row_by_row():
    """Rows differ far more than models do: the paired spread of the excess is that of the rows' own differences."""
    rng = np.random.default_rng(1)
    labels = np.zeros(200, int)
    base = rng.normal(0, 20, (200, 1)) * np.array([[1.0, 0, 0, 0]])
    target, *retrains = [(base + rng.normal(0, s, (200, C))).astype(np.float32) for s in (1.5, 1, 1)]
    found = closeness_to_retrain(target, retrains, labels, rng, 2000)
    margins = [np.clip(margins_of(one, labels), -30, 30) for one in (target, *retrains)]
    to_retrain = (np.abs(margins[0] - margins[1]) + np.abs(margins[0] - margins[2])) / 2
    of_rows = to_retrain - np.abs(margins[1] - margins[2])
    error = of_rows.std(ddof=1) / 200**0.5
    assert found.margin_apart.excess.smallest == pytest.approx(2.8 * error, rel=0.1)
    assert found.margin_apart.excess.high - found.margin_apart.excess.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_retrain_has_no_floor():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, C, 20)
    found = closeness_to_retrain(answers(rng, labels), [answers(rng, labels)], labels, rng, 50)
    assert found.js.floor is found.js.excess is found.over_seeds is found.p_value is None
    assert found.js.figure.low < found.js.figure.value < found.js.figure.high


def test_the_same_answers_are_at_no_distance():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, C, 20)
    same = answers(rng, labels)
    found = closeness_to_retrain(same, [same], labels, rng, 20)
    for name, value in {"js": 0, "agreement": 100, "margin": 0, "margin_apart": 0, "ks": 0, "auc": 0.5}.items():
        assert getattr(found, name).figure.value == pytest.approx(value, abs=1e-12)


def test_the_excess_of_a_retrain_holds_its_level():
    rng, outside = np.random.default_rng(4), {"js": 0, "agreement": 0, "margin_apart": 0, "margin": 0}
    for _ in range(300):
        labels = rng.integers(0, C, 60)
        target, *retrains = [answers(rng, labels) for _ in range(3)]
        null = closeness_to_retrain(target, retrains, labels, rng, 100)
        for name in outside:
            excess = getattr(null, name).excess
            outside[name] += not excess.low <= 0 <= excess.high
    low, high = binom.ppf([0.0005, 0.9995], 300, 0.055)  # percentile intervals of 60 rows and 100 resamples
    assert all(low <= count <= high for count in outside.values()), outside


def test_the_distance_of_a_model_between_retrains_is_below_their_own():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, C, 60)
    retrains = [answers(rng, labels) for _ in range(3)]
    mean = closeness_to_retrain(np.mean(retrains, axis=0), retrains, labels, rng, 100)
    far = closeness_to_retrain(answers(rng, labels, 2.0), retrains, labels, rng, 100)
    assert mean.js.excess.high < 0 < far.js.excess.low and mean.js.figure.value < mean.js.floor[0]


def test_seeds_that_move_all_rows_at_once_accuse_no_retrain():
    """Each model is a little surer or less sure of all rows than the others: rows say little of that, seeds do."""
    rng, accused, by_rows, found = np.random.default_rng(10), 0, 0, []
    for seed in range(300):
        labels = np.zeros(200, int)
        models = [answers(rng, labels, rng.normal(0, 0.4)) for _ in range(4)]
        null = closeness_to_retrain(models[0], models[1:], labels, rng, 19)
        accused += null.p_value <= 0.05
        by_rows += not null.margin.excess.low <= 0 <= null.margin.excess.high
        if seed < 20:
            found.append(closeness_to_retrain(models[0] + [[6.0, 0, 0, 0]], models[1:], labels, rng, 2).p_value <= 0.05)
    assert binom.ppf(0.0005, 300, 0.05) <= accused <= binom.ppf(0.9995, 300, 0.05)
    assert by_rows > 100  # why rows give no p-value here
    assert np.mean(found) > 0.8


def test_margins_of_sure_answers_do_not_count_beyond_the_bound():
    sure, surer = np.array([[40.0, 0.0], [0.0, -50.0]]), np.array([[90.0, 0.0], [0.0, -29.0]])
    found = closeness_to_retrain(sure, [surer], np.zeros(2, int), np.random.default_rng(8), 20)
    assert found.margin.figure.value == pytest.approx((0 + 30 - 29) / 2)


def test_bad_answers_are_named():
    rng, labels = np.random.default_rng(5), np.array([0, 1])
    good, bad = answers(rng, labels), np.full((2, C), np.nan, np.float32)
    with pytest.raises(ValueError, match="retrains: there are none"):
        closeness_to_retrain(good, [], labels, rng)
    with pytest.raises(ValueError, match="logits of Retrain 1: 8 of 8 are not finite"):
        closeness_to_retrain(good, [good, bad], labels, rng)
    with pytest.raises(ValueError, match="^logits: 8 of 8"):
        closeness_to_retrain(bad, [good], labels, rng)
