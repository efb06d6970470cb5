"""The one loop: takes the steps of trainings and of unlearning runs, and saves, stops and resumes them.

Step t draws from ``fold_in(rng, t)``, so a run that was stopped and resumed equals one that ran through, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltu_jax.devices import agreed
from ltu_jax.training.dispatch import stack_trees, steps_per_call, timed_steps, unstack_tree
from ltu_jax.training.saving import Run, Saver, open_savers
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
      progress: called with the steps taken, summed over the runs; what it raises stops them, and they are saved first.

    Raises:
      FloatingPointError: if metrics or parameters are not finite; the steps and the last saved one are named.
      WrongRunError, CheckpointError: as ``Saver.resume``.
    """
    with open_savers(runs) as savers, progress(label, sum(run.num_steps for run in runs)) as advance:
        for saver in savers:
            saver.resume(logs=log_every > 0 or score_every > 0)
        advance(sum(run.step for run in runs))
        periods = [score_every, *(run.saving.every for run in runs if run.saving)]
        now, inputs, seconds_per_step = [], (), None
        while going := [i for i, run in enumerate(runs) if not run.is_done]:
            step = min(runs[i].step for i in going)
            if (then := [i for i in going if runs[i].step == step]) != now:
                now, inputs = then, _stacked([(runs[i].algorithm, runs[i].context, runs[i].data) for i in then])
            ends = [*(runs[i].num_steps for i in now), *(runs[i].step for i in going if runs[i].step > step)]
            ends += [step + period - step % period for period in periods if period]
            count = min(min(ends) - step, steps_per_call(seconds_per_step))
            metrics, seconds_per_step = _take([runs[i] for i in now], inputs, count, label, remedy)
            for place, i in enumerate(now):
                savers[i].record(_log(runs[i], metrics, place, step, log_every, score_every))
            _save([savers[i] for i in now])
            try:
                advance(count * len(now))
            except BaseException:  # what the runs have come to is not lost
                for i in now:
                    savers[i].save()
                raise


def _save(savers: Sequence[Saver]) -> None:
    """Saves runs that stepped together: all of them if one is due, and those at their end that want it."""
    is_due = any(saver.run.saving for saver in savers) and agreed(lambda: any(saver.is_due for saver in savers))
    for saver in savers:
        if saver.run.saving is not None and (saver.run.saving.at_end if saver.run.is_done else is_due):
            saver.save()


def _log(
    run: Run, metrics: dict[str, np.ndarray], place: int, first: int, log_every: int, score_every: int
) -> list[dict[str, float]]:
    """The rows that are logged of the steps after ``first``; scores the run if it is time."""
    rows = [
        {"step": first + i + 1} | {name: float(values[i, place]) for name, values in metrics.items()}
        for i in range(run.step - first if log_every or score_every else 0)
    ]
    is_last = run.step == run.num_steps
    scores = score_every > 0 and (run.step % score_every == 0 or is_last)
    if scores and run.score is not None:
        rows[-1] |= run.score(run)
    kept = {run.step} if is_last or scores else set()
    return [row for row in rows if log_every and row["step"] % log_every == 0 or row["step"] in kept]


def _take(
    runs: Sequence[Run], inputs: Sequence[Any], count: int, label: str, remedy: str
) -> tuple[dict[str, np.ndarray], float]:
    """Takes ``count`` steps of runs that are at the same step; metrics [steps, runs], and the seconds a step took."""
    (algorithm, context, data), together, first = inputs, len(runs), runs[0].step
    state = _stacked([run.state for run in runs])
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


def _stacked(trees: Sequence[ArrayTree]) -> ArrayTree:
    """A single tree as it is, several stacked."""
    return trees[0] if len(trees) == 1 else stack_trees(trees)
