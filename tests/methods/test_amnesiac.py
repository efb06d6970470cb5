"""True amnesiac unlearning: what was recorded comes off; healing is FT."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    apply_fn,
    check_steps,
    init_params,
    is_finite,
    label_gradient,
    original,
    parts,
    poisoned,
    rows_of,
    run_all,
    started,
)

from ltu_jax.config import Amnesiac, Training
from ltu_jax.methods import amnesiac
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.recording import recording_run
from ltu_jax.training.supervised import finish_trainings, training_run
from ltu_jax.types import Parts, make_state

SETTINGS = Amnesiac(batch_size=20, learning_rate=0.25, momentum=0.5, weight_decay=0.125)
UPDATES = {name: np.float32(0.1) * np.asarray(p[::-1]) for name, p in original().params.items()}


def built(updates=UPDATES, **changes):
    return amnesiac.Amnesiac.build(dataclasses.replace(SETTINGS, **changes), parts(updates=updates))


def test_the_recorded_updates_come_off_and_the_statistics_stay():
    method = built()
    before, (after, _) = original(), started(method)
    assert method.num_steps(VISIBLE) == 0
    for name, updates in UPDATES.items():
        np.testing.assert_allclose(after.params[name], before.params[name] - updates, rtol=1e-6)
    chex.assert_trees_all_equal(after.model_state, before.model_state)


@pytest.mark.parametrize("schedule", ["cosine", "multistep"])
def test_a_model_trained_only_on_recorded_batches_comes_back_to_its_start(schedule):
    start, recipe = init_params(jax.random.key(1)), Training(epochs=10, batch_size=8, schedule=schedule)
    marked, key = np.ones(24, bool), jax.random.key(2)
    run = recording_run(training_run(apply_fn, *start, VISIBLE.forget, recipe, key), marked=marked, part=1.0)
    trained = finish_trainings([run])[0].state
    updates = trained.updates
    moved = {name: np.abs(trained.params[name] - start[0][name]).max() for name in start[0]}
    assert min(moved.values()) > 0.1
    state = make_state(apply_fn, trained.params, trained.model_state, SGD, jax.random.key(3))
    back, _ = built(updates).init(jax.random.key(4), state, VISIBLE)
    for name, wanted in start[0].items():
        off = np.linalg.norm(back.params[name] - wanted) / np.linalg.norm(wanted)
        assert off < 1e-5


def test_healing_is_sgd_on_the_remaining_rows_from_there(x64):
    start = {name: np.asarray(p, float) - UPDATES[name] for name, p in original().params.items()}
    updates = jax.tree.map(jnp.asarray, UPDATES)
    draws = check_steps(built(updates, epochs=1), SETTINGS, label_gradient, start)
    assert sorted(row for draw in draws for row in rows_of(draw.images)) == [("remain", row) for row in range(60)]


def test_no_forget_row_is_ever_read():
    assert is_finite(run_all(built(epochs=1), poisoned("forget")))


def test_an_original_without_records_is_named():
    with pytest.raises(ValueError, match="Amnesiac: parts.updates is missing"):
        amnesiac.Amnesiac.build(SETTINGS, Parts(apply_fn, 4))
