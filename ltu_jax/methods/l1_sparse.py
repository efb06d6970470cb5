"""l1-sparse: fine-tuning with an l1 penalty that fades (Jia et al. 2023)."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.methods.descent import Context
from ltu_jax.methods.finetune import Finetune
from ltu_jax.training.schedule import epoch
from ltu_jax.types import ArrayTree, Batch, UnlearnState


@flax.struct.dataclass
class L1Sparse(Finetune):
    """l1-sparse: ``theta <- SGD(CE + alpha (1 - e / E) |theta|_1)`` over the remaining rows, in epoch e = 0..E-1.

    All parameters count, biases and BatchNorm's too, and weight decay stays on; no forget row is ever touched.
    """

    def loss(
        self, params: ArrayTree, state: UnlearnState, context: Context, draw: Batch
    ) -> tuple[jax.Array, ArrayTree]:
        """FT's, and the penalty."""
        value, model_state = super().loss(params, state, context, draw)
        schedule = context.schedule
        alpha = self.settings.alpha * (1 - epoch(schedule, state.step) / schedule.epochs)
        return value + alpha * sum(map(_size, jax.tree.leaves(params))), model_state


def _size(x: jax.Array) -> jax.Array:
    """The sum of the absolute values, whose slope at 0 is 0; that of ``jnp.abs`` is 1."""
    return jnp.sum(x * jax.lax.stop_gradient(jnp.sign(x)))
