"""Unlearning methods, one algorithm a file; a name with a colon is the user's own."""

from collections.abc import Callable
from typing import Any

from ltu_jax.config import import_reference
from ltu_jax.methods import ltu, retrain
from ltu_jax.methods.base import Method
from ltu_jax.types import Parts

METHODS: dict[str, Callable[[Any, Parts], Method]] = {"ltu": ltu.build, "retrain": retrain.build}
"""``METHODS[name](method_config, parts) -> Method``."""


def build_method(settings: Any, parts: Parts) -> Method:
    """The method that ``settings.name`` names, built from its settings.

    Args:
      settings: one of ``config.METHOD_CONFIGS``.
      parts: the model, its features, the attackers.

    Returns:
      ``Method``.

    Raises:
      ConfigError: if the name is unknown or cannot be imported.
    """
    if ":" in settings.name:
        return import_reference(settings.name, "config.method.name")(settings, parts)
    return METHODS[settings.name](settings, parts)
