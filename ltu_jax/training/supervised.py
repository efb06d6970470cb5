"""One trainer for the original, Retrain and the shadows: SGD on cross-entropy, data on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.config import Training
from ltu_jax.core.losses import cross_entropy
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.training.optimizers import SGD, set_hyperparams
from ltu_jax.training.saving import Run, Saving
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.training.steps import run_steps
from ltu_jax.types import (
    ApplyFn,
    ArrayTree,
    Batch,
    Metrics,
    Progress,
    Rows,
    UnlearnState,
    make_state,
    silent,
    static,
)


class Trained(NamedTuple):
    """A trained model and the seconds its steps took, compilation excluded."""

    state: UnlearnState
    seconds: float


class TrainContext(NamedTuple):
    """What a training run reads and does not change."""

    schedule: Schedule
    order_key: jax.Array  # shuffles the epochs


def num_train_steps(training: Training, num_rows: int) -> int:
    """Steps of a whole training run on ``num_rows`` rows."""
    return max(1, round(training.epochs * num_rows / min(training.batch_size, num_rows)))


def init_training(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, training: Training, num_rows: int, key: jax.Array
) -> tuple[UnlearnState, TrainContext]:
    """State and context of a training run from ``params``.

    Args:
      apply_fn: the model.
      params: initial parameters.
      model_state: initial BatchNorm statistics or ``{}``.
      training: the recipe.
      num_rows: rows trained on; with the recipe they say how many steps there are.
      key: all randomness of the run.

    Returns:
      ``(state, context)``.
    """
    step_key, order_key = jax.random.split(key)
    state = make_state(apply_fn, params, model_state, SGD, step_key)
    state = set_hyperparams(state, momentum=training.momentum, weight_decay=training.weight_decay)
    epoch = num_rows / min(training.batch_size, num_rows)
    schedule = make_schedule(
        training.schedule,
        training.learning_rate,
        num_train_steps(training, num_rows),
        warmup_steps=training.warmup_epochs * epoch,
        milestones=tuple(m * epoch for m in training.milestones),
    )
    return state, TrainContext(schedule, order_key)


@flax.struct.dataclass
class Supervised:
    """Supervised training as a ``dispatch.Algorithm``: every row once an epoch, each epoch in another order."""

    batch_size: int = static()
    augment: str = static("none")

    def sample(self, key: jax.Array, step: jax.Array, context: TrainContext, rows: Rows) -> Batch:
        """The batch of a step, augmented."""
        index = epoch_rows(context.order_key, step, len(rows.labels), self.batch_size)
        return augmented(key, gather(rows, index), self.augment)

    def step(self, state: UnlearnState, context: TrainContext, draw: Batch) -> tuple[UnlearnState, Metrics]:
        """See ``train_step``."""
        return train_step(state, context, draw)


def train_step(state: UnlearnState, context: TrainContext, batch: Batch) -> tuple[UnlearnState, Metrics]:
    """One step of SGD on the mean cross-entropy of a batch."""
    return step_and_logits(state, context, batch)[:2]


def step_and_logits(
    state: UnlearnState, context: TrainContext, batch: Batch
) -> tuple[UnlearnState, Metrics, jax.Array]:
    """``train_step``, and the logits f32[B, C] that it went by: in training mode, of the weights before it."""

    def loss_fn(params):
        logits, model_state = state.apply_fn(params, state.model_state, batch.images, train=True)
        return cross_entropy(logits, batch.labels), (logits, model_state)

    (loss, (logits, model_state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = set_hyperparams(state, learning_rate=learning_rate(context.schedule, state.step))
    state = state.apply_gradients(grads=grads, model_state=model_state)
    return state, {"loss/train": loss, "accuracy/train": jnp.mean(logits.argmax(-1) == batch.labels)}, logits


def train(
    apply_fn: ApplyFn,
    params: ArrayTree,
    model_state: ArrayTree,
    rows: Rows,
    training: Training,
    key: jax.Array,
    *,
    augment: str = "none",
    progress: Progress = silent,
    label: str = "training",
) -> Trained:
    """Trains a model on ``rows`` from given initial parameters: one ``training_run``, to its end.

    Raises:
      FloatingPointError: if the loss is not finite; the steps are named.
    """
    run = training_run(apply_fn, params, model_state, rows, training, key, augment=augment)
    return finish_trainings([run], label=label, progress=progress)[0]


def training_run(
    apply_fn: ApplyFn,
    params: ArrayTree,
    model_state: ArrayTree,
    rows: Rows,
    training: Training,
    key: jax.Array,
    *,
    augment: str = "none",
    saving: Saving | None = None,
) -> Run:
    """A training that has not begun.

    Args:
      apply_fn: the model.
      params: initial parameters; not consumed.
      model_state: initial BatchNorm statistics or ``{}``.
      rows: u8[M,H,W,3] images and i32[M] labels.
      training: the recipe.
      key: all randomness of the run.
      augment: see ``data.augment``.
      saving: where it is saved meanwhile; None saves nothing.

    Returns:
      ``Run``.
    """
    state, context = init_training(apply_fn, params, model_state, training, len(rows.labels), key)
    state = jax.tree.map(jnp.copy, state)  # the steps consume their state, and the caller keeps its params
    algorithm = Supervised(training.batch_size, augment)
    return Run(algorithm, state, context, rows, num_train_steps(training, len(rows.labels)), saving)


def finish_trainings(runs: Sequence[Run], *, label: str = "training", progress: Progress = silent) -> list[Trained]:
    """Takes all steps of trainings of one recipe, several as one program: each equal to it alone within rounding.

    Args:
      runs: trainings on equally many rows; of several the images must be on the device.
      label: what is being trained, for ``progress``.
      progress: called with the steps taken.

    Returns:
      ``Trained`` of each; its seconds are its share of those of all.

    Raises:
      FloatingPointError: if the loss of one is not finite; the steps are named.
      CheckpointError: if what was saved of one is damaged.
    """
    run_steps(runs, label=label, remedy="config.training.learning_rate", progress=progress)
    return [Trained(run.state, run.history.steps_s) for run in runs]
