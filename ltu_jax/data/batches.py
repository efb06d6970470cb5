"""Batches drawn inside jit: the rows of a step are a function of a key and the step number."""

import jax
import jax.numpy as jnp

from ltu_jax.data.augment import augment
from ltu_jax.devices import shard
from ltu_jax.types import Batch, Rows


def epoch_rows(key: jax.Array, step: jax.Array, num_rows: int, batch_size: int) -> jax.Array:
    """The row indices of one step of an endless stream that is reshuffled every epoch.

    Every epoch holds each row exactly once. A batch may straddle two epochs, so no row is dropped and
    no batch is short.

    Args:
      key: key of the stream, the same for all steps.
      step: i32[], the step number.
      num_rows: number of rows of the data set.
      batch_size: rows per step, at most ``num_rows``; a larger value is cut to that.

    Returns:
      i32[min(batch_size, num_rows)].
    """
    batch_size = min(batch_size, num_rows)
    start = step * batch_size
    epoch, offset = start // num_rows, start % num_rows
    order = lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), num_rows)  # noqa: E731
    two_epochs = jnp.concatenate([order(epoch), order(epoch + 1)])
    return jax.lax.dynamic_slice(two_epochs, (offset,), (batch_size,)).astype(jnp.int32)


def gather(rows: Rows, index: jax.Array) -> Batch:
    """The rows at ``index`` as a model takes them, the batch axis sharded over the devices.

    Args:
      rows: images on the device; on the host only outside of jit.
      index: i32[...], whose last axis is the batch; or a slice.

    Returns:
      ``Batch(f32[...,H,W,3], i32[...])``; see ``as_input``.
    """
    images, labels = jnp.asarray(rows.images[index]), rows.labels[index]
    return Batch(as_input(shard(images, labels.ndim - 1)), labels)


def as_input(stored: jax.Array) -> jax.Array:
    """What a model is given of stored rows: of bytes, which are pixels, f32 in [0, 1]; other numbers as they are."""
    return stored.astype(jnp.float32) / 255 if stored.dtype == jnp.uint8 else stored


def augmented(key: jax.Array, batch: Batch, kind: str) -> Batch:
    """The batch with its images augmented; see ``augment``."""
    return batch._replace(images=augment(key, batch.images, kind))
