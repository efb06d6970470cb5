"""SSD, selective synaptic dampening: shrinks weights that matter more to forget rows (Foster et al. 2024)."""

import jax
import jax.numpy as jnp

from ltu_jax import config
from ltu_jax.methods.base import Method, one_shot
from ltu_jax.methods.importance import squared_batch_gradient, sum_over_batches
from ltu_jax.training.cost import Cost
from ltu_jax.types import ArrayTree, Parts, Rows, UnlearnState, Visible


def build(settings: config.SSD, parts: Parts) -> Method:
    """SSD: ``theta_p <- min(lambda I_D / I_f, 1) theta_p`` where ``I_f > alpha I_D``.

    ``I`` is the mean over batches of the squared gradient of the batch's mean loss, in evaluation
    mode, unaugmented, as the public code has it; it depends on the size of the batch. D is all training
    rows there; here it is all that is visible, which at rho = 1 is the same. Nothing is trained.

    Args:
      settings: see ``config.SSD``.
      parts: the model.

    Returns:
      A one-shot ``Method``.
    """
    squared = squared_batch_gradient(parts.apply_fn)

    def importance(state: UnlearnState, rows: Rows) -> ArrayTree:
        num_batches = -(-len(rows.labels) // min(settings.batch_size, len(rows.labels)))
        return jax.tree.map(lambda x: x / num_batches, sum_over_batches(squared, state, rows, settings.batch_size))

    def init(key, state, visible):
        del key
        of_forget = importance(state, visible.forget)
        of_all = importance(state, visible.all)
        params = jax.tree.map(dampened, state.params, of_forget, of_all)
        return state.replace(params=params), ()

    def dampened(weight, of_forget, of_all):
        factor = jnp.minimum(settings.dampening * of_all / jnp.where(of_forget > 0, of_forget, 1), 1)
        return jnp.where(of_forget > settings.alpha * of_all, factor * weight, weight)

    def cost(visible: Visible) -> Cost:
        num_forget, num_remain = (len(rows.labels) for rows in visible)
        passed = 2 * num_forget + num_remain
        return Cost(passed, passed, num_remain, 2 * num_forget)

    return one_shot(init, cost)
