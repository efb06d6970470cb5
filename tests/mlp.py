"""A small model of plain functions, as a user would bring one: no Flax, no BatchNorm, compiles in a second."""

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.models.build import ModelSpec
from ltu_jax.types import Source

WIDTH = 16


def build(model, num_classes, image_shape):
    del model
    size = int(np.prod(image_shape))

    def init(key):
        one, two = jax.random.split(key)
        w1 = jax.random.normal(one, (size, WIDTH)) / size**0.5
        return {"w1": w1, "w2": jax.random.normal(two, (WIDTH, num_classes)) / WIDTH**0.5}, {}

    def features(params, model_state, images):
        del model_state
        return jnp.tanh((images - 0.5).reshape(len(images), size) @ params["w1"])

    def apply_fn(params, model_state, images, train):
        del train
        return features(params, model_state, images) @ params["w2"], model_state

    return ModelSpec(init, apply_fn, features)


def toy_source(num_rows=120, num_classes=4, num_test=40, side=4, seed=0):
    """Noise with a mean of its class: learnable, memorisable, never perfect."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows + num_test).astype(np.int32)
    means = rng.integers(96, 160, (num_classes, side, side, 3))
    images = np.clip(means[labels] + rng.normal(0, 50, (len(labels), side, side, 3)), 0, 255).astype(np.uint8)
    ids = np.array([f"toy_{i:04d}" for i in range(len(labels))])
    return Source("toy", images, labels, ids, num_classes, num_rows)
