"""Learning rates against their formulas and optax's own; SGD against the update that PyTorch documents."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.training.schedule import SGD, learning_rate, make_schedule, set_sgd
from ltu_jax.types import make_state

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


@pytest.mark.parametrize("warmup_steps", [4, 5, 8])
def test_a_run_no_longer_than_its_warm_up_only_warms_up(warmup_steps):
    schedule = make_schedule("cosine", 1.0, 4, warmup_steps=warmup_steps)
    np.testing.assert_allclose(rates(schedule, 4), np.arange(1, 5) / warmup_steps, rtol=1e-6)


def test_other_numbers_of_the_same_kind_compile_nothing_anew():
    counted = jax.jit(chex.assert_max_traces(learning_rate, n=1))
    for peak, num_steps, warmup in ((0.1, 10, 0), (0.2, 20, 3), (3, 7, 1.5)):
        counted(make_schedule("cosine", peak, num_steps, warmup_steps=warmup), jnp.int32(2))


@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 0.05), (0.9, 0.0), (0.0, 0.05)])
def test_sgd_is_the_update_that_pytorch_documents_and_optax_with_the_same_constants(momentum, weight_decay):
    rng = np.random.default_rng(0)
    start = {"w": rng.normal(size=(2, 3)), "b": rng.normal(size=3)}
    grads = [{name: rng.normal(size=x.shape) for name, x in start.items()} for _ in range(6)]
    rates = [0.1, 0.2, 0.3, 0.05, 0.0, 0.1]

    params, buffer = dict(start), {name: 0.0 for name in start}
    for grad, rate in zip(grads, rates, strict=True):  # g += wd p; b = m b + g; p -= lr b
        buffer = {n: momentum * buffer[n] + grad[n] + weight_decay * params[n] for n in params}
        params = {n: params[n] - rate * buffer[n] for n in params}

    float32 = lambda tree: jax.tree.map(jnp.float32, tree)  # noqa: E731
    reference_tx = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(lambda t: jnp.array(rates, jnp.float32)[t], momentum)
    )
    reference, opt_state = float32(start), reference_tx.init(float32(start))
    state = make_state(lambda *_: None, float32(start), {}, SGD, jax.random.key(0))
    state = set_sgd(state, momentum=momentum, weight_decay=weight_decay)
    for grad, rate in zip(grads, rates, strict=True):
        state = set_sgd(state, learning_rate=rate).apply_gradients(grads=float32(grad))
        updates, opt_state = reference_tx.update(float32(grad), opt_state, reference)
        reference = optax.apply_updates(reference, updates)
    chex.assert_trees_all_close(state.params, float32(params), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(state.params, reference, rtol=1e-5, atol=1e-6)


def test_setting_one_number_keeps_the_others_and_changes_no_type():
    state = make_state(lambda *_: None, {"w": jnp.ones(3)}, {}, SGD, jax.random.key(0))
    first = set_sgd(state, momentum=0.9, weight_decay=0.01, learning_rate=0.1)
    second = set_sgd(first, learning_rate=jnp.float32(0.5))
    numbers = {name: round(float(x), 6) for name, x in second.opt_state.hyperparams.items()}
    assert numbers == {"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.01}
    chex.assert_trees_all_equal_shapes_and_dtypes(state.opt_state, first.opt_state, second.opt_state)
