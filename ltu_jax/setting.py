"""What a setting is: a dataclass field with its meaning and what is allowed, and all that follows from that.

Like ``config`` this imports neither JAX nor anything else of the package.
"""

import dataclasses
import difflib
import hashlib
import importlib
import json
import math
import os
import traceback
import types
import typing
from collections.abc import Iterator
from typing import Any

LONGEST = 2000
"""Characters of a message that are kept: ids, names and paths from outside may be longer than a screen."""
TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
"""What the type of a field is called."""
OURS = os.path.join(os.path.dirname(__file__), "")
"""The folder of this package."""
LARGEST_FILE_NAME, LARGEST_PATH = 255, 4095
"""Bytes that Linux allows; what is longer cannot even be asked for."""


def plain(text: str) -> str:
    """Text that may hold words from outside, as one line that any terminal shows."""
    return printable(f"{text[: LONGEST - 300]} ... {text[-250:]}" if len(text) > LONGEST else text)


def printable(text: str) -> str:
    """As ``plain``, but nothing is left out: a line to be copied, such as a command."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ConfigError(ValueError):
    """A mistake of the user's, in one line: the field, its value, what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


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
    path: bool = False,
    within: bool = False,
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
      path: whether it is the path of a file or folder.
      within: whether it is a path below a folder, which it cannot leave.

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
        "path": path,
        "within": within,
    }
    return dataclasses.field(default=default, metadata=meta)


def settings(config: Any, prefix: str = "config") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Every field of a configuration as ``(dotted name, value, field)``, depth first."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from settings(value, name)
        else:
            yield name, value, field


def describe(field: dataclasses.Field) -> str:
    """What a field means and what is allowed, in one line."""
    meta = field.metadata
    if not meta:  # of a method of one's own
        return ""
    allowed = ", ".join(meta["choices"]) if meta["choices"] else _allowed(meta)
    return meta["doc"] + (f" [{allowed}]" if allowed else "")


def _allowed(meta: Any) -> str:
    bounds = [f"{meta['length']} numbers"] if meta["length"] is not None else []
    for name, sign in (("above", ">"), ("low", ">="), ("high", "<=")):
        if meta[name] is not None:
            bounds.append(f"{sign} {meta[name]:{'g' if isinstance(meta[name], float) else 'd'}}")
    return " and ".join(bounds)


def check(name: str, value: Any, field: dataclasses.Field) -> None:
    """Refuses a value that its field does not allow.

    Raises:
      ConfigError: the field by its dotted ``name``, the value, what is allowed.
    """
    meta, kind = field.metadata, field.type
    if not is_of(value, kind):
        raise ConfigError(f"{name}: {_shown(value)} is no {_word(kind).removeprefix('a ')}; allowed: {_word(kind)}")
    if value is None:
        return
    if meta["length"] is not None and len(value) != meta["length"]:
        raise ConfigError(f"{name}: {value!r} has {len(value)} numbers; allowed: {_allowed(meta)}")
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, str):
            _check_text(name, item, meta)
        elif not isinstance(item, bool):
            good = isinstance(item, int) or math.isfinite(item)
            good &= meta["above"] is None or item > meta["above"]
            good &= meta["low"] is None or item >= meta["low"]
            good &= meta["high"] is None or item <= meta["high"]
            if not good:
                raise ConfigError(f"{name}: {_shown(item)} is out of range; allowed: {_allowed(meta) or 'finite'}")


def _check_text(name: str, text: str, meta: Any) -> None:
    if meta["choices"] and text not in meta["choices"] and not (meta["custom"] and ":" in text):
        raise ConfigError(f"{name}: {text!r} is unknown; {allowed_names(text, meta['choices'])}")
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text):
        raise ConfigError(f"{name}: {text!r} has control characters or broken UTF-8; allowed: plain text")
    if meta["path"] or meta["within"]:
        check_path(name, text)
    if meta["within"] and any(part in ("", ".", "..") for part in text.split("/")):
        raise ConfigError(f"{name}: {text!r} leaves its folder; allowed: names with a / between them, none of them ..")


def check_path(name: str, path: str) -> None:
    """Refuses what no file or folder can be called.

    Raises:
      ConfigError: the field or flag by its ``name``, the path, what is allowed.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise ConfigError(f"{name}: {path!r} is no path; allowed: the path of a file or folder, in UTF-8")
    longest = max(map(len, encoded.split(b"/")))
    if longest > LARGEST_FILE_NAME or len(encoded) > LARGEST_PATH:
        raise ConfigError(
            f"{name}: {path!r} is too long; allowed: {LARGEST_PATH} bytes, {LARGEST_FILE_NAME} between two slashes"
        )


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of the type of its field, such as ``Optional[int]`` or ``tuple[float, ...]``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(is_of(value, one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(is_of(item, typing.get_args(kind)[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)  # a method of one's own may have any type


def _word(kind: Any) -> str:
    """What a value of a type is called."""
    kinds = [one for one in typing.get_args(kind) if one not in (type(None), ...)]
    if typing.get_origin(kind) is tuple:
        return {int: "a tuple of whole numbers", float: "a tuple of numbers"}.get(kinds[0], "a tuple of names")
    return _word(kinds[0]) + " or None" if kinds else TYPES.get(kind, getattr(kind, "__name__", str(kind)))


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"


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
    except (Exception, SystemExit) as error:  # what stands in the module runs, and may raise anything
        why = ": ".join(filter(None, raised(error)))
        raise ConfigError(f"{field}: {reference!r} cannot be imported ({why}); allowed: module:attribute") from error


def raised(error: BaseException) -> tuple[str, str]:
    """Where in the user's own code an exception was raised, and what it says.

    Args:
      error: caught where this code was run.

    Returns:
      Its file and line, empty where no line of the user's was run; its type and the first line of its message.
    """
    name, message = type(error).__name__, str(error)
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    others = ("<frozen importlib", importlib.__file__, OURS)
    frames = [frame for frame in frames if not frame[0].startswith(others)]
    if isinstance(error, SyntaxError) and error.filename:
        frames, message = [(error.filename, error.lineno)], error.msg
    # What it calls may lie deeper, in a library; the last line of the first file is the one to look at.
    places = [f"{file!r}, line {line}" for file, line in frames if file == frames[0][0]]
    first = message.strip().partition("\n")[0].strip()
    return places[-1] if places else "", f"{name}: {first}" if first else name
