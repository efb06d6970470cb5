"""Finds pixels of images, in any order of the channels and with any bytes between them.

What is compared is one channel at a time: every byte of the data, every third (RGB, BGR) and every fourth (RGBA). Of
each image the three channels and its grey are searched for, as they are, mirrored, and with rows and columns swapped.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ltu_jax.deletion.leftovers.patterns import ANCHOR, WordIndex, pieces

STRETCH = 48
"""Least length of a stretch that tells an image, in pixels of one channel."""
ROW, ROWS = 24, 4
"""Or so many pixels in so many of its rows, which may lie apart: a crop, or an image beside others in a larger one."""
VARIED = 0.25
"""Least share of the pixels of a stretch that differ from the one before: a plain sky identifies no image."""
_STRIDES = (1, 3, 4)
_OVERLAP = 1 << 16
_REACH = 64  # pixels that are compared before and after a word
_AT_ONCE = 8192
_ALIKE = 16  # most places of the same eight pixels: more would take a time that grows with their number
_LUMA = np.array([19595, 38470, 7471])  # Pillow's, of 65536


class Pixels:
    """The pixels of images, indexed for searching."""

    def __init__(self, images: Mapping[int, np.ndarray]) -> None:
        """Indexes the images, u8[H,W,3], by owner."""
        self._lengths: list[int] = []
        self._owners: list[int] = []
        self._widths: list[int] = []
        texts, places, at = [np.zeros(_REACH, np.uint8)], [np.zeros(0, np.int64)], _REACH
        self.plain: list[int] = []
        for owner, image in images.items():
            is_plain = True
            for plane, in_rows in _planes(image):
                own = _anchors(plane.ravel(), plane.shape[1])
                places.append(own + at)
                texts.append(plane.ravel())
                at += plane.size
                self._lengths.append(plane.size)
                self._owners.append(owner)
                self._widths.append(plane.shape[1])
                is_plain = is_plain and not (in_rows and len(own))  # the columns alone are not how it is mostly kept
            if is_plain:
                self.plain.append(owner)
        self._text = np.concatenate([*texts, np.zeros(_REACH + ANCHOR, np.uint8)])
        self._starts = _REACH + np.cumsum([0, *self._lengths])
        self._changes = np.cumsum(np.r_[False, self._text[1:] != self._text[:-1]], dtype=np.int32)
        self._index = WordIndex(self._text, np.concatenate(places), _ALIKE)

    def found_in(self, data: np.ndarray, known: Collection[int] = ()) -> set[int]:
        """Owners of the images whose pixels are in the data, u8[n]; those that are ``known`` are not looked for."""
        found: set[int] = set()
        if not self._owners:
            return found
        for piece in pieces(data, _OVERLAP):
            for stride in _STRIDES:
                for channel in range(stride):
                    found |= self._in_plane(np.ascontiguousarray(piece[channel::stride]), found.union(known))
        return found

    def _in_plane(self, data: np.ndarray, known: Collection[int]) -> set[int]:
        at, place = self._index.hits(data)
        if not len(at):
            return set()
        plane = np.searchsorted(self._starts, place, "right") - 1
        owner = np.array(self._owners)[plane]
        new = ~np.isin(owner, list(known))
        at, place, plane, owner = at[new], place[new], plane[new], owner[new]
        is_whole, row = np.zeros(len(at), bool), np.full(len(at), -1)
        for start in range(0, len(at), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            is_whole[some], row[some] = self._compared(data, at[some], place[some], plane[some])
        found = set(owner[is_whole].tolist())
        rows = np.unique(np.stack([plane, row])[:, row >= 0], axis=1)[0]  # each row of an image once
        of, count = np.unique(rows, return_counts=True)
        return found | {self._owners[i] for i in of[count >= ROWS]}

    def _compared(
        self, data: np.ndarray, at: np.ndarray, place: np.ndarray, plane: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether each match is a stretch, and else the row of the image that it is most of, or -1."""
        around = np.arange(-_REACH, _REACH + ANCHOR)
        there = at[:, None] + around
        same = data.take(there, mode="clip") == self._text[place[:, None] + around]
        same &= (there >= 0) & (there < len(data))
        first = place - np.logical_and.accumulate(same[:, :_REACH][:, ::-1], axis=1).sum(1)
        last = place + np.logical_and.accumulate(same[:, _REACH:], axis=1).sum(1)
        width, length = np.array(self._widths)[plane], np.array(self._lengths)[plane]
        is_whole = (last - first >= np.minimum(STRETCH, length)) & self._is_varied(first, last)
        row = (place - self._starts[plane]) // width
        left = self._starts[plane] + row * width
        first, last = np.maximum(first, left), np.minimum(last, left + width)
        is_row = (last - first >= ROW) & self._is_varied(first, last)
        return is_whole, np.where(is_row, row, -1)

    def _is_varied(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        changes = self._changes[np.maximum(last - 1, first)] - self._changes[first]
        return changes >= VARIED * (last - first - 1)


def _planes(image: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """The channels and the grey of an image, u8[H,W] and u8[W,H], each once, and whether it goes by rows."""
    grey = ((image @ _LUMA + 0x8000) >> 16).astype(np.uint8)
    channels = [*np.moveaxis(image, -1, 0), grey]
    in_rows = [form for plane in channels for form in (plane, plane[:, ::-1])]
    forms = [*((plane.T, False) for plane in channels), *((form, True) for form in in_rows)]  # of the same, the last
    return list({form.tobytes(): (np.ascontiguousarray(form), by_rows) for form, by_rows in forms}.values())


def _anchors(text: np.ndarray, width: int) -> np.ndarray:
    """Places of the words to index: eight in a row, where most changes, in each half of two rows or of a stretch."""
    if len(text) < ANCHOR:
        return np.zeros(0, np.int64)
    changes = np.r_[0, np.cumsum(np.r_[False, text[1:] != text[:-1]])]
    in_word = changes[ANCHOR:] - changes[:-ANCHOR]
    section = (max(2 * width, STRETCH) - 2 * ANCHOR + 2) // 2
    in_run = np.convolve(in_word, np.ones(ANCHOR, np.int64))[ANCHOR - 1 :]  # from each place on
    padded = np.pad(in_run, (0, -len(in_run) % section), constant_values=-1).reshape(-1, section)
    best = np.arange(len(padded)) * section + padded.argmax(1)
    places = np.unique(best[:, None] + np.arange(ANCHOR))
    places = places[places < len(in_word)]
    return places[in_word[places] >= ANCHOR // 2]
