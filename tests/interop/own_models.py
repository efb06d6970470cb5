"""The same small network as a Linen module, an NNX module and plain functions; the first two have BatchNorm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from ltu_jax.models.build import ModelSpec, from_module, from_nnx

SHAPE, CLASSES = (6, 6, 3), 4


class Linen(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(5, (3, 3), name="conv")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="bn")(x)).mean((1, 2))
        return nn.Dense(CLASSES, name="head")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Conv(3, 5, (3, 3), rngs=rngs), nnx.BatchNorm(5, rngs=rngs)])
        self.dropout = nnx.Dropout(0.0, rngs=rngs)
        self.head = nnx.Linear(5, CLASSES, rngs=rngs)

    def __call__(self, images):
        for block in self.blocks:
            images = block(images)
        return self.head(self.dropout(nnx.relu(images).mean((1, 2))))


def _plain():
    def init(key):
        return {"layer": {"w": jax.random.normal(key, (3, CLASSES)), "b": jnp.zeros(CLASSES)}}, {}

    def apply_fn(params, model_state, images, train):
        return images.mean((1, 2)) @ params["layer"]["w"] + params["layer"]["b"], model_state

    return ModelSpec(init, apply_fn)


MODELS = {"linen": from_module(Linen(), SHAPE), "nnx": from_nnx(Nnx, SHAPE), "plain": _plain()}


def weights(name, seed=0):
    """``{"params": ..., **model_state}`` in NumPy arrays, random in every place."""
    params, model_state = MODELS[name].init(jax.random.key(seed))
    tree = {"params": params, **model_state}
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    drawn = [jax.device_get(x + jax.random.uniform(key, x.shape)) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def template(name):
    params, model_state = jax.eval_shape(MODELS[name].init, jax.random.key(0))
    return {"params": params, **model_state}
