"""MSG: convolution weights of the smallest difference of gradients are drawn anew, then FT (Cadet et al. 2024)."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.convolutions import on_kernels
from ltu_jax.methods.descent import Context, begin, descend
from ltu_jax.methods.finetune import Finetune
from ltu_jax.methods.importance import sum_over_batches, summed_gradient
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import compiled
from ltu_jax.types import ArrayTree, Metrics, UnlearnState, Visible

GRADIENT_BATCH = 500


@flax.struct.dataclass
class MSG(Finetune):
    """MSG: in each convolution kernel the ``fraction`` of smallest ``|g_r - g_f|`` is drawn anew, then FT.

    ``g`` is the mean gradient over all forget rows, and over as many remaining ones, at the original in evaluation
    mode; what is new comes from Kaiming's normal of fan out. In FT the gradients of the kernels' other weights count
    ``kept_scale``; weight decay comes after that. The public code sums the means of batches, of two sizes, in training
    mode, which lets the statistics of BatchNorm drift.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """FT's, of the model with new weights; ``context.extra`` holds the factors on the gradient."""
        order_key, row_key, weight_key = jax.random.split(key, 3)
        settings, difference = self.settings, self._difference(row_key, state, visible)
        numbers = jnp.float32(settings.fraction), jnp.float32(settings.kept_scale)
        args = weight_key, state.params, difference, *numbers
        params, scale = compiled(_redrawn, *args, static=(settings.name,))(*args)
        return begin(settings, state.replace(params=params), order_key, self.num_steps(visible), extra=scale)

    def _difference(self, key: jax.Array, state: UnlearnState, visible: Visible) -> ArrayTree:
        """The remaining rows' mean gradient minus the forget rows'."""
        num_forget, num_remain = (len(rows.labels) for rows in visible.both)
        index = jax.random.permutation(key, num_remain)[: self._num_compared(visible)]
        of_forget = sum_over_batches(summed_gradient, state, visible.forget, GRADIENT_BATCH)
        of_remain = sum_over_batches(summed_gradient, state, visible.remain, GRADIENT_BATCH, index)
        return jax.tree.map(lambda r, f: r / len(index) - f / num_forget, of_remain, of_forget)

    def _num_compared(self, visible: Visible) -> int:
        """Remaining rows that the forget rows are compared with."""
        return min(len(rows.labels) for rows in visible.both)

    def step(self, state: UnlearnState, context: Context, draw: ArrayTree) -> tuple[UnlearnState, Metrics]:
        """FT's, with scaled gradients."""
        scaled = lambda grads, context, _: jax.tree.map(jnp.multiply, grads, context.extra)  # noqa: E731
        return descend(self.loss, state, context, draw, scaled)

    def cost(self, visible: Visible) -> MethodCost:
        """FT's, and a gradient of the forget rows and of as many remaining ones."""
        num_forget, num_remain = len(visible.forget.labels), self._num_compared(visible)
        once = num_forget + num_remain
        return super().cost(visible)._replace(init=Cost(once, once, num_remain, num_forget))


def _redrawn(
    name: str, key: jax.Array, params: ArrayTree, difference: ArrayTree, fraction: jax.Array, kept_scale: jax.Array
) -> tuple[ArrayTree, ArrayTree]:
    """The parameters with new weights, and the factors on the gradients of all."""
    is_new = on_kernels(name, lambda g: smallest(g, fraction), difference)
    normal = optax.tree.random_like(key, params, jax.random.normal)
    new = on_kernels(name, lambda p, chosen, n: jnp.where(chosen, _deviation(p) * n, p), params, is_new, normal)
    ones = jax.tree.map(jnp.ones_like, params)
    return new, on_kernels(name, lambda one, chosen: jnp.where(chosen, one, kept_scale * one), ones, is_new)


def smallest(x: jax.Array, fraction: float | jax.Array) -> jax.Array:
    """True at the ``fraction`` of all entries that are smallest in size, exactly ``round(fraction n)``.

    Args:
      x: any shape.
      fraction: in [0, 1].

    Returns:
      bool of the same shape.
    """
    is_small = jnp.arange(x.size) < jnp.round(fraction * x.size)
    return jnp.zeros(x.size, bool).at[jnp.argsort(jnp.abs(x).ravel())].set(is_small).reshape(x.shape)


def _deviation(kernel: jax.Array) -> float:
    """Kaiming's for a ReLU, of fan out."""
    height, width, _, features = kernel.shape
    return (2 / (height * width * features)) ** 0.5
