"""A bank asks one attacker, chosen inside the compiled program."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.attackers.bank import init_bank, membership
from ltu_jax.attackers.networks import NETWORKS

pytestmark = pytest.mark.smoke

NAMES = ("sorted", "metrics", "labelled", "classwise")  # not the alphabetical order of a tree's keys
LOGITS, LABELS = jax.random.normal(jax.random.key(0), (5, 4)), jnp.arange(5) % 4


@pytest.fixture(scope="module")
def bank():
    return jax.jit(lambda key: init_bank(key, NAMES, 4))(jax.random.key(1))


def test_membership_is_the_network_called_directly(bank):
    answers = [np.asarray(membership(bank, jnp.int32(k), LOGITS, LABELS)) for k in range(4)]
    for name, says in zip(NAMES, answers, strict=True):
        np.testing.assert_allclose(says, NETWORKS[name].apply(bank.params[name], LOGITS, LABELS), rtol=1e-6)
        assert says.shape == (5,)
    assert len({says.tobytes() for says in answers}) == 4


def test_a_traced_index_compiles_once_for_all_attackers(bank):
    ask = jax.jit(chex.assert_max_traces(membership, n=1))
    for k, name in enumerate(NAMES):
        expected = NETWORKS[name].apply(bank.params[name], LOGITS, LABELS)
        np.testing.assert_allclose(ask(bank, jnp.int32(k), LOGITS, LABELS), expected, rtol=1e-5, atol=1e-6)


def test_a_gradient_passes_to_the_logits_through_the_attacker_asked_alone(bank):
    gradient = jax.grad(lambda bank, logits: membership(bank, jnp.int32(2), logits, LABELS).sum(), argnums=(0, 1))
    of_bank, of_logits = gradient(bank, LOGITS)
    moved = {name: any(np.any(x) for x in jax.tree.leaves(of_bank.params[name])) for name in NAMES}
    assert moved == {name: name == "labelled" for name in NAMES} and np.all(np.any(of_logits, axis=1))


def test_attackers_of_one_architecture_would_start_differently():
    first, second = (init_bank(jax.random.key(seed), ("sorted", "labelled"), 4).params["sorted"] for seed in (0, 1))
    kernel = lambda params: np.asarray(params["params"]["Dense_0"]["kernel"])  # noqa: E731
    assert not np.array_equal(kernel(first), kernel(second))
