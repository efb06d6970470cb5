"""Where decoded images go: into memory, or into one file that later runs map into memory without decoding again."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ltu_jax.devices import agreed, writes_files
from ltu_jax.setting import ConfigError, digest


class Pixels(Protocol):
    """Takes decoded images of one size, one after another."""

    def add(self, image: np.ndarray) -> None:
        """Takes one image, u8[H,W,3]."""
        ...

    def stacked(self) -> np.ndarray:
        """All of them, u8[M,H,W,3]."""
        ...


class InMemory:
    """Images as one array."""

    def __init__(self) -> None:
        self._images: list[np.ndarray] = []

    def add(self, image: np.ndarray) -> None:
        """See ``Pixels``."""
        self._images.append(image)

    def stacked(self) -> np.ndarray:
        """See ``Pixels``."""
        return np.stack(self._images)


class _InFile:
    """Images as the bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("wb")
        self._count, self._shape = 0, (0, 0, 0)

    def add(self, image: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(image).tobytes())
        self._count, self._shape = self._count + 1, image.shape

    def stacked(self) -> np.ndarray:
        self._file.flush()
        os.fsync(self._file.fileno())
        return np.memmap(self._path, np.uint8, "r", shape=(self._count, *self._shape))

    def close(self) -> None:
        self._file.close()


Columns = dict[str, np.ndarray]
"""What there is beside the images, by name; numbers have no axis."""


def memory_mapped(
    directory: Path, made_of: Any, make: Callable[[Pixels], tuple[np.ndarray, Columns]]
) -> tuple[np.ndarray, Columns]:
    """Images mapped from a file in ``directory``, which is made the first time and whenever what it is made of changes.

    Of several processes the first one makes it.

    Args:
      directory: made if needed; all processes see it.
      made_of: JSON-ready values: all that the images are a function of.
      make: adds the images to ``Pixels`` and returns ``(stacked images, columns)``.

    Returns:
      The same, the images read from the file when they are asked for.

    Raises:
      ConfigError: if what was made is damaged.
    """
    folder = directory / f"images-{digest(made_of)[:20]}"
    if not agreed(folder.exists):
        if writes_files():
            _write(folder, made_of, make)
        agreed(lambda: True)  # the others wait until it is there
    try:
        with (folder / "columns.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = dict(stored)
        images = np.memmap(folder / "images.u8", np.uint8, "r", shape=tuple(columns.pop("shape")))
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for a file that is damaged
        raise ConfigError(
            f"config.data.memory_map: '{folder}' is damaged ({type(error).__name__}: {error});"
            " allowed: delete it, and it is made anew"
        ) from error
    return images, columns


def files_fingerprint(path: Path, without: Path) -> list[Any]:
    """Name, size and time of change of every file under ``path``: other contents give another one.

    Args:
      path: a folder.
      without: a folder that may lie in it and is left out.

    Returns:
      JSON-ready.
    """
    left_out = without.resolve()
    files = sorted(p for p in path.rglob("*") if p.is_file() and left_out not in p.resolve().parents)
    stats = [(p, p.stat()) for p in files]
    return [[str(p.relative_to(path)), s.st_size, s.st_mtime_ns] for p, s in stats]


def _write(folder: Path, made_of: Any, make: Callable[[Pixels], tuple[np.ndarray, Columns]]) -> None:
    """Whole or not at all: under another name until it is done."""
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    pixels = _InFile(partial / "images.u8")
    try:
        images, columns = make(pixels)
        every: dict[str, Any] = {"shape": np.array(images.shape), **columns}
        np.savez(partial / "columns.npz", **every)
        (partial / "made_of.json").write_text(json.dumps(made_of))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():  # else another run was faster
                raise
    finally:
        pixels.close()
        shutil.rmtree(partial, ignore_errors=True)
