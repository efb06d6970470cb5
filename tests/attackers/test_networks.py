"""The attackers differ as their docstrings say: in what they see and in what they are blind to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.attackers.networks import NETWORKS
from ltu_jax.config import Attackers

LOGITS = 3 * jax.random.normal(jax.random.key(0), (9, 6))
LABELS = jnp.arange(9) % 6
PERMUTATION = np.array([3, 0, 5, 1, 2, 4])  # moves every class
RELABELLED = jnp.asarray(np.argsort(PERMUTATION))[LABELS]  # where each label went


@pytest.fixture(scope="module", params=list(NETWORKS))
def attacker(request):
    """An untrained network with every parameter nonzero, so that no path is switched off, and its name."""
    network = NETWORKS[request.param]
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, jax.random.key(1), LOGITS, LABELS)
    params = jax.tree.map(lambda x: jnp.float32(rng.normal(0.3 if x.ndim == 1 else 0, 0.4, x.shape)), shapes)
    return request.param, jax.jit(lambda logits, labels: network.apply(params, logits, labels))


def same(a, b):
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_every_name_of_the_configuration_is_a_network_and_the_other_way_round():
    choices = Attackers.__dataclass_fields__["names"].metadata["choices"]
    assert sorted(choices) == sorted(NETWORKS)


def test_one_answer_a_sample_whatever_else_is_in_the_batch(attacker):
    _, says = attacker
    whole = says(LOGITS, LABELS)
    assert whole.shape == (9,) and np.ptp(whole) > 1e-3
    assert same(jnp.concatenate([says(LOGITS[i : i + 1], LABELS[i : i + 1]) for i in range(9)]), whole)


def test_only_the_sorted_attacker_is_blind_to_the_label(attacker):
    name, says = attacker
    assert same(says(LOGITS, LABELS), says(LOGITS, (LABELS + 1) % 6)) == (name == "sorted")


def test_all_but_the_labelled_attacker_treat_classes_alike(attacker):
    name, says = attacker
    renamed = says(LOGITS[:, PERMUTATION], RELABELLED)
    assert same(says(LOGITS, LABELS), renamed) == (name != "labelled")


def test_the_sorted_attacker_is_blind_to_the_order_of_the_logits_alone(attacker):
    name, says = attacker
    assert same(says(LOGITS, LABELS), says(LOGITS[:, PERMUTATION], LABELS)) == (name == "sorted")


def test_a_constant_added_to_all_logits_changes_nothing(attacker):
    _, says = attacker
    assert same(says(LOGITS, LABELS), says(LOGITS + 5, LABELS))


@pytest.mark.parametrize("gap", [20.0, 1000.0])
def test_gradients_are_finite_at_a_sure_prediction_and_alive_where_log_probabilities_are(attacker, gap):
    _, says = attacker
    logits, labels = jnp.zeros((1, 6)).at[0, 2].set(gap), jnp.array([2])
    gradient = np.asarray(jax.grad(lambda logits: says(logits, labels).sum())(logits))
    assert np.isfinite(gradient).all()
    if gap == 20:
        assert np.abs(gradient).max() > 1e-3  # 5 e^-20 = 1e-8 through probabilities
