"""``ledger.jsonl``: the requests on one model in their order, each line sealed by the hash of the one before it.

Ids stand in it as HMACs under a salt that lies beside it: whoever has the salt and an id can tell whether it was
forgotten, and whoever has not can tell nothing, not even by trying all ids there are. Keep ``salt`` apart from what you
hand out.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.files import LOCK, write_whole
from ltu_jax.safe_reading import parse_json, read_text, reason
from ltu_jax.setting import digest, plain

LEDGER, SALT, ORIGINAL = "ledger.jsonl", "salt", "original"
FILES = (LOCK, *(f"{name}{end}" for name in (LEDGER, SALT, ORIGINAL) for end in ("", ".partial")))
"""What a folder of requests may hold beside them."""
SALT_BYTES = 32
START = "0" * 64
"""What stands for the line before the first."""


class LedgerError(RuntimeError):
    """A ledger or salt that is damaged or was altered, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class Entry(NamedTuple):
    """One request that was carried out."""

    number: int  # from 1
    time: str  # when it was done, ISO 8601
    ids: tuple[str, ...]  # salted, sorted
    receipt_sha256: str
    model_sha256: str  # of the unlearned weights
    previous: str  # seal of the line before

    @property
    def seal(self) -> str:
        """Hash of the line, that of the one before it included."""
        return digest(list(self))


def salted(salt: bytes, ids: Iterable[str]) -> list[str]:
    """HMAC-SHA256 of each id, hex."""
    return [hmac.new(salt, name.encode(), hashlib.sha256).hexdigest() for name in ids]


def read_salt(home: Path) -> bytes | None:
    """The salt of a folder of requests; None where there is none yet.

    Raises:
      LedgerError: if it is no salt.
    """
    path = home / SALT
    if not path.exists():
        return None
    try:
        salt = bytes.fromhex(read_text(path).strip())
    except ValueError:  # undecodable text among it
        salt = b""
    if len(salt) != SALT_BYTES:
        raise LedgerError(f"{path} is no salt of {SALT_BYTES} bytes in hex: without it no earlier id is recognised")
    return salt


def make_salt(home: Path) -> bytes:
    """A new salt, readable by its owner alone; it is there whole or not at all.

    Raises:
      FileExistsError: if there is one.
    """
    if (home / SALT).exists():
        raise FileExistsError(home / SALT)
    salt, partial = secrets.token_bytes(SALT_BYTES), home / f"{SALT}.partial"
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex() + "\n")
    os.replace(partial, home / SALT)
    return salt


def read_ledger(home: Path) -> list[Entry]:
    """All requests that were carried out, in their order.

    Lines cut off at the end leave an intact chain: that is seen by the receipts, which are not in it then.

    Raises:
      LedgerError: if a line was altered, or one is missing before the last.
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
            told = parse_json(line)
            fields: dict[str, Any] = {**told["request"], "ids": tuple(told["request"]["ids"])}
            entry = Entry(**fields)
            if not all(isinstance(name, str) for name in entry.ids):
                raise TypeError("ids are text")
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError(f"{path}: line {number} cannot be read") from error
        if told.get("seal") != entry.seal or entry.previous != previous or entry.number != number:
            raise LedgerError(f"{path}: line {number} does not fit its seal or the line before: the ledger was altered")
        entries.append(entry)
        previous = entry.seal
    return entries


def append(home: Path, entry: Entry) -> None:
    """Adds a line; the file is whole before and after, on the disk too."""
    path = home / LEDGER
    before = path.read_text() if path.exists() else ""
    write_whole(path, before + json.dumps({"request": entry._asdict(), "seal": entry.seal}) + "\n", durable=True)


def forgotten(entries: Iterable[Entry]) -> dict[str, int]:
    """Salted id -> number of the request that forgot it."""
    return {name: entry.number for entry in entries for name in entry.ids}


def ids_sha256(salted_ids: Iterable[str]) -> str:
    """One hash for a request's salted ids, whatever their order: what a receipt names them by."""
    return digest(sorted(salted_ids))
