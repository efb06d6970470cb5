"""What every reader yields: examples that are still encoded, and the one way they become pixels.

Encoded, because a class that is not kept need never be decoded, and because one decoder (Pillow)
makes the pixels of a data set, and with them its hash, the same on every machine.
"""

import dataclasses
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes | np.ndarray  # an image file, or pixels u8[H,W] or u8[H,W,3]
    label: int
    id: str
    coarse: int | None = None


@dataclasses.dataclass(frozen=True)
class Records:
    """A data set about to be read: the training part first, then the test part."""

    examples: Iterator[Example]
    num_classes: int
    num_train: int
    num_test: int


def decode(image: bytes | np.ndarray, image_size: int | None) -> np.ndarray:
    """Decodes to RGB; grey is repeated three times, transparency dropped.

    Args:
      image: an image file of any kind that Pillow reads, or pixels u8[H,W] or u8[H,W,3].
      image_size: height and width to resize to (Pillow's antialiased bilinear filter, the aspect
        ratio not kept); None keeps the size.

    Returns:
      u8[H,W,3].

    Raises:
      ValueError: if a channel has more than 8 bits, which Pillow would clip; Pillow raises others.
    """
    from PIL import Image

    picture = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else Image.fromarray(image)
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {picture.mode}, not 8 bits a channel")
    picture = picture.convert("RGB")
    if image_size is not None and picture.size != (image_size, image_size):
        picture = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(picture)
