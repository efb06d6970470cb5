"""Closeness to Retrain against SciPy, scikit-learn and hand-worked cases."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import logit, softmax
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from ltu_jax.evaluation import closeness
from ltu_jax.evaluation.closeness import compare, divergence, margin_difference

SIZES = {"forget": 30, "remain": 50, "test": 40}
RNG = np.random.default_rng(0)
LABELS = {name: RNG.integers(0, 5, size) for name, size in SIZES.items()}


def drawn(seed, count=20, spread=3.0):
    return np.random.default_rng(seed).normal(0, spread, (count, 5)).astype(np.float32)


def model(seed, asked=None, order=None):
    """A model that answers at random, always the same; what it is asked is noted."""

    def answers(name):
        if asked is not None:
            asked.append((seed, name))
        z = drawn(seed + 10 * list(SIZES).index(name), SIZES[name])
        return z if order is None else z[order[name]]

    return answers


def margins(seed, name):
    return logit(softmax(model(seed)(name).astype(float), axis=1)[np.arange(SIZES[name]), LABELS[name]])


def scipys(one, other):
    return jensenshannon(softmax(one.astype(float), axis=1), softmax(other.astype(float), axis=1), base=2, axis=1) ** 2


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("at_once", [3, 20, 8192])
def test_the_divergence_is_scipys_of_each_row_however_many_are_held_at_a_time(monkeypatch, spread, at_once):
    monkeypatch.setattr(closeness, "AT_ONCE", at_once)
    one, other = drawn(1, spread=spread), drawn(2, spread=spread)
    np.testing.assert_allclose(divergence(one, other), scipys(one, other), rtol=1e-6, atol=1e-14)
    np.testing.assert_array_equal(divergence(one, other), divergence(other, one))


def test_the_divergence_is_nothing_for_the_same_model_and_one_bit_for_answers_that_share_nothing():
    assert divergence(drawn(1), drawn(1)).tolist() == [0.0] * 20
    assert divergence(drawn(1), drawn(1) + np.float32(8)).max() < 1e-12  # logits are known up to a constant
    sure = np.array([[900.0, 0.0, 0.0], [0.0, 900.0, 0.0]], np.float32)
    assert divergence(sure, sure).tolist() == [0.0, 0.0] and divergence(sure, sure[::-1]).tolist() == [1.0, 1.0]
    undecided = np.array([[900.0, 900.0, 0.0]] * 2, np.float32)
    by_hand = (np.log2(1 / 0.75) + 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)) / 2
    np.testing.assert_allclose(divergence(sure, undecided), by_hand)


def test_margins_differ_by_their_distance_each_within_thirty_nats():
    one, other = np.array([1.0, -2.0, 90.0, 90.0, np.inf]), np.array([4.0, 3.0, 31.0, -90.0, 29.0])
    assert margin_difference(one, other).tolist() == margin_difference(other, one).tolist() == [3, 5, 0, 60, 1]


def test_a_broken_model_is_as_far_as_can_be():
    broken = np.array([[np.nan, 0, 0, 0, 0], [np.inf, 0, 0, 0, 0]] * 10, np.float32)
    assert divergence(drawn(1), broken).tolist() == divergence(broken, broken).tolist() == [1.0] * 20
    assert margin_difference(np.array([np.nan, 1.0]), np.array([0.0, np.nan])).tolist() == [60, 60]


def test_each_figure_is_the_mean_over_the_rows_and_the_retrains():
    (found,) = compare([model(0)], [model(1), model(2)], LABELS)
    for name in SIZES:
        js = [np.mean(scipys(model(0)(name), model(seed)(name))) for seed in (1, 2)]
        apart = [np.mean(abs(margins(0, name) - margins(seed, name))) for seed in (1, 2)]
        assert np.isclose(found[f"js_{name}"], np.mean(js)) and np.isclose(found[f"margin_{name}"], np.mean(apart))
    assert abs(found["js_forget"] - found["js_test"]) > 1e-3


def test_a_retrain_is_compared_with_the_others_and_a_single_one_with_none():
    retrains = [model(seed) for seed in (1, 2, 3)]
    found = compare(retrains, retrains, LABELS)
    for i, (one, other) in enumerate(((2, 3), (1, 3), (1, 2))):
        js = [np.mean(scipys(model(i + 1)("remain"), model(seed)("remain"))) for seed in (one, other)]
        assert np.isclose(found[i]["js_remain"], np.mean(js))
    (alone,) = compare(retrains[:1], retrains[:1], LABELS)
    assert alone["js_forget"] is None and alone["margin_test"] is None and alone["ks"] == found[0]["ks"]
    # A model that merely answers like a Retrain is another model.
    assert compare([model(1)], retrains[:1], LABELS)[0]["js_forget"] == 0


def test_ks_and_auc_are_those_of_forget_against_test_rows():
    labels = {name: np.full(size, 2) for name, size in SIZES.items()}  # one class: all rows weigh alike
    (found,) = compare([model(0)], [model(1)], labels)
    shown = [logit(softmax(model(0)(name).astype(float), axis=1)[:, 2]) for name in ("forget", "test")]
    assert np.isclose(found["ks"], 100 * ks_2samp(*shown).statistic)
    assert np.isclose(found["auc"], roc_auc_score([1] * 30 + [0] * 40, np.concatenate(shown)))


def test_the_order_of_the_rows_does_not_matter():
    order = {name: np.random.default_rng(5).permutation(size) for name, size in SIZES.items()}
    shuffled = {name: truth[order[name]] for name, truth in LABELS.items()}
    (found,) = compare([model(0)], [model(1), model(2)], LABELS)
    (again,) = compare([model(0, order=order)], [model(seed, order=order) for seed in (1, 2)], shuffled)
    assert found == pytest.approx(again, rel=1e-12)


def test_every_model_is_asked_once_for_each_set_one_set_after_the_other():
    asked = []
    retrains = [model(seed, asked) for seed in (1, 2)]
    compare([model(0, asked), *retrains], retrains, LABELS)
    assert [name for _, name in asked] == ["forget"] * 3 + ["remain"] * 3 + ["test"] * 3
    assert sorted(asked) == sorted((seed, name) for seed in range(3) for name in SIZES)
