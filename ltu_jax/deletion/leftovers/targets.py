"""What is searched for: forgotten image files, hashes of images and ids, and ids as they may be written."""

import hashlib
import html
import json
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from ltu_jax.deletion.leftovers.patterns import ANCHOR, Pattern

PIXELS, FILE, PICTURE, HASH, ID = "pixels", "image file", "picture", "hash", "id"
SHORTEST = 3
"""Length of the shortest ids searched for; those under 8 only in quotes or alone on a line, and no numbers."""


class SearchTargets(NamedTuple):
    """What to search for."""

    ids: Sequence[str]
    images: Mapping[str, np.ndarray]  # u8[H,W,3] by id, if still in the data
    files: Mapping[str, bytes]  # encoded images by id, if the data have any
    others: np.ndarray  # u8[N,H,W,3], other images of the same data


def unsearched_ids(ids: Iterable[str]) -> list[str]:
    """Ids that are not searched for in clear, because any file may hold them: short numbers and one or two letters."""
    return [name for name in ids if len(raw_name(name)) < ANCHOR and (name.isdigit() or len(name) < SHORTEST)]


def target_patterns(wanted: SearchTargets, owner_of: Mapping[str, int]) -> Iterator[Pattern]:
    """Byte strings to search for: image files, hashes and ids; ``owner_of`` gives the index of each id."""
    for name, owner in owner_of.items():
        hashed = [raw_name(name)]
        if (image := wanted.images.get(name)) is not None:
            hashed.append(np.ascontiguousarray(image).tobytes())
        if (file := wanted.files.get(name)) is not None and len(file) >= ANCHOR:
            hashed.append(file)
            yield Pattern(file, FILE, owner)
        for text in hashed:
            for algorithm in ("md5", "sha1", "sha256"):
                digest = hashlib.new(algorithm, text, usedforsecurity=False).digest()
                coded = {encode(digest).rstrip(b"=") for encode in (b64encode, urlsafe_b64encode)}
                for form in (digest, digest.hex().encode(), digest.hex().upper().encode(), *coded):
                    yield Pattern(form, HASH, owner)
        for form in _written(name):
            if len(form) >= ANCHOR:
                yield Pattern(form, ID, owner, is_token=True)


def _written(name: str) -> set[bytes]:
    """An id as it may be written."""
    forms = {raw_name(name)}
    for text in {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}:
        for form in (text, text.replace("/", "\\"), json.dumps(text)[1:-1], html.escape(text), quote(text, "")):
            forms |= {form.encode(code, "surrogatepass") for code in ("utf-8", "utf-16-le", "utf-16-be")}
        forms.add(text.encode("cp1252", "ignore"))
    return forms


def raw_name(name: str) -> bytes:
    """A name as bytes, as the file system has it."""
    return name.encode("utf-8", "surrogateescape")
