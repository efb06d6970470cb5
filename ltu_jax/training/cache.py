"""Originals, Retrain models and attacker banks kept between runs, by the hash of everything that made them."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import LOCK, locked, write_whole
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
    path = None if directory is None else entry_path(directory, kind, key)
    with _made_once(path):
        if path is not None and agreed(path.exists):
            value, metadata = load(path)
            made = Cached(value, metadata["seconds"], True)
        else:
            start = time.perf_counter()
            value = make()
            made = Cached(value, time.perf_counter() - start, False)
            if path is not None:
                save(path, value, {"seconds": made.seconds, "key": key})
        if path is not None and writes_files():
            shutil.rmtree(_under_way(path), ignore_errors=True)
    return made


@contextlib.contextmanager
def _made_once(path: Path | None) -> Iterator[None]:
    """Of several processes that want an entry one makes it; the others wait, and then find it."""
    with contextlib.ExitStack() as stack:
        if path is not None and writes_files() and not path.exists():
            stack.enter_context(locked(path.with_name(f"{path.name}.{LOCK}")))
        yield


def under_way(directory: Path | None, kind: str, key: Any) -> Path | None:
    """The folder in which what makes an entry may save how far it is: ``cached`` drops it when the entry is there."""
    return None if directory is None else _under_way(entry_path(directory, kind, key))


def is_cached(directory: Path, kind: str, key: Any) -> bool:
    """Whether ``cached`` would find the value."""
    return bool(agreed(entry_path(directory, kind, key).exists))


def entry_path(directory: Path, kind: str, key: Any) -> Path:
    """The folder in which ``cached`` keeps the value."""
    return directory / f"{kind}-{digest(RECIPE_VERSION, kind, key)[:20]}"


def cached_numbers(directory: Path | None, kind: str, key: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """``cached`` for a JSON-ready dictionary: one small file, exact to the last digit.

    Raises:
      CheckpointError: if the entry is damaged.
    """
    path = None if directory is None else entry_path(directory, kind, key).with_suffix(".json")
    with _made_once(path):
        if path is not None and agreed(path.exists):
            return _read_numbers(path, key)
        value = make()
        if path is not None and writes_files():
            write_whole(path, _entry(value, key))
    return value


def _read_numbers(path: Path, key: Any) -> dict[str, Any]:
    try:
        text = path.read_text()
        value = json.loads(text)["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to make it anew") from error
    if text != _entry(value, key):
        raise CheckpointError(f"{path} is damaged: it does not match its checksum; delete it to make it anew")
    return value


def _entry(value: dict[str, Any], key: Any) -> str:
    return json.dumps({"value": value, "sha256": digest(value), "key": key})


def _under_way(path: Path) -> Path:
    return path.with_name(f"{path.name}.under_way")
