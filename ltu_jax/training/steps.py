"""The one loop: takes the steps of trainings and of unlearning runs, and saves, stops and resumes them.

Step t draws from ``fold_in(rng, t)``, so a run that was stopped and resumed equals one that ran through, bit for bit.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltu_jax.training.dispatch import stack_trees, steps_per_call, timed_steps, unstack_tree
from ltu_jax.training.saving import Run, open_saver
from ltu_jax.types import ArrayTree, Progress, silent


def run_steps(
    runs: Sequence[Run],
    *,
    label: str,
    remedy: str,
    log_every: int = 0,
    score_every: int = 0,
    progress: Progress = silent,
) -> None:
    """Takes the steps of runs of one structure; those that are at the same step take theirs as one program.

    A run that was saved goes on from there, and one that was stopped earlier than the others catches up first.

    Args:
      runs: where they begin; they hold where they end, and each its share of the seconds.
      label: what they are, for ``progress`` and messages.
      remedy: what to change if one diverges.
      log_every: steps between two rows of the history; 0 for none.
      score_every: steps between two calls of ``Run.score``; 0 for none.
      progress: called with the steps of all; what it raises stops the runs, which are saved first.

    Raises:
      FloatingPointError: if metrics or parameters are not finite; the steps and the last saved one are named.
      WrongRunError, CheckpointError: as ``Saver.resume``.
    """
    with contextlib.ExitStack() as stack:
        savers = {id(run): stack.enter_context(open_saver(run)) for run in runs}
        for saver in savers.values():
            saver.resume(logs=log_every > 0)
        advance = stack.enter_context(progress(label, sum(run.num_steps for run in runs)))
        advance(sum(run.step for run in runs))
        periods = [score_every, *(run.saving.every for run in runs if run.saving)]
        together: list[Run] = []
        reads, seconds_per_step = (), None
        while going := [run for run in runs if run.step < run.num_steps and not run.history.stopped_early]:
            step = min(run.step for run in going)
            if (now := [run for run in going if run.step == step]) != together:
                together, reads = now, _as_one([(run.algorithm, run.context, run.data) for run in now])
            ends = [*(run.num_steps for run in now), *(run.step for run in going if run.step > step)]
            ends += [step + period - step % period for period in periods if period]
            count = min(min(ends) - step, steps_per_call(seconds_per_step))
            metrics, seconds_per_step = _take(now, reads, count, label, remedy)
            for i, run in enumerate(now):
                is_last, rows = run.step == run.num_steps, _rows(metrics, i, step, run.step) if log_every else []
                scores = score_every > 0 and (run.step % score_every == 0 or is_last)
                if scores and run.score is not None:
                    rows[-1] |= run.score(run)
                kept = {run.step} if is_last or scores else set()
                logged = [row for row in rows if row["step"] % log_every == 0 or row["step"] in kept]
                savers[id(run)].record(logged, last=is_last or run.history.stopped_early)
            try:
                advance(count * len(now))
            except BaseException:  # what the runs have come to is not lost
                for run in now:
                    savers[id(run)].save()
                raise


def _take(
    runs: Sequence[Run], reads: Sequence[Any], count: int, label: str, remedy: str
) -> tuple[dict[str, np.ndarray], float]:
    """Takes ``count`` steps of runs that are at the same step; metrics [steps, runs], and the seconds a step took."""
    (algorithm, context, data), together, first = reads, len(runs), runs[0].step
    state = _as_one([run.state for run in runs])
    taken = timed_steps(algorithm, state, context, data, count, stacked=together > 1)
    states = unstack_tree(taken.state, together) if together > 1 else [taken.state]
    for run, after in zip(runs, states, strict=True):
        run.state, run.history.steps = after, first + count
        run.history.compile_s += taken.compile_s / together
        run.history.steps_s += taken.seconds / together
    if bad := taken.not_finite:
        saved = min((run.history.saved_step for run in runs if run.history.saved_step is not None), default=None)
        raise FloatingPointError(
            f"{label}: {', '.join(bad[:3])} not finite in steps {first + 1}..{first + count};"
            f" {'no checkpoint was saved' if saved is None else f'the last checkpoint is of step {saved}'};"
            f" try a smaller {remedy}"
        )
    return {name: values.reshape(count, together) for name, values in taken.metrics.items()}, taken.seconds / count


def _rows(metrics: dict[str, np.ndarray], run: int, first: int, last: int) -> list[dict[str, float]]:
    """A row for each step that a run took after step ``first``, up to ``last``."""
    named = metrics.items()
    return [
        {"step": first + i + 1} | {name: float(values[i, run]) for name, values in named} for i in range(last - first)
    ]


def _as_one(trees: Sequence[ArrayTree]) -> ArrayTree:
    """A single tree as it is, several stacked."""
    return trees[0] if len(trees) == 1 else stack_trees(trees)
