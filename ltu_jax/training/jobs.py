"""Lists of models to train: each is trained once, or found in the cache, several in one program where that is faster.

Originals, Retrain and shadows are such lists, and so is whatever else wants models on given rows.
"""

import dataclasses
import functools
import hashlib
import importlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Config
from ltu_jax.devices import writes_files
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import digest, to_dict
from ltu_jax.training.cache import Cached, cached, entry_path, is_cached, under_way
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.recording import train_recording
from ltu_jax.training.supervised import Keeping, train, train_together
from ltu_jax.types import ArrayTree, Progress, Source, UnlearnState, make_state

# A stream of keys of its own for each purpose, out of the seeds. None may move; another purpose takes another number.
ORIGINAL, SHADOWS, ASKING, FIT, RETRAIN, UNLEARN, AUDIT = range(7)


class TrainingJob(NamedTuple):
    """A model to be trained."""

    label: str  # for whoever looks on; its first word names the entry of the cache
    rows: np.ndarray  # i64[.], indices into the source
    stream: int  # of keys, such as ``RETRAIN``
    index: int = 0  # of the model among those of its stream

    @property
    def kind(self) -> str:
        """The first word of its folder in the cache."""
        return self.label.split()[0]


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains models of one configuration, or finds them; the key of each is everything it is a function of."""

    config: Config
    source: Source
    spec: ModelSpec
    cache: Path | None  # None keeps nothing
    progress: Progress

    @functools.cached_property
    def model_code(self) -> str | None:
        """Hash of the file of a model of the user's own: edited, it is another model."""
        name = self.config.model.name
        if ":" not in name:
            return None
        path = importlib.import_module(name.partition(":")[0]).__file__
        return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def key(self, job: TrainingJob) -> list[Any]:
        """Everything that a model is a function of, JSON-ready."""
        settings = to_dict(self.config)
        recipe = [settings["model"], settings["training"], settings["data"]["augment"], self.config.seeds.train]
        rows, classes = digest(job.rows.tolist()), self.source.num_classes
        return [self.source.sha256(), rows, recipe, classes, self.model_code, job.stream, job.index]

    def start(self, job: TrainingJob) -> tuple[tuple[ArrayTree, ArrayTree], jax.Array]:
        """Initial parameters and statistics of a model, and the key of its training."""
        seed = jax.random.key(self.config.seed_for("train"))
        key = jax.random.fold_in(jax.random.fold_in(seed, job.stream), job.index)
        init_key, train_key = jax.random.split(key)
        return self.spec.init(init_key), train_key

    def model(self, job: TrainingJob) -> Cached:
        """A model, trained or found: ``{"params", "model_state", "seconds"}``.

        Raises:
          FloatingPointError: if its training diverges.
          CheckpointError: if the entry of the cache is damaged.
        """
        kind, key = job.kind, self.key(job)
        return cached(self.cache, kind, key, lambda: _entry(*self._train(train, job, job.label, kind, key)))

    def recorded(self, job: TrainingJob, forget: np.ndarray, last_epochs: float) -> Cached:
        """``model``, and ``updates``: what its training did at the batches that held a row of ``forget``."""
        key = [*self.key(job), digest(forget.tolist()), last_epochs]

        def make() -> dict[str, ArrayTree]:
            told = {"marked": np.isin(job.rows, forget), "last_epochs": last_epochs}
            made = self._train(train_recording, job, f"{job.label}, recorded", "recorded", key, **told)
            return {**_entry(made.state, made.seconds), "updates": made.updates}

        return cached(self.cache, "recorded", key, make)

    def is_there(self, job: TrainingJob) -> bool:
        """Whether ``model`` would find it."""
        return self.cache is not None and is_cached(self.cache, job.kind, self.key(job))

    def path(self, job: TrainingJob) -> Path | None:
        """Where the cache keeps it; None without a cache."""
        return None if self.cache is None else entry_path(self.cache, job.kind, self.key(job))

    def keeping(self, kind: str, key: Any) -> Keeping | None:
        """Where and how often the training that makes a cache entry is saved."""
        folder = under_way(self.cache, kind, key)
        return None if folder is None else Keeping(folder, self.config.save_seconds)

    def state(self, model: ArrayTree) -> UnlearnState:
        """The state that a run starts from, of a model as it lies in the cache."""
        params, model_state = model["params"], model["model_state"]
        rng = jax.random.fold_in(jax.random.key(self.config.seed_for("unlearn")), UNLEARN)
        return make_state(self.spec.apply_fn, params, model_state, SGD, rng)

    def _train(self, trainer: Callable, job: TrainingJob, label: str, kind: str, key: Any, **more: Any) -> Any:
        """What ``trainer`` makes of the rows of a model; the entry it becomes says where it is saved meanwhile."""
        start, train_key = self.start(job)
        rows, training = self.source.rows(job.rows), self.config.training
        more |= {"augment": self.config.data.augment, "progress": self.progress, "label": label}
        return trainer(self.spec.apply_fn, *start, rows, training, train_key, keeping=self.keeping(kind, key), **more)


def train_or_find(jobs: Sequence[tuple[Trainer, TrainingJob]], at_once: int = 1) -> list[Cached]:
    """The models of a list of jobs, each trained once; what a stopped call had trained is found by the next.

    Args:
      jobs: what to train, and by whom; trainers may differ in seeds and splits, not in model or recipe. With
        ``at_once`` > 1 they need a cache.
      at_once: how many models of equally many rows are trained in one program.

    Returns:
      ``Cached`` of each.

    Raises:
      FloatingPointError, CheckpointError: as ``Trainer.model``.
    """
    if at_once > 1:
        train_missing(jobs, at_once)
    return [trainer.model(job) for trainer, job in jobs]


def train_missing(jobs: Sequence[tuple[Trainer, TrainingJob]], at_once: int) -> None:
    """Trains into the cache what is not there yet; arguments as ``train_or_find`` has them."""
    missing = {}  # several may want the same model
    for trainer, job in jobs:
        if trainer.cache is not None and not trainer.is_there(job):
            missing[digest(trainer.key(job))] = trainer, job
    for size in sorted({len(job.rows) for _, job in missing.values()}):
        alike = [one for one in missing.values() if len(one[1].rows) == size]
        for start in range(0, len(alike), at_once):
            _train_chunk(alike[start : start + at_once])


def _train_chunk(chunk: Sequence[tuple[Trainer, TrainingJob]]) -> None:
    """Trains models as one program, into the cache."""
    (first, job), keys = chunk[0], [trainer.key(job) for trainer, job in chunk]
    starts, train_keys = zip(*(trainer.start(job) for trainer, job in chunk), strict=True)
    keeping = first.keeping("together", keys)
    trained = train_together(
        first.spec.apply_fn,
        starts,
        [trainer.source.rows(job.rows) for trainer, job in chunk],
        first.config.training,
        train_keys,
        augment=first.config.data.augment,
        progress=first.progress,
        label=f"{len(chunk)} models" if len(chunk) > 1 else job.label,
        keeping=keeping,
    )
    for (trainer, job), key, made in zip(chunk, keys, trained, strict=True):
        cached(trainer.cache, job.kind, key, lambda: _entry(*made))  # noqa: B023, used at once
    if keeping is not None and writes_files():
        shutil.rmtree(keeping.folder, ignore_errors=True)


def _entry(state: UnlearnState, seconds: float) -> dict[str, ArrayTree]:
    """A trained model as it lies in the cache."""
    return {"params": state.params, "model_state": state.model_state, "seconds": jnp.float32(seconds)}
