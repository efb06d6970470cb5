"""Searches bytes for many byte strings at once.

The data are read in words of 8 bytes, not at every byte: of each string as many words are indexed, each a byte further,
as make one of them meet a word that is read, wherever the string lies. Where they meet, the bytes around are compared.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

ANCHOR = 8
LONGEST = 4096
"""Most bytes of a pattern that are compared."""
_PIECE = 1 << 20
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93))


class WordIndex:
    """Words of a text, to be met in data."""

    def __init__(self, text: np.ndarray, places: np.ndarray, most_alike: int | None = None) -> None:
        """Indexes the words of ``text``, u8[n], at ``places``, i64[m].

        Of places of the same word at most ``most_alike`` are kept: each is a hit wherever that word is met.
        """
        words = np.ascontiguousarray(text[places[:, None] + np.arange(ANCHOR)]).view(np.uint64).ravel()
        order = np.argsort(words, kind="stable")
        words, places = words[order], places[order]
        rank = np.arange(len(words)) - np.searchsorted(words, words, "left")
        kept = slice(None) if most_alike is None else rank < most_alike
        self._words, self._places = words[kept], places[kept]
        bits = min(25, max(12, int(len(self._words) * 16).bit_length()))  # larger tables leave the caches
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        for multiplier in _MULTIPLIERS:  # two slots for each word, for nearly all others miss one of them
            self._table[self._slots(self._words, multiplier)] = True

    def hits(self, data: np.ndarray, step: int = ANCHOR) -> tuple[np.ndarray, np.ndarray]:
        """Where words of the data, every ``step`` bytes, are indexed: places in the data and in the text, i64[k]."""
        at, place = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for offset in range(0, min(ANCHOR, len(data) - ANCHOR + 1) if len(self._words) else 0, step):
            count = (len(data) - offset) // ANCHOR
            words = np.frombuffer(data[offset : offset + count * ANCHOR].tobytes(), np.uint64)
            maybe = np.arange(count)
            for multiplier in _MULTIPLIERS:
                maybe = maybe[self._table.take(self._slots(words[maybe], multiplier), mode="clip")]
            first = np.searchsorted(self._words, words[maybe], "left")
            number = np.searchsorted(self._words, words[maybe], "right") - first
            within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
            at.append(np.repeat(offset + maybe * ANCHOR, number))
            place.append(self._places[np.repeat(first, number) + within])
        return np.concatenate(at), np.concatenate(place)

    def _slots(self, words: np.ndarray, multiplier: np.uint64) -> np.ndarray:
        return ((words * multiplier) >> self._shift).view(np.int64)  # NumPy needs signed indices


class Pattern(NamedTuple):
    """A byte string to search for."""

    text: bytes
    kind: str  # of the finding
    owner: int  # index of the id that it belongs to
    is_token: bool = False  # whether no letter, digit, hyphen or underscore may be next to it


class Patterns:
    """Patterns of 8 bytes or more, indexed for searching; of those longer than ``LONGEST`` a part is compared."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Indexes the patterns."""
        for pattern in patterns:
            if len(pattern.text) < ANCHOR:
                raise ValueError(f"{pattern.text!r} is shorter than {ANCHOR} bytes")
        grouped: dict[tuple[bytes, bool], list[tuple[str, int]]] = {}
        for one in patterns:
            grouped.setdefault((_distinctive(one.text), one.is_token), []).append((one.kind, one.owner))
        self._patterns, self._keys = list(grouped), list(grouped.values())
        self._numbers = {pattern: i for i, pattern in enumerate(self._patterns)}
        texts = [text for text, _ in self._patterns]
        self._starts = np.cumsum([0, *map(len, texts)])
        most = max(0, min(map(len, texts), default=0) - ANCHOR)
        self._step = min(ANCHOR, 1 << (most + 1).bit_length() - 1)  # a shortest one allows so many words
        # Thousands of ids may share a word: one place stands for all that have it there and are as long.
        places: dict[tuple[bytes, int, int, bool], int] = {}
        for start, (text, is_token) in zip(self._starts.tolist(), self._patterns, strict=False):
            last = len(text) - ANCHOR  # ids differ at their ends, files in the middle
            last -= 0 if is_token else (last - self._step + 1) // 4
            for at in range(last - self._step + 1, last + 1):
                places.setdefault((text[at : at + ANCHOR], at, len(text), is_token), start + at)
        self._index = WordIndex(np.frombuffer(b"".join(texts), np.uint8), np.array([*places.values()], np.int64))

    def found_in(self, data: np.ndarray, known: Collection[tuple[str, int]] = ()) -> set[tuple[str, int]]:
        """Kind and owner of the patterns in the data, u8[n]; those that are ``known`` need not be found again."""
        found: set[tuple[str, int]] = set()
        done = set(known)
        for start in range(0, len(data), _PIECE):
            at, place = self._index.hits(data[start : start + _PIECE + ANCHOR - 1], self._step)
            which = np.searchsorted(self._starts, place, "right") - 1
            firsts = start + at - (place - self._starts[which])
            for first, alike in zip(firsts.tolist(), which.tolist(), strict=True):
                text, is_token = self._patterns[alike]
                last = first + len(text)
                number = self._numbers.get((data[max(0, first) : last].tobytes(), is_token))
                if number is None or done.issuperset(self._keys[number]) or is_token and _is_part(data, first, last):
                    continue
                found.update(self._keys[number])
                done.update(self._keys[number])
        return found


def pieces(data: np.ndarray, overlap: int) -> Iterator[np.ndarray]:
    """The data in pieces that a core's cache holds, each with some of the next."""
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE + overlap]


def _distinctive(text: bytes) -> bytes:
    """A part near the end of a long file: its head and its last bytes may be the same in other files."""
    return text if len(text) <= LONGEST else text[-LONGEST - 64 : -64]


def _is_part(data: np.ndarray, first: int, last: int) -> bool:
    """Whether the match is only a part of a longer token."""
    beside = [data[i] for i in (first - 1, last) if 0 <= i < len(data)]
    return any(chr(c).isalnum() and c < 128 or chr(c) in "-_" for c in beside)
