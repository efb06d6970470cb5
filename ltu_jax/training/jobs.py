"""Lists of models to train: each is trained once, or found in the cache, several in one program where that is faster.

Originals, Retrain and shadows are such lists; so are the models that an audit wants on rows of its own.

A model of a program of several rounds otherwise than alone, and its place among them matters, so its key holds both;
beside which others changes no bit. The programs are cut from the whole list, whatever the cache has: a program that
lacks one of its models is trained again, and those that are there stay. So what was there before changes no bit.
"""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Config
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import digest, to_dict
from ltu_jax.training.cache import CacheEntry, cached, cached_together
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.recording import recording_run, tracing_run
from ltu_jax.training.saving import Run, Saving
from ltu_jax.training.supervised import Trained, finish_trainings, training_run
from ltu_jax.types import ArrayTree, Progress, Source, UnlearnState, make_state

# Each purpose has its own stream of random keys. These numbers must not change; a new purpose takes a new one.
ORIGINAL, SHADOWS, ASKING, FIT, RETRAIN, UNLEARN, AUDIT = range(7)
AUDITED_ORIGINAL, AUDITED_RETRAIN, AUDITED_SHADOW, ORACLE, RELEARN = range(7, 12)


class TrainingJob(NamedTuple):
    """A model to be trained."""

    label: str  # for the progress bar; its first word names the entry of the cache
    rows: np.ndarray  # i64[.], indices into the source
    stream: int  # of keys, such as ``RETRAIN``
    index: int = 0  # of the model among those of its stream

    @property
    def kind(self) -> str:
        """The first word of its folder in the cache."""
        return self.label.split()[0]


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains the models of one configuration, or finds them in the cache."""

    config: Config
    source: Source
    spec: ModelSpec
    cache: Path | None  # None keeps nothing
    progress: Progress
    places: Mapping[str, list[int]] = dataclasses.field(default_factory=dict)
    """See ``in_program``, of jobs that are not trained alone: of ``train_together``."""

    @functools.cached_property
    def model_code(self) -> str | None:
        """Hash of the file that defines the user's own model: an edited file is another model."""
        return code_sha256(self.config.model.name)

    def key(self, job: TrainingJob) -> dict[str, Any]:
        """Everything that a model depends on, JSON-ready, but for what every entry of a cache has."""
        settings = to_dict(self.config)
        return {
            "data": self.source.sha256(),
            "classes": self.source.num_classes,
            "rows": digest(job.rows.tolist()),
            "model": settings["model"],
            "code": self.model_code,
            "training": settings["training"],
            "augment": settings["data"]["augment"],
            "seed": self.config.seeds.train,
            "stream": [job.stream, job.index],
            "in_program": self.in_program(job),
        }

    def in_program(self, job: TrainingJob) -> list[int]:
        """The place of a job in its program, from 0, and how many models are trained in it."""
        return self.places.get(_name(job), [0, 1])

    def initial(self, job: TrainingJob) -> tuple[tuple[ArrayTree, ArrayTree], jax.Array]:
        """Initial parameters and statistics of a model, and the key of its training."""
        seed = jax.random.key(self.config.seed_for("train"))
        key = jax.random.fold_in(jax.random.fold_in(seed, job.stream), job.index)
        init_key, train_key = jax.random.split(key)
        return self.spec.init(init_key), train_key

    def entry(self, job: TrainingJob) -> CacheEntry:
        """Where the cache keeps a model."""
        return CacheEntry(self.cache, job.kind, self.key(job))

    def training(self, job: TrainingJob, saving: Saving | None) -> Run:
        """The training of a model, not begun."""
        (params, model_state), key = self.initial(job)
        return training_run(
            self.spec.apply_fn,
            params,
            model_state,
            self.source.rows(job.rows),
            self.config.training,
            key,
            augment=self.config.data.augment,
            saving=saving,
        )

    def model(self, job: TrainingJob, made_for: str | None = None) -> ArrayTree:
        """A model, trained or found: ``{"params", "model_state", "seconds"}``.

        Args:
          job: the model; one of a program of several is found by the trainer that ``train_together`` returned.
          made_for: see ``cached``.

        Raises:
          FloatingPointError: if its training diverges.
          CheckpointError: as ``cached``.
        """
        return _train_or_load([(self, job)], made_for)[0]

    def recorded(self, job: TrainingJob, forget: np.ndarray, last_epochs: float) -> ArrayTree:
        """``model``, and ``updates``: what its training did at the batches that held a row of ``forget``."""
        key = {**self.key(job), "forget": digest(forget.tolist()), "last_epochs": last_epochs}
        marked, part = np.isin(job.rows, forget), last_epochs / self.config.training.epochs
        recorder = functools.partial(recording_run, marked=marked, part=part)
        return self._recorded(job, CacheEntry(self.cache, "recorded", key), recorder, "updates")

    def traced_entry(self, job: TrainingJob) -> CacheEntry:
        """Where the cache keeps what ``traced`` returns."""
        return CacheEntry(self.cache, "traced", dataclasses.replace(self, places={}).key(job))

    def traced(self, job: TrainingJob) -> ArrayTree:
        """``model`` trained alone, and ``losses`` f16[E, M] of its rows: see ``tracing_run``."""
        entry = self.traced_entry(job)
        recorder = functools.partial(tracing_run, epochs=self.config.training.epochs)
        return self._recorded(job, entry, recorder, "losses")

    def _recorded(self, job: TrainingJob, entry: CacheEntry, recorder: Callable[[Run], Run], what: str) -> ArrayTree:
        """A model, and the field ``what`` of the state that its training ends with when ``recorder`` changed it."""

        def make() -> dict[str, ArrayTree]:
            run = recorder(self.training(job, entry.saving(self.config.save_seconds)))
            (trained,) = finish_trainings([run], label=f"{job.label}, recorded", progress=self.progress)
            return {**_value(trained), what: getattr(trained.state, what)}

        return cached(entry, make)

    def state_of(self, model: ArrayTree) -> UnlearnState:
        """The state that a run starts from, made of an entry of the cache."""
        params, model_state = model["params"], model["model_state"]
        rng = jax.random.fold_in(jax.random.key(self.config.seed_for("unlearn")), UNLEARN)
        return make_state(self.spec.apply_fn, params, model_state, SGD, rng)


def code_sha256(name: str) -> str | None:
    """Hash of the file that defines what ``module:attribute`` names; None for what is this package's own."""
    if ":" not in name:
        return None
    path = importlib.import_module(name.partition(":")[0]).__file__
    return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()


def train_or_find(trainer: Trainer, jobs: Sequence[TrainingJob], at_once: int = 1) -> list[ArrayTree]:
    """The models of a list of jobs, each trained once; what a stopped call had trained is found by the next.

    Args:
      trainer: trains them; with ``at_once`` > 1 it needs a cache.
      jobs: what to train.
      at_once: how many models of one kind and equally many rows are trained in one program.

    Returns:
      ``{"params", "model_state", "seconds"}`` of each.

    Raises:
      FloatingPointError, CheckpointError: as ``Trainer.model``.
    """
    if at_once > 1:
        (trainer,) = train_together([(trainer, jobs)], at_once)
    return [trainer.model(job) for job in jobs]


def train_together(wanted: Sequence[tuple[Trainer, Sequence[TrainingJob]]], at_once: int) -> list[Trainer]:
    """Trains the jobs of several trainers in programs of several models; see ``train_or_find``.

    Args:
      wanted: trainers and their jobs; they may differ in seeds and splits, not in model or recipe, and need a cache.
      at_once: as for ``train_or_find``.

    Returns:
      Each trainer as it finds its models: it knows their places in the programs.

    Raises:
      FloatingPointError, CheckpointError: as ``Trainer.model``.
    """
    alone = [dataclasses.replace(trainer, places={}) for trainer, _ in wanted]
    models: dict[str, list[tuple[int, TrainingJob]]] = {}
    for i, (_, jobs) in enumerate(wanted):
        for job in jobs:
            models.setdefault(digest(job.kind, alone[i].key(job)), []).append((i, job))  # two may want the same
    alike: dict[tuple[str, int], list[list[tuple[int, TrainingJob]]]] = {}
    for same in models.values():
        alike.setdefault((same[0][1].kind, len(same[0][1].rows)), []).append(same)
    programs = [of[start : start + at_once] for of in alike.values() for start in range(0, len(of), at_once)]
    places: list[dict[str, list[int]]] = [{} for _ in wanted]
    for program in programs:
        for place, same in enumerate(program):
            for i, job in same:
                places[i][_name(job)] = [place, len(program)]
    placed = [dataclasses.replace(trainer, places=found) for trainer, found in zip(alone, places, strict=True)]
    for program in programs:
        _train_or_load([(placed[i], job) for (i, job), *_ in program])
    return placed


def _train_or_load(program: Sequence[tuple[Trainer, TrainingJob]], made_for: str | None = None) -> Sequence[ArrayTree]:
    """Models trained as one program; those in the cache are loaded."""
    entries = [trainer.entry(job) for trainer, job in program]

    def make() -> list[ArrayTree]:
        trainer, job = program[0]
        # Saved at their end, several are the same models even if a kill leaves the cache only some of them.
        every_s, at_end = trainer.config.save_seconds, len(program) > 1
        runs = [
            trainer.training(job, entry.saving(every_s, at_end=at_end))
            for (trainer, job), entry in zip(program, entries, strict=True)
        ]
        label = job.label if len(program) == 1 else f"{len(program)} models"
        return [_value(trained) for trained in finish_trainings(runs, label=label, progress=trainer.progress)]

    return cached_together(entries, make, made_for)


def _name(job: TrainingJob) -> str:
    """What tells a job from the others of a trainer."""
    return digest(job.kind, job.stream, job.index, job.rows.tolist())


def _value(trained: Trained) -> dict[str, ArrayTree]:
    """A trained model as it lies in the cache."""
    state = trained.state
    return {"params": state.params, "model_state": state.model_state, "seconds": jnp.float32(trained.seconds)}
