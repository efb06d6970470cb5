"""NoT: twice is the identity; the first kernel alone changes; then FT, step by step."""

import dataclasses

import chex
import jax
import numpy as np
from by_hand import VISIBLE, convolved, is_finite, parts, poisoned, run_all, started

from ltu_jax.config import Model, method_config
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import make_state

SETTINGS = dataclasses.replace(method_config("negate_first"), epochs=1.0, batch_size=20)
METHOD = build_method(SETTINGS, parts())


def test_twice_is_the_identity_and_once_is_the_first_kernel_negated():
    once, _ = started(METHOD, start=convolved())
    chex.assert_trees_all_equal(once.params, {**convolved().params, "kernel": -convolved().params["kernel"]})
    chex.assert_trees_all_equal(started(METHOD, start=once)[0].params, convolved().params)


def test_of_a_resnet_the_stem_alone_is_negated_and_of_its_statistics_none():
    spec = build_model(Model("resnet8", width=4), 5, (8, 8, 3))
    start = make_state(spec.apply_fn, *spec.init(jax.random.key(0)), SGD, jax.random.key(1))
    state, _ = started(METHOD, start=start)
    sums = jax.tree.map(lambda a, b: np.abs(a + b).max(), start.params, state.params)
    same = jax.tree.map(np.array_equal, start.params, state.params)
    assert sums["backbone"]["conv1"]["kernel"] == 0 and not same["backbone"]["conv1"].pop("kernel")
    assert all(jax.tree.leaves(same))
    chex.assert_trees_all_equal(state.model_state, start.model_state)


def test_then_it_is_fine_tuning():
    tuned = build_method(dataclasses.replace(SETTINGS, name="finetune"), parts())
    turned, _ = started(METHOD, start=convolved())
    chex.assert_trees_all_equal(run_all(METHOD, VISIBLE, convolved()).params, run_all(tuned, VISIBLE, turned).params)
    assert is_finite(run_all(METHOD, poisoned("forget"), convolved()))  # no forget row is ever read
