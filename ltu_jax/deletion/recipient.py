"""What a recipient checks with ``receipt.json``, ``report.html`` and a public key alone, and a person with a token.

A token shows one person that one image is among those that a receipt tells of. For each forgotten id the receipt has a
commitment, SHA-256 of ``json.dumps([TOKEN, id, image, nonce])``: the image as a hash, and the nonce an HMAC of the id
under the salt (``tokens.nonce_of``), without which nobody who guesses an id can confirm it.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.data.records import decode
from ltu_jax.deletion.notice import drawn_with, render_notice
from ltu_jax.deletion.receipt import REPORT, code_sha256
from ltu_jax.safe_reading import parse_json, read_bytes, read_text, reason
from ltu_jax.setting import ConfigError

TOKEN = "ltu_jax token 1"


def check_report(receipt: Mapping[str, Any], path: Path) -> tuple[list[str], str | None]:
    """Compares a report with the receipt: its hash, and all that it shows with what the receipt gives.

    Args:
      receipt: from ``read_receipt``; it may be anybody's.
      path: ``report.html``.

    Returns:
      The problems found, one line each; and, where there is none, why the figures could not be compared: the page that
      this version makes of the receipt is another, and it was made by another version. None if they were.

    Raises:
      ConfigError: if the report cannot be read, or the receipt is of a version that told nothing of it.
    """
    told, code = receipt.get("report"), receipt["code"]
    if not isinstance(told, dict) or not isinstance(told.get("sha256"), str):
        raise ConfigError("--report: the receipt is of a version that noted nothing of its report; allowed: unset")
    content = _read("--report", path)
    found = []
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        found.append(f"{REPORT}: it is not the report of this receipt, which tells of another SHA-256")
    try:
        drawn = render_notice(receipt).encode()
        wrong = None if drawn == content else f"it is not what the receipt gives: {_first_difference(content, drawn)}"
    except Exception as error:  # a receipt may be anybody's, and hold anything
        wrong = f"no report can be made of this receipt ({type(error).__name__})"
    if wrong is None:
        return found, None
    if (code["sha256"], told.get("drawn_with")) == (code_sha256(), drawn_with()):
        return [*found, f"{REPORT}: {wrong}"], None
    versions: dict[str, Any] = {}
    for one in (code.get("versions"), told.get("drawn_with")):
        versions |= one if isinstance(one, dict) else {}
    names = [f"{name} {versions[name]}" for name in ("ltu-jax", *drawn_with()) if name in versions]
    return found, f"it was made by another version, which can: {', '.join(names)}, commit {code.get('commit')}"


def check_token(receipt: Mapping[str, Any], path: Path, image: Path | None) -> tuple[list[str], str]:
    """Looks for the image of a token among those that a receipt tells of.

    Args:
      receipt: from ``read_receipt``.
      path: the token, as its owner got it.
      image: the owner's own copy; None takes the hash in the token.

    Returns:
      The problem found, if any, and the id that the token is for.

    Raises:
      ConfigError: if token or image cannot be read, or the receipt is of a version that had no tokens.
    """
    told = receipt.get("tokens")
    if not isinstance(told, list):
        raise ConfigError("--token: the receipt is of a version that had no tokens; allowed: unset")
    try:
        token = parse_json(read_text(path))
        kind, name, nonce, meant = (token[key] for key in ("token", "id", "nonce", "image"))
        if kind != TOKEN or not all(isinstance(one, str) for one in (name, nonce, "" if meant is None else meant)):
            raise ValueError("it is no token")
    except (OSError, ValueError, KeyError) as error:
        why = "a key is missing" if isinstance(error, KeyError) else reason(error)
        raise ConfigError(
            f"--token: {str(path)!r} cannot be read ({why}); allowed: a token as it was handed out"
        ) from error
    if image is None and meant is None:
        raise ConfigError("--image: None, and the token has no hash of the image; allowed: your own copy of it")
    known = meant is not None and commitment(name, meant, nonce) in told
    if image is None:
        return [] if known else [NOT_TOLD], name
    if any(commitment(name, one, nonce) in told for one in _hashes_of(_read("--image", image))):
        return [], name
    return [OTHER_IMAGE if known or meant is None else NOT_TOLD], name


NOT_TOLD = "token: it is of no image that this receipt tells of"
OTHER_IMAGE = "image: it is not the one of the token, which is for the same file byte for byte, or the same pixels"


def commitment(name: str, image: str, nonce: str) -> str:
    """What a receipt tells of a forgotten id; only who has the nonce can make it."""
    return hashlib.sha256(json.dumps([TOKEN, name, image, nonce]).encode()).hexdigest()


def file_hash(content: bytes) -> str:
    """An image in a commitment, where the data are files."""
    return f"file {hashlib.sha256(content).hexdigest()}"


def pixels_hash(pixels: np.ndarray) -> str:
    """An image u8[H,W,3] in a commitment, where the data are pixels."""
    height, width = pixels.shape[:2]
    return f"pixels {height}x{width} {hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()}"


def _hashes_of(content: bytes) -> list[str]:
    try:
        return [file_hash(content), pixels_hash(decode(content, None))]
    except Exception:  # Pillow raises anything; a file that is no image may still be the file
        return [file_hash(content)]


def _read(flag: str, path: Path) -> bytes:
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{flag}: {str(path)!r} cannot be read ({reason(error)}); allowed: a file") from error


def _first_difference(content: bytes, drawn: bytes) -> str:
    lines = (page.decode(errors="replace").splitlines() for page in (content, drawn))
    for number, (shown, wanted) in enumerate(itertools.zip_longest(*lines, fillvalue=""), 1):
        if shown != wanted:
            place = next((i for i, pair in enumerate(zip(shown, wanted, strict=False)) if len({*pair}) > 1), 0)
            shown, wanted = (line[max(0, place - 20) : place + 40] for line in (shown, wanted))
            return f"line {number} has {shown!r}, and the receipt gives {wanted!r}"
    return "line ends differ"
