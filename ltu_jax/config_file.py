"""Reads Python files of the user's: configuration files, sweep files. What goes wrong in one is told in one line."""

import os
import sys
import types
from typing import Any, TypeVar

from ltu_jax.safe_reading import read_bytes, reason
from ltu_jax.setting import ConfigError, check_path, raised

T = TypeVar("T")


def call(path: str, field: str, signature: str, kind: type[T], *arguments: str) -> T:
    """What a function of a Python file returns.

    Args:
      path: the file.
      field: the flag or field that named it.
      signature: the function, such as ``get_config(method)``.
      kind: what it must return.
      *arguments: what it is called with.

    Returns:
      What the function returned.

    Raises:
      ConfigError: the file cannot be read, it or the function raises, or something else is returned.
    """
    name, allowed = signature.partition("(")[0], f"allowed: a Python file with {signature} -> {kind.__name__}"
    check_path(field, path)
    try:
        source = read_bytes(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field}: {path!r} cannot be read ({reason(error)}); {allowed}") from None
    try:
        function = _run(path, source, f"__{kind.__name__.lower()}_file__").get(name)
        made = function(*arguments) if callable(function) else None
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error
    except (Exception, SystemExit) as error:
        where, what = raised(error)
        raise ConfigError(f"{field}: {where or repr(path)}: {what}; {allowed}") from error
    if not callable(function):
        raise ConfigError(f"{field}: {path!r} has no {name}; {allowed}")
    if not isinstance(made, kind):
        raise ConfigError(f"{field}: {path!r}: {name} returned {type(made).__name__}; {allowed}")
    return made


def _run(path: str, source: bytes, name: str) -> dict[str, Any]:
    """What a file defines; ``path`` is what its tracebacks call it."""
    module = types.ModuleType(name)
    module.__file__ = os.path.abspath(path)
    sys.modules[name] = module  # dataclasses look up the module that defines them
    exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    return vars(module)
