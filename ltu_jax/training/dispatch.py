"""Compiled steps: how many of them go to the device at a time, and where their rows come from.

A convolution inside a loop runs on XLA's slow path on the CPU (80 times slower, jax#12868), so there
the host calls one compiled step after another; on an accelerator a scan takes many steps a dispatch.
Images that stay on the host are fetched ahead, step by step, on either.
"""

import contextlib
import functools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding

from ltu_jax.config import Training
from ltu_jax.data.streaming import RowRequests, fetched, row_requests, separate, with_fetched
from ltu_jax.devices import agreed, batch_sharding, num_devices, replicate
from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree, Metrics, UnlearnState, register_settings

register_settings(Training)  # here, for training takes steps, and an unlearning method may hold the recipe

Kind = TypeVar("Kind")

SampleFn = Callable[[jax.Array, jax.Array, ArrayTree, ArrayTree], ArrayTree]
"""``sample(key, step, context, data) -> draw``: all the randomness of a step."""

StepFn = Callable[[UnlearnState, ArrayTree, ArrayTree], tuple[UnlearnState, Metrics]]
"""``step(state, context, draw) -> (state, metrics)``: the only place where parameters change."""


class Algorithm(Protocol):
    """What takes steps: an unlearning method, or supervised training.

    It is a ``flax.struct.dataclass``. Rates and weights are leaves, so that other values compile nothing; whatever
    changes the program is part of its structure, which is compared by value.
    """

    def sample(self, key: jax.Array, step: jax.Array, context: ArrayTree, data: ArrayTree, /) -> ArrayTree:
        """See ``SampleFn``."""
        ...

    def step(self, state: UnlearnState, context: ArrayTree, draw: ArrayTree, /) -> tuple[UnlearnState, Metrics]:
        """See ``StepFn``."""
        ...


Steps = Callable[[UnlearnState, ArrayTree, ArrayTree], tuple[UnlearnState, Metrics]]
"""``steps(state, context, data) -> (state, metrics)``: many steps; each metric has them as its leading axis."""

STEPS_PER_CALL = (1, 5, 25)
"""How many steps a call may take; the last number is that of an accelerator."""
LOOK_EVERY_S = 1.0


def steps_per_call(seconds_per_step: float | None) -> int:
    """Steps of the next call; after it the host can report progress, save, or stop.

    On an accelerator each number of steps is another program, so the number is always the same: a run that was
    stopped goes on with the same programs, and so with the same rounding.

    Args:
      seconds_per_step: of the last call; None before the first.

    Returns:
      As many as take about a second.
    """
    if jax.default_backend() != "cpu":
        return STEPS_PER_CALL[-1]
    # Processes that take steps together must agree on how many: their clocks do not.
    allowed = lambda n: n == 1 or n * (seconds_per_step or LOOK_EVERY_S) <= LOOK_EVERY_S  # noqa: E731
    return agreed(lambda: max(filter(allowed, STEPS_PER_CALL)))


def is_finite(tree: ArrayTree) -> bool:
    """Whether all numbers of a tree are finite."""
    return bool(compiled(_all_finite, tree)(tree))


def _all_finite(tree: ArrayTree) -> jax.Array:
    return replicate(jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])))


def compiled(fn: Callable, *args: ArrayTree, static: tuple[Any, ...] = (), donate: tuple[int, ...] = ()) -> Any:
    """``fn`` compiled ahead for arguments of these shapes; equal shapes of the same function compile once.

    Args:
      fn: a pure function ``fn(*static, *args)``, defined once: it is known by its identity.
      *args: trees of example arrays, or their ``jax.eval_shape``.
      static: hashable arguments before them, compared by value.
      donate: positions in ``args`` whose buffers the call may consume.

    Returns:
      The executable (``jax.stages.Compiled``), called with ``args``; under ``jax_debug_nans``, ``jax.jit`` of it;
      under a trace, the function itself.
    """
    if getattr(jax.config, "jax_debug_nans") and num_devices() == 1:  # noqa: B009, what type checkers do not know
        # Where a NaN comes out, JAX goes through it again operation by operation.
        return functools.partial(jax.jit(fn, static_argnums=tuple(range(len(static)))), *static)
    leaves, treedef = jax.tree.flatten(args)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return functools.partial(fn, *static)
    return _compile(fn, static, donate, treedef, tuple(map(_described, leaves)), jax.sharding.get_mesh())


# A run has some thirty programs. A large step is a thousand maps of memory on a CPU; Linux allows a process 65,530.
@functools.lru_cache(maxsize=64)
def _compile(
    fn: Callable,
    static: tuple[Any, ...],
    donate: tuple[int, ...],
    treedef: jax.tree_util.PyTreeDef,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    mesh: jax.sharding.Mesh,
) -> Callable:
    del mesh  # the program depends on it

    def once(*args: ArrayTree) -> Any:
        # JAX keeps what it traced and compiled of a function, without a limit, for as long as the function lives.
        return fn(*static, *args)

    once.__name__ = fn.__name__
    return jax.jit(once, donate_argnums=donate).lower(*treedef.unflatten(leaves)).compile()


def _described(x: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
    """Shape and type; and where it lies, if that is more than one device."""
    sharding = getattr(x, "sharding", None)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype) if isinstance(x, np.ndarray) else x.dtype
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=sharding if isinstance(sharding, NamedSharding) else None)


class CompileClock:
    """Adds up the time in which JAX traced, lowered and compiled, or read from its compilation cache."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def __call__(self, event: str, start_time: float, end_time: float, **_: Any) -> None:
        """A listener of ``jax.monitoring``."""
        if event.startswith("/jax/core/compile/"):
            self._spans.append((start_time, end_time))

    @property
    def seconds(self) -> float:
        """Length of the union of the spans: a trace within another counts once.

        What the device computes meanwhile is counted too, so the rest of a measured time is a little too small.
        """
        total, until = 0.0, 0.0
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total


@contextlib.contextmanager
def compile_clock() -> Iterator[CompileClock]:
    """Listens to JAX compiling, for as long as it is open."""
    clock = CompileClock()
    jax.monitoring.register_event_time_span_listener(clock)
    try:
        yield clock
    finally:
        jax.monitoring.unregister_event_time_span_listener(clock)


def stack_trees(trees: Sequence[ArrayTree]) -> ArrayTree:
    """Trees of one structure as one, each leaf with a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack_tree(tree: ArrayTree, count: int) -> list[ArrayTree]:
    """The inverse of ``stack_trees``."""
    return [jax.tree.map(operator.itemgetter(i), tree) for i in range(count)]


def compile_steps(
    algorithm: Algorithm,
    state: UnlearnState,
    context: ArrayTree,
    data: ArrayTree,
    num_steps: int,
    *,
    stacked: bool = False,
) -> Steps:
    """Compiles ``num_steps`` steps ahead for these arguments.

    Step t draws from ``fold_in(state.rng, t)``. Unless steps are scanned, drawing and stepping are two
    programs: the small first one depends on how many rows there are, the large second one does not, and
    so is compiled once for models trained on different numbers of rows.

    Args:
      algorithm: what takes the steps.
      state: example state; the returned function consumes (donates) its own.
      context: what the algorithm only reads.
      data: what ``sample`` draws from; images in it may be stored on the host.
      num_steps: steps a call.
      stacked: whether algorithm, state, context and data are those of several models, stacked; then ``sample`` and
        ``step`` run under ``vmap``, and images must be on the device.

    Returns:
      ``Steps``.
    """
    algorithm, (data, stored) = numbers_as_arrays(algorithm), separate(data)
    if stored and stacked:
        raise ValueError("compile_steps: stacked models need their images on the device; allowed: one model at a time")
    if stored:
        return _compile_fed_from_host(algorithm, state, context, data, num_steps)
    if jax.default_backend() != "cpu":
        static = (num_steps, stacked)
        scan = compiled(_scan, algorithm, state, context, data, static=static, donate=(1,))
        return functools.partial(scan, algorithm)
    sample, step = _compile_sample_and_step(
        (_draw_each if stacked else draw_batch, _take_step_each if stacked else take_step),
        algorithm,
        state,
        context,
        data,
    )

    def steps(state: UnlearnState, context: ArrayTree, data: ArrayTree) -> tuple[UnlearnState, Metrics]:
        return _call_steps(step, lambda state: sample(algorithm, state, context, data), state, context, num_steps)

    return steps


class Taken(NamedTuple):
    """Steps that were taken."""

    state: UnlearnState
    metrics: dict[str, np.ndarray]  # leading axis of steps, then one of models where they are stacked
    seconds: float  # waiting for images on the host included
    compile_s: float
    not_finite: list[str]  # metrics that are not, or "parameters": such a state must not be saved


def timed_steps(
    algorithm: Algorithm,
    state: UnlearnState,
    context: ArrayTree,
    data: ArrayTree,
    num_steps: int,
    *,
    stacked: bool = False,
) -> Taken:
    """Takes steps and times them; for the arguments see ``compile_steps``."""
    start = time.perf_counter()
    steps = compile_steps(algorithm, state, context, data, num_steps, stacked=stacked)
    compiled_at = time.perf_counter()
    state, metrics = jax.block_until_ready(steps(state, context, data))
    seconds = time.perf_counter() - compiled_at
    metrics = {name: np.asarray(values) for name, values in metrics.items()}
    bad = sorted(name for name, values in metrics.items() if not np.isfinite(values).all())
    if not bad and not is_finite(state.params):  # the next step would notice, and be too late: this one would be saved
        bad = ["parameters"]
    return Taken(state, metrics, seconds, compiled_at - start, bad)


def numbers_as_arrays(algorithm: Kind) -> Kind:
    """The algorithm with its Python numbers as f32[]: as arguments of a program they compile nothing anew."""
    return jax.tree.map(lambda x: jnp.float32(x) if isinstance(x, int | float) else x, algorithm)


def _compile_fed_from_host(
    algorithm: Algorithm, state: UnlearnState, context: ArrayTree, data: ArrayTree, num_steps: int
) -> Steps:
    """The steps where images stay on the host: a third program says beforehand which rows all of them draw."""
    args = algorithm, state, context, data
    rows_ahead, blocks = compiled(_rows_ahead, *args, static=(num_steps,)), []
    for stand_in, index in jax.eval_shape(functools.partial(_rows_ahead, num_steps), *args):
        shape, axis = (*index.shape[1:], *stand_in.shape[1:]), index.ndim - 2
        blocks.append(jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=batch_sharding(shape, axis)))
    sample, step = _compile_sample_and_step((_draw_fetched, take_step), *args, tuple(blocks))

    def steps(state: UnlearnState, context: ArrayTree, data: ArrayTree) -> tuple[UnlearnState, Metrics]:
        data, stored = separate(data)
        ahead = fetched(rows_ahead(algorithm, state, context, data), stored, num_steps)

        def draw(state: UnlearnState) -> ArrayTree:
            return sample(algorithm, state, context, data, next(ahead))

        return _call_steps(step, draw, state, context, num_steps)

    return steps


def _compile_sample_and_step(
    fns: tuple[Callable, Callable], algorithm: Algorithm, state: UnlearnState, context: ArrayTree, *rows: ArrayTree
) -> tuple[Callable, StepFn]:
    """Drawing and stepping, compiled apart; the step with its algorithm."""
    sample = compiled(fns[0], algorithm, state, context, *rows)
    if isinstance(sample, jax.stages.Compiled):
        # On several devices it says where the rows lie, and the step must take them as they come. JAX keeps one more
        # trace at each eval_shape.
        drawn = sample.out_info
    else:
        drawn = jax.eval_shape(sample, algorithm, state, context, *rows)
    step = compiled(fns[1], algorithm, state, context, drawn, donate=(1,))
    return sample, functools.partial(step, algorithm)


def _call_steps(
    step: StepFn, draw: Callable[[UnlearnState], ArrayTree], state: UnlearnState, context: ArrayTree, num_steps: int
) -> tuple[UnlearnState, Metrics]:
    rows = []
    for _ in range(num_steps):
        state, metrics = step(state, context, draw(state))
        rows.append(metrics)
    return state, jax.tree.map(lambda *values: np.stack(values), *rows)


def draw_batch(algorithm: Algorithm, state: UnlearnState, context: ArrayTree, data: ArrayTree) -> ArrayTree:
    """What the next step draws; a function of the state's key and step."""
    return algorithm.sample(jax.random.fold_in(state.rng, state.step), state.step, context, data)


def take_step(
    algorithm: Algorithm, state: UnlearnState, context: ArrayTree, draw: ArrayTree
) -> tuple[UnlearnState, Metrics]:
    """One step, with its results on every device."""
    return replicate(_step(algorithm, state, context, draw))


def _step(
    algorithm: Algorithm, state: UnlearnState, context: ArrayTree, draw: ArrayTree
) -> tuple[UnlearnState, Metrics]:
    """One step. It is counted here: an algorithm that forgot to would draw the same batch for ever."""
    after, metrics = state_and(algorithm.step(state, context, draw), "step", "metrics")
    if not isinstance(metrics, Mapping) or any(jnp.shape(value) for value in metrics.values()):
        raise ConfigError("step: its metrics are no dictionary of single numbers; allowed: (state, {}) for none")
    return after.replace(step=state.step + 1), dict(metrics)


def state_and(returned: Any, name: str, other: str) -> tuple[UnlearnState, Any]:
    """What a function of a method returned, which must be a state and something else.

    Args:
      returned: what it returned.
      name: the function.
      other: what it returns beside the state.

    Raises:
      ConfigError: in one line, if it is no such pair.
    """
    pair = returned if isinstance(returned, tuple) else (returned,)
    if len(pair) != 2 or not isinstance(pair[0], UnlearnState):
        what = ", ".join(type(one).__name__ for one in pair)
        raise ConfigError(f"{name}: it returned {what or 'nothing'}; allowed: (state, {other})")
    return pair[0], pair[1]


_draw_each = jax.vmap(draw_batch)


def _take_step_each(*stacked: ArrayTree) -> tuple[UnlearnState, Metrics]:
    return replicate(jax.vmap(_step)(*stacked))


def _scan(
    num_steps: int, stacked: bool, algorithm: Algorithm, state: UnlearnState, context: ArrayTree, data: ArrayTree
) -> tuple[UnlearnState, Metrics]:
    sample, step = (_draw_each, _take_step_each) if stacked else (draw_batch, take_step)

    def one(state: UnlearnState, _: None) -> tuple[UnlearnState, Metrics]:
        return step(algorithm, state, context, sample(algorithm, state, context, data))

    return jax.lax.scan(one, state, None, num_steps)


def _rows_ahead(
    num_steps: int, algorithm: Algorithm, state: UnlearnState, context: ArrayTree, data: ArrayTree
) -> RowRequests:
    """Which stored rows the next steps draw."""

    def one(ahead: jax.Array) -> RowRequests:
        later = state.replace(step=state.step + ahead)
        return row_requests(lambda data: draw_batch(algorithm, later, context, data), data)

    return replicate(jax.lax.map(one, jnp.arange(num_steps)))  # no convolution in here


def _draw_fetched(
    algorithm: Algorithm, state: UnlearnState, context: ArrayTree, data: ArrayTree, blocks: tuple[jax.Array, ...]
) -> Any:
    """``draw_batch`` with the stored rows already fetched."""
    return with_fetched(lambda data: draw_batch(algorithm, state, context, data), data, blocks)
