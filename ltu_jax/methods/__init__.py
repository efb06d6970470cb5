"""Unlearning methods, one algorithm a file; a name with a colon is the user's own."""

from collections.abc import Callable
from typing import Any

from ltu_jax.methods import (
    amnesiac,
    bad_teacher,
    finetune,
    fisher,
    gradient_ascent,
    ltu,
    neggrad_plus,
    partial_retrain,
    random_label,
    retrain,
    salun,
    scrub,
    ssd,
)
from ltu_jax.methods.base import Method
from ltu_jax.setting import import_reference
from ltu_jax.types import Parts

METHODS: dict[str, Callable[[Any, Parts], Method]] = {
    "ltu": ltu.build,
    "retrain": retrain.build,
    "partial_retrain": partial_retrain.build,
    "finetune": finetune.build,
    "random_label": random_label.build,
    "gradient_ascent": gradient_ascent.build,
    "amnesiac": amnesiac.build,
    "amnesiac_relabel": random_label.build,
    "fisher": fisher.build,
    "ssd": ssd.build,
    "bad_teacher": bad_teacher.build,
    "salun": salun.build,
    "neggrad_plus": neggrad_plus.build,
    "scrub": scrub.build,
}
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
