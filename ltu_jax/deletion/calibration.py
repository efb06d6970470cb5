"""Finds the learning rate and number of steps of a method without a Retrain model to compare with.

Each trial is one run at one learning rate, which the judge of every run (``unlearning.monitor``) scores several times,
at its *looks*. The best look of the best trial gives the model. The held-out rows here are validation rows, and what is
lost is also looked for on remaining rows that the method does not see (``rows.rows_to_calibrate_by``); the evidence
uses others.
"""

import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.config import Config
from ltu_jax.deletion.few import FEWEST_TO_CLAIM
from ltu_jax.deletion.rows import rows_to_calibrate_by
from ltu_jax.devices import writes_files
from ltu_jax.evaluation.likeness import in_rows
from ltu_jax.files import write_whole
from ltu_jax.methods import build_method
from ltu_jax.safe_reading import parse_json, read_text
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.saving import CHECKPOINTS, History
from ltu_jax.types import Progress, Rows, Splits, UnlearnState, Visible, silent
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.monitor import Judge, Monitor, make_monitor
from ltu_jax.unlearning.problem import Problem


def check_calibration(config: Config, splits: Splits) -> None:
    """Refuses a problem that cannot be calibrated.

    Raises:
      ConfigError: if the method has no learning rate, or there are no validation rows.
    """
    if not isinstance(getattr(config.method, "learning_rate", None), float):
        raise ConfigError(
            f"config.calibration.trials: {config.calibration.trials}, but {config.method.name} has no learning rate"
            " to look for; allowed: 0"
        )
    if not len(splits.validation):
        raise ConfigError(
            "config.data.validation_fraction: 0 leaves no held-out rows to calibrate by; allowed: > 0, or"
            " config.calibration.trials=0"
        )


def make_calibrator(problem: Problem) -> Monitor:
    """The judge of the runs of a request, which has validation rows: see ``check_calibration``.

    Of fewer than ``FEWEST_TO_CLAIM`` rows chance makes most of the distance, and no accuracy is given for that.
    """
    settings, size = problem.config.calibration, problem.config.evaluation.batch_size
    unseen = rows_to_calibrate_by(problem.splits, problem.config.seed_for("split"))
    monitor = make_monitor(problem.original, problem.source, problem.splits, size, unseen)
    assert monitor is not None
    tolerance = settings.tolerance if len(problem.splits.forget) >= FEWEST_TO_CLAIM else 0.0
    return monitor._replace(tolerance=tolerance, patience=settings.patience)


class Trial(NamedTuple):
    """A run at one learning rate."""

    learning_rate: float
    num_steps: int  # of the whole schedule
    looks: list[dict[str, float]]  # each has ``step`` and the items of ``Monitor.score``
    best: int  # index of the best look

    @property
    def distance(self) -> float:
        """The distance of the best look."""
        return self.looks[self.best]["distance"]


class Calibrated(NamedTuple):
    """The chosen model and all trials."""

    state: UnlearnState
    history: History
    trials: list[Trial]
    chosen: int
    original: dict[str, float]  # accuracy before on the rows of ``Monitor.original``, percent
    tolerance: float

    def as_json(self, in_rows: int | None = None) -> dict[str, Any]:
        """The curve of forgetting against utility, the chosen point, and why.

        Args:
          in_rows: the number of forget rows; if given, figures are rounded to what one row contributes.
        """
        if in_rows is not None:
            trials = [t._replace(looks=[_rounded(look, in_rows) for look in t.looks]) for t in self.trials]
            return self._replace(trials=trials).as_json()
        trials = [{**trial._asdict(), "distance": trial.distance} for trial in self.trials]
        return {
            "original": self.original,
            "tolerance": self.tolerance,
            "trials": trials,
            "chosen": self.chosen,
            "why": self.why,
        }

    @property
    def why(self) -> str:
        """Why this point was chosen, in one sentence."""
        trial = self.trials[self.chosen]
        look = trial.looks[trial.best]
        within = sum(one["lost"] <= self.tolerance for t in self.trials for one in t.looks)
        total = sum(len(t.looks) for t in self.trials)
        kept = f"of {within} of {total} points that lose at most {self.tolerance:g} points of accuracy"
        if look["lost"] > self.tolerance:
            kept = f"of {total} points, none of which keeps the tolerance of {self.tolerance:g} points,"
        likest, unseen = "the one at which the forget rows look most like held-out rows", ""
        if "lost_unseen" in look:
            likest += ", and least is lost on rows that stay and are not trained on, both counted in points"
            unseen = f", and {look['lost_unseen']:.1f} on those rows"
        return (
            f"learning rate {trial.learning_rate:.3g}, stopped at step {look['step']:.0f} of {trial.num_steps}: {kept}"
            f" {likest} ({look['ks']:.1f} points apart, {look['lost']:.1f} lost{unseen})"
        )


def calibrate(
    problem: Problem, directory: Path | None = None, progress: Progress = silent, *, judge: Judge | None = None
) -> Calibrated:
    """Searches the learning rate and steps of the problem's method, and returns the best model.

    Optuna's TPE searches the rate on a log scale, after trials of the configured rate and larger ones; where fewer than
    ``FEWEST_TO_CLAIM`` rows are forgotten, none is larger. The search is a function of the problem: started again after
    an interruption it repeats the same trials, and reuses finished ones.

    Args:
      problem: its method must have a ``learning_rate``.
      directory: folder of the trials, to resume an interrupted search; None saves nothing.
      progress: reports the progress.
      judge: compares the trials, by scores that have those of ``Monitor`` among them; None means the problem's
        calibrator.

    Raises:
      ConfigError: if the method has no learning rate, or nothing is held out.
      FloatingPointError: if every trial diverged.
    """
    import optuna

    check_calibration(problem.config, problem.splits)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, seed = problem.config.calibration, problem.config.seed_for("unlearn")
    calibrator, rate = make_calibrator(problem), problem.config.method.learning_rate
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=3))  # the enqueued ones
    # Larger rates first: if they are too large, they are stopped early and cost little. But a step of Adam's moves all
    # weights as far for one row as for a thousand, and few rows have few steps: the usual rate is too large for them.
    power = 1 if len(problem.splits.forget) >= FEWEST_TO_CLAIM else -1
    for times in (1.0, settings.factor ** (power / 2), settings.factor**power):
        study.enqueue_trial({"learning_rate": rate * times})
    largest = rate * settings.factor if power == 1 else rate
    space = optuna.distributions.FloatDistribution(rate / settings.factor, largest, log=True)
    trials: list[Trial] = []
    best: tuple[float, int, UnlearnState, History] | None = None
    for number in range(settings.trials):
        suggested = study.ask({"learning_rate": space})
        trial_rate = float(f"{suggested.params['learning_rate']:.3g}")
        folder = None if directory is None else directory / f"trial-{number + 1}"
        told = _numbered(progress, f"trial {number + 1} of {settings.trials}, ")
        trial, model = _run_trial(problem, judge or calibrator, trial_rate, folder, best and best[0], told)
        trials.append(trial)
        study.tell(suggested, trial.distance if trial.looks else math.inf)
        if model is not None and (best is None or trial.distance < best[0]):
            if best is not None and directory is not None:
                _remove_checkpoints(directory / f"trial-{best[1] + 1}")
            best = (trial.distance, number, *model)
    if best is None:
        raise FloatingPointError(
            f"calibration: all {settings.trials} trials diverged; try a smaller config.method.learning_rate"
        )
    _, chosen, state, history = best
    original = {name: 100 * float(before.mean()) for name, before in calibrator.original.items()}
    return Calibrated(state, history, trials, chosen, original, calibrator.tolerance)


def _numbered(progress: Progress, prefix: str) -> Progress:
    """The same progress, with words before each label."""
    return lambda label, total: progress(prefix + label, total)


def _run_trial(
    problem: Problem, judge: Judge, rate: float, folder: Path | None, to_beat: float | None, progress: Progress
) -> tuple[Trial, tuple[UnlearnState, History] | None]:
    """A trial and, if it may be the best, its model; a saved trial that was worse is not run again."""
    config = problem.config
    method = build_method(dataclasses.replace(config.method, learning_rate=rate), problem.parts)
    identity = digest(problem.identity, rate, dataclasses.asdict(config.calibration))
    file = None if folder is None else folder / "trial.json"
    saved = None if file is None else _read_trial(file, identity)
    if file is not None and saved is not None and not (saved.looks and (file.parent / CHECKPOINTS).exists()):
        return saved, None
    source, sets = problem.source, (problem.splits.forget, problem.splits.visible)
    num_steps = method.num_steps(Visible(*(Rows(source.stored(rows), source.labels[rows]) for rows in sets)))
    try:
        state, history = run_problem(
            problem,
            method,
            folder=folder,
            identity=identity,
            eval_every=max(1, num_steps // config.calibration.evaluations),
            judge=judge,
            progress=progress,
        )
        looks = [_look(row) for row in history.rows if "eval/distance" in row]
        distances = [look["distance"] for look in looks]
        if not np.isfinite(distances).all():
            raise FloatingPointError("calibration: a look is not finite")
        trial = Trial(rate, num_steps, looks, int(np.argmin(distances)))
        model = (state, history)
    except FloatingPointError:
        trial, model = Trial(rate, num_steps, [], 0), None
    if file is not None and writes_files():
        write_whole(file, _trial_text(trial, identity))
        if model is not None and to_beat is not None and trial.distance >= to_beat:
            _remove_checkpoints(file.parent)
    return trial, model


def _read_trial(file: Path, identity: str) -> Trial | None:
    """A trial that has ended; None if there is none, it is another, or its file is damaged, which is told."""
    try:
        text = read_text(file)
        trial = Trial(**parse_json(text)["trial"])
        if text == _trial_text(trial, identity):
            return trial
        why = "is that of another run or was altered"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        why = "cannot be read"
    logging.getLogger(__name__).warning("%s %s: the trial is run again", file, why)
    return None


def _trial_text(trial: Trial, identity: str) -> str:
    return json.dumps({"trial": trial._asdict(), "sha256": digest(identity, list(trial))})


def _look(row: Mapping[str, float]) -> dict[str, float]:
    return {"step": row["step"]} | {
        name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")
    }


def _rounded(look: Mapping[str, float], num_rows: int) -> dict[str, float]:
    units = {"ks": 100.0, "distance": 100.0, "auc": 1.0}
    return {name: in_rows(value, num_rows, units[name]) if name in units else value for name, value in look.items()}


def _remove_checkpoints(trial: Path) -> None:
    """Removes the checkpoints of a trial that is not the best, to save space."""
    checkpoints, beaten = trial / CHECKPOINTS, trial / "beaten"
    if writes_files() and checkpoints.exists():
        shutil.rmtree(beaten, ignore_errors=True)
        os.replace(checkpoints, beaten)  # atomic: a half removed checkpoint would look damaged
        shutil.rmtree(beaten, ignore_errors=True)
