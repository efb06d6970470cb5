"""l1-sparse: FT with the sign of every weight, by SGD in NumPy; the penalty falls epoch by epoch."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    all_draws,
    draw_at,
    is_finite,
    label_gradient,
    numpy,
    original,
    parts,
    poisoned,
    run_all,
    sgd,
    started,
)

from ltu_jax.config import Finetune, method_config
from ltu_jax.methods import build_method, finetune, l1_sparse

NUMBERS = {"batch_size": 20, "learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.125}
SETTINGS = dataclasses.replace(method_config("l1_sparse"), epochs=2.0, alpha=0.125, **NUMBERS)


@pytest.mark.parametrize("epochs, factors", [(2.0, [1] * 3 + [0.5] * 3), (4.0, np.repeat([1, 0.75, 0.5, 0.25], 3))])
def test_steps_are_sgd_on_the_loss_and_the_fading_penalty(x64, epochs, factors):
    method = l1_sparse.L1Sparse.build(dataclasses.replace(SETTINGS, epochs=epochs), parts())
    draws = all_draws(method)
    assert len(draws) == len(factors)

    def gradient(params, draw, factor):
        return {name: g + factor * 0.125 * np.sign(params[name]) for name, g in label_gradient(params, draw).items()}

    gradients = [functools.partial(gradient, draw=d, factor=f) for d, f in zip(draws, factors, strict=True)]
    wanted, after = sgd(numpy(original().params), gradients, 0.25, 0.5, 0.125), run_all(method, VISIBLE)
    for name in wanted:
        np.testing.assert_allclose(after.params[name], wanted[name], rtol=1e-6, atol=1e-9)


def test_the_penalty_counts_every_parameter_and_has_no_slope_at_zero():
    method = l1_sparse.L1Sparse.build(SETTINGS, parts())
    state, context = started(method)
    draw = draw_at(method, context, 0)
    sizes = sum(np.abs(x).sum() for x in numpy(state.params).values())
    plain = super(l1_sparse.L1Sparse, method).loss(state.params, state, context, draw)[0]
    np.testing.assert_allclose(method.loss(state.params, state, context, draw)[0], plain + 0.125 * sizes, rtol=1e-5)
    zeros = jax.tree.map(np.zeros_like, numpy(state.params))  # where the model has no slope either: w2 is 0, images
    grad = jax.grad(lambda p: method.loss(p, state, context, draw)[0])(zeros)
    assert not grad["w1"].any()


def test_without_a_penalty_it_is_fine_tuning_bit_for_bit():
    method = build_method(dataclasses.replace(SETTINGS, alpha=0.0), parts())
    tuned = finetune.Finetune.build(Finetune("finetune", epochs=2.0, **NUMBERS), parts())
    chex.assert_trees_all_equal(run_all(method, VISIBLE).params, run_all(tuned, VISIBLE).params)
    assert is_finite(run_all(method, poisoned("forget")))  # no forget row is ever read
