"""Random labels (Eq. 6) and the pair of attackers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.core.support import draw_pair, relabel


def test_random_labels_are_uniform_and_may_be_the_true_one():
    labels = jnp.full(20000, 3)
    drawn = np.bincount(relabel(jax.random.key(0), labels, 7), minlength=7) / 20000
    np.testing.assert_allclose(drawn, np.full(7, 1 / 7), atol=0.012)


def test_random_labels_can_exclude_the_true_one():
    labels = jnp.arange(21000) % 7
    drawn = np.asarray(relabel(jax.random.key(0), labels, 7, allow_true=False))
    table = np.zeros((7, 7))
    np.add.at(table, (np.asarray(labels), drawn), 1 / 3000)
    np.testing.assert_allclose(table, (1 - np.eye(7)) / 6, atol=0.035)
    assert not np.diag(table).any()


def test_the_pair_is_uniform_over_different_attackers_and_traced():
    pairs = jax.jit(jax.vmap(lambda key: jnp.stack(draw_pair(key, 4))))(jax.random.split(jax.random.key(0), 12000))
    table = np.zeros((4, 4))
    np.add.at(table, tuple(np.asarray(pairs).T), 1 / 12000)
    np.testing.assert_allclose(table, (1 - np.eye(4)) / 12, atol=0.012)
    assert not np.diag(table).any()


def test_one_attacker_makes_no_pair():
    with pytest.raises(ValueError, match="num_attackers: 1"):
        draw_pair(jax.random.key(0), 1)
