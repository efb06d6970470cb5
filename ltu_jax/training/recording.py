"""Training that records its updates at batches with given rows, which amnesiac unlearning subtracts again."""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.training.saving import Run
from ltu_jax.training.supervised import Supervised, TrainContext, train_step
from ltu_jax.types import ArrayTree, Batch, Metrics, Rows, UnlearnState


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


def recording_run(run: Run, *, marked: np.ndarray, part: float) -> Run:
    """A training whose state also sums ``theta_after - theta_before`` over batches with a marked row.

    One tree is kept, whatever the number of batches. BatchNorm's statistics are not recorded, as in the
    public code of Graves et al. The model is the one that ``run`` makes.

    Args:
      run: what ``training_run`` returned.
      marked: bool[M], the rows to be forgotten.
      part: of the steps, those at the end that are recorded; 1 or more is all.

    Returns:
      ``Run``; its state is a ``RecordingState``.
    """
    plain: Any = run.algorithm  # Supervised
    first = max(0, round(run.num_steps * (1 - part)))
    fields = {field.name: getattr(run.state, field.name) for field in dataclasses.fields(run.state)}
    return dataclasses.replace(
        run,
        algorithm=RecordedTraining(plain.batch_size, plain.augment),
        state=RecordingState(**fields, updates=optax.tree.zeros_like(run.state.params)),
        context=RecordingContext(run.context, jnp.asarray(marked), jnp.int32(first)),
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
