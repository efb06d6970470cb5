"""The two losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.core.losses import cross_entropy, nonmember_bce

pytestmark = pytest.mark.smoke


def test_losses_equal_their_definitions():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 5)), rng.integers(0, 5, 9)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(
        cross_entropy(jnp.float32(logits), jnp.int32(labels)), -np.log(probs[np.arange(9), labels]).mean(), rtol=1e-5
    )
    member = rng.normal(size=9) * 3
    non_member_probability = 1 - 1 / (1 + np.exp(-member))
    np.testing.assert_allclose(nonmember_bce(jnp.float32(member)), -np.log(non_member_probability).mean(), rtol=1e-5)
    assert jax.grad(nonmember_bce)(jnp.float32(member)).min() > 0  # descent lowers the membership logit
