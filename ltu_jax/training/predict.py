"""Forward passes over many rows in batches of one size."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ltu_jax.data.batches import as_input, gather
from ltu_jax.devices import batch_sharding, num_devices, read_sharded, replicate, shard
from ltu_jax.training.dispatch import compiled
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Rows, StoredImages

ForwardFn = Callable[[ArrayTree, ArrayTree, jax.Array], jax.Array]
"""``forward(params, model_state, images f32[B,H,W,3]) -> f32[B, ...]``."""


@dataclasses.dataclass(frozen=True)
class EvalForward:
    """The logits of a model in evaluation mode, as a ``ForwardFn``; equal for the same model."""

    apply_fn: ApplyFn

    def __call__(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        """f32[B, C]."""
        return self.apply_fn(params, model_state, images, train=False)[0]


def _on_bytes(forward: ForwardFn, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
    return replicate(forward(params, model_state, as_input(images)))


def _take(images: jax.Array, index: jax.Array) -> jax.Array:
    return images[index]


def gathered(rows: Rows, index: np.ndarray) -> Batch:
    """``gather`` outside of a program; for rows on one device a program of its own, of which JAX keeps no more."""
    if isinstance(rows.images, StoredImages) or num_devices() > 1:
        return gather(rows, jnp.asarray(index))
    return compiled(gather, rows, index)(rows, index)


def predict(
    forward: ForwardFn,
    params: ArrayTree,
    model_state: ArrayTree,
    images: np.ndarray | jax.Array | StoredImages,
    *,
    batch_size: int,
) -> Any:
    """``forward`` of every image, unaugmented.

    The last batch is padded with the last image, so that one program serves all batches. A batch is
    sharded over the devices; each process reads only its share of stored images.

    Args:
      forward: what to compute, e.g. ``EvalForward(apply_fn)``; known by its value or identity.
      params: parameters.
      model_state: BatchNorm statistics or ``{}``.
      images: u8[M,H,W,3], or other numbers [M,...] as the model takes them.
      batch_size: images a forward pass; rounded up to a multiple of the devices.

    Returns:
      f32[M, ...] on the host; under a trace, traced.
    """
    batch_size = min(batch_size, len(images))
    if isinstance(images, Tracer):  # only shapes are wanted: a method's init under jax.eval_shape
        return _on_bytes(forward, params, model_state, images)
    batch_size = -(-batch_size // num_devices()) * num_devices()
    out = []
    for start in range(0, len(images), batch_size):
        index = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
        if isinstance(images, jax.Array):
            batch = shard(compiled(_take, images, index)(images, index), 0)
        else:
            shape = (batch_size, *images.shape[1:])
            batch = read_sharded(shape, 0, batch_sharding(shape, 0), lambda part: images[index[part]])  # noqa: B023
        args = params, model_state, batch
        out.append(compiled(_on_bytes, *args, static=(forward,))(*args))
        if len(out) > 2:  # the device keeps two: one is computed while the other is fetched
            out[-3] = np.asarray(out[-3])
    return np.concatenate([np.asarray(x) for x in out])[: len(images)]
