"""Unlearning runs: what a method may see, its init, its steps by the one loop, and how a run scores itself.

A run is a function of the state it starts from, the splits and its arguments.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import UNLIKE_HELD_OUT, Config
from ltu_jax.data.splits import see
from ltu_jax.methods import build_method
from ltu_jax.methods.base import Method, UnlearningMethod
from ltu_jax.setting import ConfigError
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import compile_clock, numbers_as_arrays, state_and
from ltu_jax.training.saving import History, Log, Run, Saving
from ltu_jax.training.steps import run_steps
from ltu_jax.types import ArrayTree, Progress, Rows, Source, Splits, UnlearnState, Visible, silent
from ltu_jax.unlearning.monitor import Judge, make_monitor
from ltu_jax.unlearning.problem import Problem

MOST_HELD_OUT = 1000
"""Rows of the reserve that a method may see: their quantiles are known to 1.6 points."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How unlearning runs go, whatever the method."""

    num_steps: int | None = None  # to take; None takes the method's own number
    log_every: int = 1  # steps between two rows of the history
    eval_every: int = 0  # steps between two scorings, of which the best state is returned; 0 for none
    batch_size: int = 500  # images a forward pass of the scoring
    progress: Progress = silent  # called with the steps taken; what it raises stops the runs, which are saved first
    judged: bool = True  # whether a run without a judge of its own scores itself, by validation rows


class Start(NamedTuple):
    """Where one run begins."""

    method: UnlearningMethod
    state: UnlearnState  # the original model; its ``rng`` is all the randomness of the run. Not consumed
    splits: Splits  # the method sees forget rows and the rho subset of the remaining ones
    source: Source
    saving: Saving | None = None  # where to save and resume; None saves nothing
    judge: Judge | None = None  # what the run scores itself by; None is ``monitor.Monitor``
    log: Log | None = None  # called with each row of the history


def run_unlearning(
    method: UnlearningMethod,
    state: UnlearnState,
    splits: Splits,
    source: Source,
    *,
    remain_fraction: float = 1.0,
    split_seed: int = 0,
    saving: Saving | None = None,
    judge: Judge | None = None,
    num_steps: int | None = None,
    log_every: int = 1,
    eval_every: int = 0,
    batch_size: int = 500,
    progress: Progress = silent,
    log: Log | None = None,
) -> tuple[UnlearnState, History]:
    """Makes a trained model forget ``splits.forget``.

    With ``eval_every`` the model is scored during the run on the forget rows, the rho subset and the
    validation rows, and the state of the smallest ``distance`` is returned.

    Args:
      method: what to run.
      state: the original model; its ``rng`` is all the randomness of the run. Not consumed.
      splits: index sets; the method sees forget and remain rows only.
      source: the data.
      remain_fraction: rho, the part of the remaining rows that the method sees.
      split_seed: draws the rho subset.
      saving: where to save and resume; None saves nothing.
      judge: what the run scores itself by, and when it stops early; None is ``monitor.Monitor``.
      num_steps: steps to take; None takes the method's own number.
      log_every: steps between two rows of the history.
      eval_every: steps between two scorings; 0 for none.
      batch_size: images a forward pass of the scoring.
      progress: called with the steps taken; what it raises stops the run, which is saved first.
      log: called with each row of the history as it is made, which also has ``seconds``, UT so far; see
        ``unlearning.loggers``.

    Returns:
      ``(state, history)``.

    Raises:
      ValueError: if ``eval_every`` is asked for without validation rows, or for a class forgotten whole.
      FloatingPointError: if the metrics are not finite; the steps and the last saved one are named.
      WrongRunError: if ``saving.directory`` holds another run.
      CheckpointError: if the checkpoint to resume from is damaged.
    """
    start = Start(method, state, see(splits, remain_fraction, split_seed), source, saving, judge, log)
    return run_together([start], RunOptions(num_steps, log_every, eval_every, batch_size, progress))[0]


def run_problem(
    problem: Problem,
    method: UnlearningMethod | None = None,
    *,
    folder: Path | None = None,
    identity: str | None = None,
    eval_every: int | None = None,
    judge: Judge | None = None,
    progress: Progress = silent,
) -> tuple[UnlearnState, History]:
    """``run_unlearning`` on a problem, as its configuration says.

    Args:
      problem: what ``prepare`` returned.
      method: what to run; None is the problem's own.
      folder: where to save and resume; None saves nothing.
      identity: hash of what the run is a function of; None is the problem's.
      eval_every: steps between two scorings; None is that of the configuration.
      judge: see ``Start``.
      progress: see ``RunOptions``.

    Returns:
      ``(state, history)``.

    Raises:
      As ``run_unlearning``.
    """
    start = start_from_problem(problem, method, folder=folder, identity=identity, judge=judge)
    options = run_options(problem.config, progress)
    if eval_every is not None:
        options = dataclasses.replace(options, eval_every=eval_every)
    return run_together([start], options)[0]


def start_from_problem(
    problem: Problem,
    method: UnlearningMethod | None = None,
    *,
    folder: Path | None = None,
    identity: str | None = None,
    judge: Judge | None = None,
) -> Start:
    """Where a run on a problem begins; for the arguments see ``run_problem``."""
    config, saving = problem.config, None
    if folder is not None:
        saving = Saving(folder, identity or problem.identity, config.save_every, config.save_seconds)
    method = method or build_method(config.method, problem.parts)
    return Start(method, problem.original, problem.splits, problem.source, saving, judge)


def run_options(config: Config, progress: Progress = silent) -> RunOptions:
    """The options that a configuration names."""
    return RunOptions(
        log_every=config.log_every,
        eval_every=config.eval_every,
        batch_size=config.evaluation.batch_size,
        progress=progress,
        judged=config.data.forget_kind not in UNLIKE_HELD_OUT,
    )


def run_together(starts: Sequence[Start], options: RunOptions = RunOptions()) -> list[tuple[UnlearnState, History]]:
    """Several runs of one method, which may differ in seeds, model and rows, as one program: its step under ``vmap``.

    Each run is what ``run_unlearning`` makes of it, within rounding; a run that was stopped earlier than the
    others catches up first. The methods are of one structure: they differ in rates, weights and arrays alone. Of
    methods made of functions (``Method``) the steps are those of the first.

    Args:
      starts: the runs; their shapes are the same. More than one need images on the device.
      options: how they go.

    Returns:
      ``(state, history)`` of each; a run's seconds are its share of those of all.

    Raises:
      ValueError: as ``run_unlearning``, and if the runs differ in the number of their steps.
      FloatingPointError, WrongRunError, CheckpointError: as ``run_unlearning``.
    """
    visible = [_visible(start) for start in starts]
    judges = [start.judge or _judge(start, options) for start in starts]
    if options.eval_every and None in judges:
        raise ValueError("eval_every: needs validation rows and a request of single rows; allowed: 0")
    num_steps = _num_steps(starts, visible) if options.num_steps is None else options.num_steps
    runs = [_begin(start, rows, num_steps) for start, rows in zip(starts, visible, strict=True)]
    for run, algorithm, judge in zip(runs, _of_one_structure([start.method for start in starts]), judges, strict=True):
        run.algorithm = algorithm
        if judge is not None and options.eval_every:
            run.best, run.score = jax.tree.map(jnp.copy, run.state), functools.partial(_score, judge=judge)
    run_steps(
        runs,
        label="unlearning",
        remedy="config.method.learning_rate or config.method.inner_learning_rate",
        log_every=options.log_every,
        score_every=options.eval_every,
        progress=options.progress,
    )
    return [_end(*one) for one in zip(starts, runs, judges, strict=True)]


def _judge(start: Start, options: RunOptions) -> Judge | None:
    if not options.judged:
        return None
    return make_monitor(start.state, start.source, start.splits, options.batch_size)


def _visible(start: Start) -> Visible:
    """The loop, not the method, says which of the remaining and held-out rows it sees."""
    source, splits, method = start.source, start.splits, start.method
    remain = source.rows(splits.remain if method.sees_all else splits.visible)
    return Visible(source.rows(splits.forget), remain, _held_out(source, splits) if method.sees_held_out else None)


def _held_out(source: Source, splits: Splits) -> Rows:
    """Rows that the forget rows are to look like: up to ``MOST_HELD_OUT`` of the reserve, spread over it.

    Of a class that is forgotten whole a model is to know nothing: there, they are rows of other classes with its label.
    """
    count = min(len(splits.reserve), MOST_HELD_OUT)
    index = splits.reserve[np.linspace(0, len(splits.reserve) - 1, count).round().astype(int)]
    forgotten = source.labels[splits.forget]
    if not len(splits.test_forgotten) or np.isin(forgotten, source.labels[splits.visible]).any():
        return source.rows(index)  # a fine class leaves rows of its coarse class
    others = index[~np.isin(source.labels[index], forgotten)]
    labels = np.resize(np.unique(forgotten), len(others)).astype(np.int32)
    return source.rows(others)._replace(labels=jax.device_put(labels))


def _num_steps(starts: Sequence[Start], visible: Sequence[Visible]) -> int:
    """The methods' own number of steps, which must be one."""
    steps = {start.method.num_steps(rows) for start, rows in zip(starts, visible, strict=True)}
    for count in steps:
        if not isinstance(count, int | np.integer) or count < 0:
            raise ConfigError(f"num_steps: it returned {count!r}; allowed: a whole number, 0 or more")
    if len(steps) > 1:
        counts = ", ".join(map(str, sorted(steps)))
        raise ValueError(f"starts: runs of {counts} steps; allowed: of one number of steps")
    return int(*steps)


def _of_one_structure(methods: Sequence[UnlearningMethod]) -> list[UnlearningMethod]:
    """The methods as trees that can be stacked: of those that are made of functions, the first stands for all."""
    if isinstance(methods[0], Method):
        return [methods[0]] * len(methods)
    return [numbers_as_arrays(method) for method in methods]


def _begin(start: Start, visible: Visible, num_steps: int) -> Run:
    """The run after the method's init; what that spends on compiling is not unlearning time."""
    init_key, step_key = jax.random.split(start.state.rng)
    state = start.state.replace(step=jnp.zeros((), jnp.int32), rng=step_key)
    began = time.perf_counter()
    with compile_clock() as clock:
        begun = state_and(start.method.init(init_key, state, visible), "init", "context")
        state, context = jax.block_until_ready(begun)
    whole = time.perf_counter() - began
    history = History(init_s=max(0.0, whole - clock.seconds), compile_s=clock.seconds)
    if num_steps:
        state = _with_own_buffers(state, (start.state, context))
    return Run(start.method, state, context, visible, num_steps, start.saving, history, log=start.log)


def _with_own_buffers(state: UnlearnState, others: ArrayTree) -> UnlearnState:
    """The state with arrays that nothing else holds, for the steps consume them: an init may forget to copy."""
    held = set(map(id, jax.tree.leaves(others)))

    def own(leaf: jax.Array) -> jax.Array:
        is_held = id(leaf) in held
        held.add(id(leaf))
        return jnp.copy(leaf) if is_held else leaf

    return jax.tree.map(own, state)


def _end(start: Start, run: Run, judge: Judge | None) -> tuple[UnlearnState, History]:
    history, method, visible = run.history, start.method, run.data
    if method.cost is not None:
        cost, counted = method.cost(visible), getattr(run.context, "init_cost", None)
        cost = cost if counted is None else cost._replace(init=Cost(*map(float, counted)))
        history.cost = cost.of(run.step)._asdict()
    history.rho = len(visible.remain.labels) / len(start.splits.remain)
    state = run.best if run.best is not None and history.best_step is not None else run.state
    if judge is not None and not method.sees_all:
        history.warnings = judge.warnings(state)
    return state, history


def _score(run: Run, judge: Judge) -> dict[str, float]:
    """Scores a run, keeps its state if it is the best so far, and stops it when its judge gives it up."""
    scores = judge.score(run.state)
    _keep_best(run, scores["distance"])
    before = [row["eval/distance"] for row in run.history.rows if "eval/distance" in row]
    run.history.stopped_early = judge.is_hopeless([*before, scores["distance"]]) and run.step < run.num_steps
    return {f"eval/{name}": value for name, value in scores.items()}


def _keep_best(run: Run, distance: float) -> None:
    # Not "<": what is not finite is never kept where something else is.
    if run.history.best_distance is None or (np.isfinite(distance) and not distance >= run.history.best_distance):
        run.history.best_distance, run.history.best_step = distance, run.step
        run.best = jax.tree.map(jnp.copy, run.state)
