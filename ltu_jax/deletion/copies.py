"""Finds copies of images: of forgotten ones among those that stay, of training images among held-out ones.

A copy is the same to the byte, or the same photograph at another quality or size, a little brighter or darker, or
mirrored. Two images are that if they are near at 8x8 pixels and their pixels, at full size, rise and fall together.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.deletion.leftovers.pictures import SIDE, distances, small
from ltu_jax.types import Source, Splits

NEAR = 10.0
"""Root mean square difference at 8x8, in levels of 255, up to which two images are looked at."""
ALIKE = 0.93
"""Least correlation of their pixels.

Of the 1.8 billion pairs among the 60,000 images of cifar10_jpeg 168 are copies by both limits; all were looked at, and
all are. Of copies at JPEG quality 30 and more, and at three quarters of the size and back, 95 of 100 are found.
"""
ALIKE_MIRRORED = 0.95
"""The same of a mirrored one. Of the 500 million pairs of a training and a test image of cifar10_jpeg 15 are that; at
0.93 one more, two different aeroplanes in the sky."""
MOST_COMPARED = 100_000
"""Most rows of either side that are compared at 8x8; all are compared to the byte."""
NAMED = 5
"""So many copies are named."""
_AT_ONCE = 1000


class Copies(NamedTuple):
    """The rows of one set that are copies of rows of another, indices into the source."""

    rows: np.ndarray  # i64[k], sorted
    of: np.ndarray  # i64[k]: what each is a copy of, one of several
    is_same: np.ndarray  # bool[k]: to the byte

    def share_of(self, num_rows: int) -> float:
        """The share of ``num_rows`` rows that have a copy here."""
        return len(np.unique(self.of)) / num_rows

    def counts(self) -> dict[str, int]:
        """How many are ``identical``, and how many are merely ``near``."""
        return {"identical": int(self.is_same.sum()), "near": int((~self.is_same).sum())}

    def named(self, ids: np.ndarray) -> list[list[str]]:
        """The ids of the first ``NAMED``, and of what each is a copy of."""
        return [[str(ids[row]), str(ids[of])] for row, of in zip(self.rows[:NAMED], self.of[:NAMED], strict=True)]

    def as_json(self, ids: np.ndarray) -> dict[str, Any]:
        """``counts`` and ``named``; for the operator alone, since it names forgotten rows."""
        return {**self.counts(), "first": self.named(ids)}


def copies_in(source: Source, splits: Splits) -> dict[str, Copies]:
    """Copies in the rows of a request.

    Args:
      source: the data.
      splits: the splits of the request.

    Returns:
      ``remain``: rows that stay and are copies of rows to forget. ``held_out``: held-out rows that are copies of
      training rows.
    """
    held_out = np.concatenate([splits.validation, splits.test, splits.reserve])
    return {
        "remain": find_copies(source.images, splits.forget, splits.remain),
        "held_out": find_copies(source.images, splits.train, held_out),
    }


def find_copies(images: np.ndarray, wanted: np.ndarray, among: np.ndarray) -> Copies:
    """Finds rows that are copies of other rows.

    Data that are no images, that is smaller than 8x8 or not u8[M,H,W,3], are compared to the byte alone.

    Args:
      images: u8[M,H,W,3]; only some rows at a time are in memory.
      wanted: indices of the rows whose copies are looked for, i64[.].
      among: indices of the rows that may be copies, i64[.].

    Returns:
      The copies among ``among``, each once.
    """
    first = {name: row for row, name in zip(wanted[::-1].tolist(), _hashes(images, wanted[::-1]), strict=True)}
    same = {row: first[name] for row, name in zip(among.tolist(), _hashes(images, among), strict=True) if name in first}
    found = dict(same)
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and min(images.shape[1:3]) >= SIDE:
        rest = among[~np.isin(among, list(same))]
        found |= dict(_near(images, _some(wanted), _some(rest)))
    rows = np.array(sorted(found), np.int64)
    of = np.array([found[row] for row in rows.tolist()], np.int64)
    return Copies(rows, of, np.isin(rows, list(same)))


def _hashes(images: np.ndarray, rows: np.ndarray) -> Iterator[bytes]:
    return (hashlib.sha256(np.ascontiguousarray(images[row]).data).digest() for row in rows.tolist())


def _some(rows: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rows if len(rows) <= MOST_COMPARED else np.sort(rng.choice(rows, MOST_COMPARED, replace=False))


def _near(images: np.ndarray, wanted: np.ndarray, among: np.ndarray) -> Iterator[tuple[int, int]]:
    """A row that is near and what it is near to, for each pair."""
    if not len(wanted) or not len(among):
        return
    (wanted, ours), (among, theirs) = (_by_brightness(images, rows) for rows in (wanted, among))
    brightness = theirs.mean(1)
    mirrored = ours.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(ours.shape)
    ways = (mirrored, -1, ALIKE_MIRRORED), (ours, 1, ALIKE)
    for (those, step, alike), start in itertools.product(ways, range(0, len(wanted), _AT_ONCE)):
        some = those[start : start + _AT_ONCE]
        # Means differ by no more than images do: what is brighter or darker by more than that is not compared.
        low, high = some[0].mean() - NEAR, some[-1].mean() + NEAR
        first, last = np.searchsorted(brightness, [low - 0.01, high + 0.01])
        one, other = np.nonzero(distances(some, theirs[first:last]) <= NEAR)
        for row, copy in zip(wanted[start + one].tolist(), among[first + other].tolist(), strict=True):
            if _correlation(images[row][:, ::step], images[copy]) >= alike:
                yield copy, row  # of two that it is a copy of, mirrored or not, the last counts


def _by_brightness(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows from dark to bright, and their images at 8x8, f32[M,192]."""
    shrunk = small(images[row] for row in rows.tolist()).reshape(len(rows), -1)
    order = np.argsort(shrunk.mean(1), kind="stable")
    return rows[order], shrunk[order]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's of the pixels; 0 where one of them is plain, which is alike to too many."""
    a, b = (image.astype(np.float64).ravel() for image in (one, other))
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 0.0
