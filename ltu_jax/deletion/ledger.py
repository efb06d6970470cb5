"""``ledger.jsonl``: the requests on one model in order, each line sealed with the hash of the line before.

Ids are stored as HMACs under a salt in a file beside it. With the salt one can check whether an id was forgotten.
Without it the ledger reveals nothing, not even by trying all possible ids. Never hand out ``salt`` with the rest.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.files import LOCK, write_whole
from ltu_jax.safe_reading import parse_json, read_text, reason
from ltu_jax.setting import digest, plain

LEDGER, SALT, ORIGINAL = "ledger.jsonl", "salt", "original"
FILES = (LOCK, LEDGER, SALT, ORIGINAL)
"""The files that a folder of requests may hold beside the requests."""
SALT_BYTES = 32
START = "0" * 64
"""The seal before the first line."""


class LedgerError(RuntimeError):
    """A damaged or altered ledger or salt; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class Entry(NamedTuple):
    """One finished request."""

    number: int  # from 1
    time: str  # when it was finished, ISO 8601
    ids: tuple[str, ...]  # salted, sorted
    receipt_sha256: str
    model_sha256: str  # of the unlearned weights
    previous: str  # seal of the line before

    @property
    def seal(self) -> str:
        """Hash of the line, including the seal of the line before."""
        return digest(list(self))


def salted(salt: bytes, ids: Iterable[str]) -> list[str]:
    """HMAC-SHA256 of each id, hex."""
    return [hmac.new(salt, name.encode(), hashlib.sha256).hexdigest() for name in ids]


def read_salt(home: Path) -> bytes | None:
    """The salt of a folder of requests; None before the first request.

    Raises:
      LedgerError: if it is invalid.
    """
    path = home / SALT
    if not path.exists():
        return None
    try:
        salt = bytes.fromhex(read_text(path).strip())
    except ValueError:  # no hex, or undecodable text
        salt = b""
    if len(salt) != SALT_BYTES:
        raise LedgerError(f"{path} is no salt of {SALT_BYTES} bytes in hex: without it no earlier id is recognised")
    return salt


def make_salt(home: Path) -> bytes:
    """Writes a new salt atomically, readable only by its owner.

    Raises:
      FileExistsError: if there already is one.
    """
    if (home / SALT).exists():
        raise FileExistsError(home / SALT)
    salt = secrets.token_bytes(SALT_BYTES)
    write_whole(home / SALT, salt.hex() + "\n", mode=0o600)
    return salt


def read_ledger(home: Path) -> list[Entry]:
    """All finished requests in order.

    Lines removed at the end leave an intact chain. Their receipts reveal it.

    Raises:
      LedgerError: if a line was altered, or one before the last is missing.
    """
    path, entries, previous = home / LEDGER, [], START
    if not path.exists():
        return []
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read as text ({reason(error)})") from error
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            fields: dict[str, Any] = {**record["request"], "ids": tuple(record["request"]["ids"])}
            entry = Entry(**fields)
            if not all(isinstance(name, str) for name in entry.ids):
                raise TypeError("ids are text")
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError(f"{path}: line {number} cannot be read") from error
        if record.get("seal") != entry.seal or entry.previous != previous or entry.number != number:
            raise LedgerError(f"{path}: line {number} does not fit its seal or the line before: the ledger was altered")
        entries.append(entry)
        previous = entry.seal
    return entries


def append(home: Path, entry: Entry) -> None:
    """Adds a line, atomically and flushed to the disk."""
    path = home / LEDGER
    before = path.read_text() if path.exists() else ""
    write_whole(path, before + json.dumps({"request": entry._asdict(), "seal": entry.seal}) + "\n")


def forgotten(entries: Iterable[Entry]) -> dict[str, int]:
    """Salted id -> number of the request that forgot it."""
    return {name: entry.number for entry in entries for name in entry.ids}


def ids_sha256(salted_ids: Iterable[str]) -> str:
    """Hash of a request's salted ids in any order, as in its receipt."""
    return digest(sorted(salted_ids))
