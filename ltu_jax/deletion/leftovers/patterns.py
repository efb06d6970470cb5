"""Searches bytes for many byte strings at once.

Every 8 bytes of the data are looked up in a table of anchors: 8 bytes of each string, several of a long one. Where an
anchor matches, the bytes around it are compared.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

ANCHOR = 8
STRETCH = 96
"""Least length of a match of a part of a pattern, bytes: 32 pixels."""
VARIED = 0.25
"""Least share of the bytes of a stretch that differ from the pixel before: a plain sky identifies no image."""
LONGEST = 4096
"""Most bytes of a whole pattern that are compared."""
OVERLAP = 2 * LONGEST
"""Overlap of the pieces of a file, bytes, so that no match is cut in two."""
_PIECE = 1 << 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Pattern(NamedTuple):
    """A byte string to search for, as a whole or any stretch of it."""

    text: bytes
    kind: str  # of the finding
    owner: int  # index of the id that it belongs to
    stretch: int = 0  # 0: only as a whole; else the bytes from one pixel to the next of the same channel
    is_token: bool = False  # whether no letter, digit, hyphen or underscore may be next to it


class Patterns:
    """Patterns, indexed for searching."""

    def __init__(self, patterns: Sequence[Pattern], row_bytes: int = 0) -> None:
        """Indexes the patterns.

        Args:
          patterns: whole ones need 8 bytes or more; of those longer than ``LONGEST`` only a part is searched.
          row_bytes: bytes of a row of an image: any two successive rows of a stretch are found.
        """
        self.patterns = [p if p.stretch else p._replace(text=_distinctive(p.text)) for p in patterns]
        self._arrays = [np.frombuffer(p.text, np.uint8) for p in self.patterns]
        places = [_anchors(p, max(row_bytes - ANCHOR, STRETCH // 2 - ANCHOR)) for p in self.patterns]
        self._owner = np.repeat(np.arange(len(places)), [len(of) for of in places])
        self._place = np.array([place for of in places for place in of], np.int64)
        words = [self.patterns[i].text[at : at + ANCHOR] for i, at in zip(self._owner, self._place, strict=True)]
        values = np.frombuffer(b"".join(words), np.uint64)
        order = np.argsort(values, kind="stable")
        self._owner, self._place, self._values = self._owner[order], self._place[order], values[order]
        bits = min(
            21, max(12, int(len(values) * 64).bit_length())
        )  # a larger table would not fit in the cache of a core
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[self._slots(self._values)] = True

    @property
    def unsearchable(self) -> list[Pattern]:
        """Patterns that cannot be found: stretches of uniform images."""
        return [self.patterns[i] for i in np.setdiff1d(np.arange(len(self.patterns)), self._owner)]

    def found_in(self, data: np.ndarray, known: Collection[tuple[str, int]] = ()) -> set[tuple[str, int]]:
        """Kind and owner of the patterns in the data.

        Args:
          data: u8[n].
          known: kinds and owners that need not be found again.
        """
        found: set[tuple[str, int]] = set()
        for start in range(0, len(data), _PIECE):
            for at, value in self._anchor_matches(data[start : start + _PIECE + ANCHOR - 1]):
                first = int(np.searchsorted(self._values, value, "left"))
                last = int(np.searchsorted(self._values, value, "right"))
                for i in range(first, last):
                    pattern = self.patterns[self._owner[i]]
                    key = (pattern.kind, pattern.owner)
                    if key not in found and key not in known and self._is_there(data, start + at, i):
                        found.add(key)
        return found

    def _slots(self, words: np.ndarray) -> np.ndarray:
        return ((words * _MULTIPLIER) >> self._shift).view(np.int64)  # NumPy needs signed indices

    def _anchor_matches(self, piece: np.ndarray) -> Iterator[tuple[int, Any]]:
        """Position and value of each match of an anchor."""
        if not len(self._values):
            return
        for offset in range(min(ANCHOR, len(piece) - ANCHOR + 1)):
            count = (len(piece) - offset) // ANCHOR
            words = np.frombuffer(piece[offset : offset + count * ANCHOR].tobytes(), np.uint64)
            maybe = np.flatnonzero(self._table.take(self._slots(words), mode="clip"))
            nearest = np.minimum(np.searchsorted(self._values, words[maybe]), len(self._values) - 1)
            for i in maybe[self._values[nearest] == words[maybe]]:
                yield offset + int(i) * ANCHOR, words[i]

    def _is_there(self, data: np.ndarray, at: int, i: int) -> bool:
        pattern, text, place = self.patterns[self._owner[i]], self._arrays[self._owner[i]], int(self._place[i])
        if not pattern.stretch:
            first, last = at - place, at - place + len(text)
            return (
                first >= 0
                and np.array_equal(data[first:last], text)
                and not (pattern.is_token and _is_part(data, first, last))
            )
        back, ahead = min(at, place, 4 * STRETCH), min(len(data) - at, len(text) - place, 4 * STRETCH)
        same = data[at - back : at + ahead] == text[place - back : place + ahead]
        differ = np.flatnonzero(~same)
        first = int(differ[differ < back].max(initial=-1)) + 1
        last = int(differ[differ >= back].min(initial=len(same)))
        if last - first < min(STRETCH, len(text)):
            return False
        match = text[place - back + first : place - back + last]
        return bool((match[pattern.stretch :] != match[: -pattern.stretch]).mean() >= VARIED)


def _distinctive(text: bytes) -> bytes:
    """A part near the end of a long file: its head and its last bytes may be the same in other files."""
    return text if len(text) <= LONGEST else text[-LONGEST - 64 : -64]


def _anchors(pattern: Pattern, distance: int) -> list[int]:
    """Positions of the anchors of a pattern."""
    text = pattern.text
    if not pattern.stretch:
        if len(text) < ANCHOR:
            raise ValueError(f"{text!r} is shorter than {ANCHOR} bytes")
        last = len(text) - ANCHOR
        return [last if pattern.is_token else 3 * last // 4]  # ids differ at their ends, files in the middle
    raw = np.frombuffer(text, np.uint8)
    if len(raw) < ANCHOR + pattern.stretch:
        return []
    changes = np.r_[np.zeros(pattern.stretch, bool), raw[pattern.stretch :] != raw[: -pattern.stretch]]
    num_changes = np.convolve(changes, np.ones(ANCHOR, int), "valid")  # within the 8 bytes from each position
    starts = range(0, len(num_changes), distance) if len(num_changes) > distance else (0,)
    best = [start + int(num_changes[start : start + distance].argmax()) for start in starts]
    return [at for at in best if num_changes[at] >= ANCHOR // 2]


def _is_part(data: np.ndarray, first: int, last: int) -> bool:
    """Whether the match is only a part of a longer token."""
    beside = [data[i] for i in (first - 1, last) if 0 <= i < len(data)]
    return any(chr(c).isalnum() and c < 128 or chr(c) in "-_" for c in beside)
