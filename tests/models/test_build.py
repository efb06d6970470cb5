"""What the rest of the package relies on, whatever the architecture."""

import dataclasses
import re
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.config import Model
from ltu_jax.models.build import ModelSpec, build_model
from ltu_jax.setting import ConfigError

SHAPE = (8, 8, 3)
NAMES = {field.name: field for field in dataclasses.fields(Model)}["name"].metadata["choices"]
SMALL = ("resnet8", "vit_micro")


def small(name):
    return build_model(Model(name, width=4), 5, SHAPE)


def images(count=4, seed=1):
    return jax.random.uniform(jax.random.key(seed), (count, *SHAPE))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_the_configuration_allows_gives_float32_logits(name):
    spec = build_model(Model(name), 7, SHAPE)
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    logits, after = jax.eval_shape(lambda *a: spec.apply_fn(*a, True), params, model_state, batch)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, model_state)
    assert list(model_state) == (["batch_stats"] if name.startswith("resnet") else [])


@pytest.mark.parametrize("name", SMALL)
def test_logits_and_features_stay_float32_for_half_precision_weights(name):
    spec = small(name)

    def forward(key):
        params, model_state = jax.tree.map(lambda x: x.astype(jnp.bfloat16), spec.init(key))
        half = images().astype(jnp.bfloat16)
        return spec.apply_fn(params, model_state, half, False)[0], spec.features(params, model_state, half)

    logits, features = jax.eval_shape(forward, jax.random.key(0))
    assert logits.dtype == features.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize("name", SMALL)
def test_in_bfloat16_only_the_passes_are_and_they_stay_near(name):
    exact, half = (build_model(Model(name, width=4, dtype=dtype), 5, SHAPE) for dtype in ("float32", "bfloat16"))
    params, model_state = exact.init(jax.random.key(0))
    chex.assert_trees_all_equal(half.init(jax.random.key(0)), (params, model_state))

    def loss(spec, params):
        logits, after = spec.apply_fn(params, model_state, images(), True)
        return (logits**2).sum(), (logits, after)

    grads, (logits, after) = jax.jit(jax.grad(lambda p: loss(half, p), has_aux=True))(params)
    assert {x.dtype for x in jax.tree.leaves((grads, logits, after))} == {jnp.dtype("float32")}
    text = str(jax.make_jaxpr(lambda p: loss(half, p)[0])(params))
    products = re.findall(r":(\w+)\[[\d,]+\] = (?:conv_general_dilated|dot_general)\[", text)
    assert set(products[:-1]) == {"bf16"} and len(products) > 5  # the head, last, is float32
    wanted, (exact_logits, _) = jax.jit(jax.grad(lambda p: loss(exact, p), has_aux=True))(params)
    assert jnp.linalg.norm(logits - exact_logits) < 0.05 * jnp.linalg.norm(exact_logits)
    cosine = optax.tree.vdot(grads, wanted) / optax.tree.norm(grads) / optax.tree.norm(wanted)
    assert cosine > 0.98


@pytest.mark.parametrize("name", SMALL)
def test_the_head_of_the_features_is_the_evaluation_logits(name):
    spec = small(name)
    params, model_state = spec.init(jax.random.key(0))
    apply_fn = jax.jit(spec.apply_fn, static_argnums=3)
    _, model_state = apply_fn(params, model_state, images(), True)
    features = np.asarray(jax.jit(spec.features)(params, model_state, images()))
    logits, _ = apply_fn(params, model_state, images(), False)
    head = jax.tree.map(np.asarray, params["head"])
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_init_gives_plain_dictionaries_and_draws_by_the_key(name):
    init = small(name).init
    (params, model_state), (again, _), (other, _) = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert type(params) is dict and type(model_state) is dict
    chex.assert_trees_all_equal(params, again)
    for tree in (params, other):
        chex.assert_tree_all_finite(tree)
    assert float(jnp.abs(params["head"]["kernel"] - other["head"]["kernel"]).max()) > 0.1


@pytest.mark.parametrize("name", SMALL)
def test_init_can_be_traced(name):
    init = small(name).init
    keys = jax.random.split(jax.random.key(3), 2)
    single = init(keys[1])
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(init, keys[1]), single)
    several = jax.jit(jax.vmap(init))(keys)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], several), single, rtol=1e-6, atol=1e-7)


def test_equal_arguments_give_the_same_functions_and_so_one_compilation():
    first, again = (build_model(Model("resnet8", width=4), 5, shape) for shape in (SHAPE, list(SHAPE)))
    assert first == again and hash(first) == hash(again)
    for other in (
        build_model(Model("resnet8", width=8), 5, SHAPE),
        build_model(Model("resnet8", width=4), 6, SHAPE),
        build_model(Model("resnet8", width=4), 5, (16, 8, 3)),
    ):
        assert not {*other} & {*first}


@pytest.mark.parametrize(
    "wrong",
    [jnp.zeros((2, *SHAPE), jnp.uint8), jnp.zeros((2, 16, 16, 3)), jnp.zeros(SHAPE)],
    ids=["u8", "size", "rank"],
)
@pytest.mark.parametrize("name", SMALL)
def test_images_of_another_type_or_shape_are_refused(name, wrong):
    spec = small(name)
    with pytest.raises(AssertionError):
        spec.apply_fn(*spec.init(jax.random.key(0)), wrong, False)


@pytest.fixture
def mine(monkeypatch):
    """A user's module ``mine``."""
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def test_a_name_with_a_colon_is_the_users_own_model(mine):
    def build(model, num_classes, image_shape):
        assert (model, num_classes, image_shape) == (Model("mine:build", width=3), 5, SHAPE)
        return ModelSpec(lambda key: ({}, {}), lambda p, s, x, train: (jnp.zeros((len(x), 5)), s), lambda p, s, x: x)

    mine.build = build
    spec = build_model(Model("mine:build", width=3), 5, SHAPE)
    assert spec.apply_fn({}, {}, images(), False)[0].shape == (4, 5)
    assert build_model(Model("mine:build", width=3), 5, SHAPE).apply_fn is spec.apply_fn


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "config.model.name: 'resnet81' is unknown; allowed: .*did you mean 'resnet8'\\?"),
        ("mine:absent", "config.model.name: 'mine:absent' cannot be imported .*; allowed: module:attribute"),
        ("os:getcwd", r"config.model.name: 'os:getcwd' cannot be built \(TypeError: .*\); allowed: a function .*"),
        ("mine:number", "config.model.name: 'mine:number' .*allowed: .*ModelSpec"),
        ("mine:nothing", "config.model.name: 'mine:nothing' .*NoneType.*allowed: .*ModelSpec"),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_line(mine, name, message):
    mine.number, mine.nothing = 3, lambda *arguments: None
    with pytest.raises(ConfigError, match=f"^{message}$") as error:
        build_model(Model(name), 5, SHAPE)
    assert "\n" not in str(error.value)


def test_a_pair_of_functions_is_a_model(mine):
    mine.build = lambda *_: ModelSpec(lambda key: ({}, {}), lambda p, s, x, train: (jnp.zeros((len(x), 5)), s))
    spec = build_model(Model("mine:build"), 5, SHAPE)
    assert spec.features is None and spec.apply_fn({}, {}, images(), True)[0].shape == (4, 5)


def half_or_not(model, num_classes, image_shape):
    """A model of one's own that computes in bfloat16 where its width is odd."""
    dtype = jnp.bfloat16 if model.width % 2 else jnp.float32
    init = lambda key: ({"w": jax.random.normal(key, (3, num_classes))}, {})  # noqa: E731
    return ModelSpec(init, lambda p, s, x, train: ((x.mean((1, 2)).astype(dtype) @ p["w"].astype(dtype)), s))


@pytest.mark.parametrize("width, notes", [(3, 0), (4, 1)])
def test_a_model_of_ones_own_that_ignores_bfloat16_is_told_of(width, notes, caplog):
    build_model(Model("test_build:half_or_not", width=width, dtype="bfloat16"), 5, SHAPE)
    build_model(Model("test_build:half_or_not", width=width), 5, SHAPE)
    lines = [record.getMessage() for record in caplog.records]
    told = "config.model.dtype: 'bfloat16', and test_build:half_or_not computes nothing in it: its build must use"
    assert len(lines) == notes and all(line.startswith(told) for line in lines)


def looks_up(model, num_classes, row_shape):
    """A model of token numbers, which no numbers of another type can be."""
    return ModelSpec(lambda key: ({"w": jnp.ones((9, num_classes))}, {}), lambda p, s, x, train: (p["w"][x].sum(1), s))


def test_a_model_of_token_numbers_is_not_asked_for_bfloat16(caplog):
    assert build_model(Model("test_build:looks_up", dtype="bfloat16"), 5, (7,)) and not caplog.records


def test_rows_that_are_no_images_are_for_a_model_of_ones_own():
    assert build_model(Model("test_build:half_or_not", width=6), 5, (7,)).init(jax.random.key(0))
    with pytest.raises(
        ConfigError, match=r"^config.model.name: 'resnet8' takes images, .* shape \(7,\); allowed: a mod"
    ):
        build_model(Model("resnet8"), 5, (7,))
