"""What flows between the rooms, and the legend of the shape letters.

M rows of a source; B images of a batch; H, W height and width; C classes; N query sets; K attackers;
F forget rows; R rows of the rho subset; D features. ``u8``, ``i32``, ``f32`` are dtypes, ``[]`` a scalar.
Percentages run from 0 to 100, times are in seconds unless the name says minutes.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.training import train_state

ArrayTree: TypeAlias = Any
"""A tree of arrays; chex's own type of it is a union that no checker can look into."""
ApplyFn = Callable[..., tuple[jax.Array, ArrayTree]]
"""``apply_fn(params, model_state, images f32[B,H,W,3] in [0,1], train) -> (logits f32[B,C], model_state)``."""
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """Images that stay in host memory, or in a memory-mapped file, until a batch of them is drawn."""

    images: np.ndarray  # u8[.,H,W,3], a whole data set
    rows: np.ndarray  # i64[M], which of them these are

    @property
    def shape(self) -> tuple[int, ...]:
        """``(M, H, W, 3)``."""
        return (len(self.rows), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """That of the data set."""
        return self.images.dtype

    def __len__(self) -> int:
        """M."""
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """The images at ``index``, a slice or integers of any shape [...]: u8[...,H,W,3] on the host."""
        return self.images[self.rows[index if isinstance(index, slice) else np.asarray(index)]]


class Rows(NamedTuple):
    """Labelled images as stored: uint8 until a batch is gathered."""

    images: Any  # u8[M,H,W,3]: a jax.Array on the device, or StoredImages
    labels: Any  # i32[M]


class Batch(NamedTuple):
    """Labelled images as a model takes them."""

    images: jax.Array  # f32[B,H,W,3] in [0,1]
    labels: jax.Array  # i32[B]


class AuditTask(NamedTuple):
    """A batch of the forget set, and the attacker that is asked about it (Eq. 11)."""

    batch: Batch
    attacker: jax.Array  # i32[], an index into the bank


class Visible(NamedTuple):
    """All that an unlearning method may see: never test or validation rows."""

    forget: Rows
    remain: Rows  # already cut to rho
    held_out: Rows | None = None  # rows of the reserve, to compare with; for methods that ask for them alone

    @property
    def both(self) -> tuple[Rows, Rows]:
        """The forget rows and the remaining ones."""
        return self.forget, self.remain

    @property
    def all(self) -> Rows:
        """The forget rows, then the remaining ones."""
        labels = jnp.concatenate([rows.labels for rows in self.both])
        images = [rows.images for rows in self.both]
        if isinstance(images[0], StoredImages):
            return Rows(StoredImages(images[0].images, np.concatenate([of.rows for of in images])), labels)
        return Rows(jnp.concatenate(images), labels)


class UnlearnState(train_state.TrainState):
    """A ``TrainState`` that also carries BatchNorm statistics (or ``{}``) and the base key.

    Step t draws from ``fold_in(rng, t)``, so nothing else needs to be carried or saved.
    """

    step: jax.Array  # i32[]
    opt_state: Any
    model_state: ArrayTree
    rng: jax.Array


def make_state(apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, tx: Any, rng: jax.Array) -> UnlearnState:
    """A fresh state at step 0.

    ``TrainState.create`` would leave ``step`` a weakly typed int, and a restored checkpoint, whose
    step is a strong int32, would then compile the step a second time.
    """
    return UnlearnState(
        step=jnp.zeros((), jnp.int32),
        apply_fn=apply_fn,
        params=params,
        tx=tx,
        opt_state=tx.init(params),
        model_state=model_state,
        rng=rng,
    )


_HASHED_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set on the host; the first ``num_train`` rows are its training part, the rest its test part."""

    name: str
    images: np.ndarray  # u8[M,H,W,3]; or what else a model takes, such as f32[M,D], which it is given as it is
    labels: np.ndarray  # i32[M]
    ids: np.ndarray  # str[M], unique
    num_classes: int
    num_train: int
    coarse: np.ndarray | None = None  # i32[M], super-classes where there are any
    streamed: bool = False  # whether images stay on the host until a batch is drawn
    pixels_sha256: str | None = None  # of the images, where it is known
    class_names: tuple[str, ...] | None = None  # of each label, where the data name them
    unreadable: tuple[str, ...] = ()  # ids of images that were left out: they could not be decoded

    def stored(self, index: np.ndarray) -> StoredImages:
        """The images at ``index``, read when they are asked for."""
        return StoredImages(self.images, index)

    def rows(self, index: np.ndarray) -> Rows:
        """The rows at ``index``: labels on the default device, and images too unless they are streamed."""
        images = self.stored(index)
        # Not jnp.asarray, which compiles a program for each number of rows, and JAX keeps it.
        labels = jax.device_put(self.labels[index].astype(np.int32))
        return Rows(images if self.streamed else jax.device_put(images[:]), labels)

    def sha256(self) -> str:
        """Hash of every pixel, label and id; computed once, for it is asked for several times a run."""
        return self._sha256

    @functools.cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(self.name.encode() + (self.pixels_sha256 or self.hashed_pixels()).encode())
        for part in (self.labels, self.ids, self.coarse):
            if part is not None:
                digest.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def hashed_pixels(self) -> str:
        """Hash of the images, computed anew: a minute for 50 GB."""
        digest = hashlib.sha256(f"{self.images.dtype}{self.images.shape}".encode())
        for start in range(0, len(self.images), _HASHED_AT_ONCE):  # memory-mapped rows need not fit into memory
            digest.update(np.ascontiguousarray(self.images[start : start + _HASHED_AT_ONCE]).data)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Splits:
    """Disjoint, sorted index sets i64[.] into a source."""

    forget: np.ndarray
    remain: np.ndarray
    validation: np.ndarray  # never trained on; for scores during a run and warnings
    test: np.ndarray
    reserve: np.ndarray  # the attackers' rows: never seen by the original or by a score
    test_forgotten: np.ndarray  # test rows of a class that is forgotten whole, else empty
    seen: np.ndarray | None = None  # the rho subset of remain, all of it that a method may see; None is all

    def __post_init__(self) -> None:
        """Refuses a subset of other remaining rows than these."""
        if self.seen is not None and not np.isin(self.seen, self.remain).all():
            raise ValueError("seen: rows that do not remain; allowed: the rho subset of remain (data.splits.see)")

    def _sets(self) -> dict[str, np.ndarray]:
        """The disjoint sets by name: all fields but ``seen``."""
        return {name: index for name, index in vars(self).items() if name != "seen"}

    @property
    def visible(self) -> np.ndarray:
        """The remaining rows that a method may see."""
        return self.remain if self.seen is None else self.seen

    @property
    def train(self) -> np.ndarray:
        """The rows that the original was trained on."""
        return np.sort(np.concatenate([self.forget, self.remain]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each set."""
        return tuple(map(len, self._sets().values()))

    def sha256(self) -> str:
        """Hash of the index sets but ``seen``, which follows from them, rho and a seed."""
        digest = hashlib.sha256()
        for name, index in self._sets().items():
            digest.update(name.encode() + index.astype(np.int64).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Scores:
    """The paper's five measures (sec. 4.1): percent, and minutes."""

    ua: float  # error on the forget rows
    ra: float  # accuracy on the remaining rows
    ta: float  # accuracy on the test rows (of the classes that remain)
    mi: float  # forget rows that the held-out attacker calls non-members
    ut_minutes: float | None = None
    ta_forgotten: float | None = None  # accuracy on the test rows of a class that was forgotten whole


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field of a ``flax.struct.dataclass`` that is part of its structure: compared by value, never traced."""
    return flax.struct.field(pytree_node=False, default=default)


def register_settings(kind: type) -> None:
    """Makes a dataclass of settings a tree: rates, weights and epochs are leaves, all else is its structure.

    So a program of it is compiled once, whatever these numbers are.
    """
    fields = dataclasses.fields(kind)
    numbers = [field.name for field in fields if field.type is float or field.name in ("epochs", "milestones")]
    jax.tree_util.register_dataclass(kind, numbers, [field.name for field in fields if field.name not in numbers])


@flax.struct.dataclass
class Parts:
    """What a method may be built from, beside its settings; a method that needs a missing one says so.

    A tree: arrays and the numbers of ``training`` are its leaves, the rest is its structure.
    """

    apply_fn: ApplyFn = static()
    num_classes: int = static()
    init_params: Callable[[jax.Array], tuple[ArrayTree, ArrayTree]] | None = static(None)  # key -> (params, state)
    features: Callable[..., jax.Array] | None = static(None)  # F of Eq. 8
    bank: Any = None  # attackers.bank.Bank
    updates: ArrayTree | None = None  # what training did at the batches that held a forget row (training.recording)
    training: Any = None  # config.Training, the original's recipe
    augment: str = static("none")


Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""``with progress("original", num_steps) as advance: advance(n)``: how long work reports itself."""


@contextlib.contextmanager
def silent(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A ``Progress`` that says nothing; the default of every library function."""
    del label, total
    yield lambda n: None
