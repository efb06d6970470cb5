"""Unlearning methods, one algorithm a file, each with its entry in ``registry``; a name with a colon is the user's own.

``config`` comes by here on its way to ``registry``, so that no JAX is imported before a method is built.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ltu_jax.methods.registry import BUILT_IN
from ltu_jax.setting import ConfigError, import_reference

if TYPE_CHECKING:
    from ltu_jax.methods.base import UnlearningMethod
    from ltu_jax.types import Parts


def _build(builder: str, settings: Any, parts: "Parts") -> "UnlearningMethod":
    return import_reference(builder, "config.method.name").build(settings, parts)


METHODS: dict[str, Callable[[Any, "Parts"], "UnlearningMethod"]] = {
    name: partial(_build, method.builder) for name, method in BUILT_IN.items()
}
"""``METHODS[name](method_config, parts) -> UnlearningMethod``."""


def build_method(settings: Any, parts: "Parts") -> "UnlearningMethod":
    """The method that ``settings.name`` names, built from its settings.

    A built-in method is a value: on the same model its steps are compiled once in a process, however many runs there
    are, whatever the rates, weights and epochs.

    Args:
      settings: one of ``config.METHOD_CONFIGS``.
      parts: the model, its features, the attackers.

    Returns:
      ``UnlearningMethod``.

    Raises:
      ConfigError: if the name is unknown or cannot be imported, or gives no method.
      ValueError: if a part that the method needs is missing.
    """
    if ":" in settings.name:
        method = import_reference(settings.name, "config.method.name")(settings, parts)
        if not all(hasattr(method, name) for name in ("init", "sample", "step", "num_steps")):
            raise ConfigError(
                f"config.method.name: {settings.name!r} gives {type(method).__name__}; allowed: a function"
                " (settings, parts) that returns ltu_jax.Method(init, sample, step, num_steps)"
            )
        return method
    return METHODS[settings.name](settings, parts)
