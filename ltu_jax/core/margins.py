"""A bounded goal for forgetting: each forget row is brought to the margin that a held-out row of its rank has.

The margin of a row is the log-odds of its label, the statistic that likelihood attacks put a threshold on (LiRA,
Carlini et al. 2022). Where forget and held-out rows have the same margins, no threshold tells them apart. Eq. 11
instead descends an attacker's answer to *non-member*, which has no minimum: it forgets more for as long as it runs.
"""

import chex
import jax
import jax.numpy as jnp


def log_odds(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The margins ``log p_y - log(1 - p_y)`` of logits f32[B, C] and labels i32[B], f32[B]; finite where p_y is 1."""
    chex.assert_rank([logits, labels], [2, 1])
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    true = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    return true - jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=1)


def matched_weights(held_out: jax.Array, forget: jax.Array, num_classes: int) -> jax.Array:
    """Weights that give held-out rows the class frequencies of the forget rows.

    Args:
      held_out: labels, i32[M].
      forget: labels, i32[F].
      num_classes: C.

    Returns:
      f32[M] with sum 1; equal weights if no class of the forget rows has a held-out row.
    """
    wanted, there = (jnp.bincount(labels, length=num_classes) for labels in (forget, held_out))
    weights = (wanted / jnp.maximum(there, 1))[held_out]
    total = weights.sum()
    return jnp.where(total > 0, weights / jnp.maximum(total, 1), 1 / len(held_out))


def matched_margins(forget: jax.Array, held_out: jax.Array, weights: jax.Array) -> jax.Array:
    """For each forget row the margin of the held-out row of the same rank: the monotone map between the two.

    The order of the forget rows stays. Of all maps between the two distributions it moves the rows least (optimal
    transport in one dimension), and a row that is easy without having been learned stays an easy one.

    Args:
      forget: margins of all forget rows, f32[F].
      held_out: margins of the held-out rows, f32[M].
      weights: how much each of these counts, f32[M] >= 0 with sum 1.

    Returns:
      f32[F], the quantiles of ``held_out`` at ``(rank + 1/2) / F``, interpolated between the middles of its steps.
    """
    chex.assert_rank([forget, held_out, weights], 1)
    rank = jnp.argsort(jnp.argsort(forget))
    counts = weights > 0
    largest = jnp.max(held_out, where=counts, initial=-jnp.inf)
    order = jnp.argsort(jnp.where(counts, held_out, jnp.inf))  # rows that count for nothing come last, and add nothing
    middles = jnp.cumsum(weights[order]) - weights[order] / 2
    points = (rank + 0.5) / len(forget)
    return jnp.interp(points, middles, jnp.where(counts, held_out, largest)[order]).astype(forget.dtype)
