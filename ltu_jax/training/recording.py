"""Training that records what it does at batches with given rows: what true amnesiac unlearning takes back."""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.config import Training
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.training.supervised import (
    Keeping,
    Supervised,
    TrainContext,
    init_training,
    num_train_steps,
    run_steps,
    train_step,
)
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Metrics, Progress, Rows, UnlearnState, silent


class RecordingState(UnlearnState):
    """A state that also carries the sum of the recorded updates."""

    updates: ArrayTree


class RecordingDraw(NamedTuple):
    """A batch, and whether its update is to be recorded."""

    batch: Batch
    recorded: jax.Array  # bool[]


@flax.struct.dataclass
class RecordingContext:
    """What such a run only reads."""

    train: TrainContext
    marked: jax.Array  # bool[M], the rows whose batches are recorded
    first_step: jax.Array  # i32[], nothing is recorded before it


class Recorded(NamedTuple):
    """A trained model, the sum of the recorded updates, and the seconds its steps took."""

    state: UnlearnState
    updates: ArrayTree
    seconds: float


def train_recording(
    apply_fn: ApplyFn,
    params: ArrayTree,
    model_state: ArrayTree,
    rows: Rows,
    training: Training,
    key: jax.Array,
    *,
    marked: np.ndarray,
    last_epochs: float,
    augment: str = "none",
    progress: Progress = silent,
    label: str = "training",
    keeping: Keeping | None = None,
) -> Recorded:
    """``supervised.train``, and the sum of ``theta_after - theta_before`` over batches that hold a marked row.

    One tree is kept, whatever the number of batches. BatchNorm's statistics are not recorded, as in the
    public code of Graves et al. The model is the one that ``train`` makes of the same arguments.

    Args: those of ``train``, and
      marked: bool[M], the rows to be forgotten.
      last_epochs: how many epochs at the end are recorded.

    Returns:
      ``Recorded``.

    Raises:
      FloatingPointError: as ``train`` does.
    """
    num_rows = len(rows.labels)
    state, context = init_training(apply_fn, params, model_state, training, num_rows, key)
    num_steps = num_train_steps(training, num_rows)
    first = max(0, round(num_steps * (1 - last_epochs / training.epochs)))
    fields = [field.name for field in dataclasses.fields(state)]
    recording = RecordingState(**{n: getattr(state, n) for n in fields}, updates=optax.tree.zeros_like(params))
    reads = RecordingContext(context, jnp.asarray(marked), jnp.int32(first))
    algorithm = RecordedTraining(training.batch_size, augment)
    trained = run_steps(algorithm, recording, reads, rows, num_steps, progress=progress, label=label, keeping=keeping)
    after: Any = trained.state
    return Recorded(state.replace(**{n: getattr(after, n) for n in fields}), after.updates, trained.seconds)


@flax.struct.dataclass
class RecordedTraining(Supervised):
    """Supervised training that adds up what it does at the batches that are recorded."""

    def sample(self, key: jax.Array, step: jax.Array, context: Any, rows: Rows) -> Any:
        """The batch of ``Supervised``, with whether it is recorded: ``RecordingDraw``."""
        index = epoch_rows(context.train.order_key, step, len(rows.labels), self.batch_size)
        recorded = context.marked[index].any() & (step >= context.first_step)
        return RecordingDraw(augmented(key, gather(rows, index), self.augment), recorded)

    def step(self, state: Any, context: Any, draw: Any) -> tuple[Any, Metrics]:
        """``supervised.train_step``, and the update added to the sum where it is to be recorded."""
        after, metrics = train_step(state, context.train, draw.batch)
        moved = optax.tree.sub(after.params, state.params)
        updates = jax.tree.map(lambda u, m: u + jnp.where(draw.recorded, m, 0), state.updates, moved)
        return after.replace(updates=updates), metrics
