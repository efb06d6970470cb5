"""Models that users write as NNX modules, against the same models in Linen."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ltu_jax.core.meta import meta_grad
from ltu_jax.models.build import from_module, from_nnx, nnx_weights
from ltu_jax.setting import ConfigError

SHAPE = (8, 8, 3)


def images(count=4, seed=1):
    return jax.random.uniform(jax.random.key(seed), (count, *SHAPE))


class Linen(nn.Module):
    """A user's network: BatchNorm, two blocks, logits alone or with features."""

    features: bool = False
    rate: float = 0.0

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(4, (3, 3), name="conv")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="bn")(x)).mean((1, 2))
        for i in range(2):
            x = x + jnp.tanh(nn.Dense(4, name=f"block{i}")(x))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        logits = nn.Dense(5, name="head")(x)
        return (logits, x) if self.features else logits


class Nnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs, features=False, rate=0.0):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.block0, self.block1 = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)
        self.features = features

    def __call__(self, images):
        x = nnx.relu(self.bn(self.conv(images))).mean((1, 2))
        for block in (self.block0, self.block1):
            x = x + jnp.tanh(block(x))
        x = self.dropout(x)
        return (self.head(x), x) if self.features else self.head(x)


def twins(**settings):
    return from_module(Linen(**settings), SHAPE), from_nnx(lambda rngs: Nnx(rngs, **settings), SHAPE)


def start(spec):
    """Parameters of this model, and statistics that are no longer those of the beginning."""
    params, model_state = spec.init(jax.random.key(3))
    stats = jax.tree.map(lambda x: x + jax.random.uniform(jax.random.key(x.size), x.shape), model_state)
    return params, stats


@pytest.mark.smoke
@pytest.mark.parametrize("train", [False, True])
def test_an_nnx_module_computes_what_the_same_linen_module_does(train):
    linen, ours = twins()
    chex.assert_trees_all_equal_shapes_and_dtypes(ours.init(jax.random.key(0)), linen.init(jax.random.key(0)))
    params, model_state = start(linen)
    before = jax.tree.map(np.asarray, model_state)
    wanted, found = (
        jax.jit(spec.apply_fn, static_argnums=3)(params, model_state, images(), train) for spec in (linen, ours)
    )
    chex.assert_trees_all_close(found, wanted, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(model_state, before)  # nothing was written into what was given
    moved = [float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (found[1], before)), strict=True)]
    assert all(moved) == any(moved) == train


@pytest.mark.parametrize(
    "save_memory", [pytest.param(False, marks=pytest.mark.smoke), pytest.param(True, marks=pytest.mark.slow)]
)
def test_meta_gradients_through_the_batch_norm_of_an_nnx_module_are_those_of_linens(save_memory):
    linen, ours = twins()
    params, model_state = start(linen)
    tasks = [(images(4, seed), jnp.arange(4) % 5) for seed in (1, 2, 3)]
    queries = jax.tree.map(lambda *x: jnp.stack(x), *tasks[1:])

    @functools.partial(jax.jit, static_argnums=0)
    def found(apply_fn, params):
        def loss(params, task):
            logits, after = apply_fn(params, model_state, task[0], True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, task[1]).mean(), after

        out = meta_grad(loss, params, tasks[0], queries, optax.sgd(0.5), save_memory=save_memory)
        return out.grad, out.query_losses, out.aux

    wanted = found(linen.apply_fn, params)
    chex.assert_trees_all_close(found(ours.apply_fn, params), wanted, rtol=1e-4, atol=1e-5)
    shapes = {x.shape for x in jax.tree.leaves(wanted[2].queries)}
    assert shapes == {(2, 4)} and optax.tree.norm(wanted[0]) > 0.1


def test_models_of_an_nnx_module_are_several_by_vmap():
    spec = from_nnx(Nnx, SHAPE)
    keys = jax.random.split(jax.random.key(5), 2)
    several = jax.vmap(spec.init)(keys)
    both, after = jax.jit(jax.vmap(lambda p, s: spec.apply_fn(p, s, images(), True)))(*several)
    for i, key in enumerate(keys):
        wanted = spec.apply_fn(*spec.init(key), images(), True)
        chex.assert_trees_all_close((both[i], jax.tree.map(lambda x, i=i: x[i], after)), wanted, rtol=1e-4, atol=1e-5)


class Listed(nnx.Module):
    """Eleven blocks in a list: by number 10 is the last, by name the third."""

    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Linear(3 if i == 0 else 4, 4, rngs=rngs) for i in range(11)])

    def __call__(self, images):
        x = images.mean((1, 2))
        for block in self.blocks:
            x = jnp.tanh(block(x))
        return x


def test_blocks_in_a_list_keep_their_order_and_are_named_by_it():
    spec = from_nnx(Listed, SHAPE)
    params, model_state = spec.init(jax.random.key(7))
    assert type(params) is dict and model_state == {}
    assert set(params["blocks"]) == {str(i) for i in range(11)}
    logits, after = spec.apply_fn(params, model_state, images(), True)
    np.testing.assert_allclose(logits, Listed(nnx.Rngs(jax.random.key(7)))(images()), rtol=1e-5, atol=1e-6)
    assert after == {}


@pytest.mark.parametrize("which", [0, 1])
def test_features_are_the_modules_own_where_it_returns_them_and_else_the_logits(which):
    bare, with_features = (twins(features=features)[which] for features in (False, True))
    params, model_state = start(bare)
    logits, _ = bare.apply_fn(params, model_state, images(), False)
    assert bare.features is not None and with_features.features is not None
    np.testing.assert_array_equal(bare.features(params, model_state, images()), logits)
    features = with_features.features(params, model_state, images())
    assert features.shape == (4, 4)
    head = jax.tree.map(np.asarray, params["head"])
    np.testing.assert_allclose(np.asarray(features) @ head["kernel"] + head["bias"], logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_a_pass_that_draws_random_numbers_is_refused_in_one_line(which):
    spec = twins(rate=0.5)[which]
    params, model_state = start(spec)
    wanted, _ = twins()[which].apply_fn(params, model_state, images(), False)
    np.testing.assert_array_equal(spec.apply_fn(params, model_state, images(), False)[0], wanted)
    with pytest.raises(ConfigError, match="^config.model.name: .*draws random numbers.*; allowed: ") as error:
        jax.jit(spec.apply_fn, static_argnums=3)(params, model_state, images(), True)
    assert "\n" not in str(error.value)


class Counting(nnx.Module):
    def __init__(self, rngs, kept):
        self.head = nnx.Linear(3, 5, rngs=rngs)
        self.kept = kept()

    def __call__(self, images):
        return self.head(images.mean((1, 2)) - self.kept)


@pytest.mark.parametrize("kept", [lambda: nnx.Cache(jnp.zeros(3)), lambda: jnp.zeros(3), lambda: np.zeros(3)])
def test_arrays_that_would_be_in_no_checkpoint_are_refused(kept):
    with pytest.raises(ConfigError, match="^config.model.name: Counting.kept is an array, .*; allowed: "):
        from_nnx(lambda rngs: Counting(rngs, kept), SHAPE)


@pytest.mark.parametrize("wrong", [jnp.zeros((2, *SHAPE), jnp.uint8), jnp.zeros((2, 16, 16, 3))], ids=["u8", "size"])
def test_an_nnx_module_too_gets_no_images_of_another_type_or_shape(wrong):
    spec = from_nnx(Listed, SHAPE)
    with pytest.raises(AssertionError):
        spec.apply_fn(*spec.init(jax.random.key(0)), wrong, False)


def test_the_weights_of_a_trained_module_are_those_that_its_functions_take():
    module = Nnx(nnx.Rngs(7))
    module.train()
    module(images(8, 2))  # moves the statistics
    params, model_state = nnx_weights(module)
    spec = from_nnx(Nnx, SHAPE)
    chex.assert_trees_all_equal_structs((params, model_state), spec.init(jax.random.key(0)))
    module.eval()
    logits, _ = spec.apply_fn(params, model_state, images(), train=False)
    np.testing.assert_allclose(logits, module(images()), rtol=1e-6)
