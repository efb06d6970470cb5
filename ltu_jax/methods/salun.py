"""SalUn: random label on the half of the weights that matters most to the forget rows (Fan et al. 2024)."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ltu_jax import config
from ltu_jax.methods.base import Method, MethodCost
from ltu_jax.methods.descent import descend, label_loss
from ltu_jax.methods.importance import sum_over_batches, summed_gradient
from ltu_jax.methods.random_label import begin_relabelling, make_sample, make_stream
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import OPTIMIZERS, masked, set_mask
from ltu_jax.types import ArrayTree, Parts, Visible

MASK_BATCH = 500


def build(settings: config.SalUn, parts: Parts) -> Method:
    """SalUn: ``theta <- theta + mask * SGD(CE)`` on the batches of RandL.

    The mask keeps the ``keep_fraction`` of all weights, biases and BatchNorm's included and ranked
    together, with the largest ``|sum of the gradients|`` of the forget rows' loss at the original, in
    evaluation mode. It is applied after momentum and weight decay, so that masked weights stay bit-equal, as
    the present public code has it (older versions let them decay); BatchNorm's statistics are never
    masked. The public mask is made of augmented batches; this one of the rows as they are.

    Args:
      settings: see ``config.SalUn``.
      parts: the model, its classes and its augmentation.

    Returns:
      ``Method``.
    """
    stream, tx = make_stream(settings), masked(OPTIMIZERS[settings.optimizer])
    gradient = summed_gradient(parts.apply_fn)

    def init(key, state, visible):
        mask = largest(sum_over_batches(gradient, state, visible.forget, MASK_BATCH), settings.keep_fraction)
        state, context = begin_relabelling(settings, state, key, stream.num_steps(visible), tx)
        return set_mask(state, mask), context

    def cost(visible: Visible) -> MethodCost:
        num_forget = len(visible.forget.labels)
        return stream.cost()(visible)._replace(init=Cost(num_forget, num_forget, 0, num_forget))

    sample = make_sample(settings, parts, stream)
    return Method(init, sample, descend(label_loss), stream.num_steps, cost=cost)


def largest(tree: ArrayTree, fraction: float) -> ArrayTree:
    """True at the ``fraction`` of all entries of a tree that are largest in size, exactly ``round(fraction n)``.

    Args:
      tree: a float tree; its entries are ranked together.
      fraction: in [0, 1].

    Returns:
      A bool tree of the same shapes.
    """
    flat, unravel = ravel_pytree(tree)
    kept = jnp.argsort(jnp.abs(flat), descending=True)[: round(fraction * flat.size)]
    mask = unravel(jnp.zeros_like(flat).at[kept].set(1))
    return jax.tree.map(lambda x: x > 0, mask)
