"""A bank asks one attacker, chosen inside the compiled program."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import programs_made

from ltu_jax.attackers.bank import init_bank, membership
from ltu_jax.attackers.networks import NETWORKS

NAMES = ("sorted", "metrics", "labelled", "classwise")  # not the alphabetical order of a tree's keys
LOGITS, LABELS = jax.random.normal(jax.random.key(0), (5, 4)), jnp.arange(5) % 4
START = jax.jit(lambda key: init_bank(key, NAMES, 4))


@pytest.fixture(scope="module")
def bank():
    return START(jax.random.key(1))


def directly(bank, name):
    return np.asarray(jax.jit(NETWORKS[name].apply)(bank.params[name], LOGITS, LABELS))


def test_membership_is_the_network_called_directly_and_a_traced_index_compiles_once_for_all(bank):
    ask = jax.jit(chex.assert_max_traces(membership, n=1))
    answers = [np.asarray(ask(bank, jnp.int32(k), LOGITS, LABELS)) for k in range(4)]
    for name, says in zip(NAMES, answers, strict=True):
        assert says.shape == (5,)
        np.testing.assert_allclose(says, directly(bank, name), rtol=1e-4, atol=1e-6)
    assert len({says.tobytes() for says in answers}) == 4


def test_first_weights_are_a_program_a_network():
    with programs_made() as made:
        init_bank(jax.random.key(1), NAMES, 13)  # no other test has 13 classes
    assert len(made) <= len(NAMES) + 4  # keys are split and taken apart; layer by layer they were 141


def test_a_gradient_passes_to_the_logits_through_the_attacker_asked_alone(bank):
    ask = lambda bank, logits: membership(bank, jnp.int32(2), logits, LABELS).sum()  # noqa: E731
    of_bank, of_logits = jax.jit(jax.grad(ask, argnums=(0, 1)))(bank, LOGITS)
    moved = {name: any(np.any(x) for x in jax.tree.leaves(of_bank.params[name])) for name in NAMES}
    assert moved == {name: name == "labelled" for name in NAMES} and np.all(np.any(of_logits, axis=1))


def test_another_key_starts_the_attackers_elsewhere(bank):
    other = START(jax.random.key(2))
    assert other.names == bank.names == NAMES
    first, second = ([x for x in jax.tree.leaves(b.params) if np.any(x != x.ravel()[0])] for b in (bank, other))
    assert len(first) == len(second) > 4 and not any(np.allclose(a, b) for a, b in zip(first, second, strict=True))
