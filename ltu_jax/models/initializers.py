"""Random initial weights, drawn flat and then reshaped.

XLA's CPU compiler takes three to five times as long for a draw of four dimensions as for the same
draw of one; over the twenty kernels of a ResNet-18 that is most of the time that ``init`` costs.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def normal(std: float) -> nn.initializers.Initializer:
    """Normal with mean zero, for any shape."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.reshape(std * jax.random.normal(key, (math.prod(shape),), dtype), shape)

    return init


def uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform on ``[-bound, bound)``, for any shape."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.reshape(jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound), shape)

    return init


def he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Variance ``2 / fan_out`` of a kernel ``[..., in, out]``: torchvision's rule for ResNet."""
    return normal((2 * shape[-2] / math.prod(shape)) ** 0.5)(key, shape, dtype)


def lecun_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Variance ``1 / fan_in`` of a kernel ``[..., in, out]``."""
    return normal((shape[-1] / math.prod(shape)) ** 0.5)(key, shape, dtype)


def xavier_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Variance ``2 / (fan_in + fan_out)`` of a matrix ``[in, out]``."""
    return uniform((6 / sum(shape)) ** 0.5)(key, shape, dtype)
