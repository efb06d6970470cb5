"""Attackers learn from outputs that are collected as unlearning computes them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from compiling import programs_made
from sklearn.metrics import roc_auc_score

from ltu_jax.attackers import fit as module
from ltu_jax.attackers.bank import init_bank, membership
from ltu_jax.attackers.fit import Outputs, attacked_loss, attacker_auc, auc_noise, collect_outputs, fit_bank
from ltu_jax.config import Attackers
from ltu_jax.types import Rows

NUM_CLASSES = 4


def synthetic(num_rows, seed):
    """Predictions whose true logit leads by N(4, 1) for members and by N(2.5, 1) for others."""
    rng = np.random.default_rng(seed)
    is_member, labels = np.arange(num_rows) % 2, rng.integers(0, NUM_CLASSES, num_rows)
    lead = rng.normal(2.5 + 1.5 * is_member, 1)
    logits = lead[:, None] * np.eye(NUM_CLASSES)[labels] + rng.normal(size=(num_rows, 1))
    return Outputs(jnp.float32(logits), jnp.int32(labels), jnp.float32(is_member)), lead


def fit(**which):
    settings = Attackers(epochs=5, batch_size=16, **which)
    return fit_bank(synthetic(3000, 0)[0], settings, NUM_CLASSES, jax.random.key(0))


@pytest.fixture(scope="module")
def fitted():
    return fit(names=("sorted", "labelled"))


@pytest.mark.slow
def test_every_attacker_comes_near_the_best_there_is_on_held_out_outputs():
    fitted = fit()
    held_out, lead = synthetic(3000, 1)
    best = roc_auc_score(held_out.is_member, lead)
    # two unit normals 1.5 apart: Phi(1.5 / sqrt 2)
    np.testing.assert_allclose(best, 0.5 * (1 + math.erf(1.5 / 2)), atol=0.02)
    auc = attacker_auc(fitted, held_out)
    assert list(auc) == list(fitted.names) == list(Attackers().names)
    assert all(best - 0.01 < value < best + 0.005 for value in auc.values()), (auc, best)


def test_an_attacker_learns_from_all_outputs_that_it_is_given(fitted):
    """Of 16 outputs, one batch, neither network comes so near to the best there is."""
    held_out, lead = synthetic(3000, 1)
    best = roc_auc_score(held_out.is_member, lead)
    assert all(value > best - 0.02 for value in attacker_auc(fitted, held_out).values())


def test_attackers_that_were_told_nothing_know_nothing():
    outputs = synthetic(2000, 0)[0]
    shuffled = outputs._replace(is_member=jax.random.permutation(jax.random.key(1), outputs.is_member))
    auc = attacker_auc(init_bank(jax.random.key(0), ("sorted", "labelled"), NUM_CLASSES), shuffled)
    assert all(abs(value - 0.5) < 0.06 for value in auc.values())  # over four standard deviations


def test_auc_is_the_share_of_pairs_in_the_right_order_and_that_of_scikit_learn(fitted):
    outputs = synthetic(201, 2)[0]
    auc, member = attacker_auc(fitted, outputs), np.asarray(outputs.is_member) == 1
    ask = jax.jit(membership)
    for k, name in enumerate(fitted.names):
        says = np.asarray(ask(fitted, jnp.int32(k), outputs.logits, outputs.labels))
        difference = says[member][:, None] - says[~member][None]
        np.testing.assert_allclose(auc[name], (np.sign(difference) + 1).mean() / 2, rtol=1e-6)
        np.testing.assert_allclose(auc[name], roc_auc_score(outputs.is_member, says), rtol=1e-6)


@pytest.mark.parametrize("m, n", [(5, 7), (30, 30), (100, 20)])
def test_the_noise_of_the_auc_is_two_standard_deviations_of_the_mann_whitney_statistic(m, n):
    rng = np.random.default_rng(0)
    u = scipy.stats.mannwhitneyu(rng.normal(size=(4000, m)), rng.normal(size=(4000, n)), axis=1).statistic
    np.testing.assert_allclose(auc_noise(m, n), 2 * np.std(u / (m * n)), rtol=0.05)


def test_every_attacker_is_fitted_on_a_sample_of_its_own(monkeypatch):
    keys = []

    def noted(fn, *args, static):
        """What ``compiled`` is given: the key of the fit last."""
        keys.append(jax.random.key_data(args[-1]).tolist())
        return lambda params, outputs, key: params

    monkeypatch.setattr(module, "compiled", noted)
    fit(names=("sorted", "labelled", "metrics"))
    assert len({tuple(key) for key in keys}) == 3


def test_a_fit_is_a_function_of_its_key_and_compiled_once():
    outputs, settings = synthetic(256, 0)[0], Attackers(names=("sorted",), epochs=1, batch_size=64)
    fits = [fit_bank(outputs, settings, NUM_CLASSES, jax.random.key(0))]
    with programs_made() as made:
        fits += [fit_bank(outputs, settings, NUM_CLASSES, jax.random.key(seed)) for seed in (0, 1)]
    assert made == []
    first, again, other = (np.asarray(bank.params["sorted"]["params"]["Dense_0"]["kernel"]) for bank in fits)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_attacked_loss_is_the_cross_entropy_against_non_member_and_descent_makes_it_less_sure(fitted):
    logits, labels, _ = synthetic(64, 3)[0]
    loss_and_gradient = jax.jit(jax.value_and_grad(attacked_loss, argnums=2))
    for k in range(len(fitted.names)):
        loss, gradient = loss_and_gradient(fitted, jnp.int32(k), logits, labels)
        says = np.asarray(jax.jit(membership)(fitted, jnp.int32(k), logits, labels), np.float64)
        np.testing.assert_allclose(loss, np.log1p(np.exp(says)).mean(), rtol=1e-5)
        moved = logits - 10 * gradient
        before, after = (jax.nn.softmax(z)[np.arange(64), labels].mean() for z in (logits, moved))
        assert loss_and_gradient(fitted, jnp.int32(k), moved, labels)[0] < loss and after < before


def rows(num_rows, side):
    """Images whose red is the side (1 member), green the id, blue a stripe on the left; the label is the id."""
    images = np.zeros((num_rows, 8, 8, 3), np.uint8)
    images[..., 0], images[..., 1] = 255 * side, np.arange(num_rows)[:, None, None]
    images[:, :, :4, 2] = 255
    return Rows(jnp.asarray(images), jnp.arange(num_rows))


def recorder(params, model_state, images, train):
    """Logits that tell what a forward pass was shown: side, the batch's mean side, id, is it mirrored."""
    assert train is True  # batch statistics, as during unlearning
    red = images[:, 0, 0, 0]
    mean = jnp.full_like(red, red.mean())
    return jnp.stack([red, mean, images[:, 0, 0, 1] * 255, images[:, 0, -1, 2]], axis=1) + params, model_state


def outputs_of(num_members, num_others, *, batch_size=4, augment="none", draws=1, seed=0):
    return collect_outputs(
        recorder,
        jnp.float32(0),
        {},
        rows(num_members, 1),
        rows(num_others, 0),
        jax.random.key(seed),
        batch_size=batch_size,
        augment=augment,
        draws=draws,
    )


@pytest.mark.parametrize("num_members, num_others, each", [(10, 23, 9), (23, 10, 9), (3, 9, 3), (12, 12, 12)])
def test_outputs_balance_the_sides_in_batches_of_one_side_each(num_members, num_others, each):
    outputs = outputs_of(num_members, num_others, draws=3)
    side, mean, ids, _ = np.asarray(outputs.logits).T
    assert outputs.is_member.sum() == 3 * each == len(side) / 2
    np.testing.assert_array_equal(side, outputs.is_member)
    np.testing.assert_array_equal(mean, side)  # BatchNorm never sees both
    np.testing.assert_allclose(ids, outputs.labels, atol=1e-4)


def test_every_draw_takes_each_row_at_most_once_in_an_order_of_its_own():
    outputs = outputs_of(9, 12, draws=2)
    orders = np.asarray(outputs.labels).reshape(4, 9)  # members twice, others twice
    assert all(len(set(order)) == 9 for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[2:].max() > 8  # not the first rows of the larger side


def test_outputs_are_augmented_as_asked_and_anew_each_draw():
    assert not np.any(outputs_of(16, 16, augment="none").logits[:, 3])
    mirrored = np.asarray(outputs_of(64, 64, augment="flip", draws=2).logits[:, 3]).reshape(4, 64)
    assert np.all(np.abs(mirrored.mean(axis=1) - 0.5) < 0.3) and len({tuple(x) for x in mirrored}) == 4


def test_outputs_are_a_function_of_the_key():
    np.testing.assert_array_equal(outputs_of(12, 12).logits, outputs_of(12, 12).logits)
    assert not np.array_equal(outputs_of(12, 12).labels, outputs_of(12, 12, seed=1).labels)


def test_without_a_number_of_draws_each_row_is_asked_about_once():
    rows_of = rows(8, 1), rows(8, 0)
    outputs = collect_outputs(recorder, jnp.float32(0), {}, *rows_of, jax.random.key(0), batch_size=4, augment="none")
    np.testing.assert_array_equal(np.sort(np.asarray(outputs.labels).reshape(2, 8)), [range(8)] * 2)


@pytest.mark.parametrize("num_rows, epochs, size, steps", [(100, 5, 16, 31), (10, 3, 10, 3), (10, 1, 10, 1)])
def test_epochs_are_steps_of_whole_batches(num_rows, epochs, size, steps, monkeypatch):
    asked = []
    monkeypatch.setattr("ltu_jax.attackers.fit._fit", lambda *args: asked.append(args[1:4]) or args[4])
    settings = Attackers(names=("sorted", "metrics"), epochs=epochs, batch_size=16, learning_rate=0.02)
    fit_bank(synthetic(num_rows, 0)[0], settings, NUM_CLASSES, jax.random.key(0))
    assert asked == [(size, steps, 0.02)] * 2


def test_the_first_output_is_drawn_like_any_other():
    """Of two outputs, a member and a non-member, a bootstrap sample holds one or both."""
    logits = 8 * jnp.eye(NUM_CLASSES)[:2] * jnp.array([[1.0], [0.1]])
    outputs = Outputs(logits, jnp.arange(2), jnp.array([1.0, 0.0]))
    settings = Attackers(names=("sorted",), epochs=40, batch_size=2, learning_rate=0.05)
    seen = set()
    for seed in range(12):
        bank = fit_bank(outputs, settings, NUM_CLASSES, jax.random.key(seed))
        seen.add(tuple((np.asarray(membership(bank, jnp.int32(0), logits, jnp.arange(2))) > 0).tolist()))
    # Each alone makes all answers alike; both, in a quarter to a half of the samples, are told apart.
    assert seen == {(True, False), (True, True), (False, False)}
