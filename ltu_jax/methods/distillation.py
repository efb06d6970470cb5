"""What the methods share that learn from teachers: a teacher, and the distance to its answers."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.types import ApplyFn, ArrayTree


@flax.struct.dataclass
class Teacher:
    """A model that is only asked."""

    params: ArrayTree
    model_state: ArrayTree

    def logits(self, apply_fn: ApplyFn, images: jax.Array) -> jax.Array:
        """Its answers in evaluation mode, f32[B, C]."""
        return apply_fn(self.params, self.model_state, images, train=False)[0]


def copied(params: ArrayTree, model_state: ArrayTree) -> Teacher:
    """A teacher of its own buffers: the steps consume those of the student."""
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
