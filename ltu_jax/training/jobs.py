"""Lists of models to train: each is trained once, or found in the cache, several in one program where that is faster.

Originals, Retrain and shadows are such lists; so are the models that an audit wants on rows of its own.
"""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Sequence
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
from ltu_jax.training.recording import recording_run
from ltu_jax.training.saving import Run, Saving
from ltu_jax.training.supervised import Trained, finish_trainings, training_run
from ltu_jax.types import ArrayTree, Progress, Source, UnlearnState, make_state

# Each purpose has its own stream of random keys. These numbers must not change; a new purpose takes a new one.
ORIGINAL, SHADOWS, ASKING, FIT, RETRAIN, UNLEARN, AUDIT = range(7)


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

    @functools.cached_property
    def model_code(self) -> str | None:
        """Hash of the file that defines the user's own model: an edited file is another model."""
        name = self.config.model.name
        if ":" not in name:
            return None
        path = importlib.import_module(name.partition(":")[0]).__file__
        return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def key(self, job: TrainingJob) -> list[Any]:
        """Everything that a model depends on, JSON-ready."""
        settings = to_dict(self.config)
        recipe = [settings["model"], settings["training"], settings["data"]["augment"], self.config.seeds.train]
        rows, classes = digest(job.rows.tolist()), self.source.num_classes
        return [self.source.sha256(), rows, recipe, classes, self.model_code, job.stream, job.index]

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

    def model(self, job: TrainingJob) -> ArrayTree:
        """A model, trained or found: ``{"params", "model_state", "seconds"}``.

        Raises:
          FloatingPointError: if its training diverges.
          CheckpointError: if the entry of the cache is damaged.
        """
        return _train_or_load([(self, job)])[0]

    def recorded(self, job: TrainingJob, forget: np.ndarray, last_epochs: float) -> ArrayTree:
        """``model``, and ``updates``: what its training did at the batches that held a row of ``forget``."""
        entry = CacheEntry(self.cache, "recorded", [*self.key(job), digest(forget.tolist()), last_epochs])

        def make() -> dict[str, ArrayTree]:
            run = self.training(job, entry.saving(self.config.save_seconds))
            part = last_epochs / self.config.training.epochs
            run = recording_run(run, marked=np.isin(job.rows, forget), part=part)
            (trained,) = finish_trainings([run], label=f"{job.label}, recorded", progress=self.progress)
            state: Any = trained.state  # a RecordingState
            return {**_value(trained), "updates": state.updates}

        return cached(entry, make)

    def state_of(self, model: ArrayTree) -> UnlearnState:
        """The state that a run starts from, made of an entry of the cache."""
        params, model_state = model["params"], model["model_state"]
        rng = jax.random.fold_in(jax.random.key(self.config.seed_for("unlearn")), UNLEARN)
        return make_state(self.spec.apply_fn, params, model_state, SGD, rng)


def train_or_find(jobs: Sequence[tuple[Trainer, TrainingJob]], at_once: int = 1) -> list[ArrayTree]:
    """The models of a list of jobs, each trained once; what a stopped call had trained is found by the next.

    Args:
      jobs: what to train, and by whom; trainers may differ in seeds and splits, not in model or recipe. With
        ``at_once`` > 1 they need a cache.
      at_once: how many models of equally many rows are trained in one program.

    Returns:
      ``{"params", "model_state", "seconds"}`` of each.

    Raises:
      FloatingPointError, CheckpointError: as ``Trainer.model``.
    """
    if at_once > 1:
        train_missing(jobs, at_once)
    return [trainer.model(job) for trainer, job in jobs]


def train_missing(jobs: Sequence[tuple[Trainer, TrainingJob]], at_once: int) -> None:
    """Trains those models that the cache lacks; for the arguments see ``train_or_find``."""
    wanted = {trainer.entry(job).path: (trainer, job) for trainer, job in jobs if trainer.cache is not None}
    missing = {path: one for path, one in wanted.items() if not one[0].entry(one[1]).is_there()}
    for size in sorted({len(job.rows) for _, job in missing.values()}):
        alike = [one for one in missing.values() if len(one[1].rows) == size]
        for start in range(0, len(alike), at_once):
            _train_or_load(alike[start : start + at_once])


def _train_or_load(chunk: Sequence[tuple[Trainer, TrainingJob]]) -> Sequence[ArrayTree]:
    """Models trained as one program; those in the cache are loaded."""
    entries = [trainer.entry(job) for trainer, job in chunk]

    def make(missing: Sequence[int]) -> list[ArrayTree]:
        trainer, job = chunk[missing[0]]
        label = job.label if len(missing) == 1 else f"{len(missing)} models"
        # Saved at their end, several are the same models even if a kill leaves the cache only some of them.
        every_s, at_end = trainer.config.save_seconds, len(missing) > 1
        runs = [chunk[i][0].training(chunk[i][1], entries[i].saving(every_s, at_end=at_end)) for i in missing]
        return [_value(trained) for trained in finish_trainings(runs, label=label, progress=trainer.progress)]

    return cached_together(entries, make)


def _value(trained: Trained) -> dict[str, ArrayTree]:
    """A trained model as it lies in the cache."""
    state = trained.state
    return {"params": state.params, "model_state": state.model_state, "seconds": jnp.float32(trained.seconds)}
