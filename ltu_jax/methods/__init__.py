"""Unlearning methods, one algorithm a file; a name with a colon is the user's own."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ltu_jax.attackers.bank import Bank
from ltu_jax.config import Training
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
from ltu_jax.types import Parts, shared

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

    Of built-in methods equal settings on the same model give the same ``sample`` and ``step``, compiled once in a
    process however many runs there are, at whatever learning rate: the rate, and arrays such as attackers, come to them
    through what ``init`` puts into the context.

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
    method = METHODS[settings.name](settings, parts)
    rateless = dataclasses.replace(settings, learning_rate=math.nan) if hasattr(settings, "learning_rate") else settings
    shared = _shared(
        type(settings),
        tuple(tuple(x) if isinstance(x, list) else x for x in dataclasses.astuple(rateless)),
        None if parts.training is None else dataclasses.astuple(parts.training),
        None if parts.bank is None else parts.bank.names,
        parts.updates is not None,
        (parts.apply_fn, parts.num_classes, parts.init_params, parts.features, parts.augment),
    )
    return method._replace(sample=shared.sample, step=shared.step)


@shared
def _shared(
    kind: type, settings: tuple, training: tuple | None, attackers: tuple | None, is_recorded: bool, model: tuple
) -> Method:
    """A method without its rate and arrays: its steps are those of every method with the same structure."""
    apply_fn, num_classes, init_params, features, augment = model
    parts = Parts(
        apply_fn,
        num_classes,
        init_params,
        features,
        None if attackers is None else Bank({}, attackers),
        {} if is_recorded else None,
        None if training is None else Training(*training),
        augment,
    )
    return METHODS[kind(*settings).name](kind(*settings), parts)
