"""Decodes pictures within bytes, and recognises images at another size, mirrored, in colour or grey.

To be compared, all are resized to one small size.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, cast

import numpy as np

from ltu_jax.data.records import FORMATS, MAX_PIXELS
from ltu_jax.deletion.leftovers.levels import as_u8
from ltu_jax.deletion.leftovers.unpacking import Budget, BytesFile

SIDE = 8
"""Height and width of the compared images."""
NEAR = 6.0
"""Root mean square difference, in levels of 255, up to which two images are the same.

For 500 images of cifar10_jpeg, the nearest other image is 9 or more away; other sizes and JPEG down to quality 50 make
a difference of 3 or less.
"""
OTHERS = 10_000
"""Most other images of the data that are compared, to set the limits."""
_READ = (*FORMATS, "AVIF", "DDS", "DIB", "ICNS", "ICO", "JPEG2000", "PCX", "PSD", "QOI", "SGI")
"""What Pillow is asked to read; never a format for which it starts a program."""
_LOSSY = ("JPEG", "MPO")
_COST = 1 << 12  # bytes that an attempt counts for
_AT_ONCE = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def small(images: Iterable[Any]) -> np.ndarray:
    """Resizes images, u8[H,W,3] each or Pillow's, to f32[N,SIDE,SIDE,3] in levels from 0 to 255."""
    from PIL import Image

    size, shrink = (SIDE, SIDE), Image.Resampling.BILINEAR
    pictures = (Image.fromarray(image) if isinstance(image, np.ndarray) else image for image in images)
    resized = [np.asarray(picture.convert("RGB").resize(size, shrink), np.float32) for picture in pictures]
    return np.stack(resized) if resized else np.zeros((0, SIDE, SIDE, 3), np.float32)


class Frame(NamedTuple):
    """A decoded picture, or a page of one."""

    small: np.ndarray  # f32[1,SIDE,SIDE,3]
    pixels: np.ndarray | None  # u8[H,W] or u8[H,W,C], where the format keeps them as they were


class Picture:
    """A picture that begins at a place of some bytes."""

    def __init__(self, data: np.ndarray, budget: Budget) -> None:
        """For bytes, u8[n], that begin as a picture does."""
        self._file, self._budget = BytesFile(data, budget), budget
        self.is_one, self.is_jpeg, self.problem = False, False, ""

    def frames(self) -> Iterator[Frame]:
        """Decodes its frames or pages, as far as it can be read.

        Raises:
          TooMuchError: if the budget ends.
        """
        from PIL import Image, ImageSequence

        self._budget.spend(_COST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large and of damaged pictures
            try:
                Image.init()
                with Image.open(
                    cast(IO[bytes], self._file), formats=[name for name in _READ if name in Image.OPEN]
                ) as picture:
                    self.is_one, self.is_jpeg = True, picture.format in _LOSSY
                    for frame in ImageSequence.Iterator(picture):
                        yield self._frame(frame)
            except (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
                self.problem = f"a picture that cannot be decoded ({' '.join(str(error).split())[:80]})"
            except Image.DecompressionBombError:
                self.is_one, self.problem = True, f"a picture of more than {MAX_PIXELS} pixels"

    @property
    def end(self) -> int:
        """How far it was read."""
        return self._file.furthest

    def _frame(self, picture: Any) -> Frame:
        if picture.size[0] * picture.size[1] > MAX_PIXELS:
            raise ValueError(f"{picture.size[0]}x{picture.size[1]} pixels")
        if self.is_jpeg:
            picture.draft("RGB", (16 * SIDE, 16 * SIDE))
        self._budget.spend(_COST + 4 * picture.size[0] * picture.size[1])
        if picture.mode[0] in "IF" and (levels := as_u8(np.asarray(picture))) is not None:
            return Frame(small([levels]), levels)
        shown = picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB")
        return Frame(small([shown]), None if self.is_jpeg else np.asarray(shown))


def jpeg_extent(data: np.ndarray, at: int, ends: np.ndarray) -> tuple[int, int] | None:
    """Where the compressed part of a JPEG begins and the file ends; None if none begins at ``at``.

    Args:
      data: u8[n].
      at: where its first marker is.
      ends: places of all end markers in the data, in order.
    """
    place = at + 2
    for _ in range(256):
        if place + 4 > len(data) or data[place] != 0xFF:
            return None
        marker = int(data[place + 1])
        if marker == 0xDA:
            after = int(np.searchsorted(ends, place))
            return place, int(ends[after]) + 2 if after < len(ends) else len(data)
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or marker == 0xFF:
            return None
        place += 2 + (int(data[place + 2]) << 8 | int(data[place + 3]))
    return None


class Album:
    """The images to search for."""

    def __init__(self, images: Iterable[np.ndarray], others: Iterable[np.ndarray] = ()) -> None:
        """Sets the limit of the distance for each image.

        Args:
          images: u8[H,W,3] each, to search for.
          others: other images of the same data: a match must be at most half as far away as the nearest of them.
        """
        colour, other = small(images), small(others)
        self._count = len(colour)
        colour = np.concatenate([colour, colour[:, :, ::-1]])  # and mirrored
        self._forms = [(_flat(form(colour)), _limits(form(colour), form(other))) for form in (_as_is, _grey)]

    def found_in(self, pictures: np.ndarray) -> set[int]:
        """Which of the images are among ``pictures``, f32[N,SIDE,SIDE,3] from ``small``."""
        found: set[int] = set()
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            is_grey = np.ptp(some, axis=-1).max(axis=(1, 2)) < 3 if len(some) else np.zeros(0, bool)
            for form, (wanted, limits), chosen in zip((_as_is, _grey), self._forms, (~is_grey, is_grey), strict=True):
                distance = distances(wanted, _flat(form(some[chosen])))
                found.update((np.flatnonzero((distance <= limits[:, None]).any(1)) % self._count).tolist())
        return found


def _as_is(images: np.ndarray) -> np.ndarray:
    return images


def _grey(images: np.ndarray) -> np.ndarray:
    return images @ _LUMA


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference of all pairs, f32[N,M]."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0) / one.shape[1])


def _limits(wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest distance of a match, f32[N]: smaller for a plain image, which has similar neighbours."""
    wanted, others = _flat(wanted), _flat(others)
    nearest = np.full(len(wanted), np.inf, np.float32)
    for start in range(0, len(others), _AT_ONCE):
        nearest = np.minimum(nearest, distances(wanted, others[start : start + _AT_ONCE]).min(1, initial=np.inf))
    return np.minimum(NEAR, nearest / 2)
