"""How a run of batches begins, and its step against NumPy's SGD."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from by_hand import VISIBLE, label_loss, numpy, original, sgd

from ltu_jax.config import Descent
from ltu_jax.data.batches import gather
from ltu_jax.methods import descent
from ltu_jax.training.optimizers import ADAM, ASCENDING, SGD

SETTINGS = Descent(learning_rate=0.25, momentum=0.5, weight_decay=0.125, schedule="cosine")
BATCHES = [np.arange(0, 9), np.arange(5, 14), np.arange(30, 39)]


def test_steps_are_sgd_on_the_loss_with_the_settings_numbers(x64):
    state, context = descent.begin(SETTINGS, original(), jax.random.key(0), 4)
    params, gradients, rates = numpy(state.params), [], [0.25, 0.25 * 0.5 * (1 + 2**-0.5), 0.125]
    for batch, rate in zip((gather(VISIBLE.remain, index) for index in BATCHES), rates, strict=True):
        loss, grad = label_loss(numpy(state.params), *batch)
        state, metrics = descent.descend(descent.label_loss, state, context, batch)
        gradients.append(lambda p, b=batch, r=rate: label_loss(p, *b)[1])
        np.testing.assert_allclose(metrics["loss/train"], loss, rtol=1e-9)
        np.testing.assert_allclose(metrics["norm/grad"], np.sqrt(sum((g**2).sum() for g in grad.values())), rtol=1e-9)
        np.testing.assert_allclose(metrics["rate/outer"], rate, rtol=1e-6)
        np.testing.assert_allclose(state.model_state["mean"], batch.images.mean(), rtol=1e-6)  # statistics go on
    wanted = sgd(params, gradients, rates, 0.5, 0.125)
    for name in wanted:
        np.testing.assert_allclose(state.params[name], wanted[name], rtol=1e-6)
    assert state.step == 3


def test_a_loss_of_ones_own_sees_the_state_the_context_and_the_draw():
    def loss(params, state, context, draw):
        return context.extra * jnp.sum(params["w2"] * draw) + state.model_state["mean"], {"mean": draw.sum()}

    state, context = descent.begin(Descent(weight_decay=0.0), original(), jax.random.key(0), 4, extra=jnp.float32(3.0))
    draw = jnp.arange(64.0).reshape(16, 4)
    after, metrics = descent.descend(loss, state, context, draw)
    np.testing.assert_allclose(after.params["w2"], state.params["w2"] - 0.01 * 3 * draw, rtol=1e-5)
    np.testing.assert_array_equal(after.params["w1"], state.params["w1"])
    np.testing.assert_allclose(metrics["loss/train"], 3 * np.sum(state.params["w2"] * draw) + 0.4, rtol=1e-5)
    assert after.model_state["mean"] == draw.sum()


def test_the_begun_state_owns_its_buffers_and_leaves_the_original_alone():
    before = original()
    state, _ = descent.begin(Descent(optimizer="adam"), before, jax.random.key(0), 4)
    jax.tree.map(lambda x: x.delete(), (state.params, state.model_state, state.step))  # what donation does
    assert not any(x.is_deleted() for x in jax.tree.leaves((before.params, before.model_state, before.step)))
    assert before.tx is SGD and state.tx is ADAM


def test_the_optimizer_of_a_caller_replaces_the_one_that_settings_name():
    state, _ = descent.begin(Descent(momentum=0.75), original(), jax.random.key(0), 4, tx=ASCENDING["adam"])
    assert state.tx is ASCENDING["adam"]
    assert optax.tree.get(state.opt_state, "momentum") == 0.75
