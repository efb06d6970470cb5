"""Originals, Retrain models and attacker banks kept between runs, by the hash of everything that made them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.data.devices import agreed, writes_files
from ltu_jax.setting import digest
from ltu_jax.training.checkpoint import CheckpointError, load, save
from ltu_jax.types import ArrayTree

RECIPE_VERSION = 1
"""Raise it when the code makes something else of the same settings: old entries are then not found."""


class Cached(NamedTuple):
    """A value, what it cost to make (now or once), and whether it was there already."""

    value: ArrayTree
    seconds: float
    found: bool


def cached(directory: Path | None, kind: str, key: Any, make: Callable[[], ArrayTree]) -> Cached:
    """The value of ``make()``, taken from ``directory`` where it lies there.

    Args:
      directory: the cache; None keeps nothing.
      kind: a word for the reader of the folder's name, e.g. ``"original"``.
      key: JSON-ready values: everything that the value is a function of.
      make: makes it; a tree of nested dicts of arrays.

    Returns:
      ``Cached``.

    Raises:
      CheckpointError: if the entry is damaged.
    """
    path = None if directory is None else _path(directory, kind, key)
    if path is not None and agreed(path.exists):
        value, metadata = load(path)
        return Cached(value, metadata["seconds"], True)
    start = time.perf_counter()
    value = make()
    seconds = time.perf_counter() - start
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, value, {"seconds": seconds, "key": key})
    return Cached(value, seconds, False)


def is_cached(directory: Path, kind: str, key: Any) -> bool:
    """Whether ``cached`` would find the value."""
    return bool(agreed(_path(directory, kind, key).exists))


def cached_numbers(directory: Path | None, kind: str, key: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """``cached`` for a JSON-ready dictionary: one small file, exact to the last digit.

    Raises:
      CheckpointError: if the entry is damaged.
    """
    path = None if directory is None else _path(directory, kind, key).with_suffix(".json")
    if path is not None and agreed(path.exists):
        try:
            text = path.read_text()
            value = json.loads(text)["value"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); delete it to make it anew") from error
        if text != _entry(value, key):
            raise CheckpointError(f"{path} is damaged: it does not match its checksum; delete it to make it anew")
        return value
    value = make()
    if path is not None and writes_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".partial{os.getpid()}")
        partial.write_text(_entry(value, key))
        os.replace(partial, path)
    return value


def _entry(value: dict[str, Any], key: Any) -> str:
    return json.dumps({"value": value, "sha256": digest(value), "key": key})


def _path(directory: Path, kind: str, key: Any) -> Path:
    return directory / f"{kind}-{digest(RECIPE_VERSION, kind, key)[:20]}"
