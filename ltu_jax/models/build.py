"""From a configuration to a model: three pure functions, whatever the architecture."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from ltu_jax import config, setting
from ltu_jax.models.classifier import Classifier
from ltu_jax.models.families import FAMILIES
from ltu_jax.types import ApplyFn, ArrayTree


class ModelSpec(NamedTuple):
    """A model as the rest of the package knows it.

    ``params`` are nested dicts of arrays; ``model_state`` is ``{"batch_stats": ...}`` of the same, or ``{}`` for a
    model without BatchNorm. ``from_module`` makes one of a Linen module, ``from_nnx`` of an NNX module.

    Attributes:
      init: ``init(key) -> (params, model_state)``; may be traced (jit, vmap, eval_shape).
      apply_fn: ``apply_fn(params, model_state, images f32[B,H,W,3] in [0,1], train)
        -> (logits f32[B,C], model_state)``; ``train`` is a Python bool.
      features: ``features(params, model_state, images) -> f32[B,D]``, the penultimate features
        in evaluation mode: F of Eq. 8; None takes the logits.
    """

    init: Callable[[jax.Array], tuple[ArrayTree, ArrayTree]]
    apply_fn: ApplyFn
    features: Callable[[ArrayTree, ArrayTree, jax.Array], jax.Array] | None = None


def build_model(model: config.Model, num_classes: int, image_shape: tuple[int, ...]) -> ModelSpec:
    """The model that a configuration names.

    Equal arguments give equal functions, so that what is compiled for them is compiled once.

    Args:
      model: the settings; a name with a colon is the user's own
        ``build(model, num_classes, image_shape) -> ModelSpec``.
      num_classes: C.
      image_shape: ``(H, W, 3)``; of rows that are no images, for a model of one's own, what a row has.

    Returns:
      The model's ``ModelSpec``.

    Raises:
      ConfigError: if there is no such model, or it does not fit the image size.
    """
    shape, num_classes = tuple(map(int, image_shape)), int(num_classes)
    if ":" in model.name:
        return _build_own(dataclasses.astuple(model), num_classes, shape)
    if len(shape) != 3:
        raise setting.ConfigError(
            f"config.model.name: {model.name!r} takes images, and these rows have the shape {shape}; allowed: a model"
            " of your own, package.module:build"
        )
    return from_module(Classifier(_backbone(model, shape), num_classes, model.mean, model.std), shape)


@functools.lru_cache(maxsize=8)  # functions of the user's own are equal only if they are the same
def _build_own(settings: tuple, num_classes: int, image_shape: tuple[int, ...]) -> ModelSpec:
    model = config.Model(*settings)
    build = setting.import_reference(model.name, "config.model.name")
    try:
        spec = build(model, num_classes, image_shape) if callable(build) else build
    except setting.ConfigError:
        raise
    except Exception as error:  # it is the user's own, and may raise anything
        why = f"{type(error).__name__}: {error}"
        raise setting.ConfigError(
            f"config.model.name: {model.name!r} cannot be built ({why});"
            " allowed: a function (model, num_classes, image_shape) that returns a ModelSpec"
        ) from error
    if not isinstance(spec, ModelSpec):
        raise setting.ConfigError(
            f"config.model.name: {model.name!r} gives {type(spec).__name__};"
            " allowed: a function (model, num_classes, image_shape) that returns from_module(linen_module,"
            " image_shape), from_nnx(make_module, image_shape) or another ModelSpec"
        )
    if model.dtype == "bfloat16" and not _computes_in_bfloat16(spec, image_shape):
        logging.getLogger(__name__).warning(
            "config.model.dtype: 'bfloat16', and %s computes nothing in it: its build must use model.dtype", model.name
        )
    return spec


def _computes_in_bfloat16(spec: ModelSpec, image_shape: tuple[int, ...]) -> bool:
    """Whether any operation of a pass is in bfloat16; true of a model that takes no numbers, which is not looked at."""
    args = *jax.eval_shape(spec.init, jax.random.key(0)), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        return "bf16" in str(jax.make_jaxpr(spec.apply_fn, static_argnums=3)(*args, False))
    except TypeError:  # such as one that looks whole numbers up
        return True


def _backbone(model: config.Model, image_shape: tuple[int, ...]) -> nn.Module:
    for family in FAMILIES.values():
        if model.name in family.architectures:
            dtype = jnp.bfloat16 if model.dtype == "bfloat16" else None
            backbone = setting.import_reference(family.builder, "config.model.name")
            return backbone(model, family.architectures[model.name], image_shape, dtype)
    allowed = setting.allowed_names(model.name, [name for one in FAMILIES.values() for name in one.architectures])
    raise setting.ConfigError(f"config.model.name: {model.name!r} is unknown; {allowed}")


def from_module(module: nn.Module, image_shape: tuple[int, ...]) -> ModelSpec:
    """The three functions of a Linen module: a ``Classifier`` with another backbone, or one's own.

    Args:
      module: the Linen module; ``module(images, train)`` returns logits, or logits and features.
      image_shape: ``(H, W, 3)``; images of another shape are refused when traced.

    Returns:
      The module's ``ModelSpec``, equal for equal modules. A pass that draws random numbers, as dropout does, is a
      ``ConfigError`` when traced.
    """
    return _spec(_LinenNetwork(module, image_shape))


def normalisation(spec: ModelSpec) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation that a built-in model normalises with; None for a model of one's own."""
    classifier = _classifier(spec)
    return None if classifier is None else (classifier.mean, classifier.std)


def at_size(spec: ModelSpec, size: int, params: ArrayTree, model_state: ArrayTree) -> ModelSpec | None:
    """The same built-in model for square images of another size; None where its weights do not fit, or it has no name.

    Args:
      spec: the model.
      size: height and width.
      params: its parameters.
      model_state: its statistics.
    """
    if (classifier := _classifier(spec)) is None:
        return None
    other = from_module(classifier, (size, size, 3))
    try:
        made = jax.eval_shape(other.init, jax.random.key(0))
    except Exception:  # Flax and JAX raise many kinds for images that are too small, or not whole patches
        return None
    shapes = [jax.tree.map(lambda x: tuple(x.shape), tree) for tree in (made, (params, model_state))]
    return other if shapes[0] == shapes[1] else None


def _classifier(spec: ModelSpec) -> Classifier | None:
    module = getattr(getattr(spec.apply_fn, "network", None), "module", None)
    return module if isinstance(module, Classifier) else None


@dataclasses.dataclass(frozen=True)
class _LinenNetwork:
    """A Linen module, known by its fields."""

    module: nn.Module
    image_shape: tuple[int, ...]

    def init(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        variables = self.module.init(key, jnp.zeros((1, *self.image_shape)), train=False)
        return variables.pop("params"), variables

    def run(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool) -> tuple[Any, ArrayTree]:
        return self.module.apply({"params": params, **model_state}, images, train, mutable=list(model_state))


def from_nnx(make_module: Callable[[Any], Any], image_shape: tuple[int, ...]) -> ModelSpec:
    """The three functions of an NNX module.

    Args:
      make_module: ``make_module(rngs: nnx.Rngs)`` gives the module; ``module(images)`` returns logits, or logits and
        features. ``module.train()`` and ``module.eval()`` switch it beforehand, as BatchNorm and Dropout expect.
      image_shape: ``(H, W, 3)``; images of another shape are refused when traced.

    Returns:
      The module's ``ModelSpec``: ``nnx.Param`` are its parameters, ``nnx.BatchStat`` its ``batch_stats``, by the names
      of their attributes; equal for the same ``make_module``. A pass that draws random numbers, as dropout does, is a
      ``ConfigError`` when traced.

    Raises:
      ConfigError: if the module keeps arrays of other kinds.
    """
    from ltu_jax.models.nnx_model import NNXNetwork

    return _spec(NNXNetwork.of(make_module, image_shape))


def nnx_weights(module: Any) -> tuple[ArrayTree, ArrayTree]:
    """The weights of an NNX module that is trained already, as ``from_nnx`` of the function that makes it takes them.

    Args:
      module: the module.

    Returns:
      ``(params, model_state)``: nested dicts, in which a place in a list is a name.
    """
    from ltu_jax.models.nnx_model import weights_of

    return weights_of(module)


class Network(Protocol):
    """A module of either kind, hashed by what it is, so that equal networks share their compiled programs."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """``(H, W, 3)``."""
        ...

    def init(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        """Parameters and statistics."""
        ...

    def run(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool) -> tuple[Any, ArrayTree]:
        """Its output, logits or logits and features, and the statistics after it."""
        ...


def _spec(network: Network) -> ModelSpec:
    return ModelSpec(_Init(network), _Apply(network), _Features(network))


@dataclasses.dataclass(frozen=True)
class _Init:
    """``ModelSpec.init`` of a network."""

    network: Network

    def __call__(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        return _init(self.network, key)


@functools.partial(jax.jit, static_argnums=0)  # without it every layer's initialiser is compiled apart
def _init(network: Network, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
    return network.init(key)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """``ModelSpec.apply_fn`` of a network."""

    network: Network

    def __call__(
        self, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, ArrayTree]:
        logits, _, model_state = _checked(self.network, params, model_state, images, train)
        return logits, model_state


@dataclasses.dataclass(frozen=True)
class _Features:
    """``ModelSpec.features`` of a network."""

    network: Network

    def __call__(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        return _checked(self.network, params, model_state, images, False)[1]


def _checked(
    network: Network, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool
) -> tuple[jax.Array, jax.Array, ArrayTree]:
    """Logits, features and statistics."""
    chex.assert_shape(images, (None, *network.image_shape))
    chex.assert_type(images, float)  # uint8 images would be off by a factor of 255, silently
    try:
        output, model_state = network.run(params, model_state, images, train)
    except flax.errors.InvalidRngError as error:
        raise setting.ConfigError(
            "config.model.name: the model draws random numbers in a pass, and apply_fn gets no key for them;"
            " allowed: without dropout, or at a rate of 0"
        ) from error
    logits, features = output if isinstance(output, tuple) else (output, output)
    return logits, features, model_state
