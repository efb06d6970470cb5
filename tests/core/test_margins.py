"""Margins and what they are brought to, against a float64 softmax, weighted quantiles by hand and the evaluation's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.core.margins import log_odds, matched_margins, matched_weights
from ltu_jax.evaluation import likeness

pytestmark = pytest.mark.smoke


def rows(seed, num_rows=12, num_classes=5, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_rows, num_classes)) * scale, rng.integers(0, num_classes, num_rows)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_log_odds_are_those_of_a_softmax_in_float64(num_classes):
    logits, labels = rows(0, num_classes=num_classes)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = p[np.arange(12), labels]
    found = log_odds(jnp.float32(logits), jnp.int32(labels))
    np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, likeness.predictions(logits, labels).margin, rtol=1e-4, atol=1e-5)
    shifted = log_odds(jnp.float32(logits + 100 * np.arange(12)[:, None]), jnp.int32(labels))
    np.testing.assert_allclose(shifted, found, rtol=1e-3, atol=1e-3)  # a constant on all logits of a row is nothing


def test_margins_of_a_model_that_is_sure_are_finite_and_so_are_their_gradients():
    logits, labels = jnp.array([[200.0, -100.0, -100.0], [-200.0, 100.0, 50.0]]), jnp.array([0, 0])
    np.testing.assert_allclose(log_odds(logits, labels), [300 - np.log(2), -300], rtol=1e-6)
    grad = np.asarray(jax.grad(lambda z: log_odds(z, labels).sum())(logits))
    # d/dz_y is 1, and each of the others has minus its share of what is not y.
    np.testing.assert_allclose(grad, [[1, -0.5, -0.5], [1, -1, 0]], atol=1e-6)


def test_the_gradient_of_the_log_odds_moves_the_label_by_one_and_the_others_by_their_share():
    logits, labels = rows(1)
    others = np.exp(logits)
    others[np.arange(12), labels] = 0
    wanted = -others / others.sum(axis=1, keepdims=True)
    wanted[np.arange(12), labels] = 1
    grad = jax.grad(lambda z: log_odds(z, jnp.int32(labels)).sum())(jnp.float32(logits))
    np.testing.assert_allclose(grad, wanted, atol=1e-6)


def test_weights_give_held_out_rows_the_class_frequencies_of_the_forget_rows():
    held_out, forget = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 1, 1])
    found = np.asarray(matched_weights(jnp.array(held_out), jnp.array(forget), 4))
    np.testing.assert_allclose(found, [1 / 12, 1 / 12, 1 / 12, 3 / 4, 0, 0], rtol=1e-6)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        held_out, forget = rng.integers(0, 6, 30), rng.integers(seed, 6, 11)
        found = matched_weights(jnp.array(held_out), jnp.array(forget), 6)
        np.testing.assert_allclose(found, likeness.matched_weights(held_out, forget), rtol=1e-6)
        np.testing.assert_allclose(np.sum(found), 1, rtol=1e-6)


def test_a_class_without_held_out_rows_counts_for_nothing_and_none_at_all_for_equal_weights():
    held_out = np.array([0, 0, 1])
    np.testing.assert_allclose(matched_weights(jnp.array(held_out), jnp.array([1, 3, 3]), 4), [0, 0, 1])
    np.testing.assert_allclose(matched_weights(jnp.array(held_out), jnp.array([3, 2]), 4), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(likeness.matched_weights(held_out, np.array([3, 2])), [1 / 3] * 3)


def quantiles(held_out, weights, points):
    """The quantile function of weighted rows in plain Python: linear between the middles of its steps, flat outside."""
    order = sorted(range(len(held_out)), key=lambda i: held_out[i])
    middles, below = [], 0.0
    for i in order:
        middles.append(below + weights[i] / 2)
        below += weights[i]
    values, found = [held_out[i] for i in order], []
    for point in points:
        above = [n for n, middle in enumerate(middles) if middle > point]
        if not above:
            found.append(values[-1])
        elif above[0] == 0:
            found.append(values[0])
        else:
            low, high = above[0] - 1, above[0]
            part = (point - middles[low]) / (middles[high] - middles[low])
            found.append(values[low] + part * (values[high] - values[low]))
    return found


def margins(seed, num_forget, num_held_out, equal=False):
    rng = np.random.default_rng(seed)
    weights = np.ones(num_held_out) if equal else rng.uniform(0.1, 2, num_held_out)
    return rng.normal(3, 2, num_forget), rng.normal(1, 2, num_held_out), weights / weights.sum()


def matched(*arrays):
    return np.asarray(matched_margins(*map(jnp.float32, arrays)))


def test_as_many_held_out_rows_of_equal_weights_give_each_forget_row_the_one_of_its_rank():
    forget, held_out, weights = margins(0, 17, 17, equal=True)
    found = matched(forget, held_out, weights)
    np.testing.assert_allclose(found[np.argsort(forget)], np.sort(held_out), rtol=1e-5, atol=1e-5)
    assert (np.argsort(found) == np.argsort(forget)).all()
    # Already there: nothing is to be moved.
    np.testing.assert_allclose(matched(held_out, held_out, weights), held_out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_forget, num_held_out", [(7, 40), (40, 7), (1, 5), (5, 1)])
def test_the_targets_are_the_weighted_quantiles_at_the_middle_of_each_rank(num_forget, num_held_out):
    for seed in range(3):
        forget, held_out, weights = margins(seed, num_forget, num_held_out)
        found = matched(forget, held_out, weights)
        points = (np.arange(num_forget) + 0.5) / num_forget
        wanted = quantiles(held_out, weights, points)
        np.testing.assert_allclose(found[np.argsort(forget)], wanted, rtol=1e-4, atol=1e-4)
        assert (np.diff(found[np.argsort(forget)]) >= 0).all()  # monotone: the order of the forget rows stays
        assert held_out.min() - 1e-5 <= found.min() and found.max() <= held_out.max() + 1e-5


@pytest.mark.parametrize("num_forget", [1, 9, 40])
def test_a_held_out_row_without_weight_is_as_if_it_were_not_there(num_forget):
    forget, held_out, weights = margins(1, num_forget, 9)
    middle = np.median(held_out) + 0.01
    more = matched(forget, np.append([100.0, -100.0, middle], held_out), np.append([0, 0, 0], weights))
    np.testing.assert_allclose(more, matched(forget, held_out, weights), rtol=1e-4, atol=1e-4)


def test_the_order_in_which_rows_come_is_nothing():
    forget, held_out, weights = margins(2, 11, 23)
    found, rng = matched(forget, held_out, weights), np.random.default_rng(0)
    of_forget, of_held_out = rng.permutation(11), rng.permutation(23)
    np.testing.assert_allclose(matched(forget[of_forget], held_out, weights), found[of_forget], rtol=1e-5)
    np.testing.assert_allclose(matched(forget, held_out[of_held_out], weights[of_held_out]), found, rtol=1e-4)
