"""Retrain is the original's trainer on the rows that remain, and nothing else."""

import chex
import jax
import mlp
import numpy as np
import pytest

from ltu_jax.config import Retrain, Training
from ltu_jax.methods import build_method
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import train
from ltu_jax.types import Parts, Splits, make_state
from ltu_jax.unlearning.loop import run_unlearning

SPEC = mlp.build(None, 4, (4, 4, 3))
TRAINING = Training(epochs=3, batch_size=10, learning_rate=0.1)


def test_retrain_equals_training_from_scratch_on_all_remaining_rows_whatever_rho():
    source = mlp.toy_source()
    empty = np.arange(0)
    splits = Splits(np.arange(10), np.arange(10, 57), np.arange(60, 90), np.arange(120, 160), empty, empty)
    parts = Parts(SPEC.apply_fn, 4, init_params=SPEC.init, training=TRAINING)
    original = make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(9)), SGD, jax.random.key(7))
    state, history = run_unlearning(build_method(Retrain(), parts), original, splits, source, remain_fraction=0.3)

    key = jax.random.split(jax.random.key(7))[0]  # the loop's key for init
    params = SPEC.init(jax.random.fold_in(key, 0))
    wanted = train(SPEC.apply_fn, *params, source.rows(splits.remain), TRAINING, jax.random.fold_in(key, 1))
    chex.assert_trees_all_equal(state.params, wanted.state.params)
    assert int(state.step) == round(3 * 47 / 10)
    assert not history.warnings


def test_missing_parts_are_named():
    with pytest.raises(ValueError, match="retrain: parts.init_params is missing"):
        build_method(Retrain(), Parts(SPEC.apply_fn, 4))
