"""What every reader yields: examples that are still encoded, the one way they become pixels, and what is refused.

Encoded, because a class that is not kept need never be decoded, and because one decoder (Pillow)
makes the pixels of a data set, and with them its hash, the same on every machine.
"""

import dataclasses
import functools
import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.config import LARGEST_SIDE, MOST_CLASSES
from ltu_jax.safe_reading import read_bytes
from ltu_jax.setting import ConfigError

MAX_PIXELS = LARGEST_SIDE**2
"""Of one image: a file of a few kilobytes can claim more than the memory holds."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow is asked to read: for some others it starts programs, Ghostscript for what calls itself PostScript."""


class UnfitImageError(ValueError):
    """An image that is what its file says, but none to train on."""


class Example(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes | Path | np.ndarray  # an image file, where it lies, or pixels u8[H,W] or u8[H,W,3]
    label: int
    id: str
    coarse: int | None = None


@dataclasses.dataclass(frozen=True)
class Records:
    """A data set about to be read: what a reader returns, one of the user's own too (``data.own``)."""

    examples: Iterable[Example]  # the training part first, then the test part
    num_classes: int
    num_train: int
    num_test: int
    class_names: tuple[str, ...] | None = None  # of each label, where the data name them
    files: tuple[Path, ...] | None = None  # whose change makes data.memory_map anew; None: everything in data_dir


def decode(image: bytes | Path | np.ndarray, image_size: int | None, shorter_side: int | None = None) -> np.ndarray:
    """Decodes to RGB; grey is repeated three times, transparency dropped.

    Args:
      image: an image file of ``FORMATS``, the path of one, or pixels u8[H,W] or u8[H,W,3].
      image_size: height and width to resize to (Pillow's antialiased bilinear filter, the aspect
        ratio not kept); None keeps the size.
      shorter_side: resize the shorter side to this, in the same way but keeping the aspect ratio, and cut out the
        middle of ``image_size``, as torchvision's ``Resize`` and ``CenterCrop`` do; None cuts nothing.

    Returns:
      u8[H,W,3].

    Raises:
      UnfitImageError: if a channel has more than 8 bits, which Pillow would clip, or the image, resized to its
        shorter side too, more than ``MAX_PIXELS``; Pillow raises others.
    """
    from PIL import Image

    if isinstance(image, Path):
        image = read_bytes(image)
    with warnings.catch_warnings(action="ignore"):  # what Pillow warns of is refused here, or dropped on purpose
        picture = opened(image) if isinstance(image, bytes) else Image.fromarray(image)
        picture = picture.convert("RGB")
    if shorter_side is not None and image_size is not None:
        sides = [int(shorter_side * side / min(picture.size)) for side in picture.size]
        if math.prod(sides) > MAX_PIXELS:  # of a long strip, whose shorter side is a pixel, it would be a terabyte
            raise UnfitImageError(f"{sides[0]}x{sides[1]} pixels at that shorter side, more than {MAX_PIXELS}")
        left, top = (round((side - image_size) / 2) for side in sides)
        picture = picture.resize(sides, Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + image_size, top + image_size))
    elif image_size is not None and picture.size != (image_size, image_size):
        picture = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def opened(content: bytes) -> Any:
    """An image file as Pillow's image, of which nothing is decoded yet but the header; raises as ``decode``."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:  # Pillow's own limit lies above ours
        raise UnfitImageError(f"more than {MAX_PIXELS} pixels") from None
    if picture.size[0] * picture.size[1] > MAX_PIXELS:
        raise UnfitImageError(f"{picture.size[0]}x{picture.size[1]} pixels, more than {MAX_PIXELS}")
    if picture.mode.startswith(("I", "F")):
        raise UnfitImageError(f"pixels of mode {picture.mode}, not 8 bits a channel")
    return picture


def places(root: Path, paths: Sequence[str]) -> list[str | None]:
    """Where paths relative to a folder lead, links followed; None for one that leaves the folder.

    A link may lead anywhere within ``root``, which may be a link itself. A NUL is in no file's name: "" stands for
    such a path.
    """
    top, real_folder = os.path.realpath(root), functools.cache(os.path.realpath)
    inside = os.path.join(top, "")

    def real(path: str) -> str:
        """``os.path.realpath``, but a folder is walked to once: a million images lie in few."""
        folder, name = os.path.split(path)
        place = os.path.join(real_folder(folder), name)
        return os.path.realpath(place) if name in ("", ".", "..") or os.path.islink(place) else place

    found = ["" if "\0" in path else real(os.path.join(top, path)) for path in paths]
    return [
        None if os.path.isabs(path) or place and not os.path.join(place, "").startswith(inside) else place
        for path, place in zip(paths, found, strict=True)
    ]


def first_five(items: Sequence[str]) -> str:
    """``a, b, c, d, e, ...``: what a message names of many."""
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")


def repeated(ids: Iterable[str]) -> list[str]:
    """Those that occur more than once, each once, in the order of their first."""
    return [i for i, count in Counter(ids).items() if count > 1]


def refuse(where: str, offenders: Sequence[str], total: int, what: str, allowed: str) -> None:
    """Stops where there are offenders.

    Args:
      where: the field and its value.
      offenders: names of what is wrong.
      total: how many there are, right ones too.
      what: a plural, and what is wrong with it.
      allowed: what would be right.

    Raises:
      ConfigError: ``where, 7 of 9 what: a, b, c, d, e, ...; allowed: allowed``.
    """
    if offenders:
        raise ConfigError(f"{where}, {len(offenders)} of {total} {what}: {first_five(offenders)}; allowed: {allowed}")


def check_ids(where: str, ids: Sequence[str], rows: Sequence[str]) -> None:
    """Refuses empty ids and repeated ones before anything is decoded.

    Args:
      where: the field and its value.
      ids: of all rows.
      rows: how a message names each of them.

    Raises:
      ConfigError: how many, and the first five.
    """
    empty = [row for row, name in zip(rows, ids, strict=True) if not name]
    refuse(where, empty, len(ids), "ids are empty", "an id for each image")
    refuse(where, [repr(i) for i in repeated(ids)], len(set(ids)), "ids occur more than once", "unique ids")


def count_classes(where: str, labels: Sequence[int], rows: Sequence[str], num_classes: int | None) -> int:
    """How many classes there are where labels are numbers.

    Args:
      where: the field and its value.
      labels: of all rows, at least one.
      rows: how a message names the label of each.
      num_classes: ``config.data.num_classes``; None takes the largest label and one.

    Returns:
      The number of classes.

    Raises:
      ConfigError: if labels are negative or too large; how many, and the first five.
    """
    limit = MOST_CLASSES if num_classes is None else num_classes
    outside = [row for row, label in zip(rows, labels, strict=True) if not 0 <= label < limit]
    allowed = "whole numbers from 0, and config.data.num_classes above all of them"
    refuse(where, outside, len(labels), f"labels are not in 0..{limit - 1}", allowed)
    return max(labels) + 1 if num_classes is None else num_classes
