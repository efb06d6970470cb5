"""``ledger.jsonl``: the requests on one model in order, each line sealed with the hash of the line before.

Ids are stored as HMACs under a salt in a file beside it, and so are hashes of what was made of them: with the same
data whoever guesses the ids makes the same model. With the salt one can check whether an id was forgotten. Without it
the ledger reveals nothing, not even by trying all possible ids. Never hand out ``salt`` with the rest.

A line has one form, that of ``json.dumps``. What a power cut left of a last line is passed over, and is gone with the
next line; ``is_torn`` tells of it.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.files import LOCK, write_whole
from ltu_jax.safe_reading import parse_json, read_bytes, read_text, reason
from ltu_jax.setting import digest, plain

LEDGER, SALT, ORIGINAL = "ledger.jsonl", "salt", "original"
FILES = (LOCK, *(f"{name}{end}" for name in (LEDGER, SALT, ORIGINAL) for end in ("", ".partial")))
"""The files that a folder of requests may hold beside the requests; partial ones are of older versions."""
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
    model_sha256: str  # of the unlearned weights, under the salt; in lines of older versions without it
    previous: str  # seal of the line before

    @property
    def seal(self) -> str:
        """Hash of the line, including the seal of the line before."""
        return digest(list(self))


def salted(salt: bytes, ids: Iterable[str]) -> list[str]:
    """HMAC-SHA256 of each id, hex."""
    return [hmac.new(salt, name.encode(), hashlib.sha256).hexdigest() for name in ids]


def salted_sha256(salt: bytes, sha256: str) -> str:
    """HMAC-SHA256 of ``sha256``, a line break and a hash in hex: of what only who has the salt may compare."""
    return salted(salt, [f"sha256\n{sha256}"])[0]  # no id has a line break


def is_hash_of(recorded: str, sha256: str, salt: bytes) -> bool:
    """Whether a line or receipt tells of this hash, under the salt, or plainly as older versions did."""
    return recorded in (sha256, salted_sha256(salt, sha256))


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
    """All finished requests in order, without a torn last line.

    Lines removed at the end leave an intact chain. Their receipts reveal it.

    Raises:
      LedgerError: if a line was altered, or one before the last is missing.
    """
    path, entries, previous = home / LEDGER, [], START
    for number, line in enumerate(_lines(home)[0], 1):
        try:
            record = parse_json(line.decode())
            fields: dict[str, Any] = {**record["request"], "ids": tuple(record["request"]["ids"])}
            entry = Entry(**fields)
            texts = (entry.time, *entry.ids, entry.receipt_sha256, entry.model_sha256, entry.previous)
            if type(entry.number) is not int or not all(isinstance(text, str) for text in texts):
                raise TypeError("a number and texts")
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError(f"{path}: line {number} cannot be read") from error
        if line != _line(entry) or entry.previous != previous or entry.number != number:
            raise LedgerError(f"{path}: line {number} does not fit its seal or the line before: the ledger was altered")
        entries.append(entry)
        previous = entry.seal
    return entries


def is_torn(home: Path) -> bool:
    """Whether the ledger ends in a part of a line, as after a power cut.

    Raises:
      LedgerError: if the ledger cannot be read.
    """
    return _lines(home)[1]


def append(home: Path, entry: Entry) -> None:
    """Adds a line, atomically and flushed to the disk; a torn last line is dropped, a lost line break put back.

    Raises:
      LedgerError: if the line does not follow the last one.
    """
    entries = read_ledger(home)
    if entry.previous != (entries[-1].seal if entries else START):
        raise LedgerError(f"{home / LEDGER} has got another line meanwhile")
    lines = b"".join(line + b"\n" for line in (*_lines(home)[0], _line(entry)))
    write_whole(home / LEDGER, lines.decode())


def _line(entry: Entry) -> bytes:
    return json.dumps({"request": entry._asdict(), "seal": entry.seal}).encode()


def _lines(home: Path) -> tuple[list[bytes], bool]:
    """The whole lines, and whether a part of one follows; a last line may lack nothing but its line break."""
    try:
        *lines, last = read_bytes(home / LEDGER).split(b"\n")
    except FileNotFoundError:
        return [], False
    except (OSError, ValueError) as error:
        raise LedgerError(f"{home / LEDGER} cannot be read ({reason(error)})") from error
    try:
        parse_json(last.decode())
    except ValueError:
        return lines, bool(last)
    return [*lines, last], False


def forgotten(entries: Iterable[Entry]) -> dict[str, int]:
    """Salted id -> number of the request that forgot it."""
    return {name: entry.number for entry in entries for name in entry.ids}


def ids_sha256(salted_ids: Iterable[str]) -> str:
    """Hash of a request's salted ids in any order, as in its receipt."""
    return digest(sorted(salted_ids))
