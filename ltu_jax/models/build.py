"""From a configuration to a model: three pure functions, whatever the architecture."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.errors
import flax.linen as nn
import flax.traverse_util
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


def build_model(model: config.Model, num_classes: int, image_shape: tuple[int, int, int]) -> ModelSpec:
    """The model that a configuration names.

    Equal arguments give equal functions, so that what is compiled for them is compiled once.

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
    height, width, channels = map(int, image_shape)
    image_shape = height, width, channels
    if ":" in model.name:
        return _build_own(dataclasses.astuple(model), int(num_classes), image_shape)
    num_classes = int(num_classes)
    return from_module(Classifier(_backbone(model, image_shape), num_classes, model.mean, model.std), image_shape)


@functools.lru_cache(maxsize=8)  # functions of the user's own are equal only if they are the same
def _build_own(settings: tuple, num_classes: int, image_shape: tuple[int, int, int]) -> ModelSpec:
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
    return spec


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
    """The three functions of a Linen module: a ``Classifier`` with another backbone, or one's own.

    Args:
      module: the Linen module; ``module(images, train)`` returns logits, or logits and features.
      image_shape: ``(H, W, 3)``; images of another shape are refused when traced.

    Returns:
      The module's ``ModelSpec``, equal for equal modules. A pass that draws random numbers, as dropout does, is a
      ``ConfigError`` when traced.
    """
    return _spec(_LinenNetwork(module, image_shape))


@dataclasses.dataclass(frozen=True)
class _LinenNetwork:
    """A Linen module, known by its fields."""

    module: nn.Module
    image_shape: tuple[int, int, int]

    def init(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        variables = self.module.init(key, jnp.zeros((1, *self.image_shape)), train=False)
        return variables.pop("params"), variables

    def run(self, params: Any, model_state: Any, images: jax.Array, train: bool) -> Any:
        try:
            return self.module.apply({"params": params, **model_state}, images, train, mutable=list(model_state))
        except flax.errors.InvalidRngError as error:
            raise _random() from error


def from_nnx(make_module: Callable[[Any], Any], image_shape: tuple[int, int, int]) -> ModelSpec:
    """The three functions of an NNX module.

    Args:
      make_module: ``make_module(rngs: nnx.Rngs)`` gives the module; ``module(images)`` returns logits, or logits and
        features. Whether it trains is told by ``module.train()`` and ``module.eval()``, as BatchNorm and Dropout know.
      image_shape: ``(H, W, 3)``; images of another shape are refused when traced.

    Returns:
      The module's ``ModelSpec``: ``nnx.Param`` are its parameters, ``nnx.BatchStat`` its ``batch_stats``, by the names
      of their attributes; equal for the same ``make_module``. A pass that draws random numbers, as dropout does, is a
      ``ConfigError`` when traced.

    Raises:
      ConfigError: if the module keeps arrays of other kinds.
    """
    from flax import nnx  # takes most of a second, and only some need it

    module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))  # shapes alone
    kinds = (nnx.Param, nnx.BatchStat, nnx.RngState)
    for path, value in nnx.iter_graph(module):
        # An array that is no variable is one of this trace, or of NumPy's.
        is_bare = isinstance(value, (jax.Array, jax.ShapeDtypeStruct))
        if is_bare or isinstance(value, nnx.Variable) and not isinstance(value, kinds):
            where = f"{type(module).__name__}.{'.'.join(map(str, path))}"
            raise setting.ConfigError(
                f"config.model.name: {where} is an array, but neither nnx.Param nor nnx.BatchStat; allowed: these, and"
                " constants that are no arrays, such as tuples"
            )
    graphs = []
    for train in (False, True):
        module.train() if train else module.eval()
        graph, *wanted = nnx.split(module, *kinds)
        graphs.append(graph)
    return _spec(_NNXNetwork(make_module, image_shape, tuple(graphs), tuple(wanted)))


@dataclasses.dataclass(frozen=True)
class _NNXNetwork:
    """An NNX module, known by the function that makes it."""

    make_module: Callable[[Any], Any]
    image_shape: tuple[int, int, int]
    graphs: tuple[Any, ...] = dataclasses.field(compare=False)  # in evaluation, in training
    wanted: tuple[Any, ...] = dataclasses.field(compare=False)  # shapes of parameters, statistics and keys

    def init(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        from flax import nnx

        module = self.make_module(nnx.Rngs(key))
        return _plain(nnx.state(module, nnx.Param)), _nnx_model_state(module)

    def run(self, params: Any, model_state: Any, images: jax.Array, train: bool) -> Any:
        from flax import nnx

        unused = jax.tree.map(_any_value, self.wanted[2])
        before = jax.tree.leaves(unused)
        stats = model_state.get("batch_stats", {})
        arrays = _filled(self.wanted[0], params), _filled(self.wanted[1], stats), unused
        module = nnx.merge(self.graphs[train], *arrays)
        output = module(images)
        if any(a is not b for a, b in zip(before, jax.tree.leaves(nnx.state(module, nnx.RngState)), strict=True)):
            raise _random()
        return output, _nnx_model_state(module)


def _plain(state: Any) -> ArrayTree:
    """The arrays of an NNX state as nested dicts; a place in a list is a number there, and a name here."""
    from flax import nnx

    flat = {tuple(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}
    return flax.traverse_util.unflatten_dict(flat)


def _filled(state: Any, tree: ArrayTree) -> Any:
    """An NNX state like this one, with the arrays that ``_plain`` gave."""
    from flax import nnx

    flat = flax.traverse_util.flatten_dict(tree)
    named = nnx.to_flat_state(state)
    return nnx.from_flat_state({path: variable.replace(flat[tuple(map(str, path))]) for path, variable in named})


def _nnx_model_state(module: Any) -> ArrayTree:
    from flax import nnx

    stats = _plain(nnx.state(module, nnx.BatchStat))
    return {"batch_stats": stats} if stats else {}


def _any_value(leaf: Any) -> jax.Array:
    """A key or a count of this shape."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)


def _random() -> setting.ConfigError:
    return setting.ConfigError(
        "config.model.name: the model draws random numbers in a pass, and apply_fn gets no key for them;"
        " allowed: without dropout, or at a rate of 0"
    )


def _spec(network: Any) -> ModelSpec:
    return ModelSpec(_Init(network), _Apply(network), _Features(network))


@dataclasses.dataclass(frozen=True)
class _Init:
    """``ModelSpec.init`` of a network."""

    network: Any

    def __call__(self, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        return _init(self.network, key)


@functools.partial(jax.jit, static_argnums=0)  # without it every layer's initialiser is compiled apart
def _init(network: Any, key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
    return network.init(key)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """``ModelSpec.apply_fn`` of a network."""

    network: Any

    def __call__(
        self, params: ArrayTree, model_state: ArrayTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, ArrayTree]:
        logits, _, model_state = _checked(self.network, params, model_state, images, train)
        return logits, model_state


@dataclasses.dataclass(frozen=True)
class _Features:
    """``ModelSpec.features`` of a network."""

    network: Any

    def __call__(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        return _checked(self.network, params, model_state, images, False)[1]


def _checked(
    network: Any, params: Any, model_state: Any, images: jax.Array, train: bool
) -> tuple[jax.Array, jax.Array, Any]:
    """Logits, features and statistics."""
    chex.assert_shape(images, (None, *network.image_shape))
    chex.assert_type(images, float)  # uint8 images would be off by a factor of 255, silently
    output, model_state = network.run(params, model_state, images, train)
    logits, features = output if isinstance(output, tuple) else (output, output)
    return logits, features, model_state
