"""Learning rates against their formulas and optax's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.training.schedule import epoch, learning_rate, make_schedule

pytestmark = pytest.mark.smoke


def rates(schedule, num_steps):
    return np.asarray(jax.jit(jax.vmap(lambda step: learning_rate(schedule, step)))(jnp.arange(num_steps)))


def test_constant_is_the_peak_at_every_step():
    np.testing.assert_allclose(rates(make_schedule("constant", 0.3, 10), 12), np.full(12, 0.3), rtol=1e-6)


def test_cosine_goes_from_the_peak_to_zero_and_stays_there():
    steps = np.minimum(np.arange(25), 20)
    expected = 0.2 * (1 + np.cos(np.pi * steps / 20)) / 2
    np.testing.assert_allclose(rates(make_schedule("cosine", 0.2, 20), 25), expected, atol=1e-7)
    optax_says = optax.cosine_decay_schedule(0.2, 20)(jnp.arange(25))
    np.testing.assert_allclose(rates(make_schedule("cosine", 0.2, 20), 25), optax_says, atol=1e-7)


def test_a_cosine_of_one_step_takes_it_at_the_peak_and_no_other():
    np.testing.assert_allclose(rates(make_schedule("cosine", 0.2, 1), 3), [0.2, 0, 0], atol=1e-7)


def test_multistep_divides_by_ten_from_each_milestone_on():
    # torch.optim.lr_scheduler.MultiStepLR(milestones=[4, 7]): lr is 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, ...
    schedule = make_schedule("multistep", 1.0, 10, milestones=(4, 7))
    np.testing.assert_allclose(rates(schedule, 10), [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-5)
    optax_says = jax.vmap(optax.piecewise_constant_schedule(1.0, {4: 0.1, 7: 0.1}))(jnp.arange(10))
    np.testing.assert_allclose(rates(schedule, 10), optax_says, rtol=1e-5)
    np.testing.assert_allclose(rates(make_schedule("multistep", 1.0, 10), 10), np.ones(10))


def test_warm_up_is_linear_to_the_peak_and_the_cosine_begins_after_it():
    warmup = optax.linear_schedule(0.4 / 5, 0.4, 4)  # step t of 5 has (t + 1) / 5 of the peak
    optax_says = optax.join_schedules([warmup, optax.cosine_decay_schedule(0.4, 15)], [5])
    schedule = make_schedule("cosine", 0.4, 20, warmup_steps=5)
    np.testing.assert_allclose(rates(schedule, 20), jax.vmap(optax_says)(jnp.arange(20)), atol=1e-7)
    np.testing.assert_allclose(rates(schedule, 6), 0.4 * np.array([0.2, 0.4, 0.6, 0.8, 1, 1]), rtol=1e-6)


def test_warm_up_multiplies_what_the_milestones_leave():
    schedule = make_schedule("multistep", 1.0, 8, warmup_steps=4, milestones=(2,))
    np.testing.assert_allclose(rates(schedule, 6), [0.25, 0.5, 0.075, 0.1, 0.1, 0.1], rtol=1e-5)


def test_step_is_a_tenth_after_each_epoch():
    schedule = make_schedule("step", 1.0, 10, epochs=2.5)  # epochs of four steps
    np.testing.assert_allclose(rates(schedule, 10), [1] * 4 + [0.1] * 4 + [0.01] * 2, rtol=1e-5)


@pytest.mark.parametrize("epochs, by_epoch", [(5, [1, 2, 3, 2, 1]), (4, [1.5, 3, 2, 1]), (2, [3, 1.5]), (1, [3])])
def test_triangular_is_the_formula_of_each_epoch(epochs, by_epoch):
    # c = e + 1, a = floor((E + 1) / 2): c / a up to a, then (E + 1 - c) / (E + 1 - a)
    schedule = make_schedule("triangular", 0.3, 7 * epochs, epochs=epochs)
    np.testing.assert_allclose(rates(schedule, 7 * epochs), np.repeat(by_epoch, 7) / 10, rtol=1e-5)


def test_the_epoch_of_a_step_is_exact_at_every_boundary():
    for epochs, length in ((6, 5), (37, 3), (182, 159), (2.5, 4)):
        schedule, num_steps = make_schedule("step", 1.0, epochs * length, epochs=epochs), int(epochs * length)
        found = np.asarray(jax.vmap(lambda step: epoch(schedule, step))(jnp.arange(num_steps)))  # noqa: B023
        np.testing.assert_array_equal(found, np.arange(num_steps) // length)


@pytest.mark.parametrize("warmup_steps", [4, 5, 8])
def test_a_run_no_longer_than_its_warm_up_only_warms_up(warmup_steps):
    schedule = make_schedule("cosine", 1.0, 4, warmup_steps=warmup_steps)
    np.testing.assert_allclose(rates(schedule, 4), np.arange(1, 5) / warmup_steps, rtol=1e-6)


def test_other_numbers_of_the_same_kind_compile_nothing_anew():
    counted = jax.jit(chex.assert_max_traces(learning_rate, n=1))
    for peak, num_steps, warmup in ((0.1, 10, 0), (0.2, 20, 3), (3, 7, 1.5)):
        counted(make_schedule("cosine", peak, num_steps, warmup_steps=warmup), jnp.int32(2))
