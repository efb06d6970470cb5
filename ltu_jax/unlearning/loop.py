"""The unlearning loop: cuts the remaining rows to rho, runs a method, saves, resumes, scores itself.

A run is a function of the state it starts from, the splits and its arguments: step t draws from
``fold_in(rng, t)``, so a run that was stopped and resumed equals one that ran through, bit for bit.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.data.splits import see
from ltu_jax.methods import build_method
from ltu_jax.methods.base import Method, UnlearningMethod
from ltu_jax.training.dispatch import (
    compile_clock,
    numbers_as_arrays,
    stack_trees,
    steps_per_call,
    timed_steps,
    unstack_tree,
)
from ltu_jax.types import Progress, Source, Splits, UnlearnState, Visible, silent
from ltu_jax.unlearning.monitor import Judge, make_monitor
from ltu_jax.unlearning.problem import Problem
from ltu_jax.unlearning.saving import History, Run, Saving, recorder


class Start(NamedTuple):
    """Where one run begins."""

    method: UnlearningMethod
    state: UnlearnState  # the original model; its ``rng`` is all the randomness of the run. Not consumed
    splits: Splits  # the method sees forget rows and the rho subset of the remaining ones
    source: Source
    saving: Saving | None = None  # where to save and resume; None keeps nothing
    judge: Judge | None = None  # what the run scores itself by; None is ``monitor.Monitor``


def run_unlearning(
    method: UnlearningMethod,
    state: UnlearnState,
    splits: Splits,
    source: Source,
    *,
    num_steps: int | None = None,
    remain_fraction: float = 1.0,
    split_seed: int = 0,
    log_every: int = 1,
    eval_every: int = 0,
    saving: Saving | None = None,
    judge: Judge | None = None,
    batch_size: int = 500,
    progress: Progress = silent,
) -> tuple[UnlearnState, History]:
    """Makes a trained model forget ``splits.forget``.

    With ``eval_every`` the model is scored during the run on the forget rows, the rho subset and the
    validation rows, and the state of the smallest ``distance`` is returned.

    Args:
      method: what to run.
      state: the original model; its ``rng`` is all the randomness of the run. Not consumed.
      splits: index sets; the method sees forget and remain rows only.
      source: the data.
      num_steps: steps to take; None takes the method's own number.
      remain_fraction: rho, the part of the remaining rows that the method sees.
      split_seed: draws the rho subset.
      log_every: steps between two rows of the history.
      eval_every: steps between two scorings; 0 for none.
      saving: where to save and resume; None keeps nothing.
      judge: what the run scores itself by, and when it stops early; None is ``monitor.Monitor``.
      batch_size: images a forward pass of the scoring.
      progress: told about every finished step; what it raises stops the run, which is saved first.

    Returns:
      ``(state, history)``.

    Raises:
      ValueError: if ``eval_every`` is asked for without validation rows, or for a class forgotten whole.
      FloatingPointError: if the metrics are not finite; the steps and the last saved one are named.
      WrongRunError: if ``saving.directory`` holds another run.
      CheckpointError: if the checkpoint to resume from is damaged.
    """
    (one,) = run_together(
        [Start(method, state, see(splits, remain_fraction, split_seed), source, saving, judge)],
        num_steps=num_steps,
        log_every=log_every,
        eval_every=eval_every,
        batch_size=batch_size,
        progress=progress,
    )
    return one


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
      problem: what ``prepare`` gave.
      method: what to run; None is the problem's own.
      folder: where to save and resume; None keeps nothing.
      identity: hash of what the run is a function of; None is the problem's.
      eval_every: steps between two scorings; None is that of the configuration.
      judge: see ``run_unlearning``, as for what follows.
      progress: told about every finished step.

    Returns:
      ``(state, history)``.

    Raises:
      As ``run_unlearning``.
    """
    config = problem.config
    saving = None
    if folder is not None:
        saving = Saving(folder, config.save_every, identity or problem.identity, config.save_seconds)
    method = method or build_method(config.method, problem.parts)
    (one,) = run_together(
        [Start(method, problem.original, problem.splits, problem.source, saving, judge)],
        log_every=config.log_every,
        eval_every=config.eval_every if eval_every is None else eval_every,
        batch_size=config.evaluation.batch_size,
        progress=progress,
    )
    return one


def run_together(
    starts: Sequence[Start],
    *,
    num_steps: int | None = None,
    log_every: int = 1,
    eval_every: int = 0,
    batch_size: int = 500,
    progress: Progress = silent,
) -> list[tuple[UnlearnState, History]]:
    """Several runs of one method, which may differ in seeds, model and rows, as one program: its step under ``vmap``.

    Each run is what ``run_unlearning`` makes of it, within rounding; a run that was stopped earlier than the
    others catches up first. The methods are of one structure: they differ in rates, weights and arrays alone. Of
    methods of one's own, which are functions, the steps are those of the first.

    Args:
      starts: the runs; their shapes are the same. More than one need images on the device.
      num_steps: see ``run_unlearning``, as for all that follow.
      log_every: steps between two rows of each history.
      eval_every: steps between two scorings.
      batch_size: images a forward pass of the scoring.
      progress: told about every finished step of all.

    Returns:
      ``(state, history)`` of each; a run's seconds are its share of those of all.

    Raises:
      ValueError: as ``run_unlearning``, and if the runs differ in the number of their steps.
      FloatingPointError, WrongRunError, CheckpointError: as ``run_unlearning``.
    """
    methods = _of_one_structure([start.method for start in starts])
    visible = [_visible(start) for start in starts]
    judges = [
        start.judge or make_monitor(start.state, start.source, start.splits, rows, batch_size)
        for start, rows in zip(starts, visible, strict=True)
    ]
    if eval_every and None in judges:
        raise ValueError("eval_every: needs validation rows and a request of single rows; allowed: 0")
    num_steps = _num_steps(starts, visible) if num_steps is None else num_steps
    begun = [_start(start, rows, keeps_best=eval_every > 0) for start, rows in zip(starts, visible, strict=True)]
    runs, contexts = [run for run, _ in begun], [context for _, context in begun]

    with contextlib.ExitStack() as stack:
        records = [stack.enter_context(recorder(start.saving)) for start in starts]
        runs = [record.resume(run) for record, run in zip(records, runs, strict=True)]
        advance = stack.enter_context(progress("unlearning", num_steps * len(runs)))
        advance(sum(run.step for run in runs))
        reads: dict[tuple[int, ...], Any] = {}  # of the runs that step together now
        per_step = None
        while going := [i for i, run in enumerate(runs) if run.step < num_steps and not run.history.stopped_early]:
            step = min(runs[i].step for i in going)
            now = tuple(i for i in going if runs[i].step == step)
            if now not in reads:
                reads = {now: _as_one([(methods[i], contexts[i], visible[i]) for i in now])}
            periods = [eval_every, *(start.saving.every for start in starts if start.saving)]
            ends = [num_steps, *(runs[i].step for i in going if runs[i].step > step)]
            ends += [step + p - step % p for p in periods if p]
            count = min(min(ends) - step, steps_per_call(per_step))
            taken, seconds = _take_steps([runs[i] for i in now], reads[now], count)
            per_step = seconds / count
            for i, rows in zip(now, taken, strict=True):
                run, judge = runs[i], judges[i]
                if judge is not None and eval_every and (run.step % eval_every == 0 or run.step == num_steps):
                    rows[-1] |= _look(run, judge, is_last=run.step == num_steps)
                logged = [
                    r for r in rows if r["step"] % log_every == 0 or r["step"] == num_steps or "eval/distance" in r
                ]
                records[i].record(run, logged, last=run.step == num_steps or run.history.stopped_early)
            try:
                advance(count * len(now))
            except BaseException:  # whoever looks on may stop the run; what it has come to is not lost
                for i in now:
                    records[i].save(runs[i])
                raise
    return [_end(*all_of_it) for all_of_it in zip(starts, runs, visible, judges, strict=True)]


def _end(start: Start, run: Run, visible: Visible, judge: Judge | None) -> tuple[UnlearnState, History]:
    history, method = run.history, start.method
    if method.cost is not None:
        history.cost = method.cost(visible).of(run.step)._asdict()
    history.rho = len(visible.remain.labels) / len(start.splits.remain)
    state = run.best if run.best is not None and history.best_step is not None else run.state
    if judge is not None and not method.sees_all:
        history.warnings = judge.warnings(state)
    return state, history


def _visible(start: Start) -> Visible:
    """The loop, not the method, says which of the remaining rows it sees."""
    remain = start.splits.remain if start.method.sees_all else start.splits.visible
    return Visible(start.source.rows(start.splits.forget), start.source.rows(remain))


def _start(start: Start, visible: Visible, *, keeps_best: bool) -> tuple[Run, Any]:
    """The method's init; what it spends on compiling is not unlearning time."""
    init_key, step_key = jax.random.split(start.state.rng)
    state = start.state.replace(step=jnp.zeros((), jnp.int32), rng=step_key)
    began = time.perf_counter()
    with compile_clock() as clock:
        begun, context = jax.block_until_ready(start.method.init(init_key, state, visible))
    whole = time.perf_counter() - began
    history = History(init_s=max(0.0, whole - clock.seconds), compile_s=clock.seconds)
    return Run(begun, jax.tree.map(jnp.copy, begun) if keeps_best else None, history), context


def _num_steps(starts: Sequence[Start], visible: Sequence[Visible]) -> int:
    """The methods' own number of steps, which must be one."""
    steps = sorted({start.method.num_steps(rows) for start, rows in zip(starts, visible, strict=True)})
    if len(steps) > 1:
        raise ValueError(f"starts: runs of {', '.join(map(str, steps))} steps; allowed: of one number of steps")
    return steps[0]


def _of_one_structure(methods: Sequence[UnlearningMethod]) -> list[UnlearningMethod]:
    """The methods as trees that can be stacked: of those that are made of functions, the first stands for all."""
    if isinstance(methods[0], Method):
        return [methods[0]] * len(methods)
    return [numbers_as_arrays(method) for method in methods]


def _as_one(trees: Sequence[Any]) -> Any:
    """Of one run itself, of several their stack."""
    return trees[0] if len(trees) == 1 else stack_trees(trees)


def _take_steps(
    runs: list[Run], reads: tuple[Any, Any, Visible], count: int
) -> tuple[list[list[dict[str, float]]], float]:
    """Takes ``count`` steps in each run, all of them at the same step.

    Returns:
      A row of metrics for each step of each run, and the seconds that the steps took.
    """
    first, together = runs[0].step, len(runs)
    method, context, visible = reads
    taken = timed_steps(method, _as_one([run.state for run in runs]), context, visible, count, stacked=together > 1)
    metrics = {name: values.reshape(count, together) for name, values in taken.metrics.items()}
    states = unstack_tree(taken.state, together) if together > 1 else [taken.state]
    for run, after in zip(runs, states, strict=True):
        run.state, run.history.steps = after, first + count
        run.history.compile_s += taken.compile_s / together
        run.history.steps_s += taken.seconds / together
    if bad := taken.not_finite:
        saved = min((run.history.saved_step for run in runs if run.history.saved_step is not None), default=None)
        raise FloatingPointError(
            f"{', '.join(bad[:3])} not finite in steps {first + 1}..{first + count};"
            f" {'no checkpoint was saved' if saved is None else f'the last checkpoint is of step {saved}'};"
            " try a smaller config.method.learning_rate or config.method.inner_learning_rate"
        )
    rows = [
        [{"step": first + i + 1, **{k: float(v[i, s]) for k, v in metrics.items()}} for i in range(count)]
        for s in range(together)
    ]
    return rows, taken.seconds


def _look(run: Run, judge: Judge, *, is_last: bool) -> dict[str, float]:
    """Scores a run, keeps its state if it is the best so far, and stops it where its judge sees no hope."""
    scores = judge.score(run.state)
    _keep_best(run, scores["distance"])
    before = [row["eval/distance"] for row in run.history.rows if "eval/distance" in row]
    run.history.stopped_early = judge.is_hopeless([*before, scores["distance"]]) and not is_last
    return {f"eval/{name}": value for name, value in scores.items()}


def _keep_best(run: Run, distance: float) -> None:
    # Not "<": what is not finite is never kept where something else is.
    if run.history.best_distance is None or (np.isfinite(distance) and not distance >= run.history.best_distance):
        run.history.best_distance, run.history.best_step = distance, run.step
        run.best = jax.tree.map(jnp.copy, run.state)
