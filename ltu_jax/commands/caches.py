"""What ``python -m ltu_jax.cache`` does: lists the entries of a cache, and removes some."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.setting import ConfigError, allowed_names, plain
from ltu_jax.training import cache
from ltu_jax.training.checkpoint import CheckpointError

COMPILED = "compiled"
"""The folder of compiled programs; JAX names the files in it."""
OF_JAX = ("-cache", "-atime")
NAME = re.compile(r"([a-z]+-[0-9a-f]{20}(\.json)?)(\.(under_way|old|lock|([0-9a-f]{8}\.)?partial(\..*)?))?")
STATES = ("old", "damaged", "unfinished")
"""States that may be purged."""


class Entry(NamedTuple):
    """An entry of a cache, or all compiled programs."""

    path: Path
    size: int  # bytes, with what was left of making it
    used: float  # when it was made or read last, seconds since 1970
    seconds: float | None  # that making it took
    state: str  # whole, in use, or one of STATES and why
    where: str  # what computed it

    @property
    def words(self) -> set[str]:
        """What it can be called by."""
        return {self.path.name, self.path.name.partition("-")[0], self.state.partition(":")[0]}


def list_cache(directory: Path) -> int:
    """Prints a line for each entry; returns 0."""
    entries = read_cache(directory)
    for one in entries:
        took = "" if one.seconds is None else f"{one.seconds:.0f} s"
        days = (time.time() - one.used) / 86400
        line = f"{one.path.name:36} {_size(one.size):>9}  used {days:.1f} days ago  {took:>7}  {one.where}  {one.state}"
        print(plain(line.rstrip()))
    print(plain(f"{len(entries)} entries, {_size(sum(one.size for one in entries))}"))
    return 0


def purge(directory: Path, words: Sequence[str], limit: float | None) -> int:
    """Removes the entries that are called by one of the words, then the least recently used until ``limit`` bytes.

    Returns:
      1 if one of them stays, as what a process makes does, else 0.

    Raises:
      ConfigError: if a word is none of this cache's.
    """
    entries = read_cache(directory)
    known = {*STATES, *(word for one in entries for word in one.words)} - {"whole", "in use"}
    for word in words:
        if word not in known:
            raise ConfigError(f"--purge: {word!r} is nothing of this cache; {allowed_names(word, known)}")
    chosen = [one for one in entries if one.words.intersection(words)]
    kept = sorted((one for one in entries if one not in chosen), key=lambda one: one.used)
    while limit is not None and kept and sum(one.size for one in kept) > limit:
        chosen.append(kept.pop(0))
    removed = []
    for one in chosen:
        try:
            _remove(one.path)
            removed.append(one)
            print(plain(f"removed {one.path.name}, {_size(one.size)}"))
        except ConfigError as error:
            print(plain(f"left: {one.path.name}, {_size(one.size)}: {error}"))
    print(plain(f"{len(removed)} of {len(entries)} entries removed, {_size(sum(one.size for one in removed))}"))
    return 0 if len(removed) == len(chosen) else 1


def read_cache(directory: Path) -> list[Entry]:
    """The entries of a cache, by name; whatever else lies in its folder is not of it."""
    parts: dict[str, list[Path]] = {}  # of each entry, what was left of making it among them
    for path in directory.iterdir():
        if found := NAME.fullmatch(path.name):
            parts.setdefault(found[1], []).append(path)
    entries = [_entry(directory / name, parts[name]) for name in sorted(parts)]
    if (programs := directory / COMPILED).is_dir() and not programs.is_symlink():
        files = [path.stat() for path in _of_jax(programs)]
        size, used = sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0)
        entries.append(Entry(programs, size, used, None, "whole", f"{len(files)} programs"))
    return entries


def _entry(path: Path, parts: Sequence[Path]) -> Entry:
    files = [file for part in parts for file in (part, *part.rglob("*")) if file.is_symlink() or file.is_file()]
    size, used = sum(file.lstat().st_size for file in files), max(part.lstat().st_mtime for part in parts)
    metadata, state = _read(path)
    state = "in use" if cache.is_in_use(path) else state  # a lock that is nobody's is gone then
    return Entry(path, size, used, metadata.get("seconds"), state, _where(metadata))


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Metadata and state of an entry."""
    if not path.exists() and not path.is_symlink():
        return {}, "unfinished"
    try:
        metadata = cache.metadata_of(path)
    except CheckpointError as error:
        return {}, f"damaged: {str(error).removeprefix(f'{path} ')}"
    key = metadata["key"]
    if not isinstance(key, dict) or key.get("version") != cache.RECIPE_VERSION:
        return metadata, "old"
    why = cache.find_fault(path, metadata)
    return metadata, f"damaged: {why}" if why else "whole"


def _where(metadata: dict[str, Any]) -> str:
    try:
        here = metadata["key"]["environment"]
        many = f"{here['cores']} cores" if "cores" in here else f"{here['devices'][0]} devices"
        return f"jax {here['versions']['jax']}, {here['device']}, {many}"
    except (KeyError, TypeError, IndexError):
        return "-"


def _remove(path: Path) -> None:
    if path.name != COMPILED:
        cache.remove(path)
        return
    for program in _of_jax(path):
        program.unlink(missing_ok=True)
    if not any(path.iterdir()):
        shutil.rmtree(path)


def _of_jax(folder: Path) -> list[Path]:
    return [
        path for path in folder.iterdir() if path.name.endswith(OF_JAX) and path.is_file() and not path.is_symlink()
    ]


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"
