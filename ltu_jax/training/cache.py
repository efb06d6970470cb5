"""Originals, Retrain models and attacker banks kept between runs, by the hash of everything that made them.

Two models are the same if all of this is: the data and the rows; model, recipe and seeds; the code of a model of the
user's own; how many were trained in one program, and the place among them (``jobs``); what computed them (versions,
device, cores, flags: ``devices.environment``); and ``RECIPE_VERSION``, for the code of this package. Each changes bits.
An entry holds all of it, its name is the hash of it, and it is compared when the entry is read.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.devices import agreed, environment, writes_files
from ltu_jax.files import LOCK, InUseError, has_locks, is_partial, locked, make_folder, write_whole
from ltu_jax.interop import orbax_folder
from ltu_jax.interop.sealing import find_damage
from ltu_jax.safe_reading import read_json
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.checkpoint import CheckpointError, load_tree, save_tree
from ltu_jax.training.saving import Saving
from ltu_jax.types import ArrayTree

RECIPE_VERSION = 2
"""Raise it when the code makes something else of the same settings: old entries are then not found."""
MADE_FOR = "made_for"
"""Where the metadata of an entry say for whom it was made."""
UNFINISHED_METADATA = "metadata.json"
"""The metadata of an entry whose training is saved while it is under way."""


class CacheEntry(NamedTuple):
    """An entry of a cache."""

    directory: Path | None  # the cache; None keeps nothing
    kind: str  # the first word of its folder's name, e.g. "original"
    key: Any  # JSON-ready values: everything that its value is a function of, but for what ``identity`` adds

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that its value is a function of, as it lies in its metadata."""
        identity = {"version": RECIPE_VERSION, "kind": self.kind, "of": self.key, "environment": environment()}
        return json.loads(json.dumps(identity))

    @property
    def path(self) -> Path | None:
        """Its folder, whether it is there or not."""
        return None if self.directory is None else self.directory / entry_name(self.identity)

    def is_there(self) -> bool:
        """Whether it has been made."""
        return self.path is not None and bool(agreed(self.path.exists))

    def saving(self, every_s: float, *, at_end: bool = False) -> Saving | None:
        """How the training that makes it is saved until it is there; ``cached`` deletes that folder then."""
        # Without locks another process may be in the same folder.
        if self.path is None or not agreed(functools.partial(has_locks, self.path.parent)):
            return None
        return Saving(_unfinished(self.path), digest(self.identity), every_s=every_s, at_end=at_end)


def entry_name(identity: dict[str, Any]) -> str:
    """The name of an entry's folder: its kind and a hash of its identity."""
    return f"{identity['kind']}-{digest(identity)[:20]}"


def cached(entry: CacheEntry, make: Callable[[], ArrayTree], made_for: str | None = None) -> ArrayTree:
    """The value of an entry, made by ``make()`` if it is not there: a tree of nested dicts of arrays.

    Args:
      entry: the entry.
      make: returns its value.
      made_for: kept beside a value that is made now, for whoever wants to know later that it is theirs.

    Returns:
      The value.

    Raises:
      CheckpointError: if the entry is damaged, is or holds a link, or is another than its name says.
    """
    (value,) = cached_together([entry], lambda: [make()], made_for)
    return value


def cached_together(
    entries: Sequence[CacheEntry], make: Callable[[], Sequence[ArrayTree]], made_for: str | None = None
) -> Sequence[ArrayTree]:
    """The values of several entries that are made at once, if one of them is not there: those that are stay.

    Args:
      entries: different ones.
      make: returns the value of each.
      made_for: as for ``cached``.

    Returns:
      The value of each.

    Raises:
      CheckpointError: as ``cached``.
    """
    paths, values = [path for entry in entries if (path := entry.path) is not None], {}
    with _made_once(paths):
        missing, start = [i for i, entry in enumerate(entries) if not entry.is_there()], time.perf_counter()
        if missing:
            for i in missing:
                _note_begun(entries[i], made_for)
            made = make()
            values = {i: made[i] for i in missing}
        seconds = (time.perf_counter() - start) / len(entries)
        for i, entry in enumerate(entries):
            if entry.path is None:
                continue
            if i in values:
                if not entry.is_there():  # without locks another process may have made it meanwhile
                    save_tree(entry.path, values[i], {"seconds": seconds, "key": entry.identity, MADE_FOR: made_for})
            else:
                values[i] = _load(entry.path, entry.identity)
        # After all are saved: what was saved of each brings the whole program back if a kill comes between two.
        for path in paths if writes_files() else ():
            shutil.rmtree(_unfinished(path), ignore_errors=True)
    return [values[i] for i in range(len(entries))]


def _note_begun(entry: CacheEntry, made_for: str | None) -> None:
    """Writes beside what is saved of a training under way what it is, and for whom."""
    if entry.path is not None and writes_files() and has_locks(entry.path.parent):
        folder = _unfinished(entry.path)
        make_folder(folder)
        write_whole(folder / UNFINISHED_METADATA, json.dumps({"key": entry.identity, MADE_FOR: made_for}))


def _load(path: Path, identity: dict[str, Any]) -> ArrayTree:
    tree, metadata = load_tree(_without_links(path))
    _check_identity(path, metadata.get("key"), identity)
    _mark_used(path)
    return tree


def _check_identity(path: Path, key: Any, identity: Any) -> None:
    if key != identity:
        raise CheckpointError(f"{path} holds another value than its name says; delete it to make it anew")


def _without_links(path: Path) -> Path:
    """The path; what a link leads to can be exchanged without a trace here."""
    inside = (Path(folder) / name for folder, *names in os.walk(path) for name in (*names[0], *names[1]))
    for one in (path, *inside):
        if one.is_symlink():
            raise CheckpointError(f"{one} is a link, and a cache holds none; delete it to make it anew")
    return path


def _mark_used(path: Path) -> None:
    with contextlib.suppress(OSError):  # a cache that can only be read
        os.utime(path)


@contextlib.contextmanager
def _made_once(paths: Sequence[Path]) -> Iterator[None]:
    """Of several processes that want entries one makes them; the others wait, and then find them."""
    with contextlib.ExitStack() as stack:
        if writes_files() and not all(path.exists() for path in paths):
            for path in sorted(paths):  # in one order, so that no two processes wait for each other
                stack.enter_context(locked(_lock(path)))
        yield


def cached_numbers(entry: CacheEntry, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """``cached`` for a JSON-ready dictionary: one small file, exact to the last digit.

    Raises:
      CheckpointError: as ``cached``.
    """
    path = entry.path and entry.path.with_suffix(".json")
    with _made_once([path] if path else []):
        if path is not None and agreed(path.exists) and (value := _read_numbers(path, entry.identity)) is not None:
            return value
        value = make()
        if path is not None and writes_files():
            write_whole(path, _numbers_text(value, entry.identity))
    return value


def _read_numbers(path: Path, identity: Any, *, marks: bool = True) -> dict[str, Any] | None:
    """Those of an entry; None where it is torn, as a power cut leaves it: the caller makes it anew."""
    try:
        text = _without_links(path).read_text()
        found = json.loads(text)
        value, key = found["value"], found["key"]
    except ValueError as error:
        logging.getLogger(__name__).warning("%s cannot be read (%s): made anew", path, error)
        return None
    except (OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to make it anew") from error
    if text != _numbers_text(value, key):
        raise CheckpointError(f"{path} is damaged: it does not match its checksum; delete it to make it anew")
    _check_identity(path, key, identity)
    if marks:
        _mark_used(path)
    return value


def _numbers_text(value: dict[str, Any], key: Any) -> str:
    return json.dumps({"value": value, "sha256": digest(value), "key": key})


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.under_way")


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.{LOCK}")


def metadata_of(path: Path) -> dict[str, Any]:
    """What lies beside the value of an entry: ``key`` (its ``CacheEntry.identity``), ``seconds``, ``made_for``.

    Raises:
      CheckpointError: if it cannot be read, is or holds a link, or is another than its name says.
    """
    try:
        if (unfinished := _without_links(path) / UNFINISHED_METADATA).exists():
            metadata = read_json(unfinished)
        elif path.is_dir():
            metadata = orbax_folder.folder_metadata(path)["custom_metadata"]
        else:
            metadata = read_json(path)
        key = metadata["key"]
        name = entry_name(key) if isinstance(key, dict) and "version" in key else path.stem  # else of an older version
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}); delete it to make it anew") from error
    if name != path.stem:
        raise CheckpointError(f"{path} holds another value than its name says; delete it to make it anew")
    return metadata


def remove(path: Path) -> None:
    """Removes an entry and what was left of making it, by their exact names.

    The caller sees to it that the path is that of an entry.

    Raises:
      InUseError: if another process makes it.
      ConfigError: if that cannot be known.
    """
    with locked(_lock(path), "cache"):
        parts = leftovers(path)
        if not has_locks(path.parent) and any(map(is_partial, parts)):
            raise ConfigError(
                f"cache: {str(path)!r} is half written, maybe by a process that runs now, for nothing can be locked on"
                " its disk; allowed: to delete it by hand"
            )
        for part in parts:
            if part != _leaving(path):
                _remove(part)
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
        elif not _leaving(path).exists():  # half an entry would look damaged
            path.rename(_leaving(path))
        else:
            _remove(path)
        # Its metadata go last: after a kill they tell whose it was.
        for part in _leaving(path).iterdir() if _leaving(path).is_dir() else ():
            if part.name != orbax_folder.FOLDER_METADATA:
                _remove(part)
        _remove(_leaving(path))


def find_fault(path: Path, metadata: dict[str, Any]) -> str | None:
    """What is wrong with an entry whose metadata could be read, in a few words; None if nothing is."""
    if path.is_dir():
        return find_damage(path)
    try:
        _read_numbers(path, metadata["key"], marks=False)
    except CheckpointError as error:
        return str(error).removeprefix(f"{path} ")
    return None


def is_in_use(path: Path) -> bool:
    """Whether a process makes an entry now."""
    try:
        if _lock(path).exists():
            with locked(_lock(path), "cache"):
                pass
    except ConfigError as error:  # of a lock that cannot be opened nobody knows; ``remove`` says so
        return isinstance(error, InUseError)
    return False


def leftovers(path: Path) -> list[Path]:
    """What killed processes left beside an entry: of its training, of saving it, of its removal."""
    rest = re.compile(re.escape(path.name) + r"\.(under_way|old|([0-9a-f]{8}\.)?partial(\..*)?)")
    return sorted(one for one in path.parent.iterdir() if rest.fullmatch(one.name))


def part_left(path: Path) -> Path | None:
    """Of an entry what its metadata can be read from: itself, or what a kill left of its removal or its training."""
    return next((one for one in (path, _leaving(path), _unfinished(path)) if os.path.lexists(one)), None)


def _leaving(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
