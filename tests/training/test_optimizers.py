"""SGD and Adam against the updates that PyTorch documents; ascents and masks of them; numbers that compile nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.training.optimizers import ADAM, ASCENDING, MASKED, OPTIMIZERS, SGD, set_hyperparams, set_mask
from ltu_jax.types import make_state

pytestmark = pytest.mark.smoke

RNG = np.random.default_rng(0)
START = {"w": RNG.normal(size=(2, 3)), "b": RNG.normal(size=3)}
GRADS = [{name: RNG.normal(size=x.shape) for name, x in START.items()} for _ in range(6)]
RATES = [0.1, 0.2, 0.3, 0.05, 0.0, 0.1]


def float32(tree):
    return jax.tree.map(jnp.float32, tree)


def sgd(params, grads, momentum, weight_decay):
    """torch.optim.SGD: g += wd p; b = m b + g; p -= lr b."""
    velocity = {name: 0.0 for name in params}
    for grad, rate in zip(grads, RATES, strict=True):
        velocity = {n: momentum * velocity[n] + grad[n] + weight_decay * params[n] for n in params}
        params = {n: params[n] - rate * velocity[n] for n in params}
    return params


def adam(params, grads, momentum, weight_decay):
    """torch.optim.Adam(betas=(momentum, 0.999), eps=1e-8): g += wd p; means of g and g^2, each unbiased."""
    first, second = {n: 0.0 for n in params}, {n: 0.0 for n in params}
    for t, (grad, rate) in enumerate(zip(grads, RATES, strict=True), 1):
        grad = {n: grad[n] + weight_decay * params[n] for n in params}
        first = {n: momentum * first[n] + (1 - momentum) * grad[n] for n in params}
        second = {n: 0.999 * second[n] + 0.001 * grad[n] ** 2 for n in params}
        unbiased = {n: (first[n] / (1 - momentum**t), second[n] / (1 - 0.999**t)) for n in params}
        params = {n: params[n] - rate * unbiased[n][0] / (np.sqrt(unbiased[n][1]) + 1e-8) for n in params}
    return params


def adamw(params, grads, momentum, weight_decay):
    """torch.optim.AdamW: Adam's step, and p -= lr wd p before it."""
    first, second = {n: 0.0 for n in params}, {n: 0.0 for n in params}
    for t, (grad, rate) in enumerate(zip(grads, RATES, strict=True), 1):
        first = {n: momentum * first[n] + (1 - momentum) * grad[n] for n in params}
        second = {n: 0.999 * second[n] + 0.001 * grad[n] ** 2 for n in params}
        steps = {n: first[n] / (1 - momentum**t) / (np.sqrt(second[n] / (1 - 0.999**t)) + 1e-8) for n in params}
        params = {n: (1 - rate * weight_decay) * params[n] - rate * steps[n] for n in params}
    return params


BY_HAND = {"sgd": sgd, "adam": adam, "adamw": adamw}


def never_asked(*_):
    """A model: one object, for it is a static part of the state."""


def initial(tx, momentum=0.9, weight_decay=0.05):
    state = make_state(never_asked, float32(START), {}, tx, jax.random.key(0))
    return set_hyperparams(state, momentum=momentum, weight_decay=weight_decay)


def stepped(state):
    for grad, rate in zip(GRADS, RATES, strict=True):
        state = set_hyperparams(state, learning_rate=rate).apply_gradients(grads=float32(grad))
    return state


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 0.05), (0.9, 0.0), (0.0, 0.05)])
def test_an_optimizer_is_the_update_that_pytorch_documents(name, momentum, weight_decay):
    wanted = BY_HAND[name](START, GRADS, momentum, weight_decay)
    found = stepped(initial(OPTIMIZERS[name], momentum, weight_decay)).params
    chex.assert_trees_all_close(found, float32(wanted), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 0.05), (0.0, 0.05)])
def test_sgd_is_optax_with_the_same_constants(momentum, weight_decay):
    reference_tx = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(lambda t: jnp.array(RATES, jnp.float32)[t], momentum)
    )
    reference, opt_state = float32(START), reference_tx.init(float32(START))
    for grad in GRADS:
        updates, opt_state = reference_tx.update(float32(grad), opt_state, reference)
        reference = optax.apply_updates(reference, updates)
    chex.assert_trees_all_close(stepped(initial(SGD, momentum, weight_decay)).params, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ascending_turns_the_gradient_round_and_not_the_weight_decay(name):
    uphill = [{n: -g for n, g in grad.items()} for grad in GRADS]
    wanted = BY_HAND[name](START, uphill, 0.9, 0.05)
    found = stepped(initial(ASCENDING[name])).params
    chex.assert_trees_all_close(found, float32(wanted), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_moves_what_the_mask_allows_as_before_and_nothing_else_by_a_bit(name):
    free = stepped(initial(OPTIMIZERS[name])).params
    state = initial(MASKED[name])
    chex.assert_trees_all_equal(stepped(state).params, free)  # all may move until a mask is set
    mask = {"w": jnp.array([[True, False, True], [False, False, True]]), "b": jnp.array([False, True, False])}
    held = stepped(set_mask(state, mask)).params
    chex.assert_trees_all_equal(held, jax.tree.map(jnp.where, mask, free, float32(START)))


def test_numbers_that_nobody_set_move_nothing():
    for tx, momentum in ((SGD, 0.0), (ADAM, 0.9)):
        numbers = {name: float(x) for name, x in tx.init(float32(START)).hyperparams.items()}
        assert numbers == pytest.approx({"learning_rate": 0.0, "momentum": momentum, "weight_decay": 0.0})


def test_setting_one_number_keeps_the_others_and_changes_no_type():
    state = make_state(never_asked, {"w": jnp.ones(3)}, {}, SGD, jax.random.key(0))
    first = set_hyperparams(state, momentum=0.9, weight_decay=0.01, learning_rate=0.1)
    second = set_hyperparams(first, learning_rate=jnp.float32(0.5))
    numbers = {name: round(float(x), 6) for name, x in second.opt_state.hyperparams.items()}
    assert numbers == {"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.01}
    chex.assert_trees_all_equal_shapes_and_dtypes(state.opt_state, first.opt_state, second.opt_state)


@pytest.mark.parametrize("tx", [SGD, ADAM, ASCENDING["sgd"], MASKED["adam"]])
def test_other_numbers_compile_nothing_anew(tx):
    traces = []

    @jax.jit
    def step(state, rate):
        traces.append(rate)
        return set_hyperparams(state, learning_rate=rate).apply_gradients(grads=float32(GRADS[0]))

    for momentum, weight_decay, rate in ((0.9, 0.0, 0.1), (0.0, 0.05, 0.2), (0.5, 1e-4, 3.0)):
        step(step(initial(tx, momentum, weight_decay), jnp.float32(rate)), jnp.float32(rate))
    assert len(traces) == 1
