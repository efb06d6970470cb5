"""A module of Flax NNX as the functions that a model is; imported late, for NNX takes most of a second."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.errors
import flax.traverse_util
import jax
import jax.numpy as jnp
from flax import nnx

from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree

_KINDS = (nnx.Param, nnx.BatchStat, nnx.RngState)


@dataclasses.dataclass(frozen=True)
class NNXNetwork:
    """An NNX module, known by the function that makes it."""

    make_module: Callable[[nnx.Rngs], Any]
    image_shape: tuple[int, ...]
    graphs: tuple[Any, ...] = dataclasses.field(compare=False)  # in evaluation, in training
    wanted: tuple[Any, ...] = dataclasses.field(compare=False)  # shapes of parameters, statistics and keys

    @classmethod
    def of(cls, make_module: Callable[[nnx.Rngs], Any], image_shape: tuple[int, ...]) -> "NNXNetwork":
        """The network of what ``make_module`` makes.

        Raises:
          ConfigError: if the module keeps arrays that are neither parameters nor statistics nor keys.
        """
        module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))  # shapes alone
        for path, value in nnx.iter_graph(module):
            # An array that is no variable is one of this trace, or of NumPy's.
            is_bare = isinstance(value, (jax.Array, jax.ShapeDtypeStruct))
            if is_bare or isinstance(value, nnx.Variable) and not isinstance(value, _KINDS):
                where = f"{type(module).__name__}.{'.'.join(map(str, path))}"
                raise ConfigError(
                    f"config.model.name: {where} is an array, but neither nnx.Param nor nnx.BatchStat; allowed: these,"
                    " and constants that are no arrays, such as tuples"
                )
        graphs, wanted = [], []
        for train in (False, True):
            module.train() if train else module.eval()
            graph, *wanted = nnx.split(module, *_KINDS)
            graphs.append(graph)
        return cls(make_module, image_shape, tuple(graphs), tuple(wanted))

    def init(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        """Random parameters, and the first statistics."""
        return weights_of(self.make_module(nnx.Rngs(key)))

    def run(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool) -> tuple[Any, ArrayTree]:
        """What the module returns, and its statistics afterwards.

        Raises:
          InvalidRngError: if the pass drew random numbers.
        """
        unused = jax.tree.map(_any_value, self.wanted[2])
        before = jax.tree.leaves(unused)
        stats = model_state.get("batch_stats", {})
        arrays = _filled(self.wanted[0], params), _filled(self.wanted[1], stats), unused
        module = nnx.merge(self.graphs[train], *arrays)
        output = module(images)
        if any(a is not b for a, b in zip(before, jax.tree.leaves(nnx.state(module, nnx.RngState)), strict=True)):
            raise flax.errors.InvalidRngError("a key was used")
        return output, _model_state(module)


def weights_of(module: Any) -> tuple[ArrayTree, ArrayTree]:
    """Parameters and statistics of a module."""
    return _plain(nnx.state(module, nnx.Param)), _model_state(module)


def _plain(state: Any) -> ArrayTree:
    """The arrays of an NNX state as nested dicts; a place in a list is a number there, and a name here."""
    flat = {tuple(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}
    return flax.traverse_util.unflatten_dict(flat)


def _filled(state: Any, tree: ArrayTree) -> Any:
    """An NNX state like this one, with the arrays that ``_plain`` gave."""
    flat = flax.traverse_util.flatten_dict(tree)
    named = nnx.to_flat_state(state)
    return nnx.from_flat_state({path: variable.replace(flat[tuple(map(str, path))]) for path, variable in named})


def _model_state(module: Any) -> ArrayTree:
    stats = _plain(nnx.state(module, nnx.BatchStat))
    return {"batch_stats": stats} if stats else {}


def _any_value(leaf: Any) -> jax.Array:
    """A key or a count of this shape."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)
