"""The cost account: by adding up, by counting multiply-adds, and against XLA's count of each method's compiled step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ltu_jax.training.supervised  # noqa: F401, which makes Training a tree
from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import METHOD_CONFIGS, Attackers, Model, Training
from ltu_jax.data.batches import gather
from ltu_jax.methods import build_method
from ltu_jax.methods.fisher import squared_batch_gradients, squared_example_gradients
from ltu_jax.methods.importance import squared_batch_gradient
from ltu_jax.models.build import build_model
from ltu_jax.training.cost import Cost, ImageFlops, image_flops
from ltu_jax.training.dispatch import numbers_as_arrays, take_step
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, Rows, Visible, make_state

SIDE, C, BATCH = 16, 5, 50
SPEC = build_model(Model("resnet8", width=8), C, (SIDE, SIDE, 3))


def shaped(count):
    return Rows(jax.ShapeDtypeStruct((count, SIDE, SIDE, 3), np.uint8), jax.ShapeDtypeStruct((count,), np.int32))


VISIBLE = Visible(shaped(60), shaped(180), shaped(70))


def test_costs_add_up():
    once, step = Cost(1, 2, 3, 4), Cost(forward=10, remain=0.5)
    assert once.plus(step, 3) == (31, 2, 4.5, 4) and once.plus(step) == (11, 2, 3.5, 4)
    assert ImageFlops(2.0, 5.0).of(once) == 2 * 1 + 5 * 2
    assert Cost() == (0, 0, 0, 0)


def test_what_xla_does_not_count_is_not_a_number(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda lowered: None)
    dense = lambda params, model_state, images, train: (images.reshape(len(images), -1) @ params, model_state)  # noqa: E731
    assert np.isnan(image_flops(dense, jnp.zeros((12, 3)), {}, (2, 2, 3), 4)).all()


def test_an_image_of_a_dense_model_costs_its_multiply_adds():
    sizes = (300, 200, 100)

    def dense(params, model_state, images, train):
        assert train is True
        x = images.reshape(len(images), -1)
        for kernel in params:
            x = x @ kernel
        return x, model_state

    params = [jnp.zeros(shape) for shape in zip(sizes, sizes[1:], strict=False)]
    found = image_flops(dense, params, {}, (10, 10, 3), 16)
    products = [a * b for a, b in zip(sizes, sizes[1:], strict=False)]
    forward = 2 * sum(products)
    backward = 2 * sum(products) + 2 * products[1]  # of the kernels, and of all inputs but the images
    np.testing.assert_allclose(found, [forward, backward], rtol=0.03)  # the loss itself is the rest


@pytest.fixture(scope="module")
def model():
    """Shapes of the parameters and statistics, and what an image costs."""
    params, model_state = jax.eval_shape(SPEC.init, jax.random.key(0))
    return params, model_state, image_flops(SPEC.apply_fn, params, model_state, (SIDE, SIDE, 3), BATCH)


def test_a_model_is_traced_once_for_all_its_accounts():
    traced = []

    def dense(params, model_state, images, train):
        traced.append(images.shape)
        return images.reshape(len(images), -1) @ params, model_state

    counts = [(image_flops(dense, jnp.zeros((12, 3)), {}, (2, 2, 3), size), len(traced)) for size in (4, 4, 8)]
    assert counts[0] == counts[1] and counts[1][1] < counts[2][1]


def xla_flops(fn, *args, static=()):
    """Flops of the compiled program; the machine code is not optimized, which its count does not see."""
    lowered = jax.jit(fn, static_argnums=tuple(range(len(static)))).lower(*static, *args)
    compiled = lowered.compile({"xla_backend_optimization_level": 0})
    return compiled.cost_analysis()["flops"]


def step_and_account(name, model, **changes):
    """The arguments of a method's step, and the flops that its account says."""
    params, model_state, image = model
    settings = METHOD_CONFIGS[name]()
    if hasattr(settings, "batch_size"):
        changes["batch_size"] = BATCH
    if name == "amnesiac":
        changes["epochs"] = 1.0
    key = jax.random.key(0)
    bank = jax.eval_shape(lambda: init_bank(key, Attackers().names, C))
    parts = Parts(
        SPEC.apply_fn,
        C,
        init_params=SPEC.init,
        features=SPEC.features,
        bank=bank,
        updates=jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params),
        training=Training(batch_size=BATCH),
    )
    method = build_method(dataclasses.replace(settings, **changes), parts)
    state = jax.eval_shape(lambda p, s: make_state(SPEC.apply_fn, p, s, SGD, key), params, model_state)
    state, context = jax.eval_shape(method.init, key, state, VISIBLE)
    draw = jax.eval_shape(method.sample, key, state.step, context, VISIBLE)
    return take_step, (numbers_as_arrays(method), state, context, draw), image.of(method.cost(VISIBLE).step)


ONE_SHOT = {"fisher", "fisher_salun_compat", "ssd"}
STEPPING = sorted(set(METHOD_CONFIGS) - ONE_SHOT)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPPING)
def test_the_account_of_a_step_is_xlas_count_of_the_compiled_one_within_five_percent(model, name):
    step, args, account = step_and_account(name, model)
    np.testing.assert_allclose(account, xla_flops(step, *args), rtol=0.05)


VARIANTS = [{"order": "first"}, {"order": "none"}, {"save_memory": True}, {"remember": False}, {"forget": False}]
BY_MARGINS = [{"remember": False}, {"forget": False}, {"relabel": "step"}, {"relabel": "once", "order": "second"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, changes", [*(("paper", changes) for changes in VARIANTS), *(("ltu", changes) for changes in BY_MARGINS)]
)
def test_the_account_of_the_ablations_is_xlas_count_of_the_traced_step(model, name, changes):
    step, args, account = step_and_account(name, model, **changes)
    traced = jax.jit(step).lower(*args).cost_analysis()["flops"]  # seconds less than compiling each
    np.testing.assert_allclose(account, traced, rtol=0.06)  # passes of the forget images that are shared


@pytest.mark.parametrize(
    "fn, forward, backward",
    [
        (squared_batch_gradient, 1, 1),
        (squared_example_gradients, 1, C),
        (squared_batch_gradients, 1, C),
    ],
    ids=["ssd", "fisher", "fisher_salun_compat"],
)
def test_the_account_of_a_one_shot_methods_batch_is_xlas_count(model, fn, forward, backward):
    params, model_state, image = model
    batch = jax.eval_shape(lambda rows: gather(rows, jnp.arange(20)), VISIBLE.remain)
    weight = jax.ShapeDtypeStruct((20,), np.float32)
    account = image.of(Cost(forward=20 * forward, backward=20 * backward))
    np.testing.assert_allclose(
        account, xla_flops(fn, params, model_state, batch, weight, static=(SPEC.apply_fn,)), rtol=0.05
    )
