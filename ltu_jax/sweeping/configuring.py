"""Builds the configuration that ``ltu_jax.unlearn`` would read from its command line."""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from ltu_jax.config import Config, resolve
from ltu_jax.overrides import asked_config
from ltu_jax.setting import ConfigError, allowed_names, settings


def configure(path: str, method: str, fields: Mapping[str, Any]) -> Config:
    """The configuration that the program reads from ``--config PATH:METHOD --config.FIELD=VALUE ...``.

    Raises:
      ConfigError: one line, where the program would refuse it.
    """
    config = asked_config(path, "Sweep.config", method)
    known = {name.removeprefix("config."): field for name, _, field in settings(config)}
    for name, value in fields.items():
        if name not in known:
            raise ConfigError(f"{name}: no such field; {allowed_names(name, known)}")
        group, _, last = name.rpartition(".")
        owner = functools.reduce(getattr, group.split(".") if group else (), config)
        setattr(owner, last, _typed(name, value, known[name].type))
    return resolve(config)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the field's type, e.g. ``Optional[float]``: 1 is then 1.0."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    for allowed in kinds:
        if typing.get_origin(allowed) is tuple and isinstance(value, (tuple, list)):
            return tuple(value)
        if allowed is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if type(value) is allowed and value is not None:
            return value
    raise ConfigError(f"{name}: {value!r} is of the wrong type; allowed: {getattr(kind, '__name__', kind)}")
