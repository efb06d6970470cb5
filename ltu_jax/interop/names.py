"""Which tensor of torchvision's ResNet or timm's ViT is which of ours, and how it is laid out there.

PyTorch keeps kernels as [out, in, height, width] and matrices as [out, in], and timm keeps queries, keys and
values in one matrix; Flax has them as [height, width, in, out], [in, out] and apart by head.
"""

import math
import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

LeafPath = tuple[str, ...]
"""Where a leaf lies: ``("params", "backbone", "conv1", "kernel")``."""

_RENAMED = [  # the first that fits
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
    (r"head", "head"),  # torchvision's is called fc: see canonical
]
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_THIRDS = ("query", "key", "value")

NOT_WEIGHTS = ("num_batches_tracked",)
"""Last words of tensors that no forward pass reads; a file keeps its own."""


class Place(NamedTuple):
    """Where a file keeps one of our leaves, and how."""

    path: LeafPath
    name: str
    third: int | None = None  # of the tensor's first axis; None is all of it
    pytorch: bool = True  # whether it is laid out as PyTorch does

    def within(self, tensor: np.ndarray) -> np.ndarray:
        """The view of a tensor of this name that is the leaf."""
        if self.third is None:
            return tensor
        size = len(tensor) // 3
        return tensor[self.third * size : (self.third + 1) * size]

    def laid_out(self, leaf: np.ndarray) -> np.ndarray:
        """A leaf as the file has it."""
        if not self.pytorch:
            return leaf
        if self.path[-1] == "kernel" and leaf.ndim == 4:
            return leaf.transpose(3, 2, 0, 1)
        if self.path[-1] == "kernel":  # heads are joined: the inputs behind the attention, the outputs before it
            inputs = leaf.shape[:-1] if self.path[-2] == "out" else leaf.shape[:1]
            return leaf.reshape(math.prod(inputs), -1).T
        return leaf.reshape(-1) if self.path[-1] == "bias" else leaf

    def leaf(self, laid_out: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The leaf, of this shape, that was laid out."""
        if self.pytorch and self.path[-1] == "kernel":
            laid_out = laid_out.transpose(2, 3, 1, 0) if laid_out.ndim == 4 else laid_out.T
        return laid_out.reshape(shape)


def own_place(path: LeafPath) -> Place:
    """A leaf under its own name, as it is: ``params.backbone.conv1.kernel``."""
    return Place(path, ".".join(path), pytorch=False)


def own_places(leaves: Collection[LeafPath], names: Collection[str]) -> list[Place]:
    """Leaves under their own names, in the arrangement of a tree that knows most of a file's names.

    Those that are common: ``params`` beside ``batch_stats``; the latter below ``model_state``, as this package saves
    it; parameters alone, or with the statistics in one tree, as ``nnx.state`` has them. Each on top or under one more
    name, such as ``state``; each with or without the ``value`` that NNX puts at the end.
    """
    own = [own_place(leaf) for leaf in leaves]
    saved_here = [p if p.path[0] == "params" else p._replace(name=f"model_state.{p.name}") for p in own]
    in_one_tree = [p._replace(name=".".join(p.path[1:])) for p in own]
    if len({place.name for place in in_one_tree}) < len(own):
        in_one_tree = own
    above = ["", *dict.fromkeys(name.partition(".")[0] + "." for name in names)]
    arrangements = [
        [place._replace(name=first + place.name + last) for place in places]
        for places in (own, saved_here, in_one_tree)
        for last in ("", ".value")
        for first in above
    ]
    return max(arrangements, key=lambda places: num_found(places, names))


def num_found(places: Collection[Place], names: Collection[str]) -> int:
    """How many of the places a file has."""
    return sum(place.name in names for place in places)


def pytorch_place(path: LeafPath) -> Place | None:
    """Where torchvision or timm keeps a leaf; None for a leaf that no ResNet and no ViT of ours has."""
    rooms = list(path[1:])
    leaf = rooms.pop() if rooms[-1] in _LEAVES else None
    ours = ".".join(rooms)
    for pattern, theirs in _RENAMED:
        if match := re.fullmatch(pattern, ours):
            name = match.expand(theirs) + (f".{_LEAVES[leaf]}" if leaf else "")
            return Place(path, name, _THIRDS.index(rooms[-1]) if rooms[-1] in _THIRDS else None)
    return None


def canonical(names: Collection[str]) -> dict[str, str]:
    """The name by which ``pytorch_place`` looks for a tensor -> its name in the file.

    Forgives what training code commonly changes: the ``module.`` of DataParallel, and the ``shortcut`` and
    ``linear`` of the ResNets written for CIFAR. A ResNet's ``fc`` is called ``head``, as timm calls a ViT's.
    """
    wrapped = all(name.startswith("module.") for name in names)
    out = {}
    for name in names:
        theirs = name.removeprefix("module.") if wrapped else name
        theirs = re.sub(r"^(layer\d+\.\d+)\.shortcut\.", r"\1.downsample.", theirs)
        out[re.sub(r"^(fc|linear)\.", "head.", theirs)] = name
    return out
