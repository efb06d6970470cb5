"""The attackers' inputs, computed from predictions. All are differentiable almost everywhere.

Paper leaves open: class probabilities or logits as input. Chosen: log-probabilities, because
probabilities saturate: where a model is confident, their gradient is a thousand times smaller.
"""

import chex
import jax
import jax.numpy as jnp

FLOOR = -30.0
"""Lower bound of log-probabilities, in nats."""


def log_probabilities(logits: jax.Array) -> jax.Array:
    """Log-softmax of f32[B, C], clipped at ``FLOOR``."""
    chex.assert_rank(logits, 2)
    return jnp.maximum(jax.nn.log_softmax(logits), FLOOR)


def sorted_log_probabilities(logits: jax.Array, num: int = 10) -> jax.Array:
    """The ``num`` largest log-probabilities, largest first (ML-Leaks), f32[B, min(num, C)]."""
    return jax.lax.top_k(log_probabilities(logits), min(num, logits.shape[1]))[0]


def metrics(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The metric-based attacks' inputs: log p_y, margin, entropy and modified entropy.

    The margin is the logit-scaled confidence ``log p_y - log(1 - p_y)`` of LiRA; the modified entropy
    is that of Song and Mittal (2021), small only where the model is confident and right.

    Args:
      logits: f32[B, C].
      labels: true labels, i32[B].

    Returns:
      f32[B, 4].
    """
    log_p = log_probabilities(logits)
    is_true = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    log_p_true = jnp.sum(jnp.where(is_true, log_p, 0), axis=1)
    # log(1 - p) through the other classes' logits: 1 - p itself rounds to zero where p is near one.
    others = jnp.where(is_true, -jnp.inf, jax.nn.log_softmax(logits))
    log_not_true = jnp.maximum(jax.nn.logsumexp(others, axis=1), FLOOR)
    p = jnp.exp(log_p)
    entropy = -jnp.sum(p * log_p, axis=1)
    log_not = jnp.log1p(-jnp.minimum(p, 1 - 1e-6))
    modified = -jnp.exp(log_not_true) * log_p_true - jnp.sum(jnp.where(is_true, 0, p * log_not), axis=1)
    return jnp.stack([log_p_true, log_p_true - log_not_true, entropy, modified], axis=1)
