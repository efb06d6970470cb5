"""NegGrad+: down the loss of remaining rows and up that of forget rows at once (Kurmanji et al. 2023)."""

from typing import NamedTuple

import jax

from ltu_jax import config
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import Method, MethodCost
from ltu_jax.methods.descent import begin, descend, label_loss
from ltu_jax.training.cost import Cost
from ltu_jax.types import Batch, Parts, Visible


class PairDraw(NamedTuple):
    """A batch of each kind."""

    remain: Batch
    forget: Batch


def build(settings: config.NegGradPlus, parts: Parts) -> Method:
    """NegGrad+: ``theta <- SGD(w CE(D_r) - (1 - w) CE(D_f))``, w = ``remain_weight``.

    A step sees a batch of each, in passes of their own; the statistics of the remaining rows' pass are
    kept (the public code keeps both in turn). Epochs count the remaining rows, the forget rows come
    round again. As published both batches are of one size, whatever the sets; ``remain_per_forget``
    makes the remaining batch so many times as large.

    Args:
      settings: see ``config.NegGradPlus``.
      parts: the model and its augmentation.

    Returns:
      ``Method``.
    """
    augment = parts.augment if settings.augment else "none"

    def sizes(visible: Visible) -> tuple[int, int]:
        num_forget, num_remain = (len(rows.labels) for rows in visible)
        size = min(settings.batch_size, num_forget)
        return size, min(max(1, round((settings.remain_per_forget or 1) * size)), num_remain)

    def num_steps(visible: Visible) -> int:
        return max(1, round(settings.epochs * len(visible.remain.labels) / sizes(visible)[1]))

    def init(key, state, visible):
        return begin(settings, state, key, num_steps(visible))

    def sample(key, step, context, visible):
        draws = []
        for order_key, augment_key, rows, size in zip(
            jax.random.split(context.order_key), jax.random.split(key), visible, sizes(visible), strict=True
        ):
            batch = gather(rows, epoch_rows(order_key, step, len(rows.labels), size))
            draws.append(augmented(augment_key, batch, augment))
        return PairDraw(forget=draws[0], remain=draws[1])

    def loss(params, state, context, draw):
        of_remain, model_state = label_loss(params, state, context, draw.remain)
        of_forget, _ = label_loss(params, state, context, draw.forget)
        return settings.remain_weight * of_remain - (1 - settings.remain_weight) * of_forget, model_state

    def cost(visible: Visible) -> MethodCost:
        forget, remain = sizes(visible)
        return MethodCost(Cost(), Cost(forget + remain, forget + remain, remain, forget))

    return Method(init, sample, descend(loss), num_steps, cost=cost)
