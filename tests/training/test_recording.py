"""Recording against a loop by hand over the steps of a training; what it must not change is the training."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import apply_fn, forward, init_params, numpy, one_hot, rows, softmax

from ltu_jax.config import Training
from ltu_jax.training.recording import RecordedTraining, TracedTraining, recording_run, tracing_run
from ltu_jax.training.supervised import (
    Supervised,
    finish_trainings,
    init_training,
    num_train_steps,
    train,
    train_step,
    training_run,
)

RECIPE = Training(epochs=4, batch_size=10, learning_rate=0.125)
ROWS, KEY, START = rows(0, 50), jax.random.key(2), init_params(jax.random.key(1))
NUM_STEPS = 20


def recorded(marked, last_epochs, recipe=RECIPE, **more):
    mask = np.isin(np.arange(50), marked)
    run = training_run(apply_fn, *START, ROWS, recipe, KEY, **more)
    run = recording_run(run, marked=mask, part=last_epochs / recipe.epochs)
    return finish_trainings([run])[0]


@pytest.fixture(scope="module")
def trail():
    return trail_of(RECIPE)


def trail_of(recipe):
    """What a plain training does: for each step the rows of its batch and the weights after it."""
    state, context = init_training(apply_fn, *START, recipe, 50, KEY)
    sample, step = jax.jit(Supervised(recipe.batch_size).sample), jax.jit(train_step)
    stored = {np.asarray(image).tobytes(): row for row, image in enumerate(np.asarray(ROWS.images))}
    batches, weights = [], [START[0]]
    for t in range(num_train_steps(recipe, 50)):
        draw = sample(jax.random.fold_in(state.rng, t), jnp.int32(t), context, ROWS)
        pixels = np.rint(np.asarray(draw.images) * 255).astype(np.uint8)
        batches.append([stored[image.tobytes()] for image in pixels])
        state, _ = step(state, context, draw)
        weights.append(state.params)
    return batches, jax.tree.map(lambda *x: np.stack(x).astype(float), *weights)


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_recording_does_not_change_the_training(augment):
    plain = train(apply_fn, *START, ROWS, RECIPE, KEY, augment=augment).state
    for marked in ([], [3, 20], np.arange(50)):
        state = recorded(marked, 4, augment=augment).state
        chex.assert_trees_all_equal(state.params, plain.params)
        chex.assert_trees_all_equal(state.model_state, plain.model_state)
        assert state.step == plain.step == NUM_STEPS


@pytest.mark.parametrize("marked, last_epochs", [([7], 4), ([7], 1), ([3, 20, 31], 1.5), ([3, 20, 31], 100), ([], 4)])
def test_the_record_is_the_sum_of_the_differences_at_batches_with_a_marked_row(trail, marked, last_epochs):
    batches, weights = trail
    first = max(0, round(NUM_STEPS * (1 - last_epochs / 4)))
    taken = [t for t in range(NUM_STEPS) if t >= first and set(batches[t]) & set(marked)]
    assert len(taken) < NUM_STEPS and bool(taken) == bool(marked), "some batches are recorded, others not"
    if marked == [7]:
        assert len(taken) == last_epochs  # one batch an epoch holds a single row
    updates = recorded(marked, last_epochs).state.updates
    for name, after in weights.items():
        wanted = sum((after[t + 1] - after[t] for t in taken), np.zeros_like(after[0]))
        np.testing.assert_allclose(updates[name], wanted, atol=1e-6)


def test_all_that_was_recorded_is_all_that_training_did():
    state, seconds = recorded(np.arange(50), 4)
    updates = state.updates
    for name, start in START[0].items():
        np.testing.assert_allclose(state.params[name] - updates[name], start, atol=1e-5 * np.abs(start).max())
    assert seconds > 0


def test_the_callers_parameters_are_not_consumed():
    recorded([1], 4)
    assert not any(x.is_deleted() for x in jax.tree.leaves((START, ROWS)))


@pytest.mark.parametrize("kind", [RecordedTraining, TracedTraining])
def test_equal_recordings_are_one_structure(kind):
    """So that they are compiled once."""
    assert jax.tree.structure(kind(8)) == jax.tree.structure(kind(8))
    assert jax.tree.structure(kind(8)) != jax.tree.structure(kind(9))


def traced(recipe, **more):
    run = training_run(apply_fn, *START, ROWS, recipe, KEY, **more)
    return finish_trainings([tracing_run(run, epochs=recipe.epochs)])[0].state


@pytest.mark.parametrize("augment", ["none", "flip"])
@pytest.mark.parametrize("batch_size", [10, 15])
def test_keeping_losses_changes_no_bit_of_the_training(augment, batch_size):
    recipe = dataclasses.replace(RECIPE, batch_size=batch_size)
    plain, state = train(apply_fn, *START, ROWS, recipe, KEY, augment=augment).state, traced(recipe, augment=augment)
    for name in ("params", "model_state", "opt_state", "step"):
        chex.assert_trees_all_equal(getattr(state, name), getattr(plain, name))


@pytest.mark.parametrize("batch_size, left_out", [(10, 0), (15, 5), (30, 0), (80, 0)])
def test_the_loss_of_a_row_is_that_of_its_batch_in_its_epoch_by_the_weights_before_the_step(batch_size, left_out):
    """13 steps of 15 rows end 5 rows before the fourth epoch does, 7 of 30 rows 10 rows after it."""
    recipe = dataclasses.replace(RECIPE, batch_size=batch_size)
    batches, weights = trail_of(recipe)
    wanted, position, images, labels = (
        np.full((4, 50), np.nan),
        0,
        np.asarray(ROWS.images) / 255,
        np.asarray(ROWS.labels),
    )
    for t, batch in enumerate(batches):
        params = numpy({name: after[t] for name, after in weights.items()})
        p = (softmax(forward(params, images[batch])[2]) * one_hot(labels[batch])).sum(axis=1)
        for row, loss in zip(batch, -np.log(p), strict=True):
            if position < 200:
                wanted[position // 50, row] = loss
            position += 1
    found = np.asarray(traced(recipe).losses)
    assert found.dtype == np.float16 and found.shape == (4, 50)
    assert np.isnan(wanted).sum() == np.isnan(wanted[3]).sum() == left_out
    np.testing.assert_allclose(found.astype(float), wanted, rtol=2e-3, atol=1e-4)
