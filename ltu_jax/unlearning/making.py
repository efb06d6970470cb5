"""The models of a problem: which there are, what each is a function of, and how they are trained or found."""

import dataclasses
import functools
import hashlib
import importlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.attackers.bank import Bank
from ltu_jax.attackers.fit import Outputs, asked_outputs, attacker_auc, fit_bank
from ltu_jax.config import Config, needs
from ltu_jax.data.devices import writes_files
from ltu_jax.evaluation.scores import evaluate
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import digest, to_dict
from ltu_jax.training.cache import Cached, cached, cached_numbers, entry_path, is_cached, under_way
from ltu_jax.training.checkpoint import tree_sha256
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.recording import train_recording
from ltu_jax.training.supervised import Keeping, train, train_together
from ltu_jax.types import ArrayTree, Progress, Scores, Source, Splits, UnlearnState, make_state

# A stream of keys of its own for each purpose, out of the seeds.
ORIGINAL, SHADOWS, ASKING, FIT, RETRAIN, UNLEARN, AUDIT = range(7)


class Wanted(NamedTuple):
    """A model to be trained."""

    label: str
    rows: np.ndarray
    stream: int  # whose keys
    index: int

    @property
    def kind(self) -> str:
        """The first word of its folder in the cache."""
        return self.label.split()[0]


def score(config: Config, source: Source, splits: Splits, state: UnlearnState) -> Scores:
    """The paper's measures of a state."""
    return evaluate(state.apply_fn, state, splits, source, batch_size=config.evaluation.batch_size)


@dataclasses.dataclass(frozen=True)
class Maker:
    """Trains or finds models; the key of each is everything it is a function of."""

    config: Config
    source: Source
    spec: ModelSpec
    cache: Path | None
    progress: Progress
    weights: ArrayTree | None = None  # the original's, where they were given

    @functools.cached_property
    def model_code(self) -> str | None:
        """Hash of the file of a model of the user's own: edited, it is another model."""
        name = self.config.model.name
        if ":" not in name:
            return None
        path = importlib.import_module(name.partition(":")[0]).__file__
        return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()

    @property
    def recorded_epochs(self) -> float | None:
        """Last epochs of the original's training that the method wants recorded."""
        return self.config.method.recorded_epochs if "updates" in needs(self.config.method) else None

    def wanted(self, splits: Splits) -> list[Wanted]:
        """All models of a problem that are trained without recording."""
        trained = self.recorded_epochs is None and self.weights is None
        originals = [Wanted("original", splits.train, ORIGINAL, 0)] if trained else []
        settings = self.config.attackers
        needs_shadows = "bank" in needs(self.config.method) and settings.fitted_on != "original"
        shadows = range(settings.num_shadows) if needs_shadows else ()
        return [*originals, *self.retrains(splits), *(self.shadow(splits.reserve, i)[0] for i in shadows)]

    def retrains(self, splits: Splits) -> list[Wanted]:
        """The Retrain models."""
        return [Wanted(f"retrain {i}", splits.remain, RETRAIN, i) for i in range(self.config.evaluation.num_retrain)]

    def shadow(self, reserve: np.ndarray, index: int) -> tuple[Wanted, np.ndarray, np.ndarray]:
        """A shadow, its members in random order, and as many others."""
        rng = np.random.default_rng([self.config.seed_for("train"), SHADOWS, index])
        inside, outside = np.array_split(rng.permutation(reserve), 2)
        label = f"shadow {index + 1}/{self.config.attackers.num_shadows}"
        return Wanted(label, np.sort(inside), SHADOWS, index), inside, outside

    def key(self, wanted: Wanted) -> list[Any]:
        """Everything that a model is a function of."""
        settings = to_dict(self.config)
        recipe = [settings["model"], settings["training"], settings["data"]["augment"], self.config.seeds.train]
        rows, classes = digest(wanted.rows.tolist()), self.source.num_classes
        return [self.source.sha256(), rows, recipe, classes, self.model_code, wanted.stream, wanted.index]

    def start(self, wanted: Wanted) -> tuple[tuple[ArrayTree, ArrayTree], jax.Array]:
        """Initial parameters and statistics of a model, and the key of its training."""
        seed = jax.random.key(self.config.seed_for("train"))
        key = jax.random.fold_in(jax.random.fold_in(seed, wanted.stream), wanted.index)
        init_key, train_key = jax.random.split(key)
        return self.spec.init(init_key), train_key

    def train(self, trainer: Callable, wanted: Wanted, label: str, kept_as: tuple[str, Any], **more: Any) -> Any:
        """What ``trainer`` makes of the rows of a model; the entry it becomes says where it is saved meanwhile."""
        start, key = self.start(wanted)
        rows, training = self.source.rows(wanted.rows), self.config.training
        more |= {"augment": self.config.data.augment, "progress": self.progress, "label": label}
        return trainer(self.spec.apply_fn, *start, rows, training, key, keeping=self.keeping(*kept_as), **more)

    def keeping(self, kind: str, key: Any) -> Keeping | None:
        """Where and how often the training that makes a cache entry is saved."""
        folder = under_way(self.cache, kind, key)
        return None if folder is None else Keeping(folder, self.config.save_seconds)

    def original(self, splits: Splits) -> Cached:
        """The original, as given or trained; recorded, the forget set is part of what made it."""
        if self.weights is not None:
            given = jax.tree.map(jnp.asarray, dict(self.weights))  # onto the device
            params = given.pop("params")
            return Cached({"params": params, "model_state": given, "seconds": jnp.zeros(())}, 0.0, True)
        wanted = Wanted("original", splits.train, ORIGINAL, 0)
        if self.recorded_epochs is None:
            return self.model(wanted)

        def make() -> dict[str, ArrayTree]:
            marked = np.isin(splits.train, splits.forget)
            recorded = {"marked": marked, "last_epochs": self.recorded_epochs}
            kept_as = "recorded", key
            state, updates, seconds = self.train(train_recording, wanted, "original, recorded", kept_as, **recorded)
            return {**_kept(state, seconds), "updates": updates}

        key = [*self.key(wanted), digest(splits.forget.tolist()), self.recorded_epochs]
        return cached(self.cache, "recorded", key, make)

    def found_original(self, splits: Splits) -> ArrayTree | None:
        """The original where it was trained before and lies in the cache; None otherwise."""
        wanted = Wanted("original", splits.train, ORIGINAL, 0)
        if self.cache is None or not is_cached(self.cache, wanted.kind, self.key(wanted)):
            return None
        return self.model(wanted).value

    def original_path(self, splits: Splits) -> Path | None:
        """Where the cache keeps the original that is trained here; None without a cache."""
        wanted = Wanted("original", splits.train, ORIGINAL, 0)
        return None if self.cache is None else entry_path(self.cache, wanted.kind, self.key(wanted))

    def model(self, wanted: Wanted) -> Cached:
        """A model, trained or found."""
        kept_as = wanted.kind, self.key(wanted)
        return cached(self.cache, *kept_as, lambda: _kept(*self.train(train, wanted, wanted.label, kept_as)))

    def state(self, model: Cached) -> UnlearnState:
        """The state that a run starts from."""
        return self.state_of(model.value)

    def state_of(self, model: ArrayTree) -> UnlearnState:
        """``state`` of a model as it lies in the cache."""
        params, model_state = model["params"], model["model_state"]
        rng = jax.random.fold_in(jax.random.key(self.config.seed_for("unlearn")), UNLEARN)
        return make_state(self.spec.apply_fn, params, model_state, SGD, rng)

    def scores(self, state: UnlearnState, splits: Splits) -> Scores:
        """The scores of a model that many runs are compared with, computed once."""
        key = [tree_sha256([state.params, state.model_state]), self.source.sha256(), splits.sha256()]
        key += [self.config.evaluation.batch_size, self.model_code]

        def make() -> dict[str, float | None]:
            return dataclasses.asdict(score(self.config, self.source, splits, state))

        return Scores(**cached_numbers(self.cache, "scores", key, make))

    def bank(self, splits: Splits, original: UnlearnState) -> tuple[Bank, dict[str, float], float]:
        """The bank, each attacker's AUC on outputs it was not fitted on, and the seconds that it cost."""
        settings = self.config.attackers
        key = [*self.key(Wanted("shadows", splits.reserve, SHADOWS, 0)), dataclasses.asdict(settings)]
        if settings.fitted_on != "original":
            made = cached(self.cache, "attackers", key, lambda: self.fit_bank(splits.reserve))
        else:
            known = splits.visible
            key += [digest(known.tolist()), tree_sha256([original.params, original.model_state])]
            made = cached(self.cache, "attackers", key, lambda: self.fit_bank_on(original, known, splits.reserve))
        auc = {name: float(made.value["auc"][name]) for name in settings.names}
        return Bank(made.value["params"], tuple(settings.names)), auc, float(made.value["seconds"])

    def fit_bank_on(self, original: UnlearnState, known: np.ndarray, held_out: np.ndarray) -> dict[str, ArrayTree]:
        """``fit_bank`` without shadows: on the original itself, rows it was trained on against rows it never saw.

        A fifth of each is kept to report the attackers' AUC.
        """
        settings, seed, start = self.config.attackers, self.config.seed_for("train"), time.perf_counter()
        rng = np.random.default_rng([seed, SHADOWS])
        members, others = (np.split(rng.permutation(rows), [max(1, len(rows) // 5)]) for rows in (known, held_out))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), ASKING))
        kept, fitted_on = (
            self._ask(original, members[part], others[part], keys[part], draws)
            for part, draws in enumerate((1, settings.draws))
        )
        return self._fitted(fitted_on, kept, start)

    def fit_bank(self, reserve: np.ndarray) -> dict[str, ArrayTree]:
        """The fitted attackers, their AUC, and the seconds of the shadows' steps and of everything after."""
        settings, seed = self.config.attackers, jax.random.key(self.config.seed_for("train"))
        asking = jax.random.fold_in(seed, ASKING)
        outputs, seconds, start = [], 0.0, time.perf_counter()
        for i in range(settings.num_shadows):
            wanted, inside, outside = self.shadow(reserve, i)
            held_out, before = i == settings.num_shadows - 1, time.perf_counter()
            shadow = self.model(wanted).value
            # What its steps took, now or when it was made; not how long it took to find it.
            seconds += float(shadow["seconds"]) - (time.perf_counter() - before)
            draws = 1 if held_out else settings.draws
            outputs.append(self._ask(self.state_of(shadow), inside, outside, jax.random.fold_in(asking, i), draws))
        fitted_on = Outputs(*(jnp.concatenate(x) for x in zip(*outputs[:-1], strict=True)))
        return self._fitted(fitted_on, outputs[-1], start, seconds)

    def _ask(self, state: UnlearnState, members: np.ndarray, others: np.ndarray, key: jax.Array, draws: int) -> Outputs:
        return asked_outputs(
            self.spec.apply_fn,
            state.params,
            state.model_state,
            self.source.rows(members),
            self.source.rows(others),
            key,
            batch_size=self.config.training.batch_size,
            augment=self.config.data.augment,
            draws=draws,
        )

    def _fitted(self, outputs: Outputs, kept: Outputs, start: float, seconds: float = 0.0) -> dict[str, ArrayTree]:
        """Attackers fitted on outputs, their AUC on those kept, and the seconds since ``start`` with those before."""
        key = jax.random.fold_in(jax.random.key(self.config.seed_for("train")), FIT)
        bank = fit_bank(outputs, self.config.attackers, self.source.num_classes, key)
        auc = {name: jnp.float32(value) for name, value in attacker_auc(bank, kept).items()}
        seconds += time.perf_counter() - start
        return {"params": bank.params, "auc": auc, "seconds": jnp.float32(seconds)}


def train_missing(makers: Sequence[tuple[Maker, Splits]], at_once: int) -> None:
    """Trains what is not in the cache yet, several models in one program; those of one are trained on as many rows.

    Originals whose training is recorded are left to ``Maker.original``.

    Args:
      makers: the makers of problems that differ in seeds alone, with their splits.
      at_once: how many models a program.
    """
    missing: dict[str, tuple[Maker, Wanted]] = {}  # runs may want the same model
    for make, splits in makers:
        for wanted in make.wanted(splits):
            key = make.key(wanted)
            if make.cache is not None and not is_cached(make.cache, wanted.kind, key):
                missing[digest(key)] = make, wanted
    for size in sorted({len(wanted.rows) for _, wanted in missing.values()}):
        models = [model for model in missing.values() if len(model[1].rows) == size]
        for start in range(0, len(models), at_once):
            _train_chunk(models[start : start + at_once])


def _train_chunk(models: list[tuple[Maker, Wanted]]) -> None:
    makers, wanted = zip(*models, strict=True)
    starts, keys = zip(*(make.start(w) for make, w in models), strict=True)
    trained = train_together(
        makers[0].spec.apply_fn,
        starts,
        [make.source.rows(w.rows) for make, w in models],
        makers[0].config.training,
        keys,
        augment=makers[0].config.data.augment,
        progress=makers[0].progress,
        label=f"{len(models)} models" if len(models) > 1 else wanted[0].label,
        keeping=(keeping := makers[0].keeping("together", [make.key(w) for make, w in models])),
    )
    for make, w, (state, seconds) in zip(makers, wanted, trained, strict=True):
        cached(make.cache, w.kind, make.key(w), lambda: _kept(state, seconds))  # noqa: B023, used at once
    if keeping is not None and writes_files():
        shutil.rmtree(keeping.folder, ignore_errors=True)


def _kept(state: UnlearnState, seconds: float) -> dict[str, ArrayTree]:
    """A trained model as it lies in the cache."""
    return {"params": state.params, "model_state": state.model_state, "seconds": jnp.float32(seconds)}
