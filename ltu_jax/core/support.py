"""Random labels of the support set for remembering (Eq. 6), and the pair of attackers for forgetting (below Eq. 11)."""

import chex
import jax


def relabel(key: jax.Array, labels: jax.Array, num_classes: int, *, allow_true: bool = True) -> jax.Array:
    """Random labels for forget samples: y_rand of Eq. 6.

    Args:
      key: PRNG key.
      labels: the true labels, i32[B].
      num_classes: size of the label space Y.
      allow_true: whether a random label may equal the true one, as in Eq. 6.

    Returns:
      i32[B], uniform over Y, or over Y without the true label.
    """
    chex.assert_rank(labels, 1)
    if allow_true:
        return jax.random.randint(key, labels.shape, 0, num_classes, labels.dtype)
    return (labels + jax.random.randint(key, labels.shape, 1, num_classes, labels.dtype)) % num_classes


def draw_pair(key: jax.Array, num_attackers: int) -> tuple[jax.Array, jax.Array]:
    """Two different attackers, i for the support set and j for the query set (sec. 3.2), uniform over all pairs.

    Both are i32[] and traced, so that all pairs share one compiled step.

    Raises:
      ValueError: if there are fewer than two attackers.
    """
    if num_attackers < 2:
        raise ValueError(f"num_attackers: {num_attackers} leaves no pair i != j; allowed: >= 2")
    first, offset = jax.random.split(key)
    i = jax.random.randint(first, (), 0, num_attackers)
    return i, (i + jax.random.randint(offset, (), 1, num_attackers)) % num_attackers
