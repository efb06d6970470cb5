"""What a setting is: a dataclass field with its meaning and what is allowed, and all that follows from that.

Like ``config`` this imports neither JAX nor anything else of the package.
"""

import dataclasses
import difflib
import hashlib
import importlib
import json
import math
from collections.abc import Iterator
from typing import Any


class ConfigError(ValueError):
    """A mistake of the user's, told in one line: the field, its value, what is allowed."""


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    custom: bool = False,
    length: int | None = None,
) -> Any:
    """A dataclass field with its meaning and what is allowed.

    Args:
      default: the default value.
      doc: the meaning, one line, with the unit.
      low: smallest value allowed.
      high: largest value allowed.
      above: an open lower bound; the value must be strictly larger.
      choices: the values allowed, for strings (each element, for tuples).
      custom: whether ``module:attribute`` is allowed beside ``choices``.
      length: how many elements a tuple has; None is any number.

    Returns:
      The ``dataclasses.field`` that carries all this as metadata.
    """
    meta = {
        "doc": doc,
        "low": low,
        "high": high,
        "above": above,
        "choices": choices,
        "custom": custom,
        "length": length,
    }
    return dataclasses.field(default=default, metadata=meta)


def settings(config: Any, prefix: str = "config") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Every field of a configuration as ``(dotted name, value, field)``, depth first."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from settings(value, name)
        else:
            yield name, value, field


def describe(field: dataclasses.Field) -> str:
    """What a field means and what is allowed, in one line."""
    meta = field.metadata
    allowed = ", ".join(meta["choices"]) if meta["choices"] else _allowed(meta)
    return meta["doc"] + (f" [{allowed}]" if allowed else "")


def _allowed(meta: Any) -> str:
    bounds = [f"{meta['length']} numbers"] if meta["length"] is not None else []
    if meta["above"] is not None:
        bounds.append(f"> {meta['above']:g}")
    if meta["low"] is not None:
        bounds.append(f">= {meta['low']:g}")
    if meta["high"] is not None:
        bounds.append(f"<= {meta['high']:g}")
    return " and ".join(bounds)


def check(name: str, value: Any, field: dataclasses.Field) -> None:
    """Refuses a value that its field does not allow.

    Raises:
      ConfigError: the field by its dotted ``name``, the value, what is allowed.
    """
    meta = field.metadata
    if meta["length"] is not None and len(value) != meta["length"]:
        raise ConfigError(f"{name}: {value!r} has {len(value)} numbers; allowed: {_allowed(meta)}")
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, str) and meta["choices"] and item not in meta["choices"]:
            if not (meta["custom"] and ":" in item):
                raise ConfigError(f"{name}: {item!r} is unknown; {allowed_names(item, meta['choices'])}")
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            good = math.isfinite(item)
            good &= meta["above"] is None or item > meta["above"]
            good &= meta["low"] is None or item >= meta["low"]
            good &= meta["high"] is None or item <= meta["high"]
            if not good:
                raise ConfigError(f"{name}: {item!r} is out of range; allowed: {_allowed(meta) or 'finite'}")


def allowed_names(value: str, names: Any) -> str:
    """``allowed: a, b; did you mean 'a'?``: the tail of a message about an unknown name."""
    names = sorted(names)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"allowed: {', '.join(names)}" + (f"; did you mean {close[0]!r}?" if close else "")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as JSON-ready dictionaries."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def digest(*parts: Any) -> str:
    """Hex SHA-256 of JSON-ready values: the name of what they made."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def import_reference(reference: str, field: str) -> Any:
    """The object that ``module:attribute`` names.

    Raises:
      ConfigError: if the module or the attribute is missing; ``field`` is named.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{field}: {reference!r} cannot be imported ({error}); allowed: module:attribute") from error
