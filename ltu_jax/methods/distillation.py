"""What distillation methods share: a teacher, and the divergence from its predictions."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.types import ApplyFn, ArrayTree


@flax.struct.dataclass
class Teacher:
    """A frozen model."""

    params: ArrayTree
    model_state: ArrayTree

    def logits(self, apply_fn: ApplyFn, images: jax.Array) -> jax.Array:
        """Its logits in evaluation mode, f32[B, C]."""
        return apply_fn(self.params, self.model_state, images, train=False)[0]


def copied(params: ArrayTree, model_state: ArrayTree) -> Teacher:
    """A teacher with buffers of its own: the steps consume those of the student."""
    return Teacher(*jax.tree.map(jnp.copy, (params, model_state)))


def kl_divergence(targets: jax.Array, logits: jax.Array, temperature: float) -> jax.Array:
    """``KL(targets || softmax(logits / T))`` of each row.

    Args:
      targets: probabilities f32[B, C].
      logits: f32[B, C].
      temperature: T.

    Returns:
      f32[B], in nats.
    """
    log_q = jax.nn.log_softmax(logits / temperature)
    return jnp.sum(jax.scipy.special.xlogy(targets, targets) - targets * log_q, axis=1)
