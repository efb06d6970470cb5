"""Originals, Retrain models and attacker banks kept between runs, by the hash of everything that made them."""

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import LOCK, has_locks, locked, write_whole
from ltu_jax.setting import digest
from ltu_jax.training.checkpoint import CheckpointError, load_tree, save_tree
from ltu_jax.training.saving import Saving
from ltu_jax.types import ArrayTree

RECIPE_VERSION = 1
"""Raise it when the code makes something else of the same settings: old entries are then not found."""


class CacheEntry(NamedTuple):
    """An entry of a cache."""

    directory: Path | None  # the cache; None keeps nothing
    kind: str  # the first word of its folder's name, e.g. "original"
    key: Any  # JSON-ready values: everything that its value is a function of

    @property
    def path(self) -> Path | None:
        """Its folder, whether it is there or not."""
        if self.directory is None:
            return None
        return self.directory / f"{self.kind}-{digest(RECIPE_VERSION, self.kind, self.key)[:20]}"

    def is_there(self) -> bool:
        """Whether it has been made."""
        return self.path is not None and bool(agreed(self.path.exists))

    def saving(self, every_s: float, *, at_end: bool = False) -> Saving | None:
        """How the training that makes it is saved until it is there; ``cached`` deletes that folder then."""
        # Without locks another process may be in the same folder.
        if self.path is None or not has_locks(self.path.parent):
            return None
        return Saving(_unfinished(self.path), digest(self.key), every_s=every_s, at_end=at_end)


def cached(entry: CacheEntry, make: Callable[[], ArrayTree]) -> ArrayTree:
    """The value of an entry, made by ``make()`` if it is not there: a tree of nested dicts of arrays.

    Raises:
      CheckpointError: if the entry is damaged.
    """
    (value,) = cached_together([entry], lambda missing: [make()])
    return value


def cached_together(
    entries: Sequence[CacheEntry], make: Callable[[Sequence[int]], Sequence[ArrayTree]]
) -> Sequence[ArrayTree]:
    """The values of several entries, those that are not there made at once.

    Args:
      entries: different ones.
      make: called with the indices of those that are missing, if any; returns the value of each.

    Returns:
      The value of each.

    Raises:
      CheckpointError: if an entry is damaged.
    """
    with _made_once([entry.path for entry in entries]):
        missing, start = [i for i, entry in enumerate(entries) if not entry.is_there()], time.perf_counter()
        values = dict(zip(missing, make(missing), strict=True)) if missing else {}
        seconds = (time.perf_counter() - start) / max(1, len(missing))
        for i, entry in enumerate(entries):
            if entry.path is None:
                continue
            if i in values:
                if not entry.is_there():  # without locks another process may have made it meanwhile
                    save_tree(entry.path, values[i], {"seconds": seconds, "key": entry.key})
            else:
                values[i] = load_tree(entry.path)[0]
            if writes_files():
                shutil.rmtree(_unfinished(entry.path), ignore_errors=True)
    return [values[i] for i in range(len(entries))]


@contextlib.contextmanager
def _made_once(paths: Sequence[Path | None]) -> Iterator[None]:
    """Of several processes that want an entry one makes it; the others wait, and then find it."""
    with contextlib.ExitStack() as stack:
        # In one order, so that no two processes wait for each other.
        for path in sorted(path for path in paths if path is not None):
            if writes_files() and not path.exists():
                stack.enter_context(locked(path.with_name(f"{path.name}.{LOCK}")))
        yield


def cached_numbers(entry: CacheEntry, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """``cached`` for a JSON-ready dictionary: one small file, exact to the last digit.

    Raises:
      CheckpointError: if the entry is damaged.
    """
    path = entry.path and entry.path.with_suffix(".json")
    with _made_once([path]):
        if path is not None and agreed(path.exists) and (value := _read_numbers(path, entry.key)) is not None:
            return value
        value = make()
        if path is not None and writes_files():
            write_whole(path, _numbers_text(value, entry.key))
    return value


def _read_numbers(path: Path, key: Any) -> dict[str, Any] | None:
    """Those of an entry; None where it is torn, as a power cut leaves it: the caller makes it anew."""
    try:
        text = path.read_text()
        value = json.loads(text)["value"]
    except ValueError as error:
        logging.getLogger(__name__).warning("%s cannot be read (%s): made anew", path, error)
        return None
    except (OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to make it anew") from error
    if text != _numbers_text(value, key):
        raise CheckpointError(f"{path} is damaged: it does not match its checksum; delete it to make it anew")
    return value


def _numbers_text(value: dict[str, Any], key: Any) -> str:
    return json.dumps({"value": value, "sha256": digest(value), "key": key})


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.under_way")
