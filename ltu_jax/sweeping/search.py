"""The search for a row's best settings: Optuna's TPE with a journal, so that a killed search continues."""

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ltu_jax.setting import ConfigError, digest
from ltu_jax.sweeping.grid import Cell, Range, Row, Sweep, cells
from ltu_jax.sweeping.pool import Pool

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MEASURES = ("ua", "ra", "ta", "mi")
RANDOM_TRIALS = 4
"""Random trials before TPE starts; Optuna's default of 10 is more than a whole search here."""


class Trial(NamedTuple):
    """An unfinished trial: its number in the journal and one run per tuning seed."""

    number: int
    runs: list[Cell]


class Finished(NamedTuple):
    """A finished trial."""

    settings: Mapping[str, Any]
    gap: float  # the mean over its seeds; infinite if it diverged or was given up
    given_up: bool


class Search:
    """The search of one row; all its state is in the journal."""

    def __init__(self, sweep: Sweep, row: Row, trials: Path, cache: Path, journal: Path) -> None:
        """Checks the row's search space.

        Args:
          sweep: the sweep that is tuned; its seeds are the tuning seeds.
          row: one of its rows.
          trials: folder of the runs' folders.
          cache: folder of originals, Retrain models and attackers.
          journal: the journal's file; many searches share it.

        Raises:
          ConfigError: if a bound is not allowed, or the row's own settings are outside the space.
        """
        self.row, self.sweep, self._trials, self._cache, self._journal = row, sweep, trials, cache, journal
        for name, space in row.space.items():
            for value in space if isinstance(space, list) else space[:2]:
                self.runs({name: value})
        own = self.runs({})
        if own[0].config.evaluation.num_retrain < 1:
            raise ConfigError("config.evaluation.num_retrain: 0 leaves no gap to tune for; allowed: 1 or more")
        self._own = {
            name: _inside(row, name, functools.reduce(getattr, name.split("."), own[0].config)) for name in row.space
        }
        # With other settings, seeds or bounds it is another search, whose trials do not count for this one.
        self._name = f"{row.label} {digest([run.job.slug for run in own], {**row.space})[:8]}"

    def ask(self) -> Trial:
        """The trial that was unfinished when the search was last stopped, else a new one."""
        import optuna

        study = self._study()
        states = optuna.trial.TrialState
        for trial in study.get_trials(states=(states.RUNNING,)):
            if set(trial.params) == set(self.row.space):
                return Trial(trial.number, self.runs(trial.params))
            study.tell(trial.number, state=states.FAIL)  # stopped while it was being drawn
        if not study.get_trials(states=(states.WAITING, states.COMPLETE)):
            study.enqueue_trial(self._own)
        # A new sampler for each trial: a search that was stopped draws the same as one that was not.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), n_startup_trials=RANDOM_TRIALS)
        trial = study.ask({name: _distribution(space) for name, space in self.row.space.items()})
        return Trial(trial.number, self.runs(trial.params))

    def tell(self, trial: Trial, gap: float | None) -> None:
        """Finishes a trial.

        Args:
          trial: the trial.
          gap: the mean over its seeds, infinite where a run diverged; None if the trial was given up.
        """
        import optuna

        self._study().tell(trial.number, gap, optuna.trial.TrialState.PRUNED if gap is None else None)

    def finished(self) -> list[Finished]:
        """The finished trials, in order."""
        import optuna

        states = optuna.trial.TrialState
        trials = self._study().get_trials(states=(states.COMPLETE, states.PRUNED))
        gaps = [math.inf if trial.value is None else trial.value for trial in trials]
        found = zip(trials, gaps, strict=True)
        return [Finished(_rounded(trial.params), gap, trial.state == states.PRUNED) for trial, gap in found]

    def falls_behind(self, trial: Trial, num_seeds: int) -> bool:
        """Whether a trial's gap over its first seeds is above the best trial's over all of them.

        Not above what the others had on these seeds: one that was lucky there and lost on the last would have all
        steadier ones given up.
        """
        best = min((other.gap for other in self.finished()), default=math.inf)
        return mean_gap(trial.runs[:num_seeds]) > best

    def runs(self, settings: Mapping[str, Any]) -> list[Cell]:
        """The row's run with these settings at each tuning seed."""
        row = dataclasses.replace(self.row, settings={**self.row.settings, **_rounded(settings)})
        return cells(dataclasses.replace(self.sweep, rows=[row]), self._trials, self._cache)

    def report(self, pool: Pool, trials: int) -> dict[str, Any]:
        """The best settings and the first ``trials`` finished trials, JSON-ready."""
        finished = self.finished()[:trials]
        best = min(finished, key=lambda trial: trial.gap)
        search = [self._trial_record(pool, trial) for trial in finished]
        return {"best": best.settings, "gap": best.gap, "space": {**self.row.space}, "search": search}

    def results(self, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The content of ``result.json`` of each run with these settings; a run that diverged has none."""
        return [json.loads(run.result.read_text()) for run in self.runs(settings) if run.result.is_file()]

    def _trial_record(self, pool: Pool, trial: Finished) -> dict[str, Any]:
        settings, seconds = trial.settings, sum(pool.outcome(run.job).seconds for run in self.runs(trial.settings))
        scores = [result["scores"] for result in self.results(settings)]
        if math.isinf(trial.gap):
            how = {"given_up_after_seeds": len(scores)} if trial.given_up else {"diverged": True}
            return {"settings": settings, "gap": None, "scores": None, "seconds": seconds, **how}
        mean = {name: statistics.mean(score[name] for score in scores) for name in MEASURES}
        return {"settings": settings, "gap": trial.gap, "scores": mean, "seconds": seconds}

    def _study(self) -> Any:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = JournalFileBackend(str(self._journal))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.create_study(study_name=self._name, storage=storage, load_if_exists=True)


def mean_gap(runs: Sequence[Cell]) -> float:
    """The mean gap to Retrain of finished runs; infinite if one has no result, because it diverged."""
    if not all(run.result.is_file() for run in runs):
        return math.inf
    return statistics.mean(json.loads(run.result.read_text())["gap"]["mean"] for run in runs)


def _distribution(space: Range) -> "BaseDistribution":
    from optuna import distributions

    if isinstance(space, list):
        return distributions.CategoricalDistribution(space)
    low, high, log = *space[:2], "log" in space[2:]
    if _whole(space):
        return distributions.IntDistribution(int(low), int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _inside(row: Row, name: str, value: Any) -> Any:
    """The row's own value of a field, converted to the type of its space."""
    space = row.space[name]
    if value in space if isinstance(space, list) else space[0] <= value <= space[1]:
        return int(value) if not isinstance(space, list) and _whole(space) else value
    raise ConfigError(f"row {row.label!r}: {name}: its own value {value!r} is not in its space; allowed: {space}")


def _whole(space: Range) -> bool:
    return all(isinstance(bound, int) for bound in space[:2])


def _rounded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with three significant digits, which are enough for a rate and readable in a command."""
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in settings.items()}
