"""SFR-on: up the loss of forget rows where they matter, then down that of remaining rows (Huang et al. 2024)."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.descent import Context, DescentMethod, begin, descend
from ltu_jax.methods.importance import importance
from ltu_jax.methods.streams import Draw, Stream, alternating_stream
from ltu_jax.training.cost import Cost
from ltu_jax.training.schedule import learning_rate, make_schedule
from ltu_jax.types import ArrayTree, Metrics, UnlearnState, Visible

SMALLEST_LOSS = 1e-4
"""Losses below it weigh no more: a row whose loss rounds to 0 would take all of the weight, and has no gradient."""


@flax.struct.dataclass
class SFROn(DescentMethod):
    """SFR-on: a forget step, ``remain_per_forget`` remaining steps, and so on, with one SGD.

    A forget step descends ``-alpha_t sum_i w_i CE_i``, ``w_i ~ CE_i^-lambda`` without a gradient of its own, alpha_t
    falling to 0 by cosine; its gradient is zero outside the mask, then cut to ``clip_norm``. The mask is where
    ``I_f > gamma I_r``, SSD's importances. The public code's slow weights have no effect there.
    """

    @property
    def stream(self) -> Stream:
        """A batch of forget rows, then batches of remaining ones."""
        return alternating_stream(self.settings)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """``context.extra`` is the mask, and alpha as a schedule."""
        settings, num_steps = self.settings, self.num_steps(visible)
        size = min(settings.batch_size, *(len(rows.labels) for rows in visible.both))  # importance depends on it
        of_forget, of_remain = (importance(state, rows, size) for rows in visible.both)
        mask = jax.tree.map(lambda f, r: f > settings.saliency_ratio * r, of_forget, of_remain)
        alpha = make_schedule("cosine", settings.forget_weight, num_steps)
        return begin(settings, state, key, num_steps, extra=(mask, alpha))

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Draw:
        """A batch of one kind, and which kind it is."""
        return self.stream.augmented_draw(key, step, context.order_key, visible, self.augment)

    def loss(self, params: ArrayTree, state: UnlearnState, context: Context, draw: Draw) -> tuple[jax.Array, ArrayTree]:
        """The weighted loss upside down on forget rows, the mean on remaining ones."""
        logits, model_state = state.apply_fn(params, state.model_state, draw.batch.images, train=True)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, draw.batch.labels)
        # Of logarithms, for such powers of small losses overflow.
        log_weight = -self.settings.loss_power * jnp.log(jnp.maximum(jax.lax.stop_gradient(entropy), SMALLEST_LOSS))
        up = -learning_rate(context.extra[1], state.step) * jax.nn.softmax(log_weight) @ entropy
        return jnp.where(draw.is_forget[0], up, entropy.mean()), model_state

    def step(self, state: UnlearnState, context: Context, draw: Draw) -> tuple[UnlearnState, Metrics]:
        """A step of one kind."""
        return descend(self.loss, state, context, draw, self._bounded)

    def _bounded(self, grads: ArrayTree, context: Context, draw: Draw) -> ArrayTree:
        """The gradient, a forget step's masked and cut."""
        masked = jax.tree.map(lambda g, m: jnp.where(m, g, 0), grads, context.extra[0])
        cut = optax.projections.projection_l2_ball(masked, self.settings.clip_norm)
        return jax.tree.map(lambda g, c: jnp.where(draw.is_forget[0], c, g), grads, cut)

    def cost(self, visible: Visible) -> MethodCost:
        """An image of a step once, and a gradient of each visible row for the mask."""
        num_forget, num_remain = (len(rows.labels) for rows in visible.both)
        once = num_forget + num_remain
        return super().cost(visible)._replace(init=Cost(once, once, num_remain, num_forget))
