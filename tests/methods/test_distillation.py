"""The distance of two answers against a written-out KL; a teacher answers in evaluation mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import VISIBLE, apply_fn, forward, numpy, original, softmax

from ltu_jax.data.batches import gather
from ltu_jax.methods.distillation import copied, kl_divergence


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_is_the_sum_over_classes_of_p_log_p_over_q(temperature):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 6, 5)) * 3
    found = kl_divergence(jax.nn.softmax(jnp.float32(teacher)), jnp.float32(student), temperature)
    for row in range(6):
        p, q = softmax(teacher[row : row + 1])[0], softmax(student[row : row + 1] / temperature)[0]
        np.testing.assert_allclose(found[row], sum(p[c] * np.log(p[c] / q[c]) for c in range(5)), rtol=1e-4)


def test_kl_of_equal_answers_is_zero_and_a_sure_teacher_gives_the_cross_entropy():
    logits = jnp.float32(np.random.default_rng(1).normal(size=(3, 4)))
    np.testing.assert_allclose(kl_divergence(jax.nn.softmax(logits / 2), logits, 2.0), 0, atol=1e-6)
    sure = jnp.eye(4)[jnp.array([2, 0, 3])]
    wanted = -np.log(softmax(np.asarray(logits))[np.arange(3), [2, 0, 3]])
    np.testing.assert_allclose(kl_divergence(sure, logits, 1.0), wanted, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda z: kl_divergence(sure, z, 1.0).sum())(logits)).all()


def test_a_teacher_answers_in_evaluation_mode_and_has_buffers_of_its_own():
    state = original()
    teacher = copied(state.params, state.model_state)
    images = gather(VISIBLE.remain, jnp.arange(9)).images
    wanted = forward(numpy(state.params), images, shift=0.4)[2]  # the stored mean, not the batch's
    jax.tree.map(lambda x: x.delete(), (state.params, state.model_state))  # what donation does
    np.testing.assert_allclose(teacher.logits(apply_fn, images), wanted, rtol=1e-4, atol=1e-5)
