"""Training that records its updates at batches with given rows, which amnesiac unlearning subtracts again."""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.config import Training
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.training.saving import Run, Saving
from ltu_jax.training.supervised import Supervised, TrainContext, train_step, training_run
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Metrics, Rows, UnlearnState


class RecordingState(UnlearnState):
    """A state that also carries the sum of the recorded updates."""

    updates: ArrayTree


class RecordingDraw(NamedTuple):
    """A batch, and whether its update is to be recorded."""

    batch: Batch
    recorded: jax.Array  # bool[]


@flax.struct.dataclass
class RecordingContext:
    """What such a run reads and does not change."""

    train: TrainContext
    marked: jax.Array  # bool[M], the rows whose batches are recorded
    first_step: jax.Array  # i32[], nothing is recorded before it


def recording_run(
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
    saving: Saving | None = None,
) -> Run:
    """``training_run`` whose state also sums ``theta_after - theta_before`` over batches with a marked row.

    One tree is kept, whatever the number of batches. BatchNorm's statistics are not recorded, as in the
    public code of Graves et al. The model is the one that the training makes without recording.

    Args: those of ``training_run``, and
      marked: bool[M], the rows to be forgotten.
      last_epochs: how many epochs at the end are recorded.

    Returns:
      ``Run``; its state is a ``RecordingState``.
    """
    plain = training_run(apply_fn, params, model_state, rows, training, key, augment=augment, saving=saving)
    first = max(0, round(plain.num_steps * (1 - last_epochs / training.epochs)))
    fields = {field.name: getattr(plain.state, field.name) for field in dataclasses.fields(plain.state)}
    return dataclasses.replace(
        plain,
        algorithm=RecordedTraining(training.batch_size, augment),
        state=RecordingState(**fields, updates=optax.tree.zeros_like(params)),
        context=RecordingContext(plain.context, jnp.asarray(marked), jnp.int32(first)),
    )


@flax.struct.dataclass
class RecordedTraining(Supervised):
    """Supervised training that adds up its updates at the recorded batches."""

    def sample(self, key: jax.Array, step: jax.Array, context: ArrayTree, rows: Rows) -> Any:
        """The batch of ``Supervised``, with whether it is recorded: ``RecordingDraw``."""
        index = epoch_rows(context.train.order_key, step, len(rows.labels), self.batch_size)
        recorded = context.marked[index].any() & (step >= context.first_step)
        return RecordingDraw(augmented(key, gather(rows, index), self.augment), recorded)

    def step(self, state: Any, context: ArrayTree, draw: ArrayTree) -> tuple[Any, Metrics]:
        """``supervised.train_step``, and the update added to the sum where it is to be recorded."""
        after, metrics = train_step(state, context.train, draw.batch)
        moved = optax.tree.sub(after.params, state.params)
        updates = jax.tree.map(lambda u, m: u + jnp.where(draw.recorded, m, 0), state.updates, moved)
        return after.replace(updates=updates), metrics
