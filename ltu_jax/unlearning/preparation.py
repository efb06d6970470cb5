"""The models of a problem: original, Retrain, shadows, attackers; and the scores that runs are compared with."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.attackers.bank import Bank
from ltu_jax.attackers.shadows import fit_on_original, fit_on_shadows, shadow
from ltu_jax.config import Config, needs
from ltu_jax.evaluation.closeness import Answers, Figures, compare
from ltu_jax.evaluation.scores import evaluate, means
from ltu_jax.setting import digest
from ltu_jax.training.cache import CacheEntry, cached, cached_numbers
from ltu_jax.training.checkpoint import tree_sha256
from ltu_jax.training.jobs import ORIGINAL, RETRAIN, SHADOWS, Trainer, TrainingJob, code_sha256
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import ArrayTree, Scores, Source, Splits, UnlearnState


def original_job(splits: Splits) -> TrainingJob:
    """The original, trained on all training rows."""
    return TrainingJob("original", splits.train, ORIGINAL)


def retrain_jobs(config: Config, splits: Splits) -> list[TrainingJob]:
    """The Retrain models."""
    return [TrainingJob(f"retrain {i}", splits.remain, RETRAIN, i) for i in range(config.evaluation.num_retrain)]


def jobs_of(config: Config, splits: Splits, *, is_given: bool) -> list[TrainingJob]:
    """All models of a problem that are trained without recording; the original is not if its weights are given."""
    asked = needs(config.method)
    originals = [] if is_given or "updates" in asked else [original_job(splits)]
    has_shadows = "bank" in asked and config.attackers.fitted_on != "original"
    shadows = range(config.attackers.num_shadows if has_shadows else 0)
    return [*originals, *retrain_jobs(config, splits), *(shadow(config, splits.reserve, i).job for i in shadows)]


def original(trainer: Trainer, splits: Splits, weights: ArrayTree | None = None) -> ArrayTree:
    """The original, as its weights were given or trained; recorded where the method needs that."""
    if weights is not None:
        given = jax.tree.map(jnp.asarray, dict(weights))  # onto the device
        params = given.pop("params")
        return {"params": params, "model_state": given, "seconds": jnp.zeros(())}
    method = trainer.config.method
    if "updates" in needs(method):
        return trainer.recorded(original_job(splits), splits.forget, method.recorded_epochs)
    return trainer.model(original_job(splits))


def score(config: Config, source: Source, splits: Splits, state: UnlearnState) -> Scores:
    """The paper's measures of a state."""
    return evaluate(state.apply_fn, state, splits, source, batch_size=config.evaluation.batch_size)


def cached_scores(trainer: Trainer, state: UnlearnState, splits: Splits) -> Scores:
    """The scores of a model that many runs are compared with, computed once."""
    key = {"model": _sha256(state), **_measured_on(trainer, splits)}

    def make() -> dict[str, float | None]:
        return dataclasses.asdict(score(trainer.config, trainer.source, splits, state))

    return Scores(**cached_numbers(CacheEntry(trainer.cache, "scores", key), make))


def _sha256(state: UnlearnState) -> str:
    return tree_sha256([state.params, state.model_state])


def _measured_on(trainer: Trainer, splits: Splits) -> dict[str, Any]:
    """What measures of a model are a function of, beside the model."""
    return {
        "settings": dataclasses.asdict(trainer.config.model),
        "code": trainer.model_code,
        "data": trainer.source.sha256(),
        "splits": splits.sha256(),
        "batch_size": trainer.config.evaluation.batch_size,
    }


def answers(config: Config, source: Source, splits: Splits, state: UnlearnState) -> Answers:
    """What a state says of the rows that it is compared with Retrain on."""
    forward, rows = EvalForward(state.apply_fn), compared_rows(splits)

    def ask(name: str) -> np.ndarray:
        images, batch_size = source.stored(rows[name]), config.evaluation.batch_size
        return predict(forward, state.params, state.model_state, images, batch_size=batch_size)

    return ask


def compared_rows(splits: Splits) -> dict[str, np.ndarray]:
    """The sets of rows that models are compared with Retrain on; to ``test`` belong those of forgotten classes."""
    test = np.concatenate([splits.test, splits.test_forgotten])
    return {"forget": splits.forget, "remain": splits.remain, "test": test}


def closeness(source: Source, splits: Splits, models: Sequence[Answers], retrains: Sequence[Answers]) -> list[Figures]:
    """How close models come to Retrain row by row: see ``compare``."""
    return compare(models, retrains, {name: source.labels[rows] for name, rows in compared_rows(splits).items()})


def cached_closeness(
    trainer: Trainer, splits: Splits, original: UnlearnState, retrains: Sequence[UnlearnState]
) -> dict[str, Figures] | None:
    """How close the original, and a Retrain to the others, come: computed once. None without Retrain."""
    if not retrains:
        return None
    key = {"models": [_sha256(state) for state in (original, *retrains)], **_measured_on(trainer, splits)}

    def make() -> dict[str, Figures]:
        config, source = trainer.config, trainer.source
        first, *others = (answers(config, source, splits, state) for state in (original, *retrains))
        of_original, *of_retrains = closeness(source, splits, [first, *others], others)
        return {"original": of_original, "retrain": means(of_retrains)}

    return cached_numbers(CacheEntry(trainer.cache, "closeness", key), make)


def attackers(trainer: Trainer, splits: Splits, original: UnlearnState) -> tuple[Bank, dict[str, float], float]:
    """The bank, each attacker's AUC on outputs it was not fitted on, and the seconds that it cost."""
    settings, reserve = trainer.config.attackers, splits.reserve
    key = {**trainer.key(TrainingJob("shadows", reserve, SHADOWS)), "settings": dataclasses.asdict(settings)}
    if settings.fitted_on != "original":
        shadows = [shadow(trainer.config, reserve, i).job for i in range(settings.num_shadows)]
        key["in_program"] = [trainer.in_program(job) for job in shadows]
        make = functools.partial(fit_on_shadows, trainer, reserve)
    else:
        known = splits.visible
        key["known"] = digest(known.tolist())
        key["original"] = _sha256(original)
        make = functools.partial(fit_on_original, trainer, original, known, reserve)
    if code := [one for one in map(code_sha256, settings.names) if one is not None]:
        key["attackers_code"] = code
    made = cached(CacheEntry(trainer.cache, "attackers", key), make)
    auc = {name: float(made["auc"][name]) for name in settings.names}
    return Bank(made["params"], tuple(settings.names)), auc, float(made["seconds"])
