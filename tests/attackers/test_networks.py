"""The attackers differ as their docstrings say: in what they see and in what they are blind to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.attackers.bank import membership
from ltu_jax.attackers.fit import Outputs, attacker_auc, fit_bank
from ltu_jax.attackers.networks import NETWORKS, find_network
from ltu_jax.attackers.signals import metrics
from ltu_jax.config import Attackers
from ltu_jax.setting import ConfigError

LOGITS = 3 * jax.random.normal(jax.random.key(0), (9, 6))
LABELS = jnp.arange(9) % 6
PERMUTATION = np.array([3, 0, 5, 1, 2, 4])  # moves every class
RELABELLED = jnp.asarray(np.argsort(PERMUTATION))[LABELS]  # where each label went


@pytest.fixture(scope="module", params=list(NETWORKS))
def attacker(request):
    """An untrained network of ``some_params``, and its name."""
    network, params = NETWORKS[request.param], some_params(request.param)
    return request.param, jax.jit(lambda logits, labels: network.apply(params, logits, labels))


def some_params(name):
    """Parameters of a network that are all nonzero, so that no path is switched off."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(NETWORKS[name].init, jax.random.key(1), LOGITS, LABELS)
    return jax.tree.map(lambda x: jnp.float32(rng.normal(0.3 if x.ndim == 1 else 0, 0.4, x.shape)), shapes)


def same(a, b):
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_every_name_of_the_configuration_is_a_network_and_the_other_way_round():
    choices = Attackers.__dataclass_fields__["names"].metadata["choices"]
    assert sorted(choices) == sorted(NETWORKS)


OWN = """
import jax.numpy as jnp
from flax import linen as nn


class Linear(nn.Module):
    @nn.compact
    def __call__(self, logits, labels):
        right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return self.param("scale", nn.initializers.ones, ()) * right


network, kind, text = Linear(), Linear, "sorted"
"""


def test_a_network_of_ones_own_is_fitted_and_asked_like_ours(tmp_path, monkeypatch):
    """Members have larger logits of the true label; the one weight must grow, and the answers be its product."""
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    is_member = np.arange(400) % 2
    logits = rng.normal(size=(400, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 400).astype(np.int32)
    logits[np.arange(400), labels] += 4 * is_member - 2
    outputs = Outputs(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(is_member, jnp.float32))
    settings = Attackers(names=("own_network:network", "sorted"), epochs=30, learning_rate=0.1)
    bank = fit_bank(outputs, settings, 4, jax.random.key(0))
    scale = bank.params["own_network:network"]["params"]["scale"]
    assert scale > 1.5 and attacker_auc(bank, outputs)["own_network:network"] > 0.95
    says = membership(bank, jnp.int32(0), outputs.logits, outputs.labels)
    np.testing.assert_allclose(says, scale * logits[np.arange(400), labels], rtol=1e-5)
    for name, why in (("kind", "is of type type"), ("text", "is of type str"), ("none", "cannot be imported")):
        with pytest.raises(ConfigError, match=f"config.attackers.names: 'own_network:{name}' {why}"):
            find_network(f"own_network:{name}")


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


LOG_P = np.float64(LOGITS) - np.log(np.exp(np.float64(LOGITS)).sum(axis=1, keepdims=True))
ONE_HOT = np.eye(6)[LABELS]


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def normalized(params, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * params["scale"] + params["bias"]


def attention(params, x):
    """Two heads of 16: softmax(q k / 4) v of the tokens x [samples, tokens, 32]."""
    q, k, v = (
        np.einsum("bti,ihd->bthd", x, params[n]["kernel"]) + params[n]["bias"] for n in ("query", "key", "value")
    )
    weights = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) / 4)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
    return np.einsum("bthd,hdi->bti", mixed, params["out"]["kernel"]) + params["out"]["bias"]


def by_hand(name, p):
    """The answers to LOGITS and LABELS in NumPy: a fifth of the log-probabilities goes in."""
    if name == "sorted":  # one hidden layer
        return dense(p["Dense_1"], np.maximum(dense(p["Dense_0"], -np.sort(-0.2 * LOG_P)), 0))
    if name == "labelled":  # two hidden layers
        hidden = np.tanh(dense(p["Dense_0"], np.concatenate([0.2 * LOG_P, ONE_HOT], axis=1)))
        return dense(p["Dense_2"], np.tanh(dense(p["Dense_1"], hidden)))
    if name == "metrics":  # a residual block, and a linear way around it
        signal = 0.2 * np.float64(metrics(LOGITS, LABELS))
        hidden = gelu(dense(p["Dense_0"], signal))
        return dense(p["Dense_2"], hidden + gelu(dense(p["Dense_1"], hidden))) + dense(p["Dense_3"], signal)
    # A pre-norm transformer block over the classes, and the mean of what comes out.
    hidden = dense(p["Dense_0"], np.stack([0.2 * LOG_P, ONE_HOT], axis=-1))
    hidden = hidden + attention(p["MultiHeadDotProductAttention_0"], normalized(p["LayerNorm_0"], hidden))
    hidden = hidden + dense(p["Dense_1"], gelu(dense(p["Dense_2"], normalized(p["LayerNorm_1"], hidden))))
    return dense(p["Dense_3"], hidden.mean(axis=1))


def test_each_is_the_network_that_its_docstring_names(attacker):
    name, says = attacker
    params = jax.tree.map(np.float64, some_params(name)["params"])
    np.testing.assert_allclose(says(LOGITS, LABELS)[:, None], by_hand(name, params), rtol=2e-4, atol=2e-4)


WIDTHS = {  # what a cached bank holds: of 6 classes, inputs and outputs of each dense layer
    "sorted": [(6, 64), (64, 1)],
    "labelled": [(12, 128), (128, 32), (32, 1)],
    "metrics": [(4, 32), (32, 32), (32, 1), (4, 1)],
    "classwise": [(2, 32), (64, 32), (32, 64), (32, 1)],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_widths_of_the_layers_stay_those_of_the_banks_in_caches(name):
    params = some_params(name)["params"]
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(len(WIDTHS[name]))] == WIDTHS[name]
