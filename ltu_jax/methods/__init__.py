"""Unlearning methods, one algorithm a file; a name with a colon is the user's own."""

from collections.abc import Callable
from typing import Any

from ltu_jax.methods.amnesiac import Amnesiac
from ltu_jax.methods.bad_teacher import BadTeacher
from ltu_jax.methods.base import UnlearningMethod
from ltu_jax.methods.finetune import Finetune
from ltu_jax.methods.fisher import Fisher
from ltu_jax.methods.gradient_ascent import GradientAscent
from ltu_jax.methods.ltu import LTU
from ltu_jax.methods.neggrad_plus import NegGradPlus
from ltu_jax.methods.partial_retrain import PartialRetrain
from ltu_jax.methods.random_label import RandomLabel
from ltu_jax.methods.retrain import Retrain
from ltu_jax.methods.salun import SalUn
from ltu_jax.methods.scrub import Scrub
from ltu_jax.methods.ssd import SSD
from ltu_jax.setting import import_reference
from ltu_jax.types import Parts

METHODS: dict[str, Callable[[Any, Parts], UnlearningMethod]] = {
    "ltu": LTU.build,
    "retrain": Retrain.build,
    "partial_retrain": PartialRetrain.build,
    "finetune": Finetune.build,
    "random_label": RandomLabel.build,
    "gradient_ascent": GradientAscent.build,
    "amnesiac": Amnesiac.build,
    "amnesiac_relabel": RandomLabel.build,
    "fisher": Fisher.build,
    "ssd": SSD.build,
    "bad_teacher": BadTeacher.build,
    "salun": SalUn.build,
    "neggrad_plus": NegGradPlus.build,
    "scrub": Scrub.build,
}
"""``METHODS[name](method_config, parts) -> UnlearningMethod``."""


def build_method(settings: Any, parts: Parts) -> UnlearningMethod:
    """The method that ``settings.name`` names, built from its settings.

    A built-in method is a value: on the same model its steps are compiled once in a process, however many runs there
    are, whatever the rates, weights and epochs.

    Args:
      settings: one of ``config.METHOD_CONFIGS``.
      parts: the model, its features, the attackers.

    Returns:
      ``UnlearningMethod``.

    Raises:
      ConfigError: if the name is unknown or cannot be imported.
      ValueError: if a part that the method needs is missing.
    """
    if ":" in settings.name:
        return import_reference(settings.name, "config.method.name")(settings, parts)
    return METHODS[settings.name](settings, parts)
