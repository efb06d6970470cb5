"""What the methods share that train on batches: how they begin, and a step down their loss."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.config import Descent
from ltu_jax.core.losses import cross_entropy
from ltu_jax.methods.base import MethodCost, SettingsMethod
from ltu_jax.methods.streams import Stream
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import OPTIMIZERS, set_hyperparams
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.types import ArrayTree, Batch, Metrics, UnlearnState, Visible

LossFn = Callable[[ArrayTree, UnlearnState, "Context", Any], tuple[jax.Array, ArrayTree]]
"""``loss(params, state, context, draw) -> (f32[], model_state)``; ``state`` for its statistics and ``apply_fn``."""


@flax.struct.dataclass
class Context:
    """What such a method reads and does not change."""

    order_key: jax.Array  # shuffles the epochs
    schedule: Schedule
    extra: Any = ()  # what the method adds: teachers, a key
    init_cost: Cost | None = None  # what init passed, where only the run can tell: in place of what is stated


def begin(
    settings: Descent,
    state: UnlearnState,
    order_key: jax.Array,
    num_steps: int,
    *,
    tx: optax.GradientTransformation | None = None,
    extra: Any = (),
) -> tuple[UnlearnState, Context]:
    """State and context of a run's first step; ``state`` is copied, since the steps consume theirs.

    Args:
      settings: rates, momentum, schedule.
      state: the model to start from.
      order_key: shuffles the epochs.
      num_steps: steps of the whole run.
      tx: the optimizer; None takes the one that ``settings`` names.
      extra: see ``Context``.

    Returns:
      ``(state, context)``.
    """
    tx = OPTIMIZERS[settings.optimizer] if tx is None else tx
    state = jax.tree.map(jnp.copy, state.replace(tx=tx, opt_state=tx.init(state.params)))
    state = set_hyperparams(state, momentum=settings.momentum, weight_decay=settings.weight_decay)
    schedule = make_schedule(settings.schedule, settings.learning_rate, num_steps, epochs=settings.epochs)
    return state, Context(order_key, schedule, extra)


def descend(
    loss: LossFn,
    state: UnlearnState,
    context: Context,
    draw: Any,
    change: Callable[[ArrayTree, Context, Any], ArrayTree] | None = None,
) -> tuple[UnlearnState, Metrics]:
    """One step of the state's optimizer on ``loss``, or on what ``change`` makes of its gradient: a ``Method.step``."""
    with_aux = jax.value_and_grad(loss, has_aux=True)
    (value, model_state), grads = with_aux(state.params, state, context, draw)
    grads = grads if change is None else change(grads, context, draw)
    rate = learning_rate(context.schedule, state.step)
    state = set_hyperparams(state, learning_rate=rate).apply_gradients(grads=grads, model_state=model_state)
    return state, {"loss/train": value, "norm/grad": optax.tree.norm(grads), "rate/outer": rate}


def label_loss(params: ArrayTree, state: UnlearnState, context: Context, batch: Batch) -> tuple[jax.Array, ArrayTree]:
    """Mean cross-entropy of a batch in training mode: a ``LossFn`` whose draw is a ``Batch``."""
    del context
    logits, model_state = state.apply_fn(params, state.model_state, batch.images, train=True)
    return cross_entropy(logits, batch.labels), model_state


class DescentMethod(SettingsMethod):
    """A method that descends a loss on batches of a stream of rows; by default the cross-entropy of the true labels."""

    forward_passes: ClassVar[int] = 1
    """Passes of each image of a step, teachers included."""

    @property
    def stream(self) -> Stream:
        """The order of the rows."""
        raise NotImplementedError

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer; its numbers are set by ``begin``."""
        return OPTIMIZERS[self.settings.optimizer]

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """See ``begin``."""
        return begin(self.settings, state, key, self.num_steps(visible), tx=self.tx)

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Any:
        """The batch of a step, augmented as in training where the settings say so."""
        return self.stream.augmented_draw(key, step, context.order_key, visible, self.augment).batch

    def loss(self, params: ArrayTree, state: UnlearnState, context: Context, draw: Any) -> tuple[jax.Array, ArrayTree]:
        """What a step descends, see ``LossFn``."""
        return label_loss(params, state, context, draw)

    def step(self, state: UnlearnState, context: Context, draw: Any) -> tuple[UnlearnState, Metrics]:
        """One step down ``loss``."""
        return descend(self.loss, state, context, draw)

    def num_steps(self, visible: Visible) -> int:
        """Steps of a whole run."""
        return self.stream.num_steps(visible)

    def cost(self, visible: Visible) -> MethodCost:
        """Each image of a step once backward; ``init`` passes none."""
        return self.stream.cost(visible, forward=self.forward_passes)
