"""One trainer for the original, Retrain and the shadows: SGD on cross-entropy, data on the device."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Training
from ltu_jax.core.losses import cross_entropy
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.devices import agreed
from ltu_jax.training.checkpoint import StepCheckpoints, open_checkpoints
from ltu_jax.training.dispatch import (
    Algorithm,
    stack_trees,
    steps_per_call,
    timed_steps,
    unstack_tree,
)
from ltu_jax.training.optimizers import SGD, set_hyperparams
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.types import (
    ApplyFn,
    ArrayTree,
    Batch,
    Metrics,
    Progress,
    Rows,
    UnlearnState,
    make_state,
    register_settings,
    silent,
    static,
)

register_settings(Training)


class Keeping(NamedTuple):
    """Where a training is saved while it is under way, and how often; whoever has its result drops the folder."""

    folder: Path  # of this training alone
    every_s: float


class Trained(NamedTuple):
    """A trained model and the seconds its steps took, compilation excluded."""

    state: UnlearnState
    seconds: float


class TrainContext(NamedTuple):
    """What a training run only reads."""

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
    """Supervised training as a ``dispatch.Algorithm``: each epoch every row once, in an order of its own."""

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

    def loss_fn(params):
        logits, model_state = state.apply_fn(params, state.model_state, batch.images, train=True)
        return cross_entropy(logits, batch.labels), (logits, model_state)

    (loss, (logits, model_state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = set_hyperparams(state, learning_rate=learning_rate(context.schedule, state.step))
    state = state.apply_gradients(grads=grads, model_state=model_state)
    return state, {"loss/train": loss, "accuracy/train": jnp.mean(logits.argmax(-1) == batch.labels)}


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
    keeping: Keeping | None = None,
) -> Trained:
    """Trains a model on ``rows`` from given initial parameters.

    Args:
      apply_fn: the model.
      params: initial parameters; not consumed.
      model_state: initial BatchNorm statistics or ``{}``.
      rows: u8[M,H,W,3] images and i32[M] labels.
      training: the recipe.
      key: all randomness of the run.
      augment: see ``data.augment``.
      progress: told about every finished step.
      label: what is being trained, for ``progress``.
      keeping: where it is saved meanwhile, and goes on from if it was stopped; None keeps nothing.

    Returns:
      ``Trained``.

    Raises:
      FloatingPointError: if the loss is not finite; the steps are named.
    """
    state, context = init_training(apply_fn, params, model_state, training, len(rows.labels), key)
    num_steps, algorithm = num_train_steps(training, len(rows.labels)), Supervised(training.batch_size, augment)
    return run_steps(algorithm, state, context, rows, num_steps, progress=progress, label=label, keeping=keeping)


def train_together(
    apply_fn: ApplyFn,
    starts: Sequence[tuple[ArrayTree, ArrayTree]],
    rows: Sequence[Rows],
    training: Training,
    keys: Sequence[jax.Array],
    *,
    augment: str = "none",
    progress: Progress = silent,
    label: str = "training",
    keeping: Keeping | None = None,
) -> list[Trained]:
    """``train`` of several models as one program: its step under ``vmap``, equal to each alone within rounding.

    Args: those of ``train``, one for each model where they are sequences.
      starts: initial parameters and statistics.
      rows: as many for each model, on the device.
      keys: all randomness of each.

    Returns:
      ``Trained`` of each; its seconds are its share of those of all.

    Raises:
      FloatingPointError: if the loss of one is not finite; the steps are named.
    """
    num_rows = len(rows[0].labels)
    begun = [init_training(apply_fn, *start, training, num_rows, key) for start, key in zip(starts, keys, strict=True)]
    trained = run_steps(
        Supervised(training.batch_size, augment),
        stack_trees([state for state, _ in begun]),
        stack_trees([context for _, context in begun]),
        stack_trees(rows),
        num_train_steps(training, num_rows),
        progress=progress,
        label=label,
        keeping=keeping,
        stacked=True,
    )
    states = unstack_tree(trained.state, len(starts))
    return [Trained(state, trained.seconds / len(starts)) for state in states]


def run_steps(
    algorithm: Algorithm,
    state: UnlearnState,
    context: Any,
    rows: Rows,
    num_steps: int,
    *,
    progress: Progress = silent,
    label: str = "training",
    keeping: Keeping | None = None,
    stacked: bool = False,
) -> Trained:
    """Takes the steps of a training run; arguments as ``dispatch.compile_steps`` and ``train`` have them.

    What ``progress`` raises stops it; it is saved first.
    """
    state = jax.tree.map(jnp.copy, state)  # the steps donate their state; the caller keeps its params
    seconds, per_step = 0.0, None
    with contextlib.ExitStack() as stack:
        kept = None if keeping is None else stack.enter_context(open_checkpoints(keeping.folder))
        if kept is not None and (found := kept.latest_step()) is not None:
            state, told = _loaded(kept, found, state)
            seconds = told["seconds"]
        done, saved_at = _step_of(state), time.monotonic()
        advance = stack.enter_context(progress(label, num_steps))
        advance(done)
        while done < num_steps:
            count = min(steps_per_call(per_step), num_steps - done)
            taken = timed_steps(algorithm, state, context, rows, count, stacked=stacked)
            state, per_step = taken.state, taken.seconds / count
            seconds += taken.seconds
            if taken.not_finite:
                raise FloatingPointError(
                    f"{label}: the loss is not finite in steps {done + 1}..{done + count};"
                    " try a smaller config.training.learning_rate"
                )
            done += count
            try:
                advance(count)
            except BaseException:
                if kept is not None:
                    kept.save(done, _leaves(state), {"seconds": seconds})
                raise
            if keeping is not None and kept is not None and done < num_steps:
                if agreed(lambda: time.monotonic() - saved_at >= keeping.every_s):  # noqa: B023, asked at once
                    kept.save(done, _leaves(state), {"seconds": seconds})
                    saved_at = time.monotonic()
    return Trained(state, seconds)


def _step_of(state: UnlearnState) -> int:
    """Steps taken; models that are trained together take theirs together."""
    return int(np.max(state.step))


def _leaves(state: UnlearnState) -> dict[str, jax.Array]:
    """What of a state, or of several stacked, changes: all that can be saved of whatever kind of state it is."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}


def _loaded(kept: StepCheckpoints, step: int, state: UnlearnState) -> tuple[UnlearnState, dict[str, Any]]:
    leaves, told = kept.load(step, _leaves(state))
    return jax.tree.unflatten(jax.tree.structure(state), [leaves[str(i)] for i in range(len(leaves))]), told
