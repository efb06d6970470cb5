"""What attackers see, against float64 formulas; gradients that live where a model is sure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.attackers.signals import FLOOR, log_probabilities, metrics, sorted_log_probabilities

LOGITS = np.random.default_rng(0).normal(size=(20, 12)) * 2
LABELS = np.random.default_rng(1).integers(0, 12, 20)


def sure(gap, num_classes=10):
    """One prediction whose first logit leads all others by ``gap``."""
    return jnp.zeros((1, num_classes)).at[0, 0].set(gap)


def in_float64(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_log_probabilities_are_those_of_the_softmax():
    np.testing.assert_allclose(log_probabilities(jnp.float32(LOGITS)), np.log(in_float64(LOGITS)), rtol=1e-5, atol=1e-6)


def test_log_probabilities_are_clipped_at_thirty_nats():
    assert FLOOR == -30
    # of gaps 29, 31 and 1000 only the first is left as it is
    logits = jnp.array([[0.0, -29.0, -31.0, -1000.0]])
    np.testing.assert_allclose(log_probabilities(logits), [[0, -29, -30, -30]], atol=1e-6)


@pytest.mark.parametrize("num, kept", [(3, 3), (10, 10), (20, 12)])
def test_sorted_are_the_largest_first(num, kept):
    expected = -np.sort(-np.log(in_float64(LOGITS)), axis=1)[:, :kept]
    np.testing.assert_allclose(sorted_log_probabilities(jnp.float32(LOGITS), num), expected, rtol=1e-5, atol=1e-6)


def test_ten_are_kept_as_in_ml_leaks():
    assert sorted_log_probabilities(jnp.float32(LOGITS)).shape == (20, 10)


def test_metrics_are_loss_margin_entropy_and_song_and_mittals_modified_entropy():
    p, rows = in_float64(LOGITS), np.arange(20)
    p_true = p[rows, LABELS]
    others = np.ones_like(p)
    others[rows, LABELS] = 0
    expected = [
        np.log(p_true),
        np.log(p_true / (1 - p_true)),
        -(p * np.log(p)).sum(1),
        -(1 - p_true) * np.log(p_true) - (others * p * np.log(1 - p)).sum(1),
    ]
    np.testing.assert_allclose(metrics(jnp.float32(LOGITS), LABELS), np.stack(expected, 1), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("gap", [8.0, 20.0, 25.0])
def test_the_margin_is_exact_where_one_minus_p_rounds_to_zero(gap):
    # p_y / (1 - p_y) = e^gap / 9 with ten classes
    margin = metrics(sure(gap), jnp.zeros(1, jnp.int32))[0, 1]
    np.testing.assert_allclose(margin, gap - np.log(9), rtol=1e-5)


def test_modified_entropy_is_small_only_where_the_model_is_sure_and_right():
    modified = lambda label: float(metrics(sure(12.0), jnp.array([label]))[0, 3])  # noqa: E731
    assert modified(0) < 1e-3 < 10 < modified(1)


def test_at_a_sure_prediction_log_probabilities_have_a_gradient_and_probabilities_have_none():
    size = lambda signal: float(jnp.abs(jax.jit(jax.jacobian(signal))(sure(20.0))).max())  # noqa: E731
    labels = jnp.zeros(1, jnp.int32)
    dead, alive = size(jax.nn.softmax), size(log_probabilities)
    margin = float(jnp.abs(jax.jit(jax.jacobian(lambda z: metrics(z, labels)[:, 1]))(sure(20.0))).max())
    print(f"largest derivative at a gap of 20: probabilities {dead:.1e}, log {alive:.1e}, margin {margin:.1e}")
    # by algebra: at most 9 e^-20 = 1.9e-8; 1; 1
    assert dead < 1e-7
    np.testing.assert_allclose([alive, margin], 1, rtol=1e-5)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("gap", [0.0, 1000.0, -1000.0])
def test_extreme_logits_have_finite_signals_and_gradients(gap, label):
    labels = jnp.array([label])
    for signal in (log_probabilities, sorted_log_probabilities, lambda z: metrics(z, labels)):
        assert np.isfinite(signal(sure(gap))).all() and np.isfinite(jax.jacobian(signal)(sure(gap))).all()


def test_logits_without_a_batch_are_refused():
    with pytest.raises(AssertionError):
        log_probabilities(jnp.zeros(10))
