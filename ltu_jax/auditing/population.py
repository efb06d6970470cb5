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
from ltu_jax.auditing.findings import Finding
from ltu_jax.auditing.intervals import FEW, normal_p_value, span
from ltu_jax.data.splits import see
from ltu_jax.evaluation.scores import measure
from ltu_jax.training.jobs import AUDITED_SHADOW, ORACLE, Trainer, TrainingJob, train_or_find
from ltu_jax.types import Splits, UnlearnState

POPULATION = ("lira", "klom", "forgetting_quality")
"""The audits that are made of one."""
SEED, SPLITS = 31, 5
"""Of the ways in which oracles are halved, and how many."""


class Cut(NamedTuple):
    """Which rows the models of a population are trained on, and forget; indices into the source."""

    candidates: np.ndarray  # i64[M]
    common: np.ndarray  # i64[.]
    masks: np.ndarray  # bool[S, M], what each shadow is trained on and forgets
    pairs: np.ndarray  # i64[S/2, 2]


class Population(NamedTuple):
    """Margins of the label on the candidates."""

    cut: Cut
    before: np.ndarray  # f64[S, M], shadows as they were trained
    unlearned: np.ndarray  # f64[S, M], the same after unlearning
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
    before, theirs = ([trainer.state_of(tree) for tree in trees] for trees in (of_shadows, of_oracles))
    first = 1 + trainer.config.seed_for("unlearn")  # not the run's own
    requests = [_splits(trainer, splits, made, i) for i in range(len(of_shadows))]
    # Each unlearned model is freed when its margins are taken.
    unlearned = (
        unlearned_again(trainer, trainer.source, own, shadow, first + i)
        for i, (own, shadow) in enumerate(zip(requests, of_shadows, strict=True))
    )
    of_one = (
        unlearned_again(trainer, trainer.source, requests[0], of_shadows[0], first + len(of_shadows) + k)
        for k in range(oracles)
    )
    all_rows, forgot = made.candidates, requests[0].forget
    asked = (before, all_rows), (unlearned, all_rows), (theirs, all_rows), (of_one, forgot)
    return Population(made, *(np.array([_margins(trainer, one, rows) for one in states]) for states, rows in asked))


def population_audits(population: Population, names: Sequence[str]) -> list[Finding]:
    """The findings of the audits that are named, of ``POPULATION``."""
    found = {"lira": lira_audit, "klom": klom_audit, "forgetting_quality": quality_audit}
    return [found[name](population) for name in POPULATION if name in names]


def lira_audit(population: Population) -> Finding:
    """``auditing.lira``: the main figure is the privacy variant's, with sigmas pooled up to 64 shadows."""
    made = population.cut
    privacy = lira.privacy(population.unlearned, made.masks, made.pairs)
    efficacy = lira.efficacy(population.unlearned, made.masks, made.pairs, population.oracles)
    ceiling = lira.privacy(population.before, made.masks, made.pairs).main.auc
    details = {one.variant: _short(one) for one in (privacy, efficacy)}
    auc = privacy.main.auc
    return Finding("lira", auc, ceiling, None, normal_p_value(auc, 0.5), auc.value - 0.5, details)


def klom_audit(population: Population) -> Finding:
    """``auditing.klom`` of shadows that forgot a row and oracles; the floor is that of oracles and other oracles.

    Both depend on the number of models. So the main figure is of as many as the floor, half of the oracles on each
    side; that of all models is in the details. The floor is the range over several ways to halve the oracles.
    """
    made = population.cut
    unlearned, before = (lira.sides(of, made.masks, made.pairs)[0] for of in (population.unlearned, population.before))
    halves = _halves(population.oracles)
    few = min(len(unlearned), len(halves[0][0]))
    found, ceiling = (divergences.klom(of[:few], halves[0][1][:few]) for of in (unlearned, before))
    of_all = divergences.klom(unlearned, population.oracles)
    floors = [divergences.klom(one[:few], other[:few], resamples=FEW) for one, other in halves]
    details: dict[str, Any] = {"models": found.models, "of_all_models": of_all.models}
    for name in ("unlearned_to_oracle", "oracle_to_unlearned"):
        details[name] = {"mean": getattr(found, name).mean, "p95": getattr(found, name).p95}
        details[f"{name}_of_all"] = {"mean": getattr(of_all, name).mean, "p95": getattr(of_all, name).p95}
    ends = [one.unlearned_to_oracle.mean.value for one in floors]
    figures = found.unlearned_to_oracle.mean, ceiling.unlearned_to_oracle.mean
    return Finding("klom", *figures, floor=span(ends), details=details)


def quality_audit(population: Population) -> Finding:
    """``auditing.forgetting_quality`` of one shadow unlearned many times and oracles; sizes and floor as of KLoM."""
    halves = _halves(population.oracles[:, population.cut.masks[0]])
    few = len(halves[0][0])
    found = quality.forgetting_quality(population.of_one[:few], halves[0][1])
    of_all = quality.forgetting_quality(population.of_one, population.oracles[:, population.cut.masks[0]])
    floor = [quality.forgetting_quality(one, other, resamples=FEW).quality.value for one, other in halves]
    details = {
        "models": found.models,
        "of_all_models": of_all.models,
        "of_all": of_all.quality,
        "epsilon": np.quantile(found.epsilon, [0.5, 0.95]),
    }
    return Finding("forgetting_quality", found.quality, floor=span(floor), details=details)


def _halves(oracles: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Several ways to cut the oracles into two halves of equal size."""
    rng, half = np.random.default_rng(SEED), len(oracles) // 2
    orders = [rng.permutation(len(oracles)) for _ in range(SPLITS)]
    return [(oracles[order[:half]], oracles[order[half : 2 * half]]) for order in orders]


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


def _margins(trainer: Trainer, state: UnlearnState, rows: np.ndarray) -> np.ndarray:
    return measure(state, trainer.source, {"rows": rows}, trainer.config.evaluation.batch_size)["rows"].margin
