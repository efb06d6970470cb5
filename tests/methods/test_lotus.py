"""LoTUS: targets, temperature and stop against formulas; the frequencies of the labels that it draws."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    C,
    all_draws,
    backward,
    check_steps,
    draw_at,
    forward,
    numpy,
    one_hot,
    original,
    parts,
    rows_of,
    softmax,
    started,
)

from ltu_jax.config import method_config
from ltu_jax.data.batches import gather
from ltu_jax.methods import build_method

SETTINGS = dataclasses.replace(
    method_config("lotus"), epochs=1.0, batch_size=21, optimizer="sgd", learning_rate=0.25, momentum=0.5,
    weight_decay=0.125, target_accuracy=3.125, alpha=8.0,
)  # fmt: skip


def built(**changes):
    return build_method(dataclasses.replace(SETTINGS, **changes), parts())


def accuracy(params, rows, shift=0.4):
    images, labels = gather(rows, slice(None))
    return np.mean(forward(numpy(params), images, shift)[2].argmax(axis=1) == np.asarray(labels))


ORIGINALS = accuracy(original().params, VISIBLE.forget)


def targets(draw, temperature):
    logits = forward(numpy(original().params), draw.rows.batch.images, shift=0.4)[2] + np.asarray(draw.noise)
    soft, label = softmax(logits / temperature), one_hot(logits.argmax(axis=1))
    return np.where(np.asarray(draw.rows.is_forget)[:, None], soft, label)


def loss_and_gradient(params, draw, temperature):
    images, q = draw.rows.batch.images, targets(draw, temperature)
    p = softmax(forward(params, images)[2])
    return -(q * np.log(p)).sum(axis=1).mean(), backward(params, images, (p - q) / len(p))


def watch_of(state):
    return state.opt_state[1]


@pytest.mark.parametrize("alpha", [8.0, 0.0])
def test_steps_are_sgd_on_the_noisy_targets(x64, alpha):
    before = accuracy(original().params, VISIBLE.forget)
    assert 0.05 < before < 0.9
    temperature = np.exp(alpha * (before - 0.03125))
    method = built(alpha=alpha)
    draws = check_steps(method, SETTINGS, lambda params, draw: loss_and_gradient(params, draw, temperature)[1])
    state, context = started(method)
    np.testing.assert_allclose(watch_of(state).temperature, temperature, rtol=1e-6)
    value, _ = loss_and_gradient(numpy(state.params), draws[0], temperature)
    np.testing.assert_allclose(method.step(state, context, draws[0])[1]["loss/train"], value, rtol=1e-6)
    seen = [row for draw in draws for row in rows_of(draw.rows.batch.images)]
    assert len(seen) == len(set(seen)) == 84
    assert [kind == "forget" for kind, _ in seen] == np.concatenate([d.rows.is_forget for d in draws]).tolist()


def test_labels_of_remaining_rows_come_as_often_as_the_original_says_at_any_temperature():
    method = built(alpha=40.0)
    state, context = started(method)
    draw = draw_at(method, context, 0)
    keys = jax.random.split(jax.random.key(8), 4000)
    noise = jax.vmap(lambda key: method.sample(key, jnp.int32(0), context, VISIBLE).noise)(keys)
    noise = np.asarray(noise)
    logits = forward(numpy(original().params), draw.rows.batch.images, shift=0.4)[2]
    frequency = np.stack([((logits + noise).argmax(axis=2) == c).mean(axis=0) for c in range(C)], axis=1)
    np.testing.assert_allclose(frequency, softmax(logits), atol=5 * 0.5 / 4000**0.5)
    # The program's own targets, told by the loss of a student whose classes are far apart.
    remain = ~np.asarray(draw.rows.is_forget)
    found = targets(draw, float(watch_of(state).temperature))[remain]
    assert set(np.unique(found)) == {0.0, 1.0}


def test_the_next_epoch_goes_by_what_this_one_saw_of_all_forget_rows_in_evaluation_mode():
    method = built(epochs=3.0)  # four steps each
    state, context = started(method)
    looked, right = [], 0
    for t in range(12):
        draw = draw_at(method, context, t)
        images, labels = draw.watched
        looked += rows_of(images)
        logits = forward(numpy(state.params), images, shift=float(state.model_state["mean"]))[2]
        right += (logits.argmax(axis=1) == np.asarray(labels)).sum()
        before = float(watch_of(state).temperature)
        state, _ = method.step(state, context, draw)
        after = float(watch_of(state).temperature)
        if t % 4 == 3:
            np.testing.assert_allclose(after, np.exp(8 * (right / 24 - 0.03125)), rtol=1e-5)
            assert sorted(looked) == [("forget", row) for row in range(24)]
            looked, right = [], 0
        else:
            assert before == after
    np.testing.assert_array_equal(watch_of(state)[2:], [0, 0])


@pytest.mark.parametrize("above", [0.0, 0.02])
def test_a_run_stops_where_forget_rows_are_a_point_below_the_target(above):
    """The target is the accuracy now, or two points above it: the second run changes nothing by a bit."""
    method = built(target_accuracy=100 * (ORIGINALS + above), alpha=0.0)
    state, context = started(method)
    assert bool(watch_of(state).is_going) == (above == 0)
    after, metrics = jax.jit(method.step)(state, context, draw_at(method, context, 0))
    assert float(metrics["rate/outer"]) == (0.0 if above else 0.25)
    pairs = (after.params, after.model_state, after.opt_state[0]), (state.params, state.model_state, state.opt_state[0])
    if above:
        chex.assert_trees_all_equal(*pairs)
    else:
        assert (after.params["w1"] != state.params["w1"]).any()
    assert int(after.step) == 1


def test_a_run_that_stopped_stays_stopped():
    method = built(target_accuracy=100 * (ORIGINALS + 0.02), epochs=3.0)
    state, context = started(method)
    state = state.replace(opt_state=(state.opt_state[0], watch_of(state)._replace(correct=jnp.float32(1e6))))
    for t in range(4):
        state, _ = method.step(state, context, draw_at(method, context, t))
    assert float(watch_of(state).temperature) > 1e3 and not watch_of(state).is_going  # by what it saw it would go on


def test_the_cost_is_the_students_the_teachers_and_the_looks():
    method = built()
    assert len(all_draws(method)) == 4
    cost = method.cost(VISIBLE)
    assert cost.init == (24, 0, 0, 24)
    np.testing.assert_allclose(cost.step, (21 + 21 + 6, 21, 15, 6 + 6))


def test_its_settings_are_the_published_ones():
    found = method_config("lotus")
    assert (found.optimizer, found.learning_rate, found.weight_decay, found.schedule) == (
        "adamw",
        1e-4,
        5e-4,
        "constant",
    )
    assert (found.epochs, found.batch_size, found.alpha) == (10.0, 128, 8.0)
