"""Converts bytes and arrays that may be images, such as floats in [0,1], to levels of 255."""

from collections.abc import Iterator

import numpy as np


def _make_tables() -> list[tuple[int, np.ndarray]]:
    """For each float type its bytes, and a table from ``_words`` to the level of 255, -1 for none.

    The floats are levels divided by 255, or multiplied by its inverse.
    """
    levels, tables = np.arange(256), []
    for width, dtype in ((2, np.float16), (4, np.float32), (8, np.float64)):
        table = np.full(1 << 16, -1, np.int16)
        for values in (levels.astype(np.float32) / 255, levels * np.float32(1 / 255), levels / 255):
            table[_words(np.frombuffer(values.astype(dtype).tobytes(), np.uint8), width)] = levels
        tables.append((width, table))
    return tables


def _words(data: np.ndarray, width: int, step: int = 1) -> np.ndarray:
    """The 16 bits of each float, or of every ``step``-th, that distinguish the levels."""
    count = len(data) // width
    high, low = (data[width - k : count * width : width * step].astype(np.uint16) for k in (1, 2))
    words = high << 8 | low
    return words if width < 8 else words << 4 | data[5 : count * width : width * step] >> 4


_TABLES = _make_tables()


def levels(data: np.ndarray) -> Iterator[np.ndarray]:
    """Sections of bytes that may be float16, float32 or float64 images in [0,1], as levels u8."""
    size, sampled, run = 4 << 20, 16, 8
    for width, table in _TABLES:
        for start in range(0, len(data), size):
            for shift in range(width):
                piece = data[start + shift : start + size + 4096 * width]
                samples = table[_words(piece, width, sampled)] > 0
                if len(samples) and np.convolve(samples, np.ones(run, int)).max() >= run // 2:
                    yield np.maximum(table[_words(piece, width)], 0).astype(np.uint8)


def picture_shape(array: np.ndarray) -> tuple[int, ...] | None:
    """The shape [N,H,W,3] or [N,H,W] of an array that may be images; None if it cannot be."""
    shape = array.shape[:-1] if array.ndim >= 4 and array.shape[-1] == 1 else array.shape
    sides = shape[-3:-1] if len(shape) >= 3 and shape[-1] == 3 else shape[-2:]
    if array.dtype.kind not in "uf" or len(sides) < 2 or not array.size or min(sides) < 4:
        return None
    pixels = (*sides, 3) if len(shape) >= 3 and shape[-1] == 3 else sides
    return (array.size // int(np.prod(pixels)), *pixels)


def as_u8(images: np.ndarray) -> np.ndarray | None:
    """Images as levels; None if the values are not those of images."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not 0 <= images.min() <= images.max() <= 1:
        return None
    return np.rint(images.astype(np.float32) * 255).astype(np.uint8)
