"""The ViT against PyTorch's own encoder layer (make_torch_fixture.py), published sizes and symmetries."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.config import Model
from ltu_jax.models.build import build_model
from ltu_jax.setting import ConfigError

FIXTURE = pathlib.Path(__file__).with_name("torch_vit.npz")


def from_torch(arrays, heads=2):
    def linear(name):
        return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}

    def norm(name):
        return {"scale": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}

    def block(name):
        weight, bias = (arrays[f"{name}.self_attn.in_proj_{x}"] for x in ("weight", "bias"))
        dim = weight.shape[1]
        attention = {
            part: {"kernel": w.T.reshape(dim, heads, -1), "bias": b.reshape(heads, -1)}
            for part, w, b in zip(("query", "key", "value"), np.split(weight, 3), np.split(bias, 3), strict=True)
        }
        out = linear(f"{name}.self_attn.out_proj")
        attention["out"] = out | {"kernel": out["kernel"].reshape(heads, -1, dim)}
        mlp = {"mlp1": linear(f"{name}.linear1"), "mlp2": linear(f"{name}.linear2")}
        return {"norm1": norm(f"{name}.norm1"), "norm2": norm(f"{name}.norm2"), "attention": attention, **mlp}

    backbone = {
        "patches": {"kernel": arrays["conv_proj.weight"].transpose(2, 3, 1, 0), "bias": arrays["conv_proj.bias"]},
        "class_token": arrays["class_token"],
        "positions": arrays["pos_embedding"],
        "block0": block("layers.0"),
        "block1": block("layers.1"),
        "norm": norm("ln"),
    }
    return jax.tree.map(lambda x: np.asarray(x, np.float32), {"backbone": backbone, "head": linear("fc")})


@pytest.fixture(scope="module")
def torch():
    stored = np.load(FIXTURE)
    arrays = {name.removeprefix("before/"): stored[name] for name in stored.files}
    images = jnp.asarray(arrays["pixels"], jnp.float32) / 255
    return from_torch(arrays), images, arrays["logits"]


@pytest.fixture(scope="module")
def spec():
    return build_model(Model("vit_micro", patch_size=4), 10, (16, 16, 3))


@pytest.fixture(scope="module")
def features(spec):
    return jax.jit(spec.features)


@pytest.mark.smoke
def test_logits_are_pytorchs(torch, spec):
    params, images, expected = torch
    logits, model_state = spec.apply_fn(params, {}, images, True)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert model_state == {}


@pytest.mark.parametrize(
    ("name", "expected"), [("vit_base", 86_567_656), ("vit_small", 22_050_664), ("vit_tiny", 5_717_416)]
)
def test_parameter_counts_and_heads_are_the_published_ones(name, expected):
    params, _ = jax.eval_shape(build_model(Model(name, patch_size=16), 1000, (224, 224, 3)).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert params["backbone"]["block0"]["attention"]["query"]["kernel"].shape[-1] == 64


def test_the_first_weights_are_xavier_in_the_blocks_and_small_in_the_positions(spec):
    params = spec.init(jax.random.key(0))[0]["backbone"]
    block = params["block1"]
    matrices = {"mlp1": 6 / 160, "mlp2": 6 / 160} | dict.fromkeys(("query", "key", "value", "out"), 6 / 64)
    for name, square in matrices.items():
        layer = (block | block["attention"])[name]
        np.testing.assert_allclose(jnp.abs(layer["kernel"]).max(), square**0.5, rtol=0.02)
        np.testing.assert_array_equal(layer["bias"], 0.0)
    np.testing.assert_allclose(params["patches"]["kernel"].std(), 48**-0.5, rtol=0.1)
    np.testing.assert_allclose(params["positions"].std(), 0.02, rtol=0.2)
    np.testing.assert_array_equal(params["class_token"], 0.0)


def swap_patches(images, size):
    """The images with their first and last patch exchanged."""
    first, last = images[:, :size, :size], images[:, -size:, -size:]
    return images.at[:, :size, :size].set(last).at[:, -size:, -size:].set(first)


def test_the_order_of_patches_matters_through_the_positions_alone(torch, features):
    params, images, _ = torch
    swapped = swap_patches(images, 4)
    placed = jnp.abs(features(params, {}, images) - features(params, {}, swapped))
    assert float(placed.max()) > 1e-2
    nowhere = params["backbone"] | {"positions": jnp.zeros_like(params["backbone"]["positions"])}
    params = params | {"backbone": nowhere}
    np.testing.assert_allclose(features(params, {}, images), features(params, {}, swapped), rtol=1e-4, atol=1e-5)


def test_a_sample_does_not_see_the_rest_of_its_batch(torch, features):
    params, images, _ = torch
    alone = jnp.concatenate([features(params, {}, image[None]) for image in images])
    np.testing.assert_allclose(features(params, {}, images), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "patch", "allowed"), [((8, 12), 8, "1, 2, 4"), ((16, 16), 5, "1, 2, 4, 8, 16")])
def test_a_patch_that_does_not_divide_the_image_is_refused_in_one_line(side, patch, allowed):
    with pytest.raises(ConfigError) as error:
        build_model(Model("vit_micro", patch_size=patch), 10, (*side, 3))
    size = f"{side[0]}x{side[1]}"
    expected = f"config.model.patch_size: {patch} does not divide the image size {size}; allowed: {allowed}"
    assert str(error.value) == expected
