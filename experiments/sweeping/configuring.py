"""Reads the user's Python files, and a configuration as the program itself would read it."""

import functools
import importlib.util
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ltu_jax.config import Config, resolve
from ltu_jax.setting import ConfigError, allowed_names, settings

T = TypeVar("T")


def configure(path: str, method: str, fields: Mapping[str, Any]) -> Config:
    """The configuration that the program reads from ``--config PATH:METHOD --config.FIELD=VALUE ...``.

    Raises:
      ConfigError: one line, where the program would refuse it.
    """
    config = call(Path(path), "Sweep.config", "get_config", Config, method)
    known = {name.removeprefix("config."): field for name, _, field in settings(config)}
    for name, value in fields.items():
        if name not in known:
            raise ConfigError(f"{name}: no such field; {allowed_names(name, known)}")
        group, _, last = name.rpartition(".")
        owner = functools.reduce(getattr, group.split(".") if group else (), config)
        setattr(owner, last, _typed(name, value, known[name].type))
    return resolve(config)


def call(path: Path, field: str, name: str, kind: type[T], *arguments: str) -> T:
    """What a function of a Python file returns; whatever goes wrong in it is the user's mistake."""
    allowed = f"allowed: a Python file with {name}({', '.join('method' for _ in arguments)}) -> {kind.__name__}"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{field}: {str(path)!r} cannot be read; {allowed}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, name)(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{field}: {str(path)!r}: {told}; {allowed}") from error
    if not isinstance(made, kind):
        raise ConfigError(f"{field}: {str(path)!r}: {name} returned {type(made).__name__}; {allowed}")
    return made


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the field's type, e.g. ``Optional[float]``: 1 is then 1.0."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    for one in kinds:
        if typing.get_origin(one) is tuple and isinstance(value, (tuple, list)):
            return tuple(value)
        if one is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if type(value) is one and value is not None:
            return value
    raise ConfigError(f"{name}: {value!r} is of the wrong type; allowed: {getattr(kind, '__name__', kind)}")
