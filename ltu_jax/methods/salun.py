"""SalUn: random label on the half of the weights that matters most to the forget rows (Fan et al. 2024)."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.descent import Context
from ltu_jax.methods.importance import sum_over_batches, summed_gradient
from ltu_jax.methods.random_label import RandomLabel
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import MASKED, set_mask
from ltu_jax.types import ArrayTree, UnlearnState, Visible

MASK_BATCH = 500


@flax.struct.dataclass
class SalUn(RandomLabel):
    """SalUn: ``theta <- theta + mask * SGD(CE)`` on the batches of RandL.

    The mask keeps the ``keep_fraction`` of all weights, biases and BatchNorm's included and ranked
    together, with the largest ``|sum of the gradients|`` of the forget rows' loss at the original, in
    evaluation mode. It is applied after momentum and weight decay, so that masked weights stay bit-equal, as
    the present public code has it (older versions let them decay); BatchNorm's statistics are never
    masked. The public mask is made of augmented batches; this one of the rows as they are.
    """

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer, masked."""
        return MASKED[self.settings.optimizer]

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """RandL's, with the mask."""
        gradient = sum_over_batches(summed_gradient, state, visible.forget, MASK_BATCH)
        state, context = super().init(key, state, visible)
        return set_mask(state, largest(gradient, self.settings.keep_fraction)), context

    def cost(self, visible: Visible) -> MethodCost:
        """RandL's, and the gradient of the forget rows."""
        num_forget = len(visible.forget.labels)
        return super().cost(visible)._replace(init=Cost(num_forget, num_forget, 0, num_forget))


def largest(tree: ArrayTree, fraction: float) -> ArrayTree:
    """True at the ``fraction`` of all entries of a tree that are largest in size, exactly ``round(fraction n)``.

    Args:
      tree: a float tree; its entries are ranked together.
      fraction: in [0, 1].

    Returns:
      A bool tree of the same shapes.
    """
    flat, unravel = ravel_pytree(tree)
    order, count = jnp.argsort(jnp.abs(flat), descending=True), round(fraction * flat.size)
    # No slice of ``count``: each would be a shape of its own, and compile anew.
    mask = unravel(jnp.zeros_like(flat).at[order].set(jnp.arange(flat.size) < count))
    return jax.tree.map(lambda x: x > 0, mask)
