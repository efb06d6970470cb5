"""Partial Retrain: never over its budget by a step, its schedule whole, its rows the remaining ones."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    apply_fn,
    draw_at,
    init_params,
    is_finite,
    original,
    parts,
    poisoned,
    rows_of,
    run_all,
    started,
)

from ltu_jax.config import PartialRetrain, Retrain, Training
from ltu_jax.methods import partial_retrain, retrain
from ltu_jax.training.cost import image_flops
from ltu_jax.training.schedule import learning_rate
from ltu_jax.types import Parts

RECIPE = Training(epochs=10, batch_size=20, warmup_epochs=2.0, milestones=(4, 8), schedule="cosine", weight_decay=0.0)
WHOLE = 10 * 60 // 20


def step_flops():
    image = image_flops(apply_fn, *init_params(jax.random.key(0)), (4, 4, 3), 20)
    return 20 * (image.forward + image.backward)


def built(steps, recipe=RECIPE):
    return partial_retrain.PartialRetrain.build(PartialRetrain(flops=steps * step_flops()), parts(training=recipe))


@pytest.mark.parametrize("steps, taken", [(9.5, 9), (1.01, 1), (0.2, 1), (29.9, 29), (30.1, 30), (500, 30)])
def test_it_takes_the_steps_that_its_flops_buy_and_no_more_than_retrain(steps, taken):
    method = built(steps)
    assert method.num_steps(VISIBLE) == taken
    spent = method.cost(VISIBLE).of(taken)
    assert (spent.forward, spent.backward, spent.remain, spent.forget) == (20 * taken, 20 * taken, 20 * taken, 0)


@pytest.mark.parametrize("taken", [6, 15, 30])
def test_warm_up_and_decay_fit_into_the_budget(taken):
    _, context = started(built(taken + 0.5))
    rates = np.array([learning_rate(context.schedule, jnp.int32(t)) for t in range(taken + 1)])
    np.testing.assert_allclose(rates[-1], 0, atol=1e-7)
    share = taken / WHOLE
    np.testing.assert_allclose(context.schedule.warmup_steps, share * 2.0 * 60 / 20, rtol=1e-5)
    np.testing.assert_allclose(context.schedule.milestones, share * np.array([4, 8]) * 60 / 20, rtol=1e-5)
    assert rates.max() > 0.8 * RECIPE.learning_rate


def test_with_flops_enough_it_is_retrain():
    whole = retrain.Retrain.build(Retrain(), parts(training=RECIPE))
    chex.assert_trees_all_equal(run_all(built(500), VISIBLE).params, run_all(whole, VISIBLE).params)


def test_neither_it_nor_retrain_ever_reads_a_forget_row_or_the_original():
    for method in (built(4.5), retrain.Retrain.build(Retrain(), parts(training=RECIPE))):
        assert method.sees_all
        assert is_finite(run_all(method, poisoned("forget")))
        nowhere = original().replace(params=jax.tree.map(lambda p: p * jnp.nan, original().params))
        assert is_finite(method.init(jax.random.key(4), nowhere, VISIBLE)[0])
        _, context = started(method)
        rows = [row for t in range(3) for row in rows_of(draw_at(method, context, t).images)]
        assert {kind for kind, _ in rows} == {"remain"} and len(set(rows)) == 60


def test_missing_parts_are_named():
    with pytest.raises(ValueError, match="partial_retrain: parts.init_params is missing"):
        partial_retrain.PartialRetrain.build(PartialRetrain(), Parts(apply_fn, 4))
