"""What weights matter to given rows: sums over batches, each row counted once, in evaluation mode."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from jax.core import Tracer

from ltu_jax.training.dispatch import compiled
from ltu_jax.training.predict import gathered
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Rows, UnlearnState

BatchFn = Callable[[ApplyFn, ArrayTree, ArrayTree, Batch, jax.Array], ArrayTree]
"""``fn(apply_fn, params, model_state, batch, weight f32[B]) -> tree``; weight 0 for rows that fill the last batch."""


def sum_over_batches(
    fn: BatchFn, state: UnlearnState, rows: Rows, batch_size: int, index: jax.Array | None = None
) -> ArrayTree:
    """The sum of ``fn`` over the batches of ``rows``, unaugmented.

    Args:
      fn: what to add up, a function of a module.
      state: the model.
      rows: u8[M,H,W,3] images and i32[M] labels.
      batch_size: rows a batch; the last one is filled up with rows of weight 0.
      index: i32[.], the rows that count; None is all.

    Returns:
      The tree of sums.
    """
    is_traced, total = isinstance(rows.images, Tracer), None
    chosen = np.arange(len(rows.labels)) if index is None or is_traced else np.asarray(index)
    num_rows = len(chosen)
    batch_size = min(batch_size, num_rows)
    # Under a trace (eval_shape) only shapes are wanted: one batch has them.
    starts = (0,) if is_traced else range(0, num_rows, batch_size)
    for start in starts:
        place = np.arange(start, start + batch_size)
        batch = gathered(rows, chosen[np.minimum(place, num_rows - 1)])
        args = (state.params, state.model_state, batch, (place < num_rows).astype(np.float32))
        part = compiled(fn, *args, static=(state.apply_fn,))(*args)
        total = part if total is None else optax.tree.add(total, part)
    return total


def summed_gradient(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, batch: Batch, weight: jax.Array
) -> ArrayTree:
    """The gradient of the summed cross-entropy, a ``BatchFn``."""

    def loss(params):
        logits, _ = apply_fn(params, model_state, batch.images, train=False)
        return weight @ optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)

    return jax.grad(loss)(params)


def squared_batch_gradient(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, batch: Batch, weight: jax.Array
) -> ArrayTree:
    """The squared gradient of the batch's mean cross-entropy, a ``BatchFn``."""
    gradient = summed_gradient(apply_fn, params, model_state, batch, weight)
    return jax.tree.map(lambda g: (g / weight.sum()) ** 2, gradient)


def importance(state: UnlearnState, rows: Rows, batch_size: int, order: jax.Array | None = None) -> ArrayTree:
    """The mean over batches of ``squared_batch_gradient``: what SSD and SFR-on go by.

    It depends on ``batch_size`` and, with rows of several kinds, on their ``order``, i32[M]; None is as they stand.
    """
    size = min(batch_size, len(rows.labels))
    num_batches = -(-len(rows.labels) // size)
    total = sum_over_batches(squared_batch_gradient, state, rows, size, order)
    return jax.tree.map(lambda x: x / num_batches, total)
