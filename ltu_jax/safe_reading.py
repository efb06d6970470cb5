"""Safe reading of untrusted files: regular files of bounded size, JSON of bounded depth, bounded claims."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 1 << 28
"""Most bytes of a list of ids, a ledger, a receipt or a key. A million ids take a tenth of it."""
TIMES = 200
"""How many times larger than its file a table or an archive may be. Images that are compressed are some ten times."""
OBJECT = 64
"""Bytes of a short text or a number in Python, and of its place in a list."""
DEEPEST = 64
"""Most levels of nested lists and dictionaries in JSON; a thousand would exceed Python's recursion limit."""


def read_bytes(path: Path | str) -> bytes:
    """A file's contents.

    Raises:
      OSError: if it cannot be read.
      ValueError: if it is not a regular file, is larger than ``LARGEST``, or has an invalid name.
    """
    with open(path, "rb", opener=_opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    return content


def read_text(path: Path | str) -> str:
    """A file's contents as text; raises as ``read_bytes``, and ValueError if it is not UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def read_json(path: Path | str, parse_constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """The JSON object in a file; raises as ``read_text`` and ``parse_json``."""
    return parse_json(read_text(path), parse_constant)


def parse_json(
    text: str,
    parse_constant: Callable[[str], Any] | None = None,
    parse_int: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """The JSON object in a text.

    Args:
      text: the text.
      parse_constant: replaces NaN and infinity, which JSON does not have; None keeps them.
      parse_int: reads a whole number; None reads any.

    Raises:
      ValueError: if it is no JSON object, has a key twice, is nested deeper than ``DEEPEST``, or holds lone surrogates.
    """
    try:
        value = json.loads(
            text, parse_constant=parse_constant, parse_int=parse_int, object_pairs_hook=_without_repetition
        )
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST}") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if "\\ud" in text.lower():  # a lone surrogate, which cannot be written as UTF-8, raises a ValueError
        json.dumps(value, ensure_ascii=False).encode()
    level = [value]
    for _ in range(DEEPEST):
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST}")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; with a key twice one reader would see the first value and another the last."""
    value: dict[str, Any] = {}
    for name, one in pairs:
        if name in value:
            raise ValueError(f"it has the key {name!r} twice")
        value[name] = one
    return value


def check_claim(claimed: int, path: Path | str) -> None:
    """Refuses a file that would take far more memory than it takes on the disk, before anything is made of it.

    Args:
      claimed: bytes that all its parts together would take.
      path: the file.

    Raises:
      ValueError: if that is more than the memory of this machine, or more than ``LARGEST`` and ``TIMES`` the file.
    """
    most = min(memory(), max(LARGEST, TIMES * os.path.getsize(path)))
    if claimed > most:
        raise ValueError(f"it claims {claimed} bytes, and {most} are the most for a file of {os.path.getsize(path)}")


def memory() -> int:
    """Bytes of physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reason(error: OSError | ValueError) -> str:
    """Why something could not be read, in a few words."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else opening a pipe would wait for a writer
