"""K attackers with different inputs and architectures.

Each is ``(logits f32[B,C], labels i32[B]) -> f32[B]``, positive where the answer is *member*.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ltu_jax.attackers.signals import log_probabilities, metrics, sorted_log_probabilities
from ltu_jax.setting import ConfigError, import_reference

SCALE = 0.2
"""Scales log-probabilities, which lie in [-30, 0] nats, to the order of one."""


class SortedAttacker(nn.Module):
    """ML-Leaks adversary 1: the largest log-probabilities, sorted, into one hidden layer; it does not use the label."""

    @nn.compact
    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Membership logits."""
        del labels
        hidden = nn.relu(nn.Dense(64)(SCALE * sorted_log_probabilities(logits)))
        return nn.Dense(1)(hidden)[:, 0]


class LabelledAttacker(nn.Module):
    """Nasr et al.: all log-probabilities and the one-hot label, into two tanh layers."""

    @nn.compact
    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Membership logits."""
        label = jax.nn.one_hot(labels, logits.shape[1])
        hidden = jnp.concatenate([SCALE * log_probabilities(logits), label], axis=1)
        for width in (128, 32):
            hidden = nn.tanh(nn.Dense(width)(hidden))
        return nn.Dense(1)(hidden)[:, 0]


class MetricsAttacker(nn.Module):
    """The metric-based attacks combined: loss, margin and entropies, into a small residual network."""

    @nn.compact
    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Membership logits."""
        signal = SCALE * metrics(logits, labels)
        hidden = nn.gelu(nn.Dense(32)(signal))
        hidden = hidden + nn.gelu(nn.Dense(32)(hidden))
        return (nn.Dense(1)(hidden) + nn.Dense(1)(signal))[:, 0]


class ClasswiseAttacker(nn.Module):
    """Self-attention over the classes as tokens (log-probability, is it the label); their order does not matter."""

    @nn.compact
    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Membership logits."""
        label = jax.nn.one_hot(labels, logits.shape[1])
        tokens = jnp.stack([SCALE * log_probabilities(logits), label], axis=-1)
        hidden = nn.Dense(32)(tokens)
        hidden = hidden + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(hidden))  # pyrefly: ignore[unsupported-operation]
        hidden = hidden + nn.Dense(32)(nn.gelu(nn.Dense(64)(nn.LayerNorm()(hidden))))
        return nn.Dense(1)(hidden.mean(axis=1))[:, 0]


NETWORKS: dict[str, nn.Module] = {
    "sorted": SortedAttacker(),
    "labelled": LabelledAttacker(),
    "metrics": MetricsAttacker(),
    "classwise": ClasswiseAttacker(),
}


def find_network(name: str) -> nn.Module:
    """One of ``NETWORKS``, or the Linen module that ``module:attribute`` names.

    Raises:
      ConfigError: if it cannot be imported, or is no Linen module.
    """
    if ":" not in name:
        return NETWORKS[name]
    found = import_reference(name, "config.attackers.names")
    if not isinstance(found, nn.Module):
        raise ConfigError(
            f"config.attackers.names: {name!r} is of type {type(found).__name__}; allowed: an instance of a Linen"
            " module, called with logits f32[B,C] and labels i32[B], that returns f32[B]"
        )
    return found
