"""Weights from outside: torchvision's and timm's logits (make_pytorch_fixtures.py), and back bit by bit."""

import pathlib
import shutil

import chex
import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import own_models
import pytest
import safetensors
import safetensors.flax
import safetensors.numpy
from flax import nnx
from flax.training.train_state import TrainState
from made_weights import made, pixels

from ltu_jax.config import Model
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.models.build import build_model
from ltu_jax.setting import ConfigError

HERE = pathlib.Path(__file__).parent
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "resnet18_cifar": (Model("resnet18", width=64, **IMAGENET), 32),
    "resnet18_imagenet": (Model("resnet18", width=64, stem="imagenet", **IMAGENET), 64),
    "vit_tiny": (Model("vit_tiny", patch_size=8, **IMAGENET), 32),
}
SMALL = build_model(Model("resnet8", width=4), 10, (8, 8, 3))


def described(name):
    """The tensors that PyTorch's model has, and its logits."""
    with np.load(HERE / "logits.npz") as stored:
        shapes = [tuple(map(int, filter(None, shape.split(",")))) for shape in stored[f"{name}/shapes"]]
        names = dict(zip(stored[f"{name}/names"].tolist(), shapes, strict=True))
        return names, stored[f"{name}/logits"]


def tensors_of(names):
    counts = "num_batches_tracked"
    return {n: np.array(7, np.int64) if n.endswith(counts) else np.asarray(made(n, s)) for n, s in names.items()}


def template(spec):
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    return {"params": params, **model_state}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_pytorchs_and_the_way_back_is_bit_by_bit(tmp_path, name):
    names, wanted = described(name)
    tensors, path = tensors_of(names), tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    model, side = MODELS[name]
    spec = build_model(model, 10, (side, side, 3))
    weights = load_weights(path, template(spec))
    params = weights.pop("params")
    logits, _ = jax.jit(spec.apply_fn, static_argnums=3)(params, weights, pixels(4, side) / np.float32(255), False)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    save_weights(path, tmp_path / "back.safetensors", {"params": params, **weights})
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()
    doubled = jax.tree.map(lambda x: 2 * x, {"params": params, **weights})
    save_weights(path, tmp_path / "new.safetensors", doubled)
    found = safetensors.numpy.load_file(tmp_path / "new.safetensors")
    wanted = {n: x if n.endswith("num_batches_tracked") else 2 * x for n, x in tensors.items()}
    chex.assert_trees_all_equal(found, wanted)


def small_tensors():
    """The tensors of a ResNet-8 under its own names."""
    leaves = flax.traverse_util.flatten_dict(template(SMALL))
    shapes = {".".join(path): leaf.shape for path, leaf in leaves.items()}
    return {name: made(name, shape) for name, shape in shapes.items()}


def own(path):
    """A file in the model's own names."""
    tensors = small_tensors()
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    else:
        nested = flax.traverse_util.unflatten_dict(tensors, sep=".")
        path.write_bytes(flax.serialization.msgpack_serialize(nested))
    return path


@pytest.mark.smoke
@pytest.mark.parametrize("suffix", [".safetensors", ".msgpack"])
def test_the_models_own_names_are_read_and_written_back(tmp_path, suffix):
    path = own(tmp_path / f"model{suffix}")
    weights = load_weights(path, template(SMALL))
    np.testing.assert_array_equal(weights["params"]["head"]["kernel"], made("params.head.kernel", (16, 10)))
    doubled = jax.tree.map(lambda x: 2 * x, weights)
    save_weights(path, tmp_path / f"new{suffix}", doubled)
    chex.assert_trees_all_equal(load_weights(tmp_path / f"new{suffix}", template(SMALL)), doubled)


@pytest.mark.parametrize("wrapped", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.net."])
def test_the_names_that_training_code_changes_are_known(tmp_path, wrapped):
    names, _ = described("resnet18_cifar")
    tensors = tensors_of(names)
    renamed = {wrapped + n.replace("downsample", "shortcut").replace("fc.", "linear."): x for n, x in tensors.items()}
    spec = build_model(MODELS["resnet18_cifar"][0], 10, (32, 32, 3))
    for file, content in (("a", tensors), ("b", renamed)):
        safetensors.numpy.save_file(content, tmp_path / f"{file}.safetensors")
    found = [load_weights(tmp_path / f"{file}.safetensors", template(spec)) for file in "ab"]
    chex.assert_trees_all_equal(*found)


def test_a_lightning_checkpoint_of_weights_alone_is_read_and_written_back(tmp_path):
    """Such a file is one of torch.save's with another name, its tensors under ``state_dict``."""
    for suffix in ("ckpt", "pth"):
        shutil.copy(HERE.parent / "resnet18_width8.pth", tmp_path / f"last.{suffix}")
    spec = build_model(Model("resnet18", width=8), 4, (32, 32, 3))
    found = load_weights(tmp_path / "last.ckpt", template(spec))
    chex.assert_trees_all_equal(found, load_weights(tmp_path / "last.pth", template(spec)))
    save_weights(tmp_path / "last.ckpt", tmp_path / "new.ckpt", found)
    chex.assert_trees_all_equal(load_weights(tmp_path / "new.ckpt", template(spec)), found)


def test_a_message_pack_keeps_what_is_empty_or_no_weight(tmp_path):
    path = own(tmp_path / "model.msgpack")
    nested = flax.serialization.msgpack_restore(path.read_bytes()) | {"cache": {}, "step": 3, "by": "me"}
    path.write_bytes(flax.serialization.msgpack_serialize(nested))
    save_weights(path, tmp_path / "back.msgpack", load_weights(path, template(SMALL)))
    assert (tmp_path / "back.msgpack").read_bytes() == path.read_bytes()


def test_half_precision_is_computed_with_in_float32_and_kept_in_the_file(tmp_path):
    half = {name: jnp.asarray(x, jnp.bfloat16) for name, x in small_tensors().items()}
    safetensors.flax.save_file(half, tmp_path / "half.safetensors")
    weights = load_weights(tmp_path / "half.safetensors", template(SMALL))
    assert {x.dtype.name for x in jax.tree.leaves(weights)} == {"float32"}
    save_weights(tmp_path / "half.safetensors", tmp_path / "back.safetensors", weights)
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def changed(**changes):
    tensors = small_tensors()
    for name, value in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None) if value is None else tensors.update({name: value})
    return tensors


@pytest.mark.parametrize(
    "tensors, words",
    [
        (changed(params__head__bias=None), r"lacks params.head.bias; allowed: all of config.model's"),
        (changed(averaged=np.zeros(2)), r"holds averaged; allowed: config.model's tensors and no others"),
        (
            changed(params__head__kernel=np.zeros((16, 100)), params__head__bias=np.zeros(100)),
            r"holds 2 tensors \(params.head.bias of float64 \[100\], the model \[10\]; params.head.kernel",
        ),
        (changed(params__head__bias=np.zeros(10, np.int8)), r"holds params.head.bias of int8 \[10\], the model \[10\]"),
        ({"encoder.layer.0": np.zeros(2)}, r"lacks \d+ tensors \(bn1.bias, bn1.weight, "),
    ],
)
def test_what_does_not_fit_the_model_is_named(tmp_path, tensors, words):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ConfigError, match=words) as caught:
        load_weights(path, template(SMALL))
    assert str(caught.value).startswith("config.weights: ") and "\n" not in str(caught.value)


def written(path, tree):
    """A tree as other programs write it, in the format that the path's suffix names; none is a folder by Orbax."""
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(flax.traverse_util.flatten_dict(tree, sep="."), path)
    elif path.suffix == ".msgpack":
        path.write_bytes(flax.serialization.to_bytes(tree))
    else:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, tree)
    return path


def read_back(path):
    """What other programs read."""
    if path.suffix == ".safetensors":
        return flax.traverse_util.unflatten_dict(safetensors.numpy.load_file(path), sep=".")
    return (
        flax.serialization.msgpack_restore(path.read_bytes())
        if path.suffix
        else ocp.StandardCheckpointer().restore(path)
    )


def same_bytes(found, wanted):
    chex.assert_trees_all_equal_shapes_and_dtypes(found, wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.smoke
@pytest.mark.parametrize("suffix", [".safetensors", ".msgpack", ""])
@pytest.mark.parametrize("name", own_models.MODELS)
def test_a_model_of_ones_own_goes_there_and_back_byte_by_byte(tmp_path, name, suffix):
    old, new = own_models.weights(name), own_models.weights(name, seed=9)
    path, target = written(tmp_path / f"old{suffix}", old), tmp_path / f"new{suffix}"
    same_bytes(load_weights(path, own_models.template(name)), old)
    save_weights(path, target, new)
    same_bytes(read_back(target), new)
    same_bytes(read_back(path), old)


@pytest.mark.parametrize(
    "saved_as, suffix",
    [("variables", ".msgpack"), ("variables", ""), ("state", ""), ("pure dict", ""), ("pure dict", ".msgpack")],
)
def test_what_flax_has_of_a_model_gives_the_logits_it_had(tmp_path, saved_as, suffix):
    images = pixels(3, 6) / np.float32(255)
    name = "linen" if saved_as == "variables" else "nnx"
    if saved_as == "variables":
        tree = own_models.weights(name)
        wanted = own_models.Linen().apply(tree, images, False)
    else:
        module = own_models.Nnx(nnx.Rngs(7))
        state = nnx.state(module, (nnx.Param, nnx.BatchStat))
        state = jax.tree.map(lambda x: x + jax.random.uniform(jax.random.key(x.size), x.shape), state)
        nnx.update(module, state)
        module.eval()
        wanted, tree = module(images), state if saved_as == "state" else nnx.to_pure_dict(state)
    if suffix:  # which has no numbers for names, as places in lists are
        flat = flax.traverse_util.flatten_dict(tree)
        tree = flax.traverse_util.unflatten_dict({tuple(map(str, path)): leaf for path, leaf in flat.items()})
    weights = load_weights(written(tmp_path / f"old{suffix}", tree), own_models.template(name))
    found, _ = own_models.MODELS[name].apply_fn(weights.pop("params"), weights, images, False)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".msgpack", ""])
def test_a_training_state_is_read_unless_it_remembers_more_than_the_weights(tmp_path, suffix):
    params = jax.tree.map(jnp.asarray, own_models.weights("plain")["params"])
    for momentum in (None, 0.9):
        state = TrainState.create(apply_fn=lambda: None, params=params, tx=optax.sgd(0.1, momentum=momentum))
        if suffix:
            path = tmp_path / f"{momentum}.msgpack"
            path.write_bytes(flax.serialization.to_bytes(state))
        else:
            path = tmp_path / f"{momentum}"
            ocp.PyTreeCheckpointer().save(path, state)
        if momentum is None:
            chex.assert_trees_all_equal(load_weights(path, own_models.template("plain"))["params"], params)
            continue
        words = r"holds 2 tensors \(opt_state.0.trace.layer.b, opt_state.0.trace.layer.w\); allowed: config.model's"
        with pytest.raises(ConfigError, match=words):
            load_weights(path, own_models.template("plain"))


def without(tree, *path):
    if len(path) == 1:
        return {name: value for name, value in tree.items() if name != path[0]}
    return {**tree, path[0]: without(tree[path[0]], *path[1:])}


LINEN = own_models.weights("linen")
OTHER_HEAD = {"kernel": np.ones((5, 9)), "bias": np.ones(9, np.int32)}


@pytest.mark.parametrize(
    "tree, words",
    [
        (without(LINEN, "params", "head"), r"lacks 2 tensors \(params.head.bias, params.head.kernel\); allowed: all"),
        ({"net": without(LINEN, "batch_stats")}, r"lacks 2 tensors \(net.batch_stats.bn.mean, net.batch_stats.bn.v"),
        (LINEN["params"], r"lacks 2 tensors \(bn.mean, bn.var\)"),
        ({**LINEN, "ema": np.ones(2, np.float32)}, r"holds ema; allowed: config.model's tensors and no others"),
        ({"a": LINEN, "b": LINEN}, r"holds 8 tensors \(b.batch_stats.bn.mean, .* \.\.\.\); allowed: config.model's"),
        (
            {**LINEN, "params": {**LINEN["params"], "head": OTHER_HEAD}},
            r"holds 2 tensors \(params.head.bias of int32 \[9\], the model \[4\]; params.head.kernel of float64",
        ),
        ({"encoder": {"w": np.ones(2)}}, r"names no tensor of the model; allowed: names like 'params.bn.bias'"),
    ],
)
def test_what_does_not_fit_a_model_of_ones_own_is_named_and_counted(tmp_path, tree, words):
    path = written(tmp_path / "given", tree)
    with pytest.raises(ConfigError, match=words) as caught:
        load_weights(path, own_models.template("linen"))
    assert str(caught.value).startswith("config.weights: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".msgpack", ".pth"])
def test_half_a_file_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    whole = (HERE / "views.pth").read_bytes() if suffix == ".pth" else own(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="config.weights: ") as caught:
        load_weights(path, template(SMALL))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, words", [("model.onnx", "of no known kind"), ("gone.pth", "is not there")])
def test_no_file_is_named(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words):
        load_weights(tmp_path / name, template(SMALL))


@pytest.mark.slow
def test_a_stem_for_imagenet_has_second_derivatives():
    spec = build_model(Model("resnet8", width=4, stem="imagenet"), 3, (32, 32, 3))
    params, model_state = spec.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))

    def loss(params):
        return jnp.sum(spec.apply_fn(params, model_state, images, True)[0] ** 2)

    direction = jax.tree.map(jnp.ones_like, params)
    forward = jax.jvp(jax.grad(loss), (params,), (direction,))[1]
    reverse = jax.grad(lambda p: sum(map(jnp.vdot, jax.tree.leaves(jax.grad(loss)(p)), jax.tree.leaves(direction))))
    chex.assert_trees_all_close(forward, reverse(params), rtol=1e-3, atol=1e-2)
