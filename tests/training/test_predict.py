"""Batched forward passes equal one big one, and one program serves all batches."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training import predict as module
from ltu_jax.training.predict import EvalForward, predict

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 2, 2, 3), np.uint8)
PARAMS = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(12, 4)), jnp.float32)}


def apply_fn(params, model_state, images, train):
    logits = images.reshape(len(images), 12) @ params["w"] + model_state["bias"]
    return (logits - logits.mean() if train else logits), {"bias": jnp.float32(99)}


@pytest.mark.parametrize("batch_size", [1, 3, 5, 9, 10, 64])
@pytest.mark.parametrize("on_device", [False, True])
def test_batches_equal_one_big_forward_pass_whatever_their_size(batch_size, on_device):
    images = jnp.asarray(IMAGES) if on_device else IMAGES
    logits = predict(EvalForward(apply_fn), PARAMS, {"bias": jnp.float32(0.5)}, images, batch_size=batch_size)
    expected = IMAGES.reshape(10, 12).astype(np.float64) / 255 @ np.asarray(PARAMS["w"], np.float64) + 0.5
    assert isinstance(logits, np.ndarray) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_a_short_last_batch_compiles_nothing_anew_and_neither_do_other_parameters():
    def forward(params, model_state, images):
        return images.sum(axis=(1, 2, 3)) * params["w"].sum()

    counted = chex.assert_max_traces(forward, n=1)
    for scale in (1.0, 2.0):
        predict(counted, jax.tree.map(lambda x, scale=scale: scale * x, PARAMS), {}, IMAGES, batch_size=4)


def test_any_output_shape_is_put_together():
    out = predict(lambda params, state, images: images[..., 0], {}, {}, IMAGES, batch_size=4)
    np.testing.assert_allclose(out, IMAGES[..., 0] / 255, rtol=1e-6)


def test_the_same_model_gives_the_same_forward_function():
    assert EvalForward(apply_fn) == EvalForward(apply_fn) and len({EvalForward(apply_fn), EvalForward(apply_fn)}) == 1


def test_shapes_come_from_a_trace_too():
    forward = EvalForward(apply_fn)
    traced = jax.eval_shape(
        lambda images: predict(forward, PARAMS, {"bias": jnp.float32(0)}, images, batch_size=4), jnp.asarray(IMAGES)
    )
    assert (traced.shape, traced.dtype) == ((10, 4), jnp.float32)


def test_stored_images_are_read_batch_by_batch_each_part_along_the_first_axis(monkeypatch):
    """What several devices and processes ask for; one takes all of it."""
    asked = []
    monkeypatch.setattr(module, "batch_sharding", lambda shape, axis: ("sharding", shape, axis))
    monkeypatch.setattr(
        module, "read_sharded", lambda *args: asked.append(args[:3]) or jnp.asarray(args[3](slice(0, None)))
    )
    predict(EvalForward(apply_fn), PARAMS, {"bias": jnp.float32(0)}, IMAGES, batch_size=4)
    shape = (4, 2, 2, 3)
    assert asked == [(shape, 0, ("sharding", shape, 0))] * 3
