"""Recognises images at another size, in colour or grey: all are resized to one small size and compared."""

from collections.abc import Iterable
from typing import Any

import numpy as np

SIDE = 8
"""Height and width of the compared images."""
NEAR = 6.0
"""Root mean square difference, in levels of 255, up to which two images are the same.

For 500 images of cifar10_jpeg, the nearest other image is 9 or more away; other sizes and JPEG down to quality 50 make
a difference of 3 or less.
"""
OTHERS = 10_000
"""Most other images of the data that are compared, to set the limits."""
_AT_ONCE = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def small(images: Iterable[Any]) -> np.ndarray:
    """Resizes images, u8[H,W,3] each or Pillow's, to f32[N,SIDE,SIDE,3] in levels from 0 to 255."""
    from PIL import Image

    size, shrink = (SIDE, SIDE), Image.Resampling.BILINEAR
    pictures = (Image.fromarray(image) if isinstance(image, np.ndarray) else image for image in images)
    resized = [np.asarray(picture.convert("RGB").resize(size, shrink), np.float32) for picture in pictures]
    return np.stack(resized) if resized else np.zeros((0, SIDE, SIDE, 3), np.float32)


class Album:
    """The images to search for."""

    def __init__(self, images: Iterable[np.ndarray], others: Iterable[np.ndarray] = ()) -> None:
        """Sets the limit of the distance for each image.

        Args:
          images: u8[H,W,3] each, to search for.
          others: other images of the same data: a match must be at most half as far away as the nearest of them.
        """
        colour, other = small(images), small(others)
        self._forms = [(_flat(form(colour)), _limits(form(colour), form(other))) for form in (_as_is, _grey)]

    def found_in(self, pictures: np.ndarray) -> set[int]:
        """Which of the images are among ``pictures``, f32[N,SIDE,SIDE,3] from ``small``."""
        found: set[int] = set()
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            is_grey = np.ptp(some, axis=-1).max(axis=(1, 2)) < 3 if len(some) else np.zeros(0, bool)
            for form, (wanted, limits), chosen in zip((_as_is, _grey), self._forms, (~is_grey, is_grey), strict=True):
                distance = _distances(wanted, _flat(form(some[chosen])))
                found.update(np.flatnonzero((distance <= limits[:, None]).any(1)).tolist())
        return found


def _as_is(images: np.ndarray) -> np.ndarray:
    return images


def _grey(images: np.ndarray) -> np.ndarray:
    return images @ _LUMA


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference of all pairs, f32[N,M]."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0) / one.shape[1])


def _limits(wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest distance of a match, f32[N]: smaller for a plain image, which has similar neighbours."""
    wanted, others = _flat(wanted), _flat(others)
    nearest = np.full(len(wanted), np.inf, np.float32)
    for start in range(0, len(others), _AT_ONCE):
        nearest = np.minimum(nearest, _distances(wanted, others[start : start + _AT_ONCE]).min(1, initial=np.inf))
    return np.minimum(NEAR, nearest / 2)
