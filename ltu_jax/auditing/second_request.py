"""A second request, for the audits that choose their rows: canaries, and hard, random and easy rows.

Canaries are training rows of the run that get a wrong label; a coin says for each whether the second original is
trained on it. That original, of the run's recipe, keeps its rows' losses; by them strata are chosen among its other
rows. The run's method, with its settings, then makes it forget the strata and the canaries that are in: as many rows
as the run forgot. Retrains of this request never saw them, and are the references.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing.again import unlearned_again
from ltu_jax.auditing.canaries import OneRun, one_run
from ltu_jax.auditing.difficulty import Strata, difficulty, strata
from ltu_jax.auditing.findings import Finding
from ltu_jax.auditing.intervals import Figure, figure, one_more, resampled_weights, span, spread_of_rows
from ltu_jax.auditing.plan import PlannedModel
from ltu_jax.config import Config
from ltu_jax.data.splits import Canaries, canaries_of, see
from ltu_jax.evaluation.closeness import BOUND
from ltu_jax.evaluation.scores import measure
from ltu_jax.training.jobs import AUDITED_ORIGINAL, AUDITED_RETRAIN, Trainer, TrainingJob, train_or_find
from ltu_jax.types import Source, Splits, UnlearnState

SECOND = ("canaries", "strata")
"""The audits that are made of one."""
RETRAINS = 2
"""At least: with fewer nothing is known of how much they differ."""
MOST = 500
SEED = 29
"""Of coins, strata and resamples."""


class Second(NamedTuple):
    """The second request, nothing of it trained yet; strata follow from the training of its original."""

    source: Source  # canaries have their wrong labels
    canaries: Canaries
    train: np.ndarray  # i64[.], what its original is trained on


class Models(NamedTuple):
    """Its models."""

    splits: Splits
    strata: Strata
    original: UnlearnState
    unlearned: UnlearnState
    retrains: tuple[UnlearnState, ...]


def default_canaries(splits: Splits) -> int:
    """How many canaries a run of this size bears: a fiftieth of its rows, and a tenth of what it forgets is in."""
    return min(MOST, len(splits.train) // 50, len(splits.forget) // 5)


def second_request(source: Source, splits: Splits, count: int, seed: int) -> Second:
    """Draws the canaries.

    Args:
      source: the data of the run.
      splits: of the run.
      count: m; 0 for none.
      seed: of the run's splits, from which a stream of its own is made.

    Raises:
      ConfigError: there are fewer training rows.
    """
    drawn = canaries_of(source.labels, splits.train, source.num_classes, count, SEED + 1000 * seed)
    labels = source.labels.copy()
    labels[drawn.rows] = drawn.labels
    train = np.setdiff1d(splits.train, drawn.rows[~drawn.is_in])
    return Second(dataclasses.replace(source, labels=labels), drawn, train)


def stratum_size(splits: Splits, second: Second) -> int:
    """Rows of each stratum, so that about as many rows are forgotten as in the run."""
    return (len(splits.forget) - int(second.canaries.is_in.sum())) // 3


def original_job(second: Second) -> TrainingJob:
    """The training of its original."""
    return TrainingJob("audited-original", second.train, AUDITED_ORIGINAL)


def retrain_jobs(remain: np.ndarray, count: int) -> list[TrainingJob]:
    """The trainings of its Retrains, on the rows that remain."""
    return [TrainingJob(f"audited-retrain {k}", remain, AUDITED_RETRAIN, k) for k in range(count)]


def planned(trainer: Trainer, splits: Splits, second: Second, of_one: float, num_retrain: int) -> list[PlannedModel]:
    """Its trainings; whether its Retrains are in the cache is known only when its original is.

    Args:
      trainer: of the run.
      splits: of the run.
      second: what ``second_request`` returned.
      of_one: seconds that a training on the run's training rows took.
      num_retrain: how many Retrains it has.
    """
    own = dataclasses.replace(trainer, source=second.source, places={})
    found = own.traced_entry(original_job(second)).is_there()
    rows, remain = len(second.train), len(second.train) - len(splits.forget)
    seconds = [of_one * count / len(splits.train) for count in (rows, remain)]
    original = PlannedModel(
        "audited-original", "its rows, canaries that are in", rows, found, 0.0 if found else seconds[0]
    )
    jobs = retrain_jobs(second.train, num_retrain)
    retrains = [PlannedModel(job.label, "what remains of them", remain, False, seconds[1]) for job in jobs]
    return [original, *retrains]


def models_of(trainer: Trainer, splits: Splits, second: Second, num_retrain: int) -> Models:
    """Trains, or finds in the cache, and unlearns.

    Args:
      trainer: of the run.
      splits: of the run.
      second: what ``second_request`` returned.
      num_retrain: how many Retrains it has.
    """
    trainer = dataclasses.replace(trainer, source=second.source, places={})
    original, config = trainer.traced(original_job(second)), trainer.config
    included = second.canaries.rows[second.canaries.is_in]
    is_canary = np.isin(second.train, included)
    found = difficulty(np.asarray(original["losses"])[:, ~is_canary])
    size = stratum_size(splits, second)
    chosen = strata(second.train[~is_canary], found, size, np.random.default_rng([SEED, config.seed_for("split")]))
    forget = np.sort(np.concatenate([*chosen, included]))
    own = dataclasses.replace(splits, forget=forget, remain=np.setdiff1d(second.train, forget), seen=None)
    own = see(own, config.data.remain_fraction, config.seed_for("split"))
    seed = int(np.random.default_rng([SEED, config.seed_for("unlearn")]).integers(2**32))  # not the run's own
    unlearned = unlearned_again(trainer, second.source, own, original, seed)
    retrains = train_or_find(trainer, retrain_jobs(own.remain, num_retrain))
    states = [trainer.state_of(model) for model in (original, *retrains)]
    return Models(own, chosen, states[0], unlearned, tuple(states[1:]))


def canary_audit(
    config: Config,
    source: Source,
    drawn: Canaries,
    unlearned: UnlearnState,
    original: UnlearnState,
    retrains: Sequence[UnlearnState],
) -> Finding:
    """``auditing.canaries``; a score is the margin of the wrong label, less its mean under the Retrains.

    Args:
      config: of the run.
      source: the data, canaries with their wrong labels.
      drawn: the canaries.
      unlearned: the model.
      original: trained on the canaries that are in.
      retrains: trained on none; the floor is each beside the others, where there are two.
    """
    size = config.evaluation.batch_size

    def margins(state: UnlearnState) -> np.ndarray:
        return measure(state, source, {"canaries": drawn.rows}, size)["canaries"].margin

    theirs = np.array([margins(state) for state in retrains]).reshape(len(retrains), -1)

    def above(own: np.ndarray, others: np.ndarray) -> np.ndarray:
        return own - (others.mean(axis=0) if len(others) else 0.0)

    def found(scores: np.ndarray) -> OneRun:
        return one_run(scores, drawn.is_in, np.random.default_rng(SEED))

    scores = above(margins(unlearned), theirs)
    main, ceiling = found(scores), found(above(margins(original), theirs))
    several = range(len(theirs) if len(theirs) > 1 else 0)
    floor = [found(above(theirs[k], np.delete(theirs, k, axis=0))).epsilon.value for k in several]
    details = {**main._asdict(), "scores": {"in": scores[drawn.is_in], "out": scores[~drawn.is_in]}}
    return Finding("canaries", main.epsilon, ceiling.epsilon, span(floor), main.p_value, main.epsilon.value, details)


def strata_audit(config: Config, second: Second, models: Models) -> Finding:
    """Accuracy on each stratum beside that of Retrains; the main figure is that of the hard rows."""
    found = {name: _stratum(config, second.source, rows, models) for name, rows in models.strata._asdict().items()}
    hard = found["hard"]
    ends = span([one - other for one, other in itertools.permutations(hard["retrain"], 2)])  # either could stand first
    # Margins are tested, over the few Retrains: how small an effect that shows is in their unit, not in points.
    main, ceiling = (hard[name]._replace(smallest=math.nan) for name in ("difference", "of_original"))
    return Finding("strata", main, ceiling, ends, hard["p_value"], hard["margin_over_seeds"].value, found)


def _stratum(config: Config, source: Source, rows: np.ndarray, models: Models) -> dict[str, Any]:
    """Accuracies on a stratum in percent, and differences to the mean of Retrains in points, over its rows.

    The p-value is of the mean margin: where two Retrains have equally many of few rows right, nothing is known of their
    spread.
    """
    size, states = config.evaluation.batch_size, (models.unlearned, models.original, *models.retrains)
    found = [measure(state, source, {"rows": rows}, size)["rows"] for state in states]
    own, original, *theirs = (100.0 * one.correct for one in found)
    margin, _, *of_retrains = (np.clip(one.margin, -BOUND, BOUND) for one in found)
    least = spread_of_rows(np.array(of_retrains))
    over_seeds, p_value = one_more(margin.mean(), np.mean(of_retrains, axis=1), least=least)
    return {
        "rows": len(rows),
        "unlearned": float(own.mean()),
        "original": float(original.mean()),
        "retrain": [float(one.mean()) for one in theirs],
        "difference": _mean_over_rows(own - np.mean(theirs, axis=0)),
        "of_original": _mean_over_rows(original - np.mean(theirs, axis=0)),
        "margin_over_seeds": over_seeds,
        "p_value": p_value,
    }


def _mean_over_rows(differences: np.ndarray) -> Figure:
    rng = np.random.default_rng(SEED)
    drawn = [np.average(differences, weights=w) for w in resampled_weights(np.zeros(len(differences), int), rng)]
    return figure(float(differences.mean()), np.array(drawn))
