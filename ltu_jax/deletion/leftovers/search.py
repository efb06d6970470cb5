"""Searches a folder for what must not remain after a deletion request: images, hashes of them, and ids.

Every file is searched as bytes. Archives and compressed files are opened, and so are compressed data and encoded images
within other files. Images that are encrypted, cropped and resized, normalised by a mean, or learned by a model are not
found.
"""

import hashlib
import html
import io
import json
import mmap
import re
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ltu_jax.data.records import MAX_PIXELS
from ltu_jax.deletion.leftovers import unpacking
from ltu_jax.deletion.leftovers.levels import as_u8, levels, picture_shape
from ltu_jax.deletion.leftovers.patterns import ANCHOR, Pattern, Patterns
from ltu_jax.deletion.leftovers.pictures import OTHERS, Album, small
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source

PIXELS, FILE, PICTURE, HASH, ID = "pixels", "image file", "picture", "hash", "id"
_WORDS = {
    PIXELS: "pixels of {} images",
    FILE: "files of {} images",
    PICTURE: "pictures of {} images",
    HASH: "hashes of {} images or ids",
    ID: "{} ids in clear",
}
SHORTEST = 3
"""Length of the shortest ids searched for; those under 8 only in quotes or alone on a line, and no numbers."""

_STREAMED = 64 << 20  # bytes of a stream that are searched at a time
_EDGE = 1 << 20  # overlap of these pieces, bytes
_DEEPEST = 5
_SHORT = re.compile(rb"(?:(?<=[\"'\n])|\A)[^\"'\r\n]{3,7}(?=[\"'\r\n]|\Z)")


class SearchTargets(NamedTuple):
    """What to search for."""

    ids: Sequence[str]
    images: Mapping[str, np.ndarray]  # u8[H,W,3] by id, if still in the data
    files: Mapping[str, bytes]  # encoded images by id, if the data have any
    others: np.ndarray  # u8[N,H,W,3], other images of the same data


class Finding(NamedTuple):
    """Ids found in one file."""

    path: str  # relative to the folder; after ! within an archive
    kind: str
    ids: tuple[str, ...]


class SearchResult(NamedTuple):
    """The result of a search."""

    findings: list[Finding]
    unsearched: list[str]  # files or parts of files that could not be searched, and why
    num_files: int
    num_bytes: int  # of the files, as they are
    plain: list[str]  # ids of images too uniform to be found by their pixels
    seconds: float  # of the search, without preparing the patterns


def search_targets(source: Source, ids: Iterable[str], files: Mapping[str, bytes]) -> SearchTargets:
    """Collects what to search for.

    Args:
      source: the data.
      ids: the forgotten ids; of those no longer in the data only ids and their hashes are searched for.
      files: the encoded images by id, from ``data.sources.image_files``.
    """
    ids = list(dict.fromkeys(ids))
    row_of = {str(name): row for row, name in enumerate(source.ids)}
    rows = {name: row_of[name] for name in ids if name in row_of}
    others = np.setdiff1d(np.arange(len(source.ids)), list(rows.values()))
    if len(others) > OTHERS:
        others = np.sort(np.random.default_rng(0).choice(others, OTHERS, replace=False))
    return SearchTargets(ids, {name: source.images[row] for name, row in rows.items()}, files, source.images[others])


def unsearched_ids(ids: Iterable[str]) -> list[str]:
    """Ids that are not searched for in clear, because any file may hold them: short numbers and one or two letters."""
    return [name for name in ids if len(_utf8(name)) < ANCHOR and (name.isdigit() or len(name) < SHORTEST)]


def search_folder(folder: Path, wanted: SearchTargets) -> SearchResult:
    """Searches all files under a folder, in the order of their paths; links are not followed.

    Raises:
      ConfigError: if the folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(f"--leftovers: {str(folder)!r} is no folder; allowed: a folder to be searched")
    run, begun = _Search(wanted), time.perf_counter()
    paths, num_files, num_bytes = sorted(folder.rglob("*")), 0, 0
    for path in paths:
        label = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        run.search_name(label)
        if path.is_file():
            num_files, num_bytes = num_files + 1, num_bytes + run.search_file(path, label)
        elif (path / "_METADATA").is_file():
            run.search_checkpoint(path, label)
    for path in (folder, *paths):
        if path.is_dir() and not path.is_symlink() and not _may_be_listed(path):
            run.unsearched.append(f"{path.relative_to(folder).as_posix()}: it cannot be listed")
    return SearchResult(run.findings(), run.unsearched, num_files, num_bytes, run.plain, time.perf_counter() - begun)


def report_lines(done: SearchResult, wanted: SearchTargets) -> list[str]:
    """The findings, what was not searched, and a summary, one line each."""
    lines = [f"{one.path}: {_WORDS[one.kind].format(len(one.ids))}: {_first_five(one.ids)}" for one in done.findings]
    gone = [name for name in wanted.ids if name not in wanted.images and name not in wanted.files]
    for names, what in (
        (gone, "ids are no longer in the data: only the ids and hashes of them were searched for"),
        (done.plain, "images are too plain to be told by their pixels: those were not searched for"),
        (
            unsearched_ids(wanted.ids),
            "ids are short numbers or letters, which anything holds: not searched for in clear",
        ),
        (done.unsearched, "files or parts of them could not be searched"),
    ):
        if names:
            lines.append(f"note: {len(names)} {what}: {_first_five(names)}")
    found = len({name for one in done.findings for name in one.ids})
    size = f"{done.num_files} files, {done.num_bytes / 1e6:.1f} MB, {done.num_bytes / 1e6 / done.seconds:.0f} MB/s"
    return [*lines, f"{f'FOUND: {found}' if found else 'found: none'} of {len(wanted.ids)} ({size})"]


def _first_five(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class _Search:
    """The state of a search."""

    def __init__(self, wanted: SearchTargets) -> None:
        self._ids = wanted.ids
        owner_of = {name: owner for owner, name in enumerate(wanted.ids)}
        row_bytes = max((image.shape[1] * 3 for image in wanted.images.values()), default=0)
        self._patterns = Patterns(list(_patterns(wanted, owner_of)), row_bytes)
        self._pixels = any(pattern.kind == PIXELS for pattern in self._patterns.patterns)
        self._album = Album(wanted.images.values(), wanted.others) if wanted.images else None
        self._in_album = [owner_of[name] for name in wanted.images]
        skipped = set(unsearched_ids(wanted.ids))
        short = {_utf8(name): owner_of[name] for name in wanted.ids if len(_utf8(name)) < ANCHOR}
        self._short = {text: owner for text, owner in short.items() if self._ids[owner] not in skipped}
        # An image has two patterns: with interleaved channels, and channel by channel.
        blank = [p.owner for p in self._patterns.unsearchable if p.kind == PIXELS and p.stretch == 3]
        self.plain = [self._ids[owner] for owner in blank]
        self._found: dict[str, set[tuple[str, int]]] = {}
        self.unsearched: list[str] = []

    def findings(self) -> list[Finding]:
        """The findings so far."""
        return [
            Finding(label, kind, tuple(self._ids[owner] for of, owner in sorted(found) if of == kind))
            for label, found in sorted(self._found.items())
            for kind in sorted({kind for kind, _ in found})
        ]

    def search_name(self, label: str) -> None:
        """Searches a file name."""
        raw = label.encode("utf-8", "surrogateescape")
        self._add(label, {key for key in self._patterns.found_in(np.frombuffer(raw, np.uint8)) if key[0] in (ID, HASH)})
        self._add(label, {(ID, self._short[part]) for part in raw.split(b"/") if part in self._short})

    def search_file(self, path: Path, label: str) -> int:
        """Searches a file and returns its size."""
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if size:
                    raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed when its last array is freed
                    self._search_bytes(raw, label, 0)
                    self._search_packed(raw, file, label, 0)
                return size
        except Exception as error:  # a file may be anything, and the search must go on
            self._unsearched(label, error)
            return 0

    def search_checkpoint(self, folder: Path, label: str) -> None:
        """Searches the arrays of an Orbax folder; its files are searched as bytes as well."""
        from ltu_jax.interop import orbax_folder

        try:
            arrays = orbax_folder.read_arrays(folder, "--leftovers")
        except ConfigError as error:
            self._unsearched(label, error)
            return
        for name, array in arrays.items():
            self._search_array(array, f"{label}!{name}", 0)

    def _search_bytes(self, raw: Any, label: str, depth: int) -> None:
        """Searches ``bytes`` or a ``mmap``, and data compressed or encoded within them."""
        data, known = np.frombuffer(raw, np.uint8), self._found.get(label, set())
        self._add(label, self._patterns.found_in(data, known))
        for as_levels in levels(data) if self._pixels else ():
            self._add(label, {key for key in self._patterns.found_in(as_levels) if key[0] == PIXELS})
        if self._short:
            tokens = {match[0] for match in _SHORT.finditer(raw)}
            self._add(label, {(ID, self._short[text]) for text in tokens if text in self._short})
        for at in unpacking.places(raw, unpacking.IMAGES) if self._album else ():
            self._search_picture(raw, at, label)
        if self._album and bytes(raw[:2]) in (b"BM", b"II", b"MM"):  # BMP and TIFF
            self._search_picture(raw, 0, label)
        if depth >= _DEEPEST:
            return
        for image in unpacking.base64_images(raw):
            self._search_bytes(image, label, depth + 1)
        for stream in unpacking.zstd_frames(raw):
            self._search_stream(stream, label, depth + 1)

    def _search_picture(self, raw: Any, at: int, label: str) -> None:
        from PIL import Image

        with memoryview(raw) as view, view[at:] as rest:
            try:
                with Image.open(io.BufferedReader(unpacking.BytesFile(rest))) as picture:
                    if picture.size[0] * picture.size[1] > MAX_PIXELS:
                        raise ValueError(f"an image of {picture.size[0]}x{picture.size[1]} pixels")
                    shown = small([picture])
            except ValueError as error:
                self._unsearched(label, error)
                return
            except Exception:  # not an image, or a damaged one
                return
        self._match_pictures(shown, label)

    def _match_pictures(self, pictures: np.ndarray, label: str) -> None:
        if self._album:
            self._add(label, {(PICTURE, self._in_album[i]) for i in self._album.found_in(pictures)})

    def _search_packed(self, raw: Any, file: IO[bytes], label: str, depth: int) -> None:
        """Searches within an archive, a compressed file, or a file of an array."""
        head = bytes(raw[:8])
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    self._search_member(archive, member, f"{label}!{member.filename}", depth)
        elif head.startswith(b"\x93NUMPY"):
            self._search_array(unpacking.npy(raw, file), label, depth)
        elif head[:2] in unpacking.ZLIB:
            self._search_stream(unpacking.Inflated(file), label, depth + 1)
        for magic, opened in unpacking.OPENERS.items():
            if head.startswith(magic):
                self._search_stream(opened(file), label, depth + 1)
        for magic, what in unpacking.CLOSED.items():
            if head.startswith(magic):
                self.unsearched.append(f"{label}: {what}")

    def _search_member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str, depth: int) -> None:
        self.search_name(label)
        try:
            with archive.open(member) as stream:
                self._search_stream(stream, label, depth + 1)
        except Exception as error:  # encrypted, damaged, or an unknown compression
            self._unsearched(label, error)

    def _search_stream(self, stream: Any, label: str, depth: int) -> None:
        if depth > _DEEPEST:
            self.unsearched.append(f"{label}: packed more than {_DEEPEST} times")
            return
        last, is_first = b"", True
        while block := stream.read(_STREAMED):
            piece = last + block
            self._search_bytes(piece, label, depth)
            if is_first and len(block) < _STREAMED:
                self._search_packed(piece, io.BytesIO(piece), label, depth)
            elif is_first and unpacking.is_packed(piece):
                self.unsearched.append(f"{label}: packed twice and larger than {_STREAMED >> 20} MB")
            last, is_first = piece[-_EDGE:], False

    def _search_array(self, array: np.ndarray, label: str, depth: int) -> None:
        """Searches an array as text or as images of any size; its bytes were searched before."""
        if array.dtype.kind == "U":
            self._search_bytes("\n".join(array.ravel().tolist()).encode(), label, depth + 1)
        elif self._album and (shape := picture_shape(array)):
            for start in range(0, shape[0], 256):
                pictures = as_u8(array.reshape(shape)[start : start + 256])
                if pictures is not None:
                    self._match_pictures(small(pictures), label)

    def _add(self, label: str, found: set[tuple[str, int]]) -> None:
        if found:
            self._found.setdefault(label, set()).update(found)

    def _unsearched(self, label: str, error: Exception) -> None:
        why = " ".join(str(error).split())[:160]
        self.unsearched.append(f"{label}: {why or type(error).__name__}")


def _patterns(wanted: SearchTargets, owner_of: Mapping[str, int]) -> Iterator[Pattern]:
    for name, owner in owner_of.items():
        id_text, hashed = _utf8(name), [_utf8(name)]
        if (image := wanted.images.get(name)) is not None:
            pixels = np.ascontiguousarray(image).tobytes()
            hashed.append(pixels)
            yield Pattern(pixels, PIXELS, owner, stretch=3)
            yield Pattern(np.moveaxis(image, -1, 0).tobytes(), PIXELS, owner, stretch=1)
        if (file := wanted.files.get(name)) is not None and len(file) >= ANCHOR:
            hashed.append(file)
            yield Pattern(file, FILE, owner)
        for text in hashed:
            for algorithm in ("md5", "sha1", "sha256"):
                digest = hashlib.new(algorithm, text, usedforsecurity=False).digest()
                for form in (digest, digest.hex().encode(), digest.hex().upper().encode()):
                    yield Pattern(form, HASH, owner)
        for form in {id_text, json.dumps(name)[1:-1].encode(), html.escape(name).encode()}:
            if len(form) >= ANCHOR:
                yield Pattern(form, ID, owner, is_token=True)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _may_be_listed(path: Path) -> bool:
    try:
        return next(path.iterdir(), path) is not None
    except OSError:
        return False
