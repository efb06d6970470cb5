"""Training that records something on its way; the model is the one that the training makes without.

Its updates at batches with given rows, which amnesiac unlearning subtracts again; or the loss of each row in each
epoch, which says how hard the row is (``auditing.difficulty``).
"""

import dataclasses
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.training.saving import Run
from ltu_jax.training.supervised import Supervised, TrainContext, step_and_logits, train_step
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
    first = max(0, round(run.num_steps * (1 - part)))
    return dataclasses.replace(
        run,
        algorithm=_alike(run, RecordedTraining),
        state=RecordingState(**_fields(run.state), updates=optax.tree.zeros_like(run.state.params)),
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


class TracingState(UnlearnState):
    """A state that also carries the loss of each row in each epoch."""

    losses: jax.Array  # f16[E, M]


class TracingDraw(NamedTuple):
    """A batch, and where its losses belong."""

    batch: Batch
    epochs: jax.Array  # i32[B]; a batch may straddle two
    rows: jax.Array  # i32[B]


def tracing_run(run: Run, *, epochs: int) -> Run:
    """A training whose state also holds the losses of its own batches: augmented, in training mode, before the step.

    So they cost nothing. An epoch has each row once, but the last step may end before the last epoch does: the rows
    that it does not reach, half a batch at most, keep NaN there, and there alone. What it does beyond
    the last epoch is not kept. The model is the one that ``run`` makes.

    Args:
      run: what ``training_run`` returned.
      epochs: E, those of its recipe.

    Returns:
      ``Run``; its state is a ``TracingState``.
    """
    losses = jnp.full((epochs, len(run.data.labels)), jnp.nan, jnp.float16)
    state = TracingState(**_fields(run.state), losses=losses)
    return dataclasses.replace(run, algorithm=_alike(run, TracedTraining), state=state)


@flax.struct.dataclass
class TracedTraining(Supervised):
    """Supervised training that keeps the losses of its batches."""

    def sample(self, key: jax.Array, step: jax.Array, context: TrainContext, rows: Rows) -> Any:
        """The batch of ``Supervised``, with its rows and epochs: ``TracingDraw``."""
        index = epoch_rows(context.order_key, step, len(rows.labels), self.batch_size)
        epochs = (step * len(index) + jnp.arange(len(index))) // len(rows.labels)
        return TracingDraw(augmented(key, gather(rows, index), self.augment), epochs, index)

    def step(self, state: Any, context: TrainContext, draw: Any) -> tuple[Any, Metrics]:
        """``supervised.train_step``, and the losses that it went by."""
        after, metrics, logits = step_and_logits(state, context, draw.batch)
        # Apart from what the step computes of the same logits, whose bits it must not change.
        logits = jax.lax.optimization_barrier(logits).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, draw.batch.labels)
        kept = state.losses.at[draw.epochs, draw.rows].set(losses.astype(jnp.float16), mode="drop")
        return after.replace(losses=kept), metrics


Recorder = TypeVar("Recorder", bound=Supervised)


def _alike(run: Run, kind: type[Recorder]) -> Recorder:
    plain: Any = run.algorithm  # Supervised
    return kind(plain.batch_size, plain.augment)


def _fields(state: UnlearnState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
