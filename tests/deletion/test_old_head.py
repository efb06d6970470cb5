"""The head is found by what it does in models of any kind; features and fits are compared with NumPy."""

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.deletion.old_head import (
    RIDGE,
    Features,
    HeadLeaf,
    find_head,
    probed,
    through_heads,
    with_head_of,
)
from ltu_jax.evaluation.scores import measure
from ltu_jax.models.build import build_model, from_module, from_nnx
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import make_state

SHAPE = (8, 8, 3)


class Squares(nn.Module):
    """As many hidden units as classes, and a kernel that is square: only what it does tells the head."""

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(4)(x))
        return nn.Dense(4, name="A_first_by_name")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(192, 5, rngs=rngs)
        self.last = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, images):
        return self.last(nnx.relu(self.body(images.reshape(len(images), -1))))


def plain(params, model_state, images, train):
    """Classes first, as PyTorch has it, and no bias."""
    return jax.nn.relu(images.reshape(len(images), -1) @ params["w"]) @ params["of_class"].T, model_state


def headless(params, model_state, images, train):
    """Every parameter has its say in every class."""
    logits = images.reshape(len(images), -1) @ params["w"]
    return (logits + params["b"][None]) @ jnp.ones((4, 4)), model_state


def state_of(spec):
    params, model_state = spec.init(jax.random.key(0))
    return make_state(spec.apply_fn, params, model_state, SGD, jax.random.key(1))


def of_function(apply_fn, **shapes):
    params = {name: jax.random.normal(jax.random.key(i), shape) for i, (name, shape) in enumerate(shapes.items())}
    return make_state(apply_fn, params, {}, SGD, jax.random.key(1))


STATES = {
    "resnet": lambda: state_of(build_model(config.Model("resnet8", width=4), 4, SHAPE)),
    "vit": lambda: state_of(build_model(config.Model("vit_micro", patch_size=4), 4, SHAPE)),
    "squares": lambda: state_of(from_module(Squares(), SHAPE)),
    "nnx": lambda: state_of(from_nnx(Nnx, SHAPE)),
    "plain": lambda: of_function(plain, w=(192, 6), of_class=(4, 6)),
    "headless": lambda: of_function(headless, w=(192, 4), b=(4,)),
}
HEADS = {
    "resnet": {"['head']['bias']": 0, "['head']['kernel']": 1},
    "vit": {"['head']['bias']": 0, "['head']['kernel']": 1},
    "squares": {"['A_first_by_name']['bias']": 0, "['A_first_by_name']['kernel']": 1},
    "nnx": {"['last']['bias']": 0, "['last']['kernel']": 1},
    "plain": {"['of_class']": 0},
    "headless": {},
}


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


@pytest.mark.parametrize("kind", STATES)
def test_the_head_is_what_moves_one_class_alone(kind):
    state = STATES[kind]()
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.params)]
    assert {names[one.leaf]: one.axis for one in find_head(state, images(8), 4)} == HEADS[kind]


def test_features_are_what_the_kernel_multiplies():
    state = STATES["squares"]()
    head = state.params["A_first_by_name"]
    pixels = jnp.asarray(images(5), jnp.float32) / 255
    kernel = max(find_head(state, images(8), 4), key=lambda one: one.axis)
    features = Features(state.apply_fn, kernel)(state.params, state.model_state, pixels)
    logits, _ = state.apply_fn(state.params, state.model_state, pixels, train=False)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"][None], logits, atol=1e-5)
    assert np.linalg.matrix_rank(head["kernel"]) == 4  # so that no other features would do


def test_the_old_head_is_put_on_and_nothing_else():
    old, new = ({"a": np.full(2, x), "b": {"c": np.full(3, x)}} for x in (0.0, 1.0))
    mixed = with_head_of(new, old, [HeadLeaf(1, 0)])
    np.testing.assert_array_equal(mixed["a"], 1)
    np.testing.assert_array_equal(mixed["b"]["c"], 0)


def test_the_fit_is_ridge_regression_and_turns_with_the_features():
    rng = np.random.default_rng(0)
    labels = {"remain": rng.integers(0, 3, 200), "forget": rng.integers(0, 3, 40)}
    features = {name: rng.normal(size=(len(label), 6)) + label[:, None] for name, label in labels.items()}
    found = probed(features, labels, 3)["forget"]
    # the same as least squares with rows added for the penalty
    mean = features["remain"].mean(axis=0)
    scale = np.sqrt(((features["remain"] - mean) ** 2).mean())
    x = np.concatenate([(features["remain"] - mean) / scale, np.sqrt(200 * RIDGE) * np.eye(6)])
    y = np.concatenate([np.eye(3)[labels["remain"]] - 1 / 3, np.zeros((6, 3))])
    logits = (features["forget"] - mean) / scale @ np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_array_equal(found.correct, logits.argmax(axis=1) == labels["forget"])
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    turned = probed({name: 3 * one @ rotation for name, one in features.items()}, labels, 3)["forget"]
    np.testing.assert_allclose(turned.margin, found.margin, atol=1e-4)


def test_a_new_head_hides_nothing_from_the_old_one():
    """The same body with another head: through the old head it is the original, figure by figure."""
    source = mlp.toy_source(num_rows=40, num_test=20)
    spec = mlp.build(None, source.num_classes, source.images.shape[1:])
    before = state_of(spec)
    head = find_head(before, source.images[:8], source.num_classes)
    other = jax.tree.map(lambda x: x[::-1], before.params)
    after = before.replace(params=with_head_of(before.params, other, head))
    rows = {"forget": np.arange(10), "remain": np.arange(10, 40), "held_out": np.arange(40, 60)}
    measured = measure(before, source, rows, 10)
    heads = through_heads(before, after, measured, source, rows, 10)
    changed = measure(after, source, rows, 10)["forget"].margin
    assert head and not np.allclose(changed, measured["forget"].margin)
    for old, new in heads.values():
        np.testing.assert_allclose(new["forget"].margin, old["forget"].margin, atol=1e-5)


def test_of_a_model_without_a_head_nothing_is_said():
    state = STATES["headless"]()
    source = mlp.toy_source(num_rows=8, num_test=4)
    assert source.num_classes == 4
    rows = {"forget": np.arange(4), "remain": np.arange(4, 8), "held_out": np.arange(8, 12)}
    shape = (int(np.prod(source.images.shape[1:])), 4)
    state = of_function(headless, w=shape, b=(4,))
    assert through_heads(state, state, measure(state, source, rows, 4), source, rows, 4) == {}
