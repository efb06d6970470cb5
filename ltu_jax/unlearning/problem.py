"""``prepare(config) -> Problem``: data, splits, original, Retrain and attackers, made once and cached."""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.attackers.bank import Bank
from ltu_jax.attackers.fit import Outputs, asked_outputs, attacker_auc, fit_bank
from ltu_jax.config import Config
from ltu_jax.data.sources import load_source
from ltu_jax.data.splits import make_splits
from ltu_jax.evaluation.scores import evaluate
from ltu_jax.models.build import ModelSpec, build_model
from ltu_jax.setting import ConfigError, digest, import_reference, to_dict
from ltu_jax.training.cache import Cached, cached, cached_numbers
from ltu_jax.training.checkpoint import tree_sha256
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.recording import train_recording
from ltu_jax.training.supervised import train
from ltu_jax.types import ArrayTree, Parts, Progress, Scores, Source, Splits, UnlearnState, make_state, silent

# A stream of keys of its own for each purpose, out of the seeds.
ORIGINAL, SHADOWS, ASKING, FIT, RETRAIN, UNLEARN, AUDIT = range(7)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A trained model with something to forget, and all that a method is built from and compared with."""

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
    attackers: tuple[dict[str, Any], ...]  # name, auc_shadow, auc_original
    seconds: dict[str, float]  # original_s, retrain_s (one model), attackers_s: what each cost, now or once

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
    def identity(self) -> str:
        """Hash of everything that an unlearning run on this problem is a function of."""
        models = [self.original.params, self.original.model_state, self.bank and self.bank.params, self.updates]
        return digest(request_sha256(self.config, self.source, self.splits), tree_sha256(models))

    def score(self, state: UnlearnState) -> Scores:
        """The paper's measures of a state on this problem."""
        return _score(self.config, self.source, self.splits, state)

    def attackers_on(self, state: UnlearnState) -> dict[str, float]:
        """AUC of each attacker in telling the forget rows from validation rows; the forget rows are its members.

        Empty where there is nothing to compare them with: no validation rows, or a class forgotten whole.
        """
        if self.bank is None or not len(self.splits.validation) or len(self.splits.test_forgotten):
            return {}
        members, others = self.source.rows(self.splits.forget), self.source.rows(self.splits.validation)
        return attacker_auc(self.bank, self._ask(state, members, others))

    def _ask(self, state: UnlearnState, members: Any, others: Any) -> Outputs:
        return asked_outputs(
            self.spec.apply_fn,
            state.params,
            state.model_state,
            members,
            others,
            jax.random.fold_in(jax.random.key(self.config.seeds.train or 0), AUDIT),
            batch_size=self.config.training.batch_size,
            augment=self.config.data.augment,
        )


class Loaded(NamedTuple):
    """The data, how they are cut, and the model that fits them: nothing is trained yet."""

    source: Source
    splits: Splits
    spec: ModelSpec


def load(config: Config, progress: Progress = silent) -> Loaded:
    """Data, splits and model alone: everything that can be wrong with a configuration is found here.

    Args:
      config: resolved settings.
      progress: told about rows read.

    Returns:
      ``Loaded``; for ``forget_kind`` subclass the labels are the coarse ones.

    Raises:
      ConfigError: if the data, the model or what is to be forgotten is not there.
    """
    source = load_source(config.data, progress)
    splits = make_splits(source, config.data, config.seeds.split or 0)
    if config.data.forget_kind == "subclass" and source.coarse is not None:
        source = dataclasses.replace(
            source, labels=source.coarse, coarse=None, num_classes=int(source.coarse.max()) + 1
        )
    if config.eval_every and (not len(splits.validation) or len(splits.test_forgotten)):
        raise ConfigError(
            f"config.eval_every: {config.eval_every} needs validation rows and a request of single rows;"
            " allowed: 0, or data.validation_fraction > 0 and data.forget_kind random or ids"
        )
    if ":" in config.method.name:
        import_reference(config.method.name, "config.method.name")
    return Loaded(source, splits, build_model(config.model, source.num_classes, source.images.shape[1:]))


def request_sha256(config: Config, source: Source, splits: Splits) -> str:
    """Hash of the settings, the data and the rows to be forgotten: two runs with the same one have the same answer."""
    return digest(to_dict(config), splits.sha256(), source.sha256())


def prepare(
    config: Config,
    *,
    loaded: Loaded | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Problem:
    """Composes everything that a run starts from.

    Args:
      config: resolved settings.
      loaded: what ``load`` gave, where it was called before.
      cache: where originals, Retrain models and attackers are kept between runs; None keeps nothing.
      progress: told about every training step.

    Returns:
      ``Problem``.

    Raises:
      ConfigError: if the settings do not fit the data.
      FloatingPointError: if a training diverges.
      CheckpointError: if a cache entry is damaged.
    """
    source, splits, spec = loaded or load(config, progress)
    make = _Maker(config, source, spec, cache, progress)
    recorded_epochs = getattr(config.method, "recorded_epochs", None)
    original = make.original(splits, recorded_epochs)
    retrains = [make.model(f"retrain {i}", splits.remain, RETRAIN, i) for i in range(config.evaluation.num_retrain)]
    seconds = {"original_s": float(original.value["seconds"]), "attackers_s": 0.0}
    seconds["retrain_s"] = float(np.mean([r.value["seconds"] for r in retrains])) if retrains else 0.0
    states = [make.state(model) for model in (original, *retrains)]
    scores = [make.scores(state, splits) for state in states]
    problem = Problem(
        config,
        source,
        splits,
        spec,
        states[0],
        tuple(states[1:]),
        bank=None,
        updates=original.value.get("updates"),
        original_scores=scores[0],
        retrain_scores=tuple(scores[1:]),
        attackers=(),
        seconds=seconds,
    )
    if not getattr(config.method, "needs_bank", True):
        return problem
    bank, shadow_auc, seconds["attackers_s"] = make.bank(splits)
    problem = dataclasses.replace(problem, bank=bank)
    on_original = problem.attackers_on(problem.original)
    rows = [{"name": n, "auc_shadow": shadow_auc[n], "auc_original": on_original.get(n)} for n in bank.names]
    return dataclasses.replace(problem, attackers=tuple(rows))


def _score(config: Config, source: Source, splits: Splits, state: UnlearnState) -> Scores:
    return evaluate(state.apply_fn, state, splits, source, batch_size=config.evaluation.batch_size)


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Trains or finds models; the key of each is everything it is a function of."""

    config: Config
    source: Source
    spec: ModelSpec
    cache: Path | None
    progress: Progress

    @functools.cached_property
    def model_code(self) -> str | None:
        """Hash of the file of a model of the user's own: edited, it is another model."""
        name = self.config.model.name
        if ":" not in name:
            return None
        path = importlib.import_module(name.partition(":")[0]).__file__
        return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def key(self, rows: np.ndarray, stream: int, index: int) -> list[Any]:
        settings = to_dict(self.config)
        recipe = [settings["model"], settings["training"], settings["data"]["augment"], self.config.seeds.train]
        classes = self.source.num_classes
        return [self.source.sha256(), digest(rows.tolist()), recipe, classes, self.model_code, stream, index]

    def train(self, label: str, rows: np.ndarray, stream: int, index: int) -> dict[str, ArrayTree]:
        state, seconds = self._trained(train, label, rows, stream, index)
        return {"params": state.params, "model_state": state.model_state, "seconds": jnp.float32(seconds)}

    def _trained(self, trainer: Callable, label: str, rows: np.ndarray, stream: int, index: int, **more: Any) -> Any:
        seed = jax.random.key(self.config.seeds.train or 0)
        init_key, train_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(seed, stream), index))
        return trainer(
            self.spec.apply_fn,
            *self.spec.init(init_key),
            self.source.rows(rows),
            self.config.training,
            train_key,
            augment=self.config.data.augment,
            progress=self.progress,
            label=label,
            **more,
        )

    def original(self, splits: Splits, recorded_epochs: float | None) -> Cached:
        """The original; where its last epochs are recorded the forget set is part of what made it."""
        if recorded_epochs is None:
            return self.model("original", splits.train, ORIGINAL, 0)

        def make() -> dict[str, ArrayTree]:
            state, updates, seconds = self._trained(
                train_recording,
                "original, recorded",
                splits.train,
                ORIGINAL,
                0,
                marked=np.isin(splits.train, splits.forget),
                last_epochs=recorded_epochs,
            )
            models = {"params": state.params, "model_state": state.model_state, "updates": updates}
            return {**models, "seconds": jnp.float32(seconds)}

        key = [*self.key(splits.train, ORIGINAL, 0), digest(splits.forget.tolist()), recorded_epochs]
        return cached(self.cache, "recorded", key, make)

    def model(self, label: str, rows: np.ndarray, stream: int, index: int) -> Cached:
        kind, key = label.split()[0], self.key(rows, stream, index)
        return cached(self.cache, kind, key, lambda: self.train(label, rows, stream, index))

    def state(self, model: Cached) -> UnlearnState:
        params, model_state = model.value["params"], model.value["model_state"]
        rng = jax.random.fold_in(jax.random.key(self.config.seeds.unlearn or 0), UNLEARN)
        return make_state(self.spec.apply_fn, params, model_state, SGD, rng)

    def scores(self, state: UnlearnState, splits: Splits) -> Scores:
        """The scores of a model that many runs are compared with, computed once."""
        key = [tree_sha256([state.params, state.model_state]), self.source.sha256(), splits.sha256()]
        key += [self.config.evaluation.batch_size, self.model_code]

        def make() -> dict[str, float | None]:
            return dataclasses.asdict(_score(self.config, self.source, splits, state))

        return Scores(**cached_numbers(self.cache, "scores", key, make))

    def bank(self, splits: Splits) -> tuple[Bank, dict[str, float], float]:
        """The bank, each attacker's AUC on the shadow held out, and the seconds it all took."""
        settings = self.config.attackers
        key = [*self.key(splits.reserve, SHADOWS, 0), dataclasses.asdict(settings)]
        made = cached(self.cache, "attackers", key, lambda: self.fit_bank(splits.reserve))
        auc = {name: float(made.value["auc"][name]) for name in settings.names}
        return Bank(made.value["params"], tuple(settings.names)), auc, made.seconds

    def fit_bank(self, reserve: np.ndarray) -> dict[str, ArrayTree]:
        settings, seed = self.config.attackers, jax.random.key(self.config.seeds.train or 0)
        outputs = []
        for i in range(settings.num_shadows):
            rng = np.random.default_rng([self.config.seeds.train or 0, SHADOWS, i])
            inside, outside = np.array_split(rng.permutation(reserve), 2)
            held_out = i == settings.num_shadows - 1
            shadow = self.model(f"shadow {i + 1}/{settings.num_shadows}", np.sort(inside), SHADOWS, i).value
            outputs.append(
                asked_outputs(
                    self.spec.apply_fn,
                    shadow["params"],
                    shadow["model_state"],
                    self.source.rows(inside),
                    self.source.rows(outside),
                    jax.random.fold_in(jax.random.fold_in(seed, ASKING), i),
                    batch_size=self.config.training.batch_size,
                    augment=self.config.data.augment,
                    draws=1 if held_out else settings.draws,
                )
            )
        fitted_on = Outputs(*(jnp.concatenate(x) for x in zip(*outputs[:-1], strict=True)))
        bank = fit_bank(fitted_on, settings, self.source.num_classes, jax.random.fold_in(seed, FIT))
        auc = {name: jnp.float32(value) for name, value in attacker_auc(bank, outputs[-1]).items()}
        return {"params": bank.params, "auc": auc}
