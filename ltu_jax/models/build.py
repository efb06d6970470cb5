"""From a configuration to a model: three pure functions, whatever the architecture."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ltu_jax import config, setting
from ltu_jax.models.classifier import Classifier
from ltu_jax.models.resnet import ResNet
from ltu_jax.models.vit import ViT
from ltu_jax.types import ApplyFn, ArrayTree

STAGE_SIZES = {"resnet18": (2, 2, 2, 2), "resnet8": (1, 1, 1)}
# dim, depth, heads
VIT_SIZES = {
    "vit_base": (768, 12, 12),
    "vit_small": (384, 12, 6),
    "vit_tiny": (192, 12, 3),
    "vit_micro": (32, 2, 2),
}


class ModelSpec(NamedTuple):
    """A model as the rest of the package knows it.

    ``model_state`` is ``{"batch_stats": ...}``, or ``{}`` for a model without BatchNorm.

    Attributes:
      init: ``init(key) -> (params, model_state)``; may be traced (jit, vmap, eval_shape).
      apply_fn: ``apply_fn(params, model_state, images f32[B,H,W,3] in [0,1], train)
        -> (logits f32[B,C], model_state)``; ``train`` is a Python bool.
      features: ``features(params, model_state, images) -> f32[B,D]``, the penultimate features
        in evaluation mode: F of Eq. 8.
    """

    init: Callable[[jax.Array], tuple[ArrayTree, ArrayTree]]
    apply_fn: ApplyFn
    features: Callable[[ArrayTree, ArrayTree, jax.Array], jax.Array]


def build_model(model: config.Model, num_classes: int, image_shape: tuple[int, int, int]) -> ModelSpec:
    """The model that a configuration names.

    Equal arguments give the same object: ``jit`` caches by the identity of ``apply_fn``.

    Args:
      model: the settings; a name with a colon is the user's own
        ``build(model, num_classes, image_shape) -> ModelSpec``.
      num_classes: C.
      image_shape: ``(H, W, 3)``.

    Returns:
      The model's ``ModelSpec``.

    Raises:
      ConfigError: if there is no such model, or it does not fit the image size.
    """
    height, width, channels = image_shape
    return _build(dataclasses.astuple(model), int(num_classes), (int(height), int(width), int(channels)))


@functools.cache
def _build(settings: tuple, num_classes: int, image_shape: tuple[int, int, int]) -> ModelSpec:
    model = config.Model(*settings)
    if ":" in model.name:
        build = setting.import_reference(model.name, "config.model.name")
        spec = build(model, num_classes, image_shape) if callable(build) else build
        if not isinstance(spec, ModelSpec):
            raise setting.ConfigError(
                f"config.model.name: {model.name!r} gives {type(spec).__name__};"
                " allowed: a function (model, num_classes, image_shape) that returns a ModelSpec"
            )
        return spec
    return from_module(Classifier(_backbone(model, image_shape), num_classes, model.mean, model.std), image_shape)


def _backbone(model: config.Model, image_shape: tuple[int, int, int]) -> nn.Module:
    dtype = jnp.bfloat16 if model.dtype == "bfloat16" else None
    if model.name in STAGE_SIZES:
        return ResNet(STAGE_SIZES[model.name], model.width, dtype, model.stem)
    if model.name not in VIT_SIZES:
        allowed = setting.allowed_names(model.name, [*STAGE_SIZES, *VIT_SIZES])
        raise setting.ConfigError(f"config.model.name: {model.name!r} is unknown; {allowed}")
    height, width, _ = image_shape
    sides = [p for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
    if model.patch_size not in sides:
        raise setting.ConfigError(
            f"config.model.patch_size: {model.patch_size} does not divide the image size {height}x{width};"
            f" allowed: {', '.join(map(str, sides))}"
        )
    return ViT(*VIT_SIZES[model.name], patch_size=model.patch_size, dtype=dtype)


def from_module(module: nn.Module, image_shape: tuple[int, int, int]) -> ModelSpec:
    """The three functions of a Flax module: a ``Classifier`` with another backbone, or one's own.

    Args:
      module: the Flax module; ``module(images, train)`` returns logits and features.
      image_shape: ``(H, W, 3)``; images of another shape are refused when traced.

    Returns:
      The module's ``ModelSpec``; every call makes new functions, so call it once.
    """

    # One compiled program for all seeds; without jit every layer's initialiser is compiled apart.
    @jax.jit
    def init(key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        variables = module.init(key, jnp.zeros((1, *image_shape)), train=False)
        return variables.pop("params"), variables

    def run(params: Any, model_state: Any, images: jax.Array, train: bool) -> Any:
        chex.assert_shape(images, (None, *image_shape))
        chex.assert_type(images, float)  # uint8 images would be off by a factor of 255, silently
        return module.apply({"params": params, **model_state}, images, train, mutable=list(model_state))

    def apply_fn(
        params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, ArrayTree]:
        (logits, _), model_state = run(params, model_state, images, train)
        return logits, model_state

    def features(params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        (_, features), _ = run(params, model_state, images, False)
        return features

    return ModelSpec(init, apply_fn, features)
