"""Compiled steps, and how many of them go to the device at a time.

A convolution inside a loop runs on XLA's slow path on the CPU (80 times slower, jax#12868), so there
the host calls one compiled step after another; on an accelerator a scan takes many steps a dispatch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltu_jax.types import ArrayTree, Metrics, UnlearnState

SampleFn = Callable[[jax.Array, jax.Array, Any, Any], Any]
"""``sample(key, step, context, data) -> draw``: all the randomness of a step."""

StepFn = Callable[[UnlearnState, Any, Any], tuple[UnlearnState, Metrics]]
"""``step(state, context, draw) -> (state, metrics)``: the only place where parameters change."""


@functools.lru_cache(maxsize=64)
def _compile(fn: Callable, donate: tuple[int, ...], treedef: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> Callable:
    return jax.jit(fn, donate_argnums=donate).lower(*treedef.unflatten(leaves)).compile()


def compiled(fn: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
    """``fn`` compiled ahead for arguments of these shapes; equal shapes of the same function compile once.

    Args:
      fn: a pure function of trees of arrays.
      *args: example arguments, or their ``jax.eval_shape``.
      donate: positions of arguments whose buffers the call may consume.

    Returns:
      The executable, called like ``fn``.
    """
    leaves, treedef = jax.tree.flatten(args)
    return _compile(fn, donate, treedef, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))


@functools.lru_cache(maxsize=64)
def _draw_step(sample: SampleFn) -> Callable:
    def draw(state: UnlearnState, context: ArrayTree, data: ArrayTree) -> Any:
        return sample(jax.random.fold_in(state.rng, state.step), state.step, context, data)

    return draw


@functools.lru_cache(maxsize=64)
def _scanned(sample: SampleFn, step: StepFn, num_steps: int) -> Callable:
    def many(state: UnlearnState, context: ArrayTree, data: ArrayTree) -> tuple[UnlearnState, Metrics]:
        def one(state, _):
            return step(state, context, _draw_step(sample)(state, context, data))

        return jax.lax.scan(one, state, None, num_steps)

    return many


def compile_steps(
    sample: SampleFn, step: StepFn, state: UnlearnState, context: ArrayTree, data: ArrayTree, num_steps: int
) -> Callable[..., tuple[UnlearnState, Metrics]]:
    """Compiles ``num_steps`` steps ahead for these arguments.

    Step t draws from ``fold_in(state.rng, t)``. On a CPU drawing and stepping are two programs: the
    small first one depends on how many rows there are, the large second one does not, and so is
    compiled once for models trained on different numbers of rows.

    Args:
      sample: see ``SampleFn``.
      step: see ``StepFn``.
      state: example state; the returned function consumes (donates) its own.
      context: what the method only reads.
      data: what ``sample`` draws from.
      num_steps: steps a call.

    Returns:
      ``run(state, context, data) -> (state, metrics)``, each metric f32[num_steps].
    """
    if jax.default_backend() != "cpu":
        return compiled(_scanned(sample, step, num_steps), state, context, data, donate=(0,))
    draw = compiled(_draw_step(sample), state, context, data)
    advance = compiled(step, state, context, jax.eval_shape(_draw_step(sample), state, context, data), donate=(0,))

    def run(state: UnlearnState, context: ArrayTree, data: ArrayTree) -> tuple[UnlearnState, Metrics]:
        rows = []
        for _ in range(num_steps):
            state, metrics = advance(state, context, draw(state, context, data))
            rows.append(metrics)
        return state, jax.tree.map(lambda *values: np.stack(values), *rows)

    return run
