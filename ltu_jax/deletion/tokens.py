"""The operator's side of tokens (``recipient``): commitments for a receipt, and tokens to hand to owners of images.

Tokens lie in no folder of requests: they name ids in clear. They are made again of the salt whenever they are needed.
"""

import hashlib
import json
import urllib.parse
from collections.abc import Collection, Mapping
from pathlib import Path

from ltu_jax.config import Data
from ltu_jax.data.sources import each_image_file
from ltu_jax.deletion import ledger
from ltu_jax.deletion.recipient import TOKEN, commitment, file_hash, pixels_hash
from ltu_jax.files import write_whole
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source

OF_FILES = ("folder", "table")
"""The data sets whose images are files that their owners may have too."""
LONGEST = 150
"""Characters of an id in the name of its token's file; a part of its hash follows: two may begin alike."""


def nonce_of(salt: bytes, name: str) -> str:
    """The secret part of the token of an id; it tells nothing of the salt or of other ids."""
    return ledger.salted(salt, [f"token\n{name}"])[0]  # no id has a line break


def hashed_images(ids: Collection[str], source: Source, data: Data | None) -> dict[str, str]:
    """What commitments tell of images, by id: of the file where the data are files, else of the pixels.

    Args:
      ids: of rows; those that are not there are left out.
      source: the data.
      data: what it was read from; None where a caller passed it.
    """
    if data is not None and data.name in OF_FILES:
        return {name: file_hash(content) for name, content in each_image_file(data, ids, fetch=False)}
    row_of = {name: row for row, name in enumerate(source.ids.tolist())}
    return {name: pixels_hash(source.images[row_of[name]]) for name in ids if name in row_of}


def commitments(salt: bytes, images: Mapping[str, str]) -> list[str]:
    """The commitments of a receipt, sorted: their order tells nothing.

    Args:
      salt: of the folder of requests.
      images: by id, from ``hashed_images``.
    """
    return sorted(commitment(name, image, nonce_of(salt, name)) for name, image in images.items())


def token_problems(
    told: list[str] | None, forgotten: Collection[str], salt: bytes, source: Source, data: Data | None
) -> list[str]:
    """Compares the commitments of a receipt with the images in the data.

    Args:
      told: those of the receipt; None of a version that had none.
      forgotten: salted ids, from the ledger.
      salt: of the folder of requests.
      source: the data.
      data: as for ``hashed_images``.
    """
    if told is None:
        return []
    every, wanted = source.ids.tolist(), frozenset(forgotten)
    ids = [name for name, salted in zip(every, ledger.salted(salt, every), strict=True) if salted in wanted]
    is_same = told == commitments(salt, hashed_images(ids, source, data))
    return [] if is_same else ["tokens: they are not those of the images forgotten, or these are others now"]


def write_tokens(folder: Path, number: int, told: list[str], salt: bytes, images: Mapping[str, str | None]) -> int:
    """Writes a token for each id, readable by its owner only.

    Args:
      folder: made if it is not there.
      number: of the request.
      told: the commitments of its receipt.
      salt: of the folder of requests.
      images: by id, from ``hashed_images``; None where the image is no longer there.

    Returns:
      How many have no hash of the image, because it is gone or is another than the one forgotten: their owners need a
      copy of it.

    Raises:
      ConfigError: if the folder cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--tokens: {str(folder)!r} cannot be made ({error.strerror}); allowed: a folder") from error
    num_without = 0
    for name, image in images.items():
        nonce = nonce_of(salt, name)
        if image is not None and commitment(name, image, nonce) not in told:
            image = None
        num_without += image is None
        token = {"token": TOKEN, "request": number, "id": name, "image": image, "nonce": nonce}
        file = f"{urllib.parse.quote(name, safe='')[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
        write_whole(folder / file, json.dumps(token, indent=2) + "\n", mode=0o600)
    return num_without
