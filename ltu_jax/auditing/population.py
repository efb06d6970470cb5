"""A population for the audits that compare distributions: shadows in complementary pairs, unlearned, and oracles.

Candidates are the forget rows and as many others. Each shadow is trained on the common rows, which are all others, and
on a random half of the candidates, and forgets that half by the run's method with its settings; its complement has the
other half. Oracles are trained on the common rows alone, so each is an exact Retrain of every shadow.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing import forgetting_quality as quality
from ltu_jax.auditing import klom as divergences
from ltu_jax.auditing import lira
from ltu_jax.auditing.again import unlearned_again
from ltu_jax.auditing.audited import answers
from ltu_jax.auditing.findings import Finding, as_json
from ltu_jax.auditing.intervals import normal_p_value
from ltu_jax.data.splits import see
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.training.jobs import AUDITED_SHADOW, ORACLE, Trainer, TrainingJob, train_or_find
from ltu_jax.types import ArrayTree, Splits

POPULATION = ("lira", "klom", "forgetting_quality")
"""The audits that are made of one."""
FEWEST = 6
"""Shadows, and oracles: U-LiRA leaves a pair out, and compares with two or more."""


class Cut(NamedTuple):
    """Which rows the models of a population are trained on, and forget; indices into the source."""

    candidates: np.ndarray  # i64[M]
    common: np.ndarray  # i64[.]
    masks: np.ndarray  # bool[S, M], what each shadow is trained on and forgets
    pairs: np.ndarray  # i64[S/2, 2]


class Population(NamedTuple):
    """Margins of the label on the candidates."""

    cut: Cut
    unlearned: np.ndarray  # f64[S, M], shadows after unlearning
    oracles: np.ndarray  # f64[N, M]
    of_one: np.ndarray  # f64[N, .], of the first shadow unlearned N times, on what it forgot


def cut(splits: Splits, shadows: int, rng: np.random.Generator) -> Cut:
    """Draws candidates, and their halves.

    Args:
      splits: of the run.
      shadows: S, even.
      rng: for the draws.

    Raises:
      ValueError: fewer rows remain than are forgotten, or ``shadows`` is not even.
    """
    count, remain = len(splits.forget), splits.remain
    if shadows % 2 or count >= len(remain):
        raise ValueError(
            f"{shadows} shadows, {count} rows to forget, {len(remain)} remain; allowed: an even number of shadows, and"
            " more rows that remain than are forgotten"
        )
    others = rng.choice(remain, count, replace=False)
    candidates = np.sort(np.concatenate([splits.forget, others]))
    masks = []
    for _ in range(shadows // 2):
        half = np.zeros(2 * count, bool)
        half[rng.permutation(2 * count)[:count]] = True
        masks += [half, ~half]
    pairs = np.arange(shadows).reshape(-1, 2)
    return Cut(candidates, np.setdiff1d(remain, others), np.array(masks), pairs)


def jobs(made: Cut, oracles: int) -> tuple[list[TrainingJob], list[TrainingJob]]:
    """The trainings of shadows and of oracles."""
    of_shadows = [
        TrainingJob(f"audited-shadow {i + 1}/{len(made.masks)}", _trained_on(made, i), AUDITED_SHADOW, i)
        for i in range(len(made.masks))
    ]
    return of_shadows, [TrainingJob(f"oracle {i + 1}/{oracles}", made.common, ORACLE, i) for i in range(oracles)]


def populate(trainer: Trainer, splits: Splits, made: Cut, oracles: int, at_once: int = 1) -> Population:
    """Trains a population, or finds it in the cache, and unlearns its shadows.

    Args:
      trainer: of the run, its method not one that needs a recorded original.
      splits: of the run.
      made: what ``cut`` returned.
      oracles: N.
      at_once: models trained in one program.
    """
    of_shadows, of_oracles = (train_or_find(trainer, todo, at_once) for todo in jobs(made, oracles))
    first = 1 + trainer.config.seed_for("unlearn")  # not the run's own

    def margins(tree: ArrayTree) -> np.ndarray:
        return _margins(trainer, tree, made.candidates)

    unlearned = []
    for i, shadow in enumerate(of_shadows):
        state = unlearned_again(trainer, trainer.source, _splits(trainer, splits, made, i), shadow, first + i)
        unlearned.append(margins({"params": state.params, "model_state": state.model_state}))
    of_one, forgot = [], made.candidates[made.masks[0]]
    for k in range(oracles):
        own = _splits(trainer, splits, made, 0)
        state = unlearned_again(trainer, trainer.source, own, of_shadows[0], first + len(of_shadows) + k)
        of_one.append(_margins(trainer, {"params": state.params, "model_state": state.model_state}, forgot))
    return Population(made, np.array(unlearned), np.array([margins(tree) for tree in of_oracles]), np.array(of_one))


def population_audits(population: Population, names: Sequence[str]) -> list[Finding]:
    """The findings of the audits that are named, of ``POPULATION``."""
    found = {"lira": lira_audit, "klom": klom_audit, "forgetting_quality": quality_audit}
    return [found[name](population) for name in POPULATION if name in names]


def lira_audit(population: Population) -> Finding:
    """``auditing.lira``: the main figure is the privacy variant's, with sigmas pooled up to 64 shadows."""
    made = population.cut
    privacy = lira.privacy(population.unlearned, made.masks, made.pairs)
    efficacy = lira.efficacy(population.unlearned, made.masks, made.pairs, population.oracles)
    details = {one.variant: _short(one) for one in (privacy, efficacy)}
    return Finding("lira", privacy.main.auc, p_value=normal_p_value(privacy.main.auc, 0.5), details=as_json(details))


def klom_audit(population: Population) -> Finding:
    """``auditing.klom`` of the shadows that forgot a row and oracles; the floor is that of oracles and oracles.

    The floor depends on the number of models, so the same is made of as few shadows and oracles too (``at_floor``).
    """
    made = population.cut
    first, second = made.pairs.T
    unlearned = np.where(made.masks[first], population.unlearned[first], population.unlearned[second])
    half = len(population.oracles) // 2
    few = min(half, len(unlearned))
    found = divergences.klom(unlearned, population.oracles)
    floor = divergences.klom(population.oracles[:few], population.oracles[half:][:few])
    at_floor = divergences.klom(unlearned[:few], population.oracles[half:][:few])
    details: dict[str, Any] = {
        name: {"mean": getattr(found, name).mean, "p95": getattr(found, name).p95}
        for name in ("unlearned_to_oracle", "oracle_to_unlearned")
    }
    details |= {"models": found.models, "models_of_floor": floor.models}
    details["at_floor"] = at_floor.unlearned_to_oracle.mean
    ends = floor.unlearned_to_oracle.mean.value, floor.oracle_to_unlearned.mean.value  # either could stand first
    return Finding("klom", found.unlearned_to_oracle.mean, floor=(min(ends), max(ends)), details=as_json(details))


def quality_audit(population: Population) -> Finding:
    """``auditing.forgetting_quality`` of one shadow unlearned many times and oracles; the floor is of oracles alone."""
    oracles = population.oracles[:, population.cut.masks[0]]
    half = len(oracles) // 2
    found = quality.forgetting_quality(population.of_one, oracles)
    floor = quality.forgetting_quality(oracles[:half], oracles[half:][:half])
    at_floor = quality.forgetting_quality(population.of_one[:half], oracles[half:][:half])
    details = {
        "models": found.models,
        "models_of_floor": floor.models,
        "at_floor": at_floor.quality,
        "epsilon": np.quantile(found.epsilon, [0.5, 0.95]),
    }
    value = floor.quality.value
    return Finding("forgetting_quality", found.quality, floor=(value, value), details=as_json(details))


def _short(found: lira.ULira) -> dict[str, object]:
    """Of a variant of U-LiRA what is small: no array of rows."""
    of = {
        name: {"auc": one.auc, "balanced_accuracy": one.balanced_accuracy, "tpr": one.tpr}
        for name, one in (("pooled", found.pooled), ("own", found.own))
    }
    accuracy = np.quantile(found.main.row_accuracy, np.linspace(0, 1, 11))
    return {**of, "references": found.references, "shadows": found.num_shadows, "row_accuracy": accuracy}


def _trained_on(made: Cut, shadow: int) -> np.ndarray:
    return np.sort(np.concatenate([made.common, made.candidates[made.masks[shadow]]]))


def _splits(trainer: Trainer, splits: Splits, made: Cut, shadow: int) -> Splits:
    """The request of a shadow: its half is forgotten, the common rows remain."""
    own = dataclasses.replace(splits, forget=made.candidates[made.masks[shadow]], remain=made.common, seen=None)
    return see(own, trainer.config.data.remain_fraction, trainer.config.seed_for("split"))


def _margins(trainer: Trainer, tree: ArrayTree, rows: np.ndarray) -> np.ndarray:
    state, source = trainer.state_of(tree), trainer.source
    logits = answers(state, source, {"rows": rows}, trainer.config.evaluation.batch_size)["rows"]
    return predictions(logits, source.labels[rows]).margin
