"""The convolution kernels of a model: leaves of four axes, height, width, channels in and out, named ``kernel``."""

from collections.abc import Callable

import jax

from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree


def on_kernels(
    method: str, fn: Callable[..., jax.Array], params: ArrayTree, *rest: ArrayTree, channels: int | None = None
) -> ArrayTree:
    """``params`` with ``fn(kernel, *others)`` in place of each convolution kernel; all else stays.

    Args:
      method: who asks, for the message.
      fn: a function of a kernel and of what the other trees have in its place.
      params: the parameters, nested dicts.
      *rest: trees of the same structure.
      channels: of how many input channels; None takes all kernels.

    Returns:
      A tree of the same structure.

    Raises:
      ConfigError: if the model has no such kernel, so that the method would be fine-tuning by another name.
    """
    found = []

    def change(path: tuple, leaf: jax.Array, *others: jax.Array) -> jax.Array:
        if leaf.ndim != 4 or getattr(path[-1], "key", None) != "kernel" or leaf.shape[2] != (channels or leaf.shape[2]):
            return leaf
        found.append(path)
        return fn(leaf, *others)

    changed = jax.tree_util.tree_map_with_path(change, params, *rest)
    if not found:
        of = f" of {channels} input channels" if channels else ""
        raise ConfigError(
            f"config.method.name: {method!r} finds no convolution{of} in the model;"
            " allowed: a model with parameters of four axes named 'kernel'"
        )
    return changed
