"""Maps the leaves of our models to the tensors of torchvision's ResNet and timm's ViT: names and layout.

PyTorch stores kernels as [out, in, height, width] and matrices as [out, in], and timm stores queries, keys and
values in one matrix. Flax stores them as [height, width, in, out], as [in, out], and separately by head.
"""

import math
import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

LeafPath = tuple[str, ...]
"""Path of a leaf: ``("params", "backbone", "conv1", "kernel")``."""

_RENAMED = [  # the first match counts
    (r"backbone\.layer(\d+)_(\d+)\.shortcut_conv", r"layer\1.\2.downsample.0"),
    (r"backbone\.layer(\d+)_(\d+)\.shortcut_bn", r"layer\1.\2.downsample.1"),
    (r"backbone\.layer(\d+)_(\d+)\.(\w+)", r"layer\1.\2.\3"),
    (r"backbone\.(conv1|bn1)", r"\1"),
    (r"backbone\.class_token", "cls_token"),
    (r"backbone\.positions", "pos_embed"),
    (r"backbone\.patches", "patch_embed.proj"),
    (r"backbone\.block(\d+)\.attention\.out", r"blocks.\1.attn.proj"),
    (r"backbone\.block(\d+)\.attention\.(?:query|key|value)", r"blocks.\1.attn.qkv"),
    (r"backbone\.block(\d+)\.mlp(\d)", r"blocks.\1.mlp.fc\2"),
    (r"backbone\.block(\d+)\.(norm\d)", r"blocks.\1.\2"),
    (r"backbone\.norm", "norm"),
    (r"head", "head"),  # fc in torchvision: see canonical_names
]
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_THIRDS = ("query", "key", "value")

NOT_WEIGHTS = ("num_batches_tracked",)
"""Tensors with such a last name are not used by a forward pass; a rewritten file keeps its own."""


class Place(NamedTuple):
    """Name and layout of one of our leaves in a file."""

    path: LeafPath
    name: str
    third: int | None = None  # which third of the first axis is the leaf; None means all of it
    pytorch: bool = True  # whether the file has PyTorch's layout

    def part_of(self, tensor: np.ndarray) -> np.ndarray:
        """The leaf's part of the tensor, as a view."""
        if self.third is None:
            return tensor
        size = len(tensor) // 3
        return tensor[self.third * size : (self.third + 1) * size]

    def to_file_layout(self, leaf: np.ndarray) -> np.ndarray:
        """Our leaf in the layout of the file."""
        if not self.pytorch:
            return leaf
        if self.path[-1] == "kernel" and leaf.ndim == 4:
            return leaf.transpose(3, 2, 0, 1)
        if self.path[-1] == "kernel":  # heads are joined: inputs of attention's out, outputs of query, key and value
            inputs = leaf.shape[:-1] if self.path[-2] == "out" else leaf.shape[:1]
            return leaf.reshape(math.prod(inputs), -1).T
        return leaf.reshape(-1) if self.path[-1] == "bias" else leaf

    def from_file_layout(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse of ``to_file_layout``: the leaf of the given shape."""
        if self.pytorch and self.path[-1] == "kernel":
            tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        return tensor.reshape(shape)


def flax_place(path: LeafPath) -> Place:
    """A leaf under its name in the Flax tree, ``params.backbone.conv1.kernel``, in our layout."""
    return Place(path, ".".join(path), pytorch=False)


def flax_places(leaves: Collection[LeafPath], names: Collection[str]) -> list[Place]:
    """Leaves under their Flax names, in the arrangement of the tree that matches most names of a file.

    The common arrangements: ``params`` beside ``batch_stats``; ``batch_stats`` below ``model_state``, as this package
    saves them; parameters alone, or in one tree with the statistics, as in ``nnx.state``. Each may be nested under one
    more name, such as ``state``, and may end with the ``value`` of NNX.
    """
    flax = [flax_place(leaf) for leaf in leaves]
    as_saved_here = [p if p.path[0] == "params" else p._replace(name=f"model_state.{p.name}") for p in flax]
    in_one_tree = [p._replace(name=".".join(p.path[1:])) for p in flax]
    if len({place.name for place in in_one_tree}) < len(flax):
        in_one_tree = flax
    prefixes = ["", *dict.fromkeys(name.partition(".")[0] + "." for name in names)]
    arrangements = [
        [place._replace(name=prefix + place.name + suffix) for place in places]
        for places in (flax, as_saved_here, in_one_tree)
        for suffix in ("", ".value")
        for prefix in prefixes
    ]
    return max(arrangements, key=lambda places: num_found(places, names))


def num_found(places: Collection[Place], names: Collection[str]) -> int:
    """How many of the places are among a file's names."""
    return sum(place.name in names for place in places)


def pytorch_place(path: LeafPath) -> Place | None:
    """The place of a leaf in torchvision's or timm's weights; None for a leaf of neither our ResNets nor our ViT."""
    modules = list(path[1:])
    leaf = modules.pop() if modules[-1] in _LEAVES else None
    ours = ".".join(modules)
    for pattern, theirs in _RENAMED:
        if match := re.fullmatch(pattern, ours):
            name = match.expand(theirs) + (f".{_LEAVES[leaf]}" if leaf else "")
            return Place(path, name, _THIRDS.index(modules[-1]) if modules[-1] in _THIRDS else None)
    return None


def canonical_names(names: Collection[str]) -> dict[str, str]:
    """Maps the names used by ``pytorch_place`` to those in the file.

    It accepts common variations: a module that all others lie in (``module.`` of DataParallel, ``model.`` of a
    Lightning module), the ``_orig_mod.`` of ``torch.compile``, and the ``shortcut`` and ``linear`` of ResNets written
    for CIFAR. A ResNet's ``fc`` becomes ``head``, timm's name in a ViT. Where two names would become one, all stay.
    """
    unwrapped = {name: name.replace("_orig_mod.", "") for name in names}
    while len({theirs.partition(".")[0] for theirs in unwrapped.values()}) == 1:
        if not all("." in theirs for theirs in unwrapped.values()):
            break
        unwrapped = {name: theirs.partition(".")[2] for name, theirs in unwrapped.items()}
    out = {}
    for name, theirs in unwrapped.items():
        theirs = re.sub(r"^(layer\d+\.\d+)\.shortcut\.", r"\1.downsample.", theirs)
        out[re.sub(r"^(fc|linear)\.", "head.", theirs)] = name
    return out if len(out) == len(unwrapped) else {name: name for name in names}
