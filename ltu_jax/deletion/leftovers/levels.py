"""Reads bytes as numbers of any width, order and scale that images are kept in, and these as levels of 255."""

from collections.abc import Iterator

import numpy as np

_SCALES = ((255.0, 0.0), (1.0, 0.0), (127.5, 127.5))  # factor and offset: images in [0,1], in [0,255], in [-1,1]
_ROUNDING = {"f2": 2.0**-11, "bf": 2.0**-8, "f4": 2.0**-20, "f8": 2.0**-20}  # relative, of the number stored
_SLACK = 2e-3
_SAMPLED = 23  # every 23rd number is looked at
_RUN, _LEVELS, _VARIED = 6, 6, 3  # of so many in a row so many are levels and differ, where there may be an image
_PIECE = 1 << 20  # numbers
_MARGIN = 1 << 12  # numbers around those that are likely


def levels(data: np.ndarray) -> Iterator[np.ndarray]:
    """Sections of bytes, u8[n], that may be images as floats or wider integers, as levels u8."""
    if len(data) < 2 * _RUN * _SAMPLED:
        return
    yield from narrowed(data)
    for kind, rounding in _ROUNDING.items():
        width = 2 if kind == "bf" else int(kind[1])
        for order in "<>":
            for start in range(0, len(data), _PIECE * width):
                piece = data[start : start + (_PIECE + _MARGIN) * width]
                yield from _of_floats(piece, kind, order, width, rounding)


def of_numbers(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers, f64[n], as levels at each scale at which most of them are."""
    for scale in _SCALES:
        level, is_level = _scaled(numbers, scale, _ROUNDING["f4"])
        if is_level.mean() >= 0.75:
            yield level


def narrowed(data: np.ndarray, widths: tuple[int, ...] = (2, 4, 8)) -> Iterator[np.ndarray]:
    """Sections of integers wider than a byte, which are below 256 or a byte twice, as these bytes, u8."""
    for width in widths:
        count = len(data) // width
        for phase in range(width):
            samples = data[phase :: width * _SAMPLED][: -(-count // _SAMPLED)]
            rest = np.zeros_like(samples)
            for other in range(width):
                if other != phase:
                    beside = data[other :: width * _SAMPLED][: len(samples)]
                    rest |= beside if width > 2 else np.where(beside == samples, 0, beside)
            for first, last in _likely(samples, (samples != 0) & (rest == 0)):
                yield np.ascontiguousarray(data[phase::width][first:last])


def _of_floats(piece: np.ndarray, kind: str, order: str, width: int, rounding: float) -> Iterator[np.ndarray]:
    count = (len(piece) - 2 * width + 1) // (width * _SAMPLED) + 1
    samples = _floats(piece, kind, order, (width, count), (1, width * _SAMPLED))  # from each byte on
    for scale in _SCALES:
        for shift, of_shift in enumerate(zip(*_scaled(samples, scale, rounding), strict=True)):
            for first, last in _likely(*of_shift):
                section = piece[shift + first * width : shift + last * width]
                numbers = _floats(section, kind, order, (len(section) // width,), (width,))
                yield _scaled(numbers, scale, rounding)[0]


def _floats(piece: np.ndarray, kind: str, order: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Floats of the bytes, f32."""
    numbers = np.ndarray(shape, np.dtype(order + ("u2" if kind == "bf" else kind)), piece.data, strides=strides)
    if kind == "bf":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        return numbers.astype(np.float32)


def _scaled(numbers: np.ndarray, scale: tuple[float, float], rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """The level of each number, u8, 0 for those that are none; and whether it is one."""
    factor, offset, rounding, slack = map(numbers.dtype.type, (*scale, rounding, _SLACK))
    with np.errstate(all="ignore"):
        scaled = numbers * factor
        slack = np.abs(scaled) * rounding + slack
        scaled += offset
        level = np.rint(scaled)
        is_level = (np.abs(scaled - level) <= slack) & (level >= 0) & (level <= 255)
        if not offset:  # what is all but nothing is no level
            is_level &= (level > 0) | (numbers == 0)
        return np.where(is_level, level, 0).astype(np.uint8), is_level


def _likely(level: np.ndarray, is_level: np.ndarray) -> Iterator[tuple[int, int]]:
    """Sections, in numbers, whose samples are levels and vary: first and last of each, with a margin."""
    if len(level) < _RUN or np.count_nonzero(is_level) < _LEVELS:
        return
    levels, changes = np.cumsum(is_level), np.cumsum(np.r_[False, is_level[1:] & (level[1:] != level[:-1])])
    levels, changes = np.r_[0, levels], np.r_[0, changes]
    is_run = (levels[_RUN:] - levels[:-_RUN] >= _LEVELS) & (changes[_RUN:] - changes[:-_RUN] >= _VARIED)
    here = np.flatnonzero(is_run) * _SAMPLED
    if not len(here):
        return
    cuts = np.flatnonzero(np.diff(here) > 2 * _MARGIN)
    for first, last in zip(here[np.r_[0, cuts + 1]], here[np.r_[cuts, len(here) - 1]], strict=True):
        yield max(0, int(first) - _MARGIN), int(last) + _RUN * _SAMPLED + _MARGIN


def pictures_of(array: np.ndarray) -> np.ndarray | None:
    """An array as images, [N,H,W,3] or [N,H,W], colours last or first, transparency dropped; None if it is none."""
    shape = array.shape[:-1] if array.ndim >= 4 and array.shape[-1] == 1 else array.shape
    if array.dtype.kind not in "uif" or len(shape) < 2 or not array.size:
        return None
    if len(shape) >= 3 and shape[-1] in (3, 4):
        return array.reshape(-1, *shape[-3:])[..., :3] if min(shape[-3:-1]) >= 4 else None
    if min(shape[-2:]) < 4:
        return None
    if len(shape) >= 3 and shape[-3] in (3, 4):
        return np.moveaxis(array.reshape(-1, *shape[-3:])[:, :3], 1, -1)
    return array.reshape(-1, *shape[-2:])


def as_u8(images: np.ndarray) -> np.ndarray | None:
    """Images as levels; None if the values are not those of images."""
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind in "ui" and 0 <= low <= high <= 65535:
        return (images >> 8 if high > 255 else images).astype(np.uint8)
    for bottom, top, (factor, offset) in zip((0, 0, -1), (1, 255, 1), _SCALES, strict=True):
        if images.dtype.kind != "u" and bottom <= low <= high <= top:
            return np.rint(images.astype(np.float32) * factor + offset).astype(np.uint8)
    return None
