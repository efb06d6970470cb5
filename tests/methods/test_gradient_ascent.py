"""GA against a training step in reverse; weight decay goes on shrinking; no remaining row is ever read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    apply_fn,
    check_steps,
    draw_at,
    is_finite,
    label_gradient,
    parts,
    poisoned,
    rows_of,
    run_all,
    started,
)

from ltu_jax.config import GradientAscent, Training
from ltu_jax.methods import gradient_ascent
from ltu_jax.training.supervised import init_training, train_step

SETTINGS = GradientAscent(epochs=1, batch_size=8, learning_rate=0.25, momentum=0.5, weight_decay=0.0)


def built(**changes):
    return gradient_ascent.GradientAscent.build(dataclasses.replace(SETTINGS, **changes), parts())


def test_the_first_step_is_the_negative_of_a_training_step():
    method = built()
    state, context = started(method)
    draw = draw_at(method, context, 0)
    recipe = Training(learning_rate=0.25, momentum=0.5, weight_decay=0.0, schedule="constant", warmup_epochs=0)
    trained, reads = init_training(apply_fn, state.params, state.model_state, recipe, 24, jax.random.key(0))
    trained, _ = train_step(trained, reads, draw)
    after, _ = method.step(state, context, draw)
    for name, start in state.params.items():
        np.testing.assert_array_equal(after.params[name] - start != 0, True)
        np.testing.assert_allclose(after.params[name] - start, start - trained.params[name], atol=2e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weight_decay_still_shrinks_what_has_no_gradient(optimizer):
    method = built(weight_decay=0.5, optimizer=optimizer)
    state, context = started(method)
    state = state.replace(params={"w1": state.params["w1"], "w2": jnp.zeros((16, 4))})  # w1 has no gradient here
    after, _ = method.step(state, context, draw_at(method, context, 0))
    moved = np.asarray(after.params["w1"] - state.params["w1"])
    wanted = -0.25 * 0.5 * state.params["w1"] if optimizer == "sgd" else -0.25 * np.sign(state.params["w1"])
    np.testing.assert_allclose(moved, wanted, rtol=1e-3, atol=1e-6)


def test_steps_are_sgd_up_the_loss_with_momentum_and_decay(x64):
    method = built(weight_decay=0.125)

    def up(params, draw):
        return {name: -g for name, g in label_gradient(params, draw).items()}

    draws = check_steps(method, dataclasses.replace(SETTINGS, weight_decay=0.125), up)
    assert sorted(row for draw in draws for row in rows_of(draw.images)) == [("forget", row) for row in range(24)]
    drifted = run_all(method, VISIBLE).model_state["mean"]
    np.testing.assert_allclose(drifted, draws[-1].images.mean(), rtol=1e-6)


def test_no_remaining_row_is_ever_read():
    assert is_finite(run_all(built(), poisoned("remain")))
    assert not is_finite(run_all(built(), poisoned("forget")))
