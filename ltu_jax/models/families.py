"""The classifiers of this package: the settings of a model, and the families that build one of them.

To add a family: write its file beside this one, add it to ``FAMILIES``, and its own settings to ``Model``. ``config``
re-exports ``Model``; like it this module imports no JAX, and no ``from __future__ import annotations``.
"""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

from ltu_jax.setting import ConfigError, setting

LARGEST_SIDE = 8000
"""Largest side of an image in pixels; ``data.records.MAX_PIXELS`` is its square."""

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Family(NamedTuple):
    """Architectures that one file builds."""

    builder: str
    """``module:function``, imported when a model is built: ``backbone(model, sizes, image_shape, dtype) -> nn.Module``
    gives the network before the head."""
    architectures: dict[str, tuple[int, ...]]
    """What ``config.model.name`` may be, and the sizes that the builder gets for it."""
    settings: tuple[str, ...]
    """The fields of ``Model`` that this family alone reads."""


FAMILIES = {
    "ResNet": Family(
        "ltu_jax.models.resnet:backbone",
        {"resnet18": (2, 2, 2, 2), "resnet8": (1, 1, 1)},  # blocks of each stage
        ("width", "stem"),
    ),
    "ViT": Family(
        "ltu_jax.models.vit:backbone",
        {  # dim, depth, heads
            "vit_base": (768, 12, 12),
            "vit_small": (384, 12, 6),
            "vit_tiny": (192, 12, 3),
            "vit_mini": (96, 6, 3),
            "vit_micro": (32, 2, 2),
        },
        ("patch_size",),
    ),
}


@dataclasses.dataclass
class Model:
    """The classifier. A model of your own gets all fields and may ignore any."""

    name: str = setting(
        "resnet8",
        "architecture, or 'mypackage.module:build' of your own",
        choices=tuple(name for family in FAMILIES.values() for name in family.architectures),
        custom=True,
    )
    width: int = setting(16, "of a ResNet: channels of the first stage; the paper's ResNet-18 has 64", low=1, high=1024)
    stem: str = setting(
        "cifar",
        "of a ResNet: a 3x3 convolution; or ImageNet's of 7x7 and a pooling, which together quarter height and width",
        choices=("cifar", "imagenet"),
    )
    patch_size: int = setting(
        4, "of a ViT: side of a patch in pixels; must divide the image size", low=1, high=LARGEST_SIDE
    )
    dtype: str = setting(
        "float32",
        "numbers that the passes are computed in; parameters, statistics, logits and losses are float32 in any case",
        choices=("float32", "bfloat16"),
    )
    mean: tuple[float, ...] = setting(
        CIFAR10_MEAN,
        "mean of red, green and blue in [0,1], subtracted from the images",
        low=0,
        high=1,
        length=3,
    )
    std: tuple[float, ...] = setting(
        CIFAR10_STD, "standard deviation of each, by which they are then divided", low=1e-6, high=1e6, length=3
    )


def check_given(model: Model, given: Collection[str]) -> None:
    """Refuses settings given on the command line that a model of this family does not read.

    Args:
      model: the settings, complete.
      given: names of the fields that a command line gives. A configuration file may hold settings of several families,
        since the name can be changed on the command line.

    Raises:
      ConfigError: names the field and the architectures that have it.
    """
    ours = [family for family in FAMILIES.values() if model.name in family.architectures]
    for other in FAMILIES.values() if ours else ():
        if wrong := [field for field in other.settings if field in given and field not in ours[0].settings]:
            raise ConfigError(
                f"config.model.{wrong[0]}: {getattr(model, wrong[0])!r}, but config.model.name is {model.name!r};"
                f" allowed: with config.model.name {' or '.join(other.architectures)}"
            )
