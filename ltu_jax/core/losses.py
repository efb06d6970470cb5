"""The two losses of the paper: cross-entropy (L of Eq. 1) and non-member BCE (Eq. 11)."""

import chex
import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of logits f32[B, C] and labels i32[B]; L of Eqs. 1 and 3."""
    chex.assert_rank([logits, labels], [2, 1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def nonmember_bce(membership_logits: jax.Array) -> jax.Array:
    """Mean binary cross-entropy against the answer *non-member*; L_BCE of Eq. 11.

    Paper leaves open: the target of the BCE. Chosen: 0 (*non-member*) for every forget sample, because
    only then does descending the loss forget. ``membership_logits`` are f32[B], positive for *member*.
    """
    chex.assert_rank(membership_logits, 1)
    return jnp.mean(jax.nn.softplus(membership_logits))
