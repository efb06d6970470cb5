"""The places of our leaves in PyTorch's files, by hand."""

import jax
import numpy as np
import pytest

from ltu_jax.config import Model
from ltu_jax.interop.names import canonical_names, flax_place, flax_places, num_found, pytorch_place
from ltu_jax.models.build import build_model


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("params.backbone.conv1.kernel", "conv1.weight"),
        ("params.backbone.layer2_1.bn2.scale", "layer2.1.bn2.weight"),
        ("batch_stats.backbone.layer2_0.shortcut_bn.var", "layer2.0.downsample.1.running_var"),
        ("params.backbone.layer2_0.shortcut_conv.kernel", "layer2.0.downsample.0.weight"),
        ("params.head.bias", "head.bias"),
        ("params.backbone.positions", "pos_embed"),
        ("params.backbone.block11.mlp2.kernel", "blocks.11.mlp.fc2.weight"),
        ("params.backbone.block0.attention.out.bias", "blocks.0.attn.proj.bias"),
    ],
)
def test_a_leaf_is_found_under_torchvisions_or_timms_name(ours, theirs):
    place = pytorch_place(tuple(ours.split(".")))
    assert place is not None and (place.name, place.third) == (theirs, None)
    assert flax_place(tuple(ours.split("."))).name == ours


def test_a_leaf_of_another_model_has_no_place():
    assert pytorch_place(("params", "dense", "kernel")) is None


@pytest.mark.parametrize("i, part", [(0, "query"), (1, "key"), (2, "value")])
def test_queries_keys_and_values_are_thirds_of_one_matrix(i, part):
    place = pytorch_place(("params", "backbone", "block0", "attention", part, "kernel"))
    assert place is not None and place.name == "blocks.0.attn.qkv.weight"
    qkv = np.arange(12 * 4).reshape(12, 4)  # [3 x heads x 2, inputs]
    leaf = place.from_file_layout(place.part_of(qkv), (4, 2, 2))
    x = np.array([1.0, -2.0, 3.0, 0.5])
    heads = np.einsum("i,ihd->hd", x, leaf)
    np.testing.assert_array_equal(heads.reshape(-1), (qkv @ x)[4 * i : 4 * i + 4])
    np.testing.assert_array_equal(place.to_file_layout(leaf), qkv[4 * i : 4 * i + 4])


def test_what_the_attention_gives_out_is_joined_by_its_inputs():
    place = pytorch_place(("params", "backbone", "block0", "attention", "out", "kernel"))
    assert place is not None
    proj = np.arange(24.0).reshape(4, 6)  # [outputs, heads x 3]
    heads = np.arange(6.0).reshape(2, 3) - 2
    leaf = place.from_file_layout(proj, (2, 3, 4))
    np.testing.assert_array_equal(np.einsum("hd,hdo->o", heads, leaf), proj @ heads.reshape(-1))
    np.testing.assert_array_equal(place.to_file_layout(leaf), proj)


@pytest.mark.parametrize("name", ["resnet18", "resnet8", "vit_tiny"])
def test_every_leaf_of_our_models_has_a_place_of_its_own(name):
    params, model_state = jax.eval_shape(build_model(Model(name, width=4), 10, (8, 8, 3)).init, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path({"params": params, **model_state})
    places = [pytorch_place(tuple(key.key for key in path)) for path, _ in leaves]
    assert None not in places and len({(p.name, p.third) for p in places if p}) == len(leaves)


def test_names_that_training_code_changes():
    found = canonical_names(["module.layer1.0.shortcut.0.weight", "module.linear.bias", "module.conv1.weight"])
    assert set(found) == {"layer1.0.downsample.0.weight", "head.bias", "conv1.weight"}
    assert found["head.bias"] == "module.linear.bias"
    assert "module.fc" not in canonical_names(["module.a", "b"])  # not all are wrapped
    compiled = ["model._orig_mod.conv1.weight", "model._orig_mod.layer1._orig_mod.0.conv1.weight"]
    assert canonical_names(compiled) == {"conv1.weight": compiled[0], "layer1.0.conv1.weight": compiled[1]}
    both = ["a._orig_mod.weight", "a.weight", "b"]  # what is passed over would be left with the old numbers
    assert canonical_names(both) == {name: name for name in both}
    assert set(canonical_names(["module.a", "b"])) == {"module.a", "b"}


LEAVES = [("params", "conv", "kernel"), ("params", "bn", "scale"), ("batch_stats", "bn", "mean")]


@pytest.mark.parametrize(
    "names",
    [
        ["params.conv.kernel", "params.bn.scale", "batch_stats.bn.mean"],
        ["state.params.conv.kernel", "state.params.bn.scale", "state.batch_stats.bn.mean"],
        ["params.conv.kernel", "params.bn.scale", "model_state.batch_stats.bn.mean"],
        ["conv.kernel", "bn.scale", "bn.mean"],
        ["model.conv.kernel", "model.bn.scale", "model.bn.mean"],
        ["conv.kernel.value", "bn.scale.value", "bn.mean.value"],
        ["net.params.conv.kernel.value", "net.params.bn.scale.value", "net.batch_stats.bn.mean.value"],
    ],
)
def test_leaves_are_found_in_the_arrangements_in_which_trees_are_saved(names):
    for more in ([], ["step"], ["opt_state.0.mu.conv.kernel", "opt_state.0.mu.bn.scale"]):
        places = flax_places(LEAVES, [*more, *names])
        assert [place.name for place in places] == names and [place.path for place in places] == LEAVES
        assert num_found(places, [*more, *names]) == 3
    some = flax_places(LEAVES, names[1:])
    assert [place.name for place in some] == names


def test_one_array_is_not_taken_for_two_leaves():
    twice = [("params", "bn", "mean"), ("batch_stats", "bn", "mean")]
    assert num_found(flax_places(twice, ["bn.mean"]), ["bn.mean"]) == 0


def test_leaves_of_another_model_are_looked_for_under_their_own_names():
    assert [place.name for place in flax_places(LEAVES, ["encoder.0.weight"])] == [".".join(leaf) for leaf in LEAVES]
