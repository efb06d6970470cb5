"""What comes from outside, read so that it can do no harm: regular files of bounded size, JSON of bounded depth."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 1 << 28
"""Bytes of a text that is read whole: a list of ids, a ledger, a receipt, a key. A million ids are a tenth of it."""
DEEPEST = 64
"""Levels of lists and dictionaries in JSON; Python cannot walk a thousand."""


def read_bytes(path: Path | str) -> bytes:
    """A file's contents.

    Raises:
      OSError: if it cannot be read.
      ValueError: if it is a pipe, a device or another file without an end, larger than ``LARGEST``, or has a name that
        no file has.
    """
    with open(path, "rb", opener=_opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    return content


def read_text(path: Path | str) -> str:
    """A file's contents as UTF-8; raises as ``read_bytes``, and ValueError where it is none."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def read_json(path: Path | str, parse_constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """A dictionary that a file holds as JSON; raises as ``read_bytes``, and ValueError where there is none."""
    return parse_json(read_text(path), parse_constant)


def parse_json(text: str, parse_constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """A dictionary that a text holds as JSON.

    Args:
      text: the text.
      parse_constant: what becomes of NaN and infinity, which JSON does not know; None keeps them.

    Returns:
      The dictionary.

    Raises:
      ValueError: if there is none, it is nested deeper than ``DEEPEST``, or its text is no Unicode.
    """
    try:
        told = json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST}") from None
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    if "\\ud" in text.lower():  # half a character, which no page and no file can hold, is a ValueError of its own
        json.dumps(told, ensure_ascii=False).encode()
    level = [told]
    for _ in range(DEEPEST):
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return told
    raise ValueError(f"it is nested deeper than {DEEPEST}")


def memory() -> int:
    """Bytes of memory that this machine has: what claims more is not made."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reason(error: OSError | ValueError) -> str:
    """Why something could not be read, in a few words."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to would be waited for
