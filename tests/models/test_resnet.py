"""The ResNet against PyTorch's numbers (make_torch_fixture.py made them once) and against arithmetic."""

import pathlib
import re

import chex
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.config import Model
from ltu_jax.models.build import build_model, from_module
from ltu_jax.models.classifier import Classifier
from ltu_jax.models.resnet import ResNet

FIXTURE = pathlib.Path(__file__).with_name("torch_resnet18.npz")
RENAMED = {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_bn", "fc": "head"}
LEAVES = {"running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var"), "bias": ("params", "bias")}


def from_torch(arrays):
    """torchvision's state dict as ``{"params": ..., "batch_stats": ...}``."""
    out = {}
    for name, value in arrays.items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        *path, leaf = re.sub(r"(layer\d)\.(\d)", r"\1_\2", name).split(".")
        collection, leaf = LEAVES.get(leaf, ("params", "scale" if value.ndim == 1 else "kernel"))
        path = path if path == ["head"] else ["backbone", *path]
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        out[(collection, *path, leaf)] = np.asarray(value, np.float32)
    return flax.traverse_util.unflatten_dict(out)


@pytest.fixture(scope="module")
def torch():
    stored = np.load(FIXTURE)
    arrays = {name: stored[name] for name in stored.files}
    for when in ("before", "after"):
        prefix = f"{when}/"
        arrays[when] = from_torch({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
    arrays["images"] = jnp.asarray(arrays["pixels"], jnp.float32) / 255
    return arrays


@pytest.fixture(scope="module")
def spec():
    return build_model(Model("resnet18", width=4), 10, (16, 16, 3))


def count(spec):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(spec.init, jax.random.key(0))[0]))


@pytest.mark.parametrize(("classes", "expected"), [(10, 11_173_962), (100, 11_173_962 + 90 * 513)])
def test_resnet18_has_the_published_number_of_parameters(classes, expected):
    assert count(build_model(Model("resnet18", width=64), classes, (32, 32, 3))) == expected


@pytest.mark.parametrize("w", [4, 16])
def test_resnet8_has_three_stages_of_one_block(w):
    stem = 9 * 3 * w + 2 * w
    first = 2 * 9 * w * w + 2 * 2 * w
    later = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * c * c + 3 * 2 * 2 * c for c in (w, 2 * w))
    assert count(build_model(Model("resnet8", width=w), 10, (8, 8, 3))) == stem + first + later + 4 * w * 10 + 10


def test_the_first_weights_follow_torchvisions_rules():
    params, model_state = build_model(Model("resnet8", width=16), 10, (8, 8, 3)).init(jax.random.key(0))
    for path, leaf in flax.traverse_util.flatten_dict(params["backbone"]).items():
        if path[-1] == "kernel":
            np.testing.assert_allclose(leaf.std(), (2 / (leaf.size / leaf.shape[2])) ** 0.5, rtol=0.1)
        else:
            np.testing.assert_array_equal(leaf, 1.0 if path[-1] == "scale" else 0.0)
    for path, leaf in flax.traverse_util.flatten_dict(model_state).items():
        np.testing.assert_array_equal(leaf, 1.0 if path[-1] == "var" else 0.0)


def test_names_and_shapes_are_torchvisions(torch, spec):
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    chex.assert_trees_all_equal_shapes(torch["before"], {"params": params, **model_state})


@pytest.mark.smoke
def test_evaluation_logits_are_pytorchs(torch, spec):
    params, model_state = torch["before"]["params"], {"batch_stats": torch["before"]["batch_stats"]}
    logits, after = spec.apply_fn(params, model_state, torch["images"], False)
    np.testing.assert_allclose(logits, torch["eval_logits"], atol=1e-4)
    chex.assert_trees_all_equal(after, model_state)


@pytest.fixture(scope="module")
def stepped(torch, spec):
    def loss_fn(params, model_state):
        logits, model_state = spec.apply_fn(params, model_state, torch["images"], True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, torch["labels"]).mean()
        return loss, (logits, model_state)

    tx = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))
    params, stats = torch["before"]["params"], torch["before"]["batch_stats"]
    grads, (logits, model_state) = jax.jit(jax.grad(loss_fn, has_aux=True))(params, {"batch_stats": stats})
    updates, _ = tx.update(grads, tx.init(params), params)
    return logits, optax.apply_updates(params, updates), model_state["batch_stats"]


def test_training_logits_are_pytorchs(torch, stepped):
    np.testing.assert_allclose(stepped[0], torch["train_logits"], atol=1e-4)


def test_one_training_step_is_pytorchs(torch, stepped):
    chex.assert_trees_all_close(stepped[1], torch["after"]["params"], rtol=1e-4, atol=1e-4)


def test_running_statistics_are_pytorchs_up_to_the_unbiased_variance(torch, stepped):
    """PyTorch records the variance of the batch times n / (n - 1), Flax the one it normalises by."""
    before, after, ours = (
        flax.traverse_util.flatten_dict(stats)
        for stats in (torch["before"]["batch_stats"], torch["after"]["batch_stats"], stepped[2])
    )
    batch, side = torch["images"].shape[:2]
    for path, value in ours.items():
        change = np.asarray(after[path]) - 0.9 * before[path]
        if path[-1] == "var":
            layer = path[1]
            n = batch * (side >> (int(layer[5]) - 1 if layer.startswith("layer") else 0)) ** 2
            change = change * (n - 1) / n
        np.testing.assert_allclose(value - 0.9 * before[path], change, rtol=1e-4, atol=1e-5, err_msg="/".join(path))


@pytest.mark.parametrize("train", [False, True])
def test_running_statistics_matter_in_evaluation_only(torch, spec, train):
    params, stats = torch["before"]["params"], torch["before"]["batch_stats"]
    logits = [
        spec.apply_fn(params, {"batch_stats": s}, torch["images"], train)[0]
        for s in (stats, jax.tree.map(lambda x: 2 * x, stats))
    ]
    assert bool(jnp.allclose(*logits, atol=1e-6)) is train


def test_query_sets_under_vmap_make_no_grouped_convolutions():
    spec = from_module(Classifier(ResNet((1, 1), 4), 3), (8, 8, 3))
    params, model_state = spec.init(jax.random.key(0))

    def loss_fn(params, query_images):
        logits, state = jax.vmap(lambda images: spec.apply_fn(params, model_state, images, True))(query_images)
        return logits.sum(), state

    text = jax.jit(jax.grad(loss_fn, has_aux=True)).lower(params, jnp.zeros((3, 2, 8, 8, 3))).as_text()
    groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", text)
    assert len(groups) > 10
    assert set(groups) == {"1"}
