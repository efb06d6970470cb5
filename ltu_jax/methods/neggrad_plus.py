"""NegGrad+: down the loss of remaining rows and up that of forget rows at once (Kurmanji et al. 2023)."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.descent import Context, DescentMethod, begin, label_loss
from ltu_jax.training.cost import Cost
from ltu_jax.types import ArrayTree, Batch, UnlearnState, Visible


class PairDraw(NamedTuple):
    """A batch of each kind."""

    remain: Batch
    forget: Batch


@flax.struct.dataclass
class NegGradPlus(DescentMethod):
    """NegGrad+: ``theta <- SGD(w CE(D_r) - (1 - w) CE(D_f))``, w = ``remain_weight``.

    A step sees a batch of each, in passes of their own; the statistics of the remaining rows' pass are
    kept (the public code keeps both in turn). Epochs count the remaining rows, the forget rows come
    round again. As published both batches are of one size, whatever the sets; ``remain_per_forget``
    makes the remaining batch so many times as large.
    """

    def sizes(self, visible: Visible) -> tuple[int, int]:
        """Forget and remaining rows a step."""
        num_forget, num_remain = (len(rows.labels) for rows in visible.both)
        size = min(self.settings.batch_size, num_forget)
        return size, min(max(1, round((self.settings.remain_per_forget or 1) * size)), num_remain)

    def num_steps(self, visible: Visible) -> int:
        """Epochs of the remaining rows."""
        return max(1, round(self.settings.epochs * len(visible.remain.labels) / self.sizes(visible)[1]))

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """``context.extra`` is the weight of the forget rows."""
        forget_weight = jnp.float32(1 - self.settings.remain_weight)
        return begin(self.settings, state, key, self.num_steps(visible), extra=forget_weight)

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> PairDraw:
        """A batch of each kind."""
        draws = []
        for order_key, augment_key, rows, size in zip(
            jax.random.split(context.order_key), jax.random.split(key), visible.both, self.sizes(visible), strict=True
        ):
            batch = gather(rows, epoch_rows(order_key, step, len(rows.labels), size))
            draws.append(augmented(augment_key, batch, self.augment))
        return PairDraw(forget=draws[0], remain=draws[1])

    def loss(
        self, params: ArrayTree, state: UnlearnState, context: Context, draw: PairDraw
    ) -> tuple[jax.Array, ArrayTree]:
        """The weighted difference of the two losses."""
        of_remain, model_state = label_loss(params, state, context, draw.remain)
        of_forget, _ = label_loss(params, state, context, draw.forget)
        return self.settings.remain_weight * of_remain - context.extra * of_forget, model_state

    def cost(self, visible: Visible) -> MethodCost:
        """Each image of both batches once."""
        forget, remain = self.sizes(visible)
        return MethodCost(Cost(), Cost(forget + remain, forget + remain, remain, forget))
