"""How hard to forget, when no Retrain exists to compare with: learning rate and number of steps.

What can be seen without Retrain is whether the forget rows look like held-out rows (``evaluation.likeness``) and what
that costs on the remaining and on held-out rows. Each trial is one run at one learning rate that looks at both as it
goes; the best look of the best trial is the model. The rows it looks at are validation rows: the evidence for the
request is taken on others.
"""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.config import Config
from ltu_jax.deletion.measures import in_rows
from ltu_jax.devices import writes_files
from ltu_jax.evaluation.likeness import Predictions, ks_noise, likeness, predictions
from ltu_jax.files import write_whole
from ltu_jax.methods import build_method
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import Progress, Rows, Splits, UnlearnState, Visible, silent
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.monitor import Judge
from ltu_jax.unlearning.problem import Problem
from ltu_jax.unlearning.saving import History

BEYOND = 10.0
"""Points of distance for each point lost beyond the tolerance: utility comes first."""

CLEARLY = 2.0
"""Points of distance that are more than the noise between two looks."""


class Calibrator(NamedTuple):
    """A ``monitor.Judge`` that looks at likeness and at what is lost."""

    sets: Mapping[str, tuple[Any, np.ndarray]]  # images and labels of forget, remain (the rho subset), validation
    original: Mapping[str, Predictions]  # of remain and validation, before
    tolerance: float  # points
    patience: int
    batch_size: int

    def score(self, state: UnlearnState) -> dict[str, float]:
        """Accuracies in percent, what was lost and the parts of the likeness in points, and ``distance``."""
        told = _answers(state, self.sets, self.batch_size)
        found = {name: 100 * float(one.correct.mean()) for name, one in told.items()}
        alike = likeness(told["forget"], told["validation"])
        lost = max(accuracy_lost(before.correct, told[name].correct) for name, before in self.original.items())
        distance = alike.distance + BEYOND * max(0.0, lost - self.tolerance)
        return {
            **found,
            "lost": lost,
            "ks": alike.ks,
            "confidence": alike.confidence,
            "auc": alike.auc,
            "unlike": alike.distance,
            "distance": distance,
        }

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """Whether the last looks, as many as its patience, were all clearly worse than one before them.

        Clearly: before forgetting takes hold a run stands still, and that is no reason to give up.
        """
        last = distances[-self.patience :]
        return len(distances) > self.patience and min(last) > min(distances) + CLEARLY

    def warnings(self, state: UnlearnState) -> list[str]:
        """What the calibrated model still lacks, and the field to turn."""
        now, out = self.score(state), []
        noise = ks_noise(self.sets["forget"][1], self.sets["validation"][1])
        if now["ks"] > noise:
            side, turn = ("better", "raise") if now["auc"] > 0.5 else ("worse", "lower")
            ks = in_rows(now["ks"], len(self.sets["forget"][1]))
            out.append(
                f"the forget rows are known {side} than held-out rows: {ks:.1f} points apart, more than chance alone"
                f" makes of so many; {turn} config.method.epochs or config.method.learning_rate"
            )
        if now["lost"] > self.tolerance:
            out.append(
                f"{now['lost']:.1f} points of accuracy are lost and config.calibration.tolerance is {self.tolerance:g}:"
                " nothing that was tried keeps it; raise config.data.remain_fraction or the tolerance"
            )
        return out


def check_calibration(config: Config, splits: Splits) -> None:
    """Refuses a problem that cannot be calibrated.

    Raises:
      ConfigError: if the method has no learning rate to look for, or there are no validation rows to look at.
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


def make_calibrator(problem: Problem) -> Calibrator:
    """The judge of the runs of a request."""
    config, splits, source = problem.config, problem.splits, problem.source
    rows = {"forget": splits.forget, "remain": splits.visible, "validation": splits.validation}
    sets = {name: (source.stored(index), source.labels[index]) for name, index in rows.items()}
    settings, size = config.calibration, config.evaluation.batch_size
    original = _answers(problem.original, {name: sets[name] for name in ("remain", "validation")}, size)
    return Calibrator(sets, original, settings.tolerance, settings.patience, size)


def accuracy_lost(before: np.ndarray, after: np.ndarray) -> float:
    """Accuracy lost beyond noise: what two standard errors of a paired difference leave of it.

    Args:
      before: which rows one model has right, bool[M].
      after: which the other has.

    Returns:
      Points, >= 0.
    """
    change = before.astype(float) - after
    return max(0.0, float(100 * (change.mean() - 2 * change.std() / math.sqrt(len(change)))))


class Trial(NamedTuple):
    """One learning rate, and how its run went."""

    learning_rate: float
    num_steps: int  # of the whole schedule
    looks: list[dict[str, float]]  # each with ``step`` and what ``Calibrator.score`` says
    best: int  # which look

    @property
    def distance(self) -> float:
        """Of the best look."""
        return self.looks[self.best]["distance"]


class Calibrated(NamedTuple):
    """The model chosen, how it was made, and all that was tried."""

    state: UnlearnState
    history: History
    trials: list[Trial]
    chosen: int
    original: dict[str, float]  # accuracy on remain and validation before, percent
    tolerance: float

    def as_json(self, in_rows: int | None = None) -> dict[str, Any]:
        """The curve of forgetting against utility, the point chosen, and why.

        Args:
          in_rows: how many rows were to be forgotten: what is said of them is then no finer than one row counts.
        """
        if in_rows is not None:
            trials = [t._replace(looks=[_told_in_rows(look, in_rows) for look in t.looks]) for t in self.trials]
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
        """Why this point, in one sentence."""
        trial = self.trials[self.chosen]
        look = trial.looks[trial.best]
        within = sum(one["lost"] <= self.tolerance for t in self.trials for one in t.looks)
        total = sum(len(t.looks) for t in self.trials)
        kept = f"of {within} of {total} points that lose at most {self.tolerance:g} points of accuracy"
        if look["lost"] > self.tolerance:
            kept = f"of {total} points, none of which keeps the tolerance of {self.tolerance:g} points,"
        return (
            f"learning rate {trial.learning_rate:.3g}, stopped at step {look['step']:.0f} of {trial.num_steps}: {kept}"
            f" the one at which the forget rows look most like held-out rows ({look['unlike']:.1f} points apart,"
            f" {look['lost']:.1f} lost)"
        )


def calibrate(
    problem: Problem, directory: Path | None = None, progress: Progress = silent, *, judge: Judge | None = None
) -> Calibrated:
    """Searches learning rate and steps of the problem's method, and keeps the model of the best.

    The search (Optuna's TPE over the rate, on a log scale, after the configured one and larger ones) is a function of
    the problem: killed and started again it goes through the same trials, of which those that are done cost nothing.

    Args:
      problem: its method must have a ``learning_rate``.
      directory: where trials are saved, so that a killed search goes on; None keeps nothing.
      progress: told about every finished step.
      judge: what the trials are compared by, where it is not the problem's own calibrator.

    Returns:
      ``Calibrated``.

    Raises:
      ConfigError: if the method has no learning rate, or nothing is held out.
      FloatingPointError: if every trial diverged.
    """
    import optuna

    check_calibration(problem.config, problem.splits)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, seed = problem.config.calibration, problem.config.seed_for("unlearn")
    calibrator, rate = make_calibrator(problem), problem.config.method.learning_rate
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=3))  # those enqueued
    # Larger rates first: those that are too large are given up soon, and so cost little.
    for times in (1.0, math.sqrt(settings.factor), settings.factor):
        study.enqueue_trial({"learning_rate": rate * times})
    space = optuna.distributions.FloatDistribution(rate / settings.factor, rate * settings.factor, log=True)
    trials: list[Trial] = []
    best: tuple[float, int, UnlearnState, History] | None = None
    for number in range(settings.trials):
        asked = study.ask({"learning_rate": space})
        own = float(f"{asked.params['learning_rate']:.3g}")
        where = None if directory is None else directory / f"trial-{number + 1}"
        trial, ended = _run(problem, judge or calibrator, own, where, best and best[0], progress)
        trials.append(trial)
        study.tell(asked, trial.distance if trial.looks else math.inf)
        if ended is not None and (best is None or trial.distance < best[0]):
            if best is not None and directory is not None:
                _forget_states(directory / f"trial-{best[1] + 1}")
            best = (trial.distance, number, *ended)
    if best is None:
        raise FloatingPointError(
            f"calibration: all {settings.trials} trials diverged; try a smaller config.method.learning_rate"
        )
    _, chosen, state, history = best
    original = {name: 100 * float(before.correct.mean()) for name, before in calibrator.original.items()}
    return Calibrated(state, history, trials, chosen, original, settings.tolerance)


def _run(
    problem: Problem,
    judge: Judge,
    rate: float,
    where: Path | None,
    to_beat: float | None,
    progress: Progress,
) -> tuple[Trial, tuple[UnlearnState, History] | None]:
    """A trial, and its model if it may be the best; one that is known not to be is not run again."""
    config = problem.config
    method = build_method(dataclasses.replace(config.method, learning_rate=rate), problem.parts)
    identity = digest(problem.identity, rate, dataclasses.asdict(config.calibration))
    done = None if where is None else where / "trial.json"
    if done is not None and done.exists():
        told = json.loads(done.read_text())
        was_beaten = not (done.parent / "checkpoints").exists()
        if told["identity"] == identity and (was_beaten or not told["looks"]):
            return Trial(rate, told["num_steps"], told["looks"], told["best"]), None
    labels, splits = problem.source.labels, problem.splits
    num_steps = method.num_steps(Visible(*(Rows(None, labels[rows]) for rows in (splits.forget, splits.visible))))
    try:
        state, history = run_problem(
            problem,
            method,
            folder=where,
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
        ended = (state, history)
    except FloatingPointError:
        trial, ended = Trial(rate, num_steps, [], 0), None
    if done is not None and writes_files():
        told = {"identity": identity, **trial._asdict()}
        write_whole(done, json.dumps(told))
        if ended is not None and to_beat is not None and trial.distance >= to_beat:
            _forget_states(done.parent)
    return trial, ended


def _look(row: Mapping[str, float]) -> dict[str, float]:
    return {"step": row["step"]} | {
        name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")
    }


def _told_in_rows(look: Mapping[str, float], num_rows: int) -> dict[str, float]:
    units = {"ks": 100.0, "confidence": 100.0, "unlike": 100.0, "distance": 100.0, "auc": 1.0}
    return {name: in_rows(value, num_rows, units[name]) if name in units else value for name, value in look.items()}


def _forget_states(trial: Path) -> None:
    """Drops the checkpoints of a trial that was beaten: models take room."""
    checkpoints, beaten = trial / "checkpoints", trial / "beaten"
    if writes_files() and checkpoints.exists():
        shutil.rmtree(beaten, ignore_errors=True)
        os.replace(checkpoints, beaten)  # at once: one that is half gone would be taken for a damaged one
        shutil.rmtree(beaten, ignore_errors=True)


def _answers(
    state: UnlearnState, sets: Mapping[str, tuple[Any, np.ndarray]], batch_size: int
) -> dict[str, Predictions]:
    forward, out = EvalForward(state.apply_fn), {}
    for name, (images, labels) in sets.items():
        logits = predict(forward, state.params, state.model_state, images, batch_size=batch_size)
        out[name] = predictions(logits, labels)
    return out
