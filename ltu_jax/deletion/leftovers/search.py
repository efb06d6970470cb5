"""Searches a folder for what a deletion request must not leave: forgotten images, hashes of them, and their ids.

Every file is read as bytes, whatever it is; archives and compressed files are opened, and so is what is compressed or
encoded as an image within another file. What is encrypted, cropped and resized, normalised by a mean, or learned by a
model is not found.
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
"""Characters of the shortest id that is looked for; those under 8 in quotes or alone on a line, and no numbers."""

_STREAMED = 64 << 20  # bytes of a member of an archive that are held at once
_EDGE = 1 << 20  # and that the next ones repeat
_DEEPEST = 5
_SHORT = re.compile(rb"(?:(?<=[\"'\n])|\A)[^\"'\r\n]{3,7}(?=[\"'\r\n]|\Z)")


class Sought(NamedTuple):
    """What is looked for."""

    ids: Sequence[str]
    images: Mapping[str, np.ndarray]  # u8[H,W,3] by id, of those that are still in the data
    files: Mapping[str, bytes]  # as they are encoded, where they are
    others: np.ndarray  # u8[N,H,W,3], images of the same data that are not looked for


class Finding(NamedTuple):
    """What one file holds."""

    path: str  # within the folder; behind ! what is in an archive
    kind: str
    ids: tuple[str, ...]


class Searched(NamedTuple):
    """What a search found."""

    findings: list[Finding]
    unsearched: list[str]  # files, or parts of them, and why
    num_files: int
    num_bytes: int  # of the files; what is in archives comes on top
    plain: list[str]  # ids of images that cannot be told by their pixels
    seconds: float  # of the search, without making ready what is looked for


def sought(source: Source, ids: Iterable[str], files: Mapping[str, bytes]) -> Sought:
    """What to look for.

    Args:
      source: the data.
      ids: of what was forgotten; those that are no longer in the data are looked for as ids alone.
      files: by id, the encoded images: ``data.sources.image_files``.
    """
    ids = list(dict.fromkeys(ids))
    row_of = {str(name): row for row, name in enumerate(source.ids)}
    rows = {name: row_of[name] for name in ids if name in row_of}
    others = np.setdiff1d(np.arange(len(source.ids)), list(rows.values()))
    if len(others) > OTHERS:
        others = np.sort(np.random.default_rng(0).choice(others, OTHERS, replace=False))
    return Sought(ids, {name: source.images[row] for name, row in rows.items()}, files, source.images[others])


def unsought_ids(ids: Iterable[str]) -> list[str]:
    """Ids that are not looked for in clear, for anything would hold them: short numbers, and one or two letters."""
    return [name for name in ids if len(_utf8(name)) < ANCHOR and (name.isdigit() or len(name) < SHORTEST)]


def search(folder: Path, wanted: Sought) -> Searched:
    """Looks into every file under a folder; links are not followed.

    Args:
      folder: of files of any kind.
      wanted: see ``sought``.

    Returns:
      ``Searched``, findings in the order of the paths.

    Raises:
      ConfigError: if there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--leftovers: {str(folder)!r} is no folder; allowed: a folder to be searched")
    one, begun = _Search(wanted), time.perf_counter()
    paths, num_files, num_bytes = sorted(folder.rglob("*")), 0, 0
    for path in paths:
        label = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        one.name(label)
        if path.is_file():
            num_files, num_bytes = num_files + 1, num_bytes + one.file(path, label)
        elif (path / "_METADATA").is_file():
            one.checkpoint(path, label)
    for path in (folder, *paths):
        if path.is_dir() and not path.is_symlink() and not _may_be_listed(path):
            one.unsearched.append(f"{path.relative_to(folder).as_posix()}: it cannot be listed")
    return Searched(one.findings(), one.unsearched, num_files, num_bytes, one.plain, time.perf_counter() - begun)


def report(done: Searched, wanted: Sought) -> list[str]:
    """What a search found and what it could not look for, a line each."""
    lines = [f"{one.path}: {_WORDS[one.kind].format(len(one.ids))}: {_first_five(one.ids)}" for one in done.findings]
    gone = [name for name in wanted.ids if name not in wanted.images and name not in wanted.files]
    for names, what in (
        (gone, "ids are no longer in the data: only the ids and hashes of them were searched for"),
        (done.plain, "images are too plain to be told by their pixels: those were not searched for"),
        (unsought_ids(wanted.ids), "ids are short numbers or letters, which anything holds: not searched for in clear"),
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
    """A search under way."""

    def __init__(self, wanted: Sought) -> None:
        self._ids = wanted.ids
        owner_of = {name: owner for owner, name in enumerate(wanted.ids)}
        row_bytes = max((image.shape[1] * 3 for image in wanted.images.values()), default=0)
        self._patterns = Patterns(list(_patterns(wanted, owner_of)), row_bytes)
        self._pixels = any(pattern.kind == PIXELS for pattern in self._patterns.patterns)
        self._album = Album(wanted.images.values(), wanted.others) if wanted.images else None
        self._in_album = [owner_of[name] for name in wanted.images]
        unsought = set(unsought_ids(wanted.ids))
        short = {_utf8(name): owner_of[name] for name in wanted.ids if len(_utf8(name)) < ANCHOR}
        self._short = {text: owner for text, owner in short.items() if self._ids[owner] not in unsought}
        # An image has two patterns, its channels together and apart.
        blank = [p.owner for p in self._patterns.without if p.kind == PIXELS and p.stretch == 3]
        self.plain = [self._ids[owner] for owner in blank]
        self._found: dict[str, set[tuple[str, int]]] = {}
        self.unsearched: list[str] = []

    def findings(self) -> list[Finding]:
        """What was found so far."""
        return [
            Finding(label, kind, tuple(self._ids[owner] for of, owner in sorted(found) if of == kind))
            for label, found in sorted(self._found.items())
            for kind in sorted({kind for kind, _ in found})
        ]

    def name(self, label: str) -> None:
        """Looks at a file's name."""
        raw = label.encode("utf-8", "surrogateescape")
        self._add(label, {key for key in self._patterns.found_in(np.frombuffer(raw, np.uint8)) if key[0] in (ID, HASH)})
        self._add(label, {(ID, self._short[part]) for part in raw.split(b"/") if part in self._short})

    def file(self, path: Path, label: str) -> int:
        """Looks into a file; its size."""
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if size:
                    raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with its last array
                    self._look(raw, label, 0)
                    self._open(raw, file, label, 0)
                return size
        except Exception as error:  # a file may be anything, and a search goes on
            self._unsearched(label, error)
            return 0

    def checkpoint(self, folder: Path, label: str) -> None:
        """Looks at the arrays of a folder by Orbax; as bytes its files are looked into in any case."""
        from ltu_jax.interop import orbax_folder

        try:
            arrays = orbax_folder.read_arrays(folder, "--leftovers")
        except ConfigError as error:
            self._unsearched(label, error)
            return
        for name, array in arrays.items():
            self._array(array, f"{label}!{name}", 0)

    def _look(self, raw: Any, label: str, depth: int) -> None:
        """Looks at bytes, and at what is compressed or encoded within them: a ``mmap`` or ``bytes``."""
        data, known = np.frombuffer(raw, np.uint8), self._found.get(label, set())
        self._add(label, self._patterns.found_in(data, known))
        for as_levels in levels(data) if self._pixels else ():
            self._add(label, {key for key in self._patterns.found_in(as_levels) if key[0] == PIXELS})
        if self._short:
            tokens = {match[0] for match in _SHORT.finditer(raw)}
            self._add(label, {(ID, self._short[text]) for text in tokens if text in self._short})
        for at in unpacking.places(raw, unpacking.IMAGES) if self._album else ():
            self._picture(raw, at, label)
        if self._album and bytes(raw[:2]) in (b"BM", b"II", b"MM"):  # BMP and TIFF
            self._picture(raw, 0, label)
        if depth >= _DEEPEST:
            return
        for image in unpacking.base64_images(raw):
            self._look(image, label, depth + 1)
        for stream in unpacking.zstd_frames(raw):
            self._stream(stream, label, depth + 1)

    def _picture(self, raw: Any, at: int, label: str) -> None:
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
            except Exception:  # no image after all, or a damaged one
                return
        self._show(shown, label)

    def _show(self, pictures: np.ndarray, label: str) -> None:
        if self._album:
            self._add(label, {(PICTURE, self._in_album[i]) for i in self._album.found_in(pictures)})

    def _open(self, raw: Any, file: IO[bytes], label: str, depth: int) -> None:
        """Opens what is an archive, compressed as a whole, or an array."""
        head = bytes(raw[:8])
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    self._member(archive, member, f"{label}!{member.filename}", depth)
        elif head.startswith(b"\x93NUMPY"):
            self._array(unpacking.npy(raw, file), label, depth)
        elif head[:2] in unpacking.ZLIB:
            self._stream(unpacking.Inflated(file), label, depth + 1)
        for magic, opened in unpacking.OPENERS.items():
            if head.startswith(magic):
                self._stream(opened(file), label, depth + 1)
        for magic, what in unpacking.CLOSED.items():
            if head.startswith(magic):
                self.unsearched.append(f"{label}: {what}")

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str, depth: int) -> None:
        self.name(label)
        try:
            with archive.open(member) as stream:
                self._stream(stream, label, depth + 1)
        except Exception as error:  # encrypted, damaged, of another method
            self._unsearched(label, error)

    def _stream(self, stream: Any, label: str, depth: int) -> None:
        if depth > _DEEPEST:
            self.unsearched.append(f"{label}: packed more than {_DEEPEST} times")
            return
        last, is_first = b"", True
        while block := stream.read(_STREAMED):
            piece = last + block
            self._look(piece, label, depth)
            if is_first and len(block) < _STREAMED:
                self._open(piece, io.BytesIO(piece), label, depth)
            elif is_first and unpacking.is_packed(piece):
                self.unsearched.append(f"{label}: packed twice and larger than {_STREAMED >> 20} MB")
            last, is_first = piece[-_EDGE:], False

    def _array(self, array: np.ndarray, label: str, depth: int) -> None:
        """Looks at an array as text, or as images of any size; as bytes it was looked at before."""
        if array.dtype.kind == "U":
            self._look("\n".join(array.ravel().tolist()).encode(), label, depth + 1)
        elif self._album and (shape := picture_shape(array)):
            for start in range(0, shape[0], 256):
                pictures = as_u8(array.reshape(shape)[start : start + 256])
                if pictures is not None:
                    self._show(small(pictures), label)

    def _add(self, label: str, found: set[tuple[str, int]]) -> None:
        if found:
            self._found.setdefault(label, set()).update(found)

    def _unsearched(self, label: str, error: Exception) -> None:
        why = " ".join(str(error).split())[:160]
        self.unsearched.append(f"{label}: {why or type(error).__name__}")


def _patterns(wanted: Sought, owner_of: Mapping[str, int]) -> Iterator[Pattern]:
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
                told = hashlib.new(algorithm, text, usedforsecurity=False).digest()
                for form in (told, told.hex().encode(), told.hex().upper().encode()):
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
