"""Stores decoded images: in memory, or in a file that later runs memory-map instead of decoding again."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.devices import agreed, writes_files
from ltu_jax.setting import ConfigError, digest


class Pixels:
    """Collects decoded images of one size, in memory."""

    def __init__(self) -> None:
        self._images: list[np.ndarray] = []

    def add(self, image: np.ndarray) -> None:
        """Appends one image, u8[H,W,3]."""
        self._images.append(image)

    def stacked(self) -> np.ndarray:
        """All images, u8[M,H,W,3]."""
        return np.stack(self._images)


class _PixelFile(Pixels):
    """Writes the images to a file, as raw bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
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
"""Labels, ids and other data beside the images, by name; single numbers are arrays without axes."""


def memory_mapped(
    directory: Path, made_of: Any, make: Callable[[Pixels], tuple[np.ndarray, Columns]]
) -> tuple[np.memmap, Columns]:
    """Images memory-mapped from a file in ``directory``, which is written first if no file for ``made_of`` exists.

    Of several processes the first one writes it. Whether the images are still those that were written is for the caller
    to find out, who knows their hash.

    Args:
      directory: a folder that all processes see; created if needed.
      made_of: JSON-ready values that determine the images.
      make: adds the images to ``Pixels`` and returns ``(stacked images, columns)``.

    Returns:
      What ``make`` returned, with the images mapped from the file.

    Raises:
      ConfigError: if the stored files are damaged.
    """
    folder = directory / f"images-{digest(made_of)[:20]}"
    if not agreed(folder.exists):
        if writes_files():
            _write(folder, made_of, make)
        agreed(lambda: True)  # the others wait until it is written
    try:
        with (folder / "columns.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = dict(stored)
        images = np.memmap(folder / "images.u8", np.uint8, "r", shape=tuple(columns.pop("shape")))
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for a file that is damaged
        raise damaged(folder / "images.u8", f"{type(error).__name__}: {error}") from error
    return images, columns


def damaged(images: Path, why: str) -> ConfigError:
    """What is said of mapped images that cannot be used."""
    return ConfigError(
        f"config.data.memory_map: '{images.parent}' is damaged ({why}); allowed: delete it, and it is made anew"
    )


def files_fingerprint(path: Path, without: Path) -> list[Any]:
    """``[name, bytes, mtime in ns]`` of every file under ``path`` but not ``without``, to notice changed contents."""
    left_out = without.resolve()
    files = sorted(p for p in path.rglob("*") if p.is_file() and left_out not in p.resolve().parents)
    stats = [(p, p.stat()) for p in files]
    return [[str(p.relative_to(path)), s.st_size, s.st_mtime_ns] for p, s in stats]


def _write(folder: Path, made_of: Any, make: Callable[[Pixels], tuple[np.ndarray, Columns]]) -> None:
    """Writes under a temporary name and renames, so that the folder is either complete or absent."""
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    pixels = _PixelFile(partial / "images.u8")
    try:
        images, columns = make(pixels)
        every: dict[str, Any] = {"shape": np.array(images.shape), **columns}
        np.savez(partial / "columns.npz", **every)
        (partial / "made_of.json").write_text(json.dumps(made_of))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():  # else another run has written the same folder
                raise
    finally:
        pixels.close()
        shutil.rmtree(partial, ignore_errors=True)
