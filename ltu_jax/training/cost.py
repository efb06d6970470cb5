"""The cost of every method in the same units: images passed forward and backward, and flops."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltu_jax.core.losses import cross_entropy
from ltu_jax.types import ApplyFn, ArrayTree


class Cost(NamedTuple):
    """Images that a piece of work passes through the model; the mean, if its steps differ.

    A Hessian-vector product counts as two passes each way: it differentiates one of each.
    """

    forward: float = 0.0  # images passed forward
    backward: float = 0.0  # images passed backward
    remain: float = 0.0  # remaining images drawn, repeats counted
    forget: float = 0.0  # forget images drawn

    def plus(self, other: "Cost", times: float = 1) -> "Cost":
        """This and ``times`` times the other."""
        return Cost(*(mine + times * its for mine, its in zip(self, other, strict=True)))


class ImageFlops(NamedTuple):
    """Flops of one image, XLA's own count of a pass over a batch."""

    forward: float
    backward: float

    def of(self, cost: Cost) -> float:
        """Flops of ``cost``."""
        return self.forward * cost.forward + self.backward * cost.backward


def image_flops(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, image_shape: tuple[int, ...], batch_size: int
) -> ImageFlops:
    """What one image of a batch costs in training mode; traces the model, compiles and runs nothing.

    Args:
      apply_fn: the model.
      params: its parameters, or their shapes.
      model_state: its statistics or ``{}``, or their shapes.
      image_shape: ``(H, W, 3)``.
      batch_size: images a pass.

    Returns:
      ``ImageFlops``; backward is what a gradient costs beyond its forward pass.
    """
    leaves, treedef = jax.tree.flatten((params, model_state))
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return _image_flops(apply_fn, treedef, shapes, tuple(image_shape), batch_size)


@functools.lru_cache(maxsize=64)
def _image_flops(
    apply_fn: ApplyFn,
    treedef: jax.tree_util.PyTreeDef,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    image_shape: tuple[int, ...],
    batch_size: int,
) -> ImageFlops:
    def loss(
        params: ArrayTree, model_state: ArrayTree, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, ArrayTree]:
        logits, model_state = apply_fn(params, model_state, images, train=True)
        return cross_entropy(logits, labels), model_state

    images = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    # Functions of this call alone: JAX keeps what it traced for as long as a function lives.
    forward, gradient = (
        _flops(jax.jit(fn).lower(*treedef.unflatten(leaves), images, labels))
        for fn in (loss, jax.value_and_grad(loss, has_aux=True))
    )
    return ImageFlops(forward / batch_size, (gradient - forward) / batch_size)


def _flops(lowered: jax.stages.Lowered) -> float:
    """XLA's count; nan if it has none."""
    return float((lowered.cost_analysis() or {}).get("flops", float("nan")))
