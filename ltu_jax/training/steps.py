"""The one loop: takes the steps of trainings and of unlearning runs, and saves, stops and resumes them.

Step t draws from ``fold_in(rng, t)``, so a run that was stopped and resumed equals one that ran through, bit for bit.
"""

from collections.abc import Sequence

import numpy as np

from ltu_jax.devices import agreed
from ltu_jax.training.dispatch import stack_trees, steps_per_call, timed_steps, unstack_tree
from ltu_jax.training.saving import Run, open_savers
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
        group, seconds_per_step = _Group(()), None
        while going := [saver for saver in savers if not saver.run.is_done]:
            step = min(saver.run.step for saver in going)
            now = [saver for saver in going if saver.run.step == step]
            if (together := [saver.run for saver in now]) != group.runs:
                group = _Group(together)
            ends = [run.num_steps for run in together] + [saver.run.step for saver in going if saver.run.step > step]
            end = min(ends + [step + period - step % period for period in periods if period])
            count = min(end - step, steps_per_call(seconds_per_step))
            metrics, seconds_per_step = group.take(count, label, remedy)
            is_due = bool(periods[1:]) and agreed(lambda: any(saver.is_due for saver in now))  # noqa: B023, asked at once
            if is_due or step + count == end:
                group.settle()
            for place, saver in enumerate(now):
                saver.record(_log(saver.run, metrics, place, step, log_every, score_every))
                if saver.at_end if saver.run.is_done else is_due:  # all or none of those that go on
                    saver.save()
            try:
                advance(count * len(now))
            except BaseException:  # what the runs have come to is not lost
                group.settle()
                for saver in now:
                    saver.save()
                raise


class _Group:
    """Runs at the same step that take theirs as one program; of several the states stay stacked between calls."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        if runs:
            self._inputs = _stacked([(run.algorithm, run.context, run.data) for run in runs])
            self._state = _stacked([run.state for run in runs])

    def take(self, count: int, label: str, remedy: str) -> tuple[dict[str, np.ndarray], float]:
        """Takes ``count`` steps: metrics [steps, runs], and the seconds a step took; for the states see ``settle``."""
        (algorithm, context, data), together, first = self._inputs, len(self.runs), self.runs[0].step
        taken = timed_steps(algorithm, self._state, context, data, count, stacked=together > 1)
        self._state = taken.state
        for run in self.runs:
            run.history.steps = first + count
            run.history.compile_s += taken.compile_s / together
            run.history.steps_s += taken.seconds / together
        if bad := taken.not_finite:
            steps = [run.history.saved_step for run in self.runs if run.history.saved_step is not None]
            saved = f"the last checkpoint is of step {min(steps)}" if steps else "no checkpoint was saved"
            raise FloatingPointError(
                f"{label}: {', '.join(bad[:3])} not finite in steps {first + 1}..{first + count}; {saved};"
                f" try a smaller {remedy}"
            )
        return {name: values.reshape(count, together) for name, values in taken.metrics.items()}, taken.seconds / count

    def settle(self) -> None:
        """Gives each run its state: unstacking takes as long as a small step, so it is done where they are needed."""
        states = unstack_tree(self._state, len(self.runs)) if len(self.runs) > 1 else [self._state]
        for run, state in zip(self.runs, states, strict=True):
            run.state = state


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


def _stacked(trees: Sequence[ArrayTree]) -> ArrayTree:
    """A single tree as it is, several stacked."""
    return trees[0] if len(trees) == 1 else stack_trees(trees)
