"""What the compiler makes of a step of LTU: its convolutions and its memory."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import LTU, Model, Training
from ltu_jax.data.batches import gather
from ltu_jax.methods import ltu
from ltu_jax.models.build import build_model
from ltu_jax.training.dispatch import compiled, numbers_as_arrays, take_step
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import Supervised, init_training
from ltu_jax.types import Parts, Rows, Visible, make_state

C = 4


class Compiled(NamedTuple):
    """What the compiler made of a step."""

    convolutions: list[str]  # the dimension order of each
    bytes: int  # beside arguments and results


@functools.cache
def compiled_step(**settings):
    """A step on ResNet-8, or without settings one of plain training on a batch of the same size."""
    spec, key = build_model(Model("resnet8", width=4), C, (16, 16, 3)), jax.random.key(0)
    params, model_state = spec.init(key)
    rows = Rows(jnp.zeros((8, 16, 16, 3), jnp.uint8), jnp.zeros(8, jnp.int32))
    if settings:
        parts = Parts(spec.apply_fn, C, features=spec.features, bank=init_bank(key, ("sorted", "metrics"), C))
        method = ltu.LTU.build(LTU(batch_size=8, query_size=8, **settings), parts)
        state = make_state(spec.apply_fn, params, model_state, SGD, key)
        state, context = jax.eval_shape(method.init, key, state, Visible(rows, rows, rows))
        draw = jax.eval_shape(method.sample, key, state.step, context, Visible(rows, rows, rows))
    else:
        state, context = init_training(spec.apply_fn, params, model_state, Training(), 8, key)
        draw, method = jax.eval_shape(gather, rows, jnp.arange(8)), Supervised(8)
    program = compiled(take_step, numbers_as_arrays(method), state, context, draw, donate=(1,))
    memory = program.memory_analysis()
    return Compiled(re.findall(r"dim_labels=([^\s,]+)", program.as_text()), memory.temp_size_in_bytes)


NUM_CONVOLUTIONS = 9  # of ResNet-8 forward: seven 3x3 and two of 1x1


@pytest.mark.slow
def test_a_step_has_no_more_convolutions_than_its_floor_all_in_the_fast_order():
    # A convolution y = w * x is one forward, two backward (to x and to w), and six along a direction (each of
    # the three is bilinear). The images need no gradient, which saves one of two and two of six in the first.
    count = NUM_CONVOLUTIONS
    backward, along = 2 * count - 1, 6 * count - 4
    plain = count + backward
    assert len(compiled_step().convolutions) == plain
    # One forward pass of D_f serves both halves; in each a backward pass, the query sets, a Hessian product.
    meta = {"num_queries": 3, "forget_by": "attackers", "relabel": "step", "optimizer": "sgd"}
    exact = compiled_step(order="second", **meta).convolutions
    assert len(exact) == count + 2 * (backward + plain + along)
    assert set(exact) == set(compiled_step().convolutions)
    assert len(compiled_step(order="none", **meta).convolutions) == count + 2 * (backward + plain)
    # By margins one pass of the query sets, one of the forget rows, and these and held-out rows forward, as served.
    by_margins = compiled_step(num_queries=3, forget_by="margins", relabel="never", order="none").convolutions
    assert len(by_margins) == 2 * plain + 2 * count


@pytest.mark.slow
def test_a_step_peaks_at_six_plain_steps_and_at_three_with_save_memory():
    plain = compiled_step().bytes
    meta = {"num_queries": 3, "forget_by": "attackers", "relabel": "step", "order": "second", "optimizer": "sgd"}
    assert compiled_step(**meta).bytes <= 6 * plain
    assert compiled_step(save_memory=True, **meta).bytes <= 3 * plain
