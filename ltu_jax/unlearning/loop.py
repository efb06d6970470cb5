"""The unlearning loop: cuts the remaining rows to rho, runs a method, saves, resumes, scores itself.

A run is a function of the state it starts from, the splits and its arguments: step t draws from
``fold_in(rng, t)``, so a run that was stopped and resumed equals one that ran through, bit for bit.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.data.splits import remain_subset
from ltu_jax.methods.base import Method
from ltu_jax.training.dispatch import compile_steps
from ltu_jax.types import Progress, Source, Splits, UnlearnState, Visible, silent
from ltu_jax.unlearning.monitor import make_monitor
from ltu_jax.unlearning.saving import History, Run, Saving, recorder

MAX_STEPS_PER_CALL = 50


def run_unlearning(
    method: Method,
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
    batch_size: int = 500,
    progress: Progress = silent,
) -> tuple[UnlearnState, History]:
    """Makes a trained model forget ``splits.forget``.

    With ``eval_every`` the model is scored during the run on the forget rows, the rho subset and the
    validation rows, and the state of the smallest ``monitor.distance`` is returned.

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
      batch_size: images a forward pass of the scoring.
      progress: told about every finished step.

    Returns:
      ``(state, history)``.

    Raises:
      ValueError: if ``eval_every`` is asked for without validation rows, or for a class forgotten whole.
      FloatingPointError: if the metrics are not finite; the steps and the last saved one are named.
      WrongRunError: if ``saving.directory`` holds another run.
      CheckpointError: if the checkpoint to resume from is damaged.
    """
    visible = _cut(method, splits, source, remain_fraction, split_seed)
    monitor = make_monitor(state, source, splits, visible, batch_size)
    if eval_every and monitor is None:
        raise ValueError("eval_every: needs validation rows and a request of single rows; allowed: 0")
    num_steps = method.num_steps(visible) if num_steps is None else num_steps
    run, context = _start(method, state, visible, keeps_best=eval_every > 0)

    with recorder(saving) as record, progress("unlearning", num_steps) as advance:
        run = record.resume(run)
        advance(run.step)
        while run.step < num_steps:
            periods = (saving.every if saving else 0, eval_every)
            count = min([num_steps - run.step, MAX_STEPS_PER_CALL, *(p - run.step % p for p in periods if p)])
            rows = _take_steps(run, method, context, visible, count)
            if monitor is not None and eval_every and (run.step % eval_every == 0 or run.step == num_steps):
                scores = monitor.score(run.state)
                rows[-1] |= {f"eval/{name}": value for name, value in scores.items()}
                _keep_best(run, scores["distance"])
            logged = [r for r in rows if r["step"] % log_every == 0 or r["step"] == num_steps or "eval/distance" in r]
            record.record(run, logged, last=run.step == num_steps)
            advance(count)

    if method.cost is not None:
        run.history.cost = method.cost(visible).of(run.step)._asdict()
    run.history.rho = len(visible.remain.labels) / len(splits.remain)
    state = run.best if run.best is not None and run.history.best_step is not None else run.state
    if monitor is not None and not method.sees_all:
        run.history.warnings = monitor.warnings(state)
    return state, run.history


def _cut(method: Method, splits: Splits, source: Source, remain_fraction: float, split_seed: int) -> Visible:
    """The loop, not the method, cuts the remaining rows down to rho."""
    remain = splits.remain if method.sees_all else remain_subset(splits, remain_fraction, split_seed)
    return Visible(source.rows(splits.forget), source.rows(remain))


def _start(method: Method, state: UnlearnState, visible: Visible, *, keeps_best: bool) -> tuple[Run, Any]:
    """The method's init, run twice: the first time compiles, the second is what UT counts."""
    init_key, step_key = jax.random.split(state.rng)
    state = state.replace(step=jnp.zeros((), jnp.int32), rng=step_key)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        begun, context = jax.block_until_ready(method.init(init_key, state, visible))
        seconds.append(time.perf_counter() - start)
    history = History(init_s=seconds[1], compile_s=max(0.0, seconds[0] - seconds[1]))
    return Run(begun, jax.tree.map(jnp.copy, begun) if keeps_best else None, history), context


def _take_steps(run: Run, method: Method, context: Any, visible: Visible, count: int) -> list[dict[str, float]]:
    """Takes ``count`` steps and returns a row of metrics for each."""
    start = time.perf_counter()
    steps = compile_steps(method.sample, method.step, run.state, context, visible, count)
    compiled = time.perf_counter()
    first = run.step
    run.state, metrics = jax.block_until_ready(steps(run.state, context, visible))
    run.history.steps = run.step
    run.history.compile_s += compiled - start
    run.history.steps_s += time.perf_counter() - compiled
    metrics = {name: np.asarray(values) for name, values in metrics.items()}
    bad = sorted(name for name, values in metrics.items() if not np.isfinite(values).all())
    if bad:
        saved = run.history.saved_step
        raise FloatingPointError(
            f"{', '.join(bad[:3])} not finite in steps {first + 1}..{first + count};"
            f" {'no checkpoint was saved' if saved is None else f'the last checkpoint is of step {saved}'};"
            " try a smaller config.method.learning_rate or config.method.inner_learning_rate"
        )
    return [{"step": first + i + 1, **{k: float(v[i]) for k, v in metrics.items()}} for i in range(count)]


def _keep_best(run: Run, distance: float) -> None:
    if run.history.best_distance is None or distance < run.history.best_distance:
        run.history.best_distance, run.history.best_step = distance, run.step
        run.best = jax.tree.map(jnp.copy, run.state)
