"""``prepare(config) -> Problem``: data, splits, original, Retrain and attackers, made once and cached."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ltu_jax.attackers.bank import Bank
from ltu_jax.attackers.fit import attacker_auc
from ltu_jax.attackers.networks import find_network
from ltu_jax.attackers.shadows import outputs_of
from ltu_jax.config import MOST_ROWS, UNLIKE_HELD_OUT, Config, Data, asked_for, needs
from ltu_jax.data.sources import load_source
from ltu_jax.data.splits import Canaries, draw_canaries, make_splits
from ltu_jax.evaluation.closeness import Answers, Figures
from ltu_jax.evaluation.scores import means
from ltu_jax.interop.weights import load_weights
from ltu_jax.models.build import ModelSpec, build_model
from ltu_jax.setting import ConfigError, digest, import_reference, raised, to_dict
from ltu_jax.training.checkpoint import tree_sha256
from ltu_jax.training.jobs import AUDIT, Trainer, train_or_find, train_together
from ltu_jax.types import ArrayTree, Parts, Progress, Scores, Source, Splits, UnlearnState, silent
from ltu_jax.unlearning.preparation import (
    answers,
    attackers,
    cached_closeness,
    cached_scores,
    closeness,
    jobs_of,
    original,
    retrain_jobs,
    score,
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A trained model with rows to forget, and everything a method is built from and compared with."""

    config: Config
    source: Source
    splits: Splits
    spec: ModelSpec
    original: UnlearnState
    retrains: tuple[UnlearnState, ...]
    bank: Bank | None
    updates: ArrayTree | None  # recorded while the original was trained, for the methods that need them
    original_scores: Scores
    retrain_scores: tuple[Scores, ...]
    closeness: dict[str, Figures] | None  # of ``original`` and ``retrain`` (one to the others); None without Retrain
    attackers: tuple[dict[str, Any], ...]  # name, auc_shadow (on outputs they were not fitted on), auc_original
    seconds: dict[str, float]  # original_s, retrain_s (one model), attackers_s: what each cost, now or once
    measures: dict[str, dict[str, float] | None] | None = None  # ``measured``, of ``original`` and mean ``retrain``

    @property
    def parts(self) -> Parts:
        """What a method is built from."""
        return Parts(
            apply_fn=self.spec.apply_fn,
            num_classes=self.source.num_classes,
            init_params=self.spec.init,
            features=self.spec.features,
            bank=self.bank,
            updates=self.updates,
            training=self.config.training,
            augment=self.config.data.augment,
        )

    @property
    def request_sha256(self) -> str:
        """Hash of what was asked for: see the function of this name."""
        original = {"params": self.original.params, **self.original.model_state}
        given = original if self.config.weights is not None else None
        return request_sha256(self.config, Loaded(self.source, self.splits, self.spec, given))

    @property
    def identity(self) -> str:
        """Hash of everything that an unlearning run on this problem is a function of."""
        models = [self.original.params, self.original.model_state, self.bank and self.bank.params, self.updates]
        return digest(self.request_sha256, tree_sha256(models))

    def score(self, state: UnlearnState) -> Scores:
        """The paper's measures of a state on this problem."""
        return score(self.config, self.source, self.splits, state)

    @property
    def retrained(self) -> list[Answers]:
        """What each Retrain says of the rows that a state is compared with it on."""
        return [answers(self.config, self.source, self.splits, state) for state in self.retrains]

    def closeness_of(self, state: UnlearnState, retrained: Sequence[Answers] | None = None) -> Figures | None:
        """How close a state comes to Retrain row by row, see ``evaluation.closeness.compare``; None without Retrain.

        Args:
          state: the model.
          retrained: as the property of this name, where it is kept for several calls; None asks the Retrains anew.
        """
        if not self.retrains:
            return None
        own = answers(self.config, self.source, self.splits, state)
        return closeness(self.source, self.splits, [own], retrained or self.retrained)[0]

    def measured(self, state: UnlearnState) -> dict[str, float]:
        """What ``config.evaluation.measure``, which must be set, says of a state: figures by name.

        Raises:
          ConfigError: if it raises, or returns something else than numbers by name.
        """
        name = self.config.evaluation.measure
        assert name is not None
        measure = import_reference(name, "config.evaluation.measure")
        try:
            return {str(key): float(value) for key, value in dict(measure(self, state)).items()}
        except Exception as error:  # the user's own code may raise anything
            why = ": ".join(filter(None, raised(error)))
            raise ConfigError(
                f"config.evaluation.measure: {name!r} failed ({why}); allowed: measure(problem, state) that returns a"
                " dictionary of numbers"
            ) from error

    def attackers_on(self, state: UnlearnState) -> dict[str, float]:
        """AUC of each attacker in telling the forget rows from validation rows; the forget rows are its members.

        Empty where there is nothing to compare them with: see ``has_like_rows``.
        """
        if self.bank is None or not has_like_rows(self.config, self.splits):
            return {}
        key = jax.random.fold_in(jax.random.key(self.config.seed_for("train")), AUDIT)
        members, others = self.splits.forget, self.splits.validation
        return attacker_auc(self.bank, outputs_of(self.config, self.source, state, members, others, key))


class Loaded(NamedTuple):
    """Data, splits, model and its weights if given: nothing is trained yet."""

    source: Source
    splits: Splits
    spec: ModelSpec
    weights: ArrayTree | None = None  # of the original, where they were given


def load_problem(config: Config, progress: Progress = silent, *, source: Source | None = None) -> Loaded:
    """Reads data, splits, model and given weights; everything that can be wrong with a configuration shows here.

    Args:
      config: resolved settings.
      progress: called with the rows read.
      source: the data, if already read by ``load_source``.

    Returns:
      ``Loaded``; for ``forget_kind`` subclass the labels are the coarse ones, for canaries theirs are wrong ones.

    Raises:
      ConfigError: if the data, the model, its weights or what is to be forgotten is not there or does not fit.
    """
    source = load_source(config.data, progress) if source is None else source
    splits = cut(config, source)
    if config.data.forget_kind == "subclass" and source.coarse is not None:
        source = dataclasses.replace(
            source, labels=source.coarse, coarse=None, num_classes=int(source.coarse.max()) + 1
        )
    if config.data.forget_kind == "canaries":
        drawn, labels = canaries(config, source), source.labels.copy()
        labels[drawn.rows] = drawn.labels
        source = dataclasses.replace(source, labels=labels)
    check_scoring(config, splits)
    return Loaded(source, splits, *model_for(config, source))


def canaries(config: Config, source: Source) -> Canaries:
    """The canaries of a problem, given its source as ``load_source`` read it: also those that are in no split.

    Raises:
      ConfigError: as ``cut``.
    """
    return draw_canaries(source, _with_held_out_part(config, source), config.seed_for("split"))


def model_for(config: Config, source: Source) -> tuple[ModelSpec, ArrayTree | None]:
    """The model that fits a source, and its weights if given.

    Raises:
      ConfigError: if the model or its weights are not there or do not fit.
    """
    if ":" in config.method.name:
        import_reference(config.method.name, "config.method.name")
    for name in config.attackers.names:
        find_network(name)
    if config.evaluation.measure is not None:
        import_reference(config.evaluation.measure, "config.evaluation.measure")
    spec = build_model(config.model, source.num_classes, source.images.shape[1:])
    if config.weights is None:
        return spec, None
    if "updates" in needs(config.method):
        raise ConfigError(
            f"config.weights: {config.weights!r} is trained, and {config.method.name} needs what is recorded in"
            " training; allowed: unset, or another method"
        )
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    return spec, load_weights(Path(config.weights), {"params": params, **model_state})


def check_scoring(config: Config, splits: Splits) -> None:
    """Refuses what there are no rows for: scoring during a run, attackers that are fitted on the original.

    Raises:
      ConfigError: if ``eval_every`` is set and there are no validation rows like the forget rows; if the attackers get
        fewer than two of the remaining rows.
    """
    if "bank" in needs(config.method) and config.attackers.fitted_on == "original" and len(splits.visible) < 2:
        raise ConfigError(
            f"config.data.remain_fraction: {config.data.remain_fraction} leaves {len(splits.visible)} of"
            f" {len(splits.remain)} remaining rows; allowed: two or more, for the attackers are fitted on some of the"
            " rows and measured on the others"
        )
    if config.eval_every and not has_like_rows(config, splits):
        raise ConfigError(
            f"config.eval_every: {config.eval_every} needs validation rows and a request of single rows like them;"
            " allowed: 0, or data.validation_fraction > 0 and data.forget_kind random or ids"
        )


def has_like_rows(config: Config, splits: Splits) -> bool:
    """Whether there are validation rows that the forget rows are to look like, once forgotten.

    There are none for a class forgotten whole, and for rows that were chosen for being unlike others.
    """
    chosen = config.data.forget_kind in UNLIKE_HELD_OUT
    return len(splits.validation) > 0 and not len(splits.test_forgotten) and not chosen


def cut(config: Config, source: Source, ids: Sequence[str] | None = None) -> Splits:
    """The splits of a source, ``ids`` to be forgotten where they are given.

    Raises:
      ConfigError: as ``make_splits`` and ``held_out_part``, and if the epochs are more images than can be counted.
    """
    splits = make_splits(source, _with_held_out_part(config, source), config.seed_for("split"), ids)
    for name in ("training", "method"):
        epochs, rows = getattr(getattr(config, name), "epochs", 0), len(splits.train)
        if (
            isinstance(epochs, int | float) and epochs * rows > MOST_ROWS
        ):  # images are counted in 32 bits where batches are drawn
            most = MOST_ROWS // rows
            raise ConfigError(
                f"config.{name}.epochs: {epochs} over {rows} rows are too many images; allowed: <= {most}"
            )
    return splits


def _with_held_out_part(config: Config, source: Source) -> Data:
    return dataclasses.replace(config.data, held_out=held_out_part(config, source))


def held_out_part(config: Config, source: Source) -> str:
    """Where held-out rows come from, ``train`` or ``test``: what ``config.data.held_out`` auto means for a source.

    Raises:
      ConfigError: if weights are given and nothing says which rows they never saw.
    """
    if config.data.held_out != "auto":
        return config.data.held_out
    if config.weights is None:
        return "train"
    if source.num_train == len(source.labels):
        raise ConfigError(
            f"config.data.held_out: 'auto' with config.weights, and {source.name!r} has no test part: nothing says"
            " which rows the weights never saw; allowed: data with a test part, or 'train' where these weights were"
            " trained on the same cut of the training part"
        )
    return "test"


def request_sha256(config: Config, loaded: Loaded) -> str:
    """Hash of settings, data, given weights and rows to be forgotten: two runs with the same one have one answer."""
    given = [] if loaded.weights is None else [tree_sha256(loaded.weights)]
    return digest(asked_for(to_dict(config)), loaded.splits.sha256(), loaded.source.sha256(), *given)


def prepare(
    config: Config,
    *,
    loaded: Loaded | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Problem:
    """Prepares everything that a run starts from.

    Args:
      config: resolved settings.
      loaded: what ``load_problem`` returned, where it was called before.
      cache: where originals, Retrain models and attackers are kept between runs; None keeps nothing.
      progress: called with the training steps taken.

    Returns:
      ``Problem``.

    Raises:
      ConfigError: if the settings do not fit the data.
      FloatingPointError: if a training diverges.
      CheckpointError: if a cache entry is damaged.
    """
    loaded = loaded or load_problem(config, progress)
    return _prepare(Trainer(config, loaded.source, loaded.spec, cache, progress), loaded)


def _prepare(trainer: Trainer, loaded: Loaded) -> Problem:
    config, (source, splits, spec, weights) = trainer.config, loaded
    begun_from = original(trainer, splits, weights)
    retrains = train_or_find(trainer, retrain_jobs(config, splits))
    seconds = {"original_s": float(begun_from["seconds"]), "attackers_s": 0.0}
    seconds["retrain_s"] = float(np.mean([r["seconds"] for r in retrains])) if retrains else 0.0
    states = [trainer.state_of(model) for model in (begun_from, *retrains)]
    scores = [cached_scores(trainer, state, splits) for state in states]
    problem = Problem(
        config,
        source,
        splits,
        spec,
        states[0],
        tuple(states[1:]),
        bank=None,
        updates=begun_from.get("updates"),
        original_scores=scores[0],
        retrain_scores=tuple(scores[1:]),
        closeness=cached_closeness(trainer, splits, states[0], states[1:]),
        attackers=(),
        seconds=seconds,
    )
    if "bank" in needs(config.method):
        bank, shadow_auc, seconds["attackers_s"] = attackers(trainer, splits, problem.original)
        problem = dataclasses.replace(problem, bank=bank)
        on_original = problem.attackers_on(problem.original)
        rows = [{"name": n, "auc_shadow": shadow_auc[n], "auc_original": on_original.get(n)} for n in bank.names]
        problem = dataclasses.replace(problem, attackers=tuple(rows))
    if config.evaluation.measure is not None:  # now, so that a mistake in it shows before anything is unlearned
        measured = [problem.measured(one) for one in problem.retrains]
        of = {"original": problem.measured(problem.original), "retrain": means(measured) if measured else None}
        problem = dataclasses.replace(problem, measures=of)
    return problem


def prepare_together(
    configs: Sequence[Config], loaded: Sequence[Loaded], *, cache: Path, at_once: int = 1, progress: Progress = silent
) -> list[Problem]:
    """``prepare`` for several configurations that differ in seeds alone, their models trained in few programs.

    Args:
      configs: resolved settings.
      loaded: what ``load_problem`` returned for each.
      cache: as for ``prepare``, but needed.
      at_once: how many models are trained in one program; which ones, these configurations together decide.
      progress: called with the training steps taken.

    Returns:
      ``Problem`` of each.

    Raises:
      ConfigError, FloatingPointError, CheckpointError: as ``prepare``.
    """
    both = list(zip(configs, loaded, strict=True))
    trainers = [Trainer(config, one.source, one.spec, cache, progress) for config, one in both]
    if at_once > 1:
        jobs = [jobs_of(config, one.splits, is_given=one.weights is not None) for config, one in both]
        trainers = train_together(list(zip(trainers, jobs, strict=True)), at_once)
    return [_prepare(trainer, one) for trainer, one in zip(trainers, loaded, strict=True)]
