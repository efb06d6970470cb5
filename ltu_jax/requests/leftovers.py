"""Searches a folder for what a deletion request must not leave: forgotten images, hashes of them, and their ids.

Every file is read as bytes, whatever it is; archives and compressed files are opened, and so is what is compressed or
encoded as an image within another file. What is encrypted, cropped and resized, normalised by a mean, or learned by a
model is not found.
"""

import base64
import bz2
import functools
import gzip
import hashlib
import html
import io
import json
import lzma
import mmap
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ltu_jax.data.records import MAX_PIXELS
from ltu_jax.requests.patterns import ANCHOR, Pattern, Patterns
from ltu_jax.requests.pictures import OTHERS, Album, small
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
_OPENERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_CLOSED = {b"Rar!": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"PAR1": "Parquet, whose columns may be compressed"}
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZSTD = b"\x28\xb5\x2f\xfd"
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")
_IMAGES_AS_TEXT = (b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")  # the same in base64
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/=\s]|\\n)+")
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
            arrays = orbax_folder.read(folder, "--leftovers")
        except ConfigError as error:
            self._unsearched(label, error)
            return
        for name, array in arrays.items():
            self._array(array, f"{label}!{name}", 0)

    def _look(self, raw: Any, label: str, depth: int) -> None:
        """Looks at bytes, and at what is compressed or encoded within them: a ``mmap`` or ``bytes``."""
        data, known = np.frombuffer(raw, np.uint8), self._found.get(label, set())
        self._add(label, self._patterns.found_in(data, known))
        for levels in _levels(data) if self._pixels else ():
            self._add(label, {key for key in self._patterns.found_in(levels) if key[0] == PIXELS})
        if self._short:
            tokens = {match[0] for match in _SHORT.finditer(raw)}
            self._add(label, {(ID, self._short[text]) for text in tokens if text in self._short})
        for at in _places(raw, _IMAGES) if self._album else ():
            self._picture(raw, at, label)
        if self._album and bytes(raw[:2]) in (b"BM", b"II", b"MM"):  # BMP and TIFF
            self._picture(raw, 0, label)
        if depth >= _DEEPEST:
            return
        for start, end in _texts(raw):
            text = re.sub(rb"\\n|\s", b"", raw[start:end]).partition(b"=")[0]
            self._look(base64.b64decode(text[: len(text) // 4 * 4] + _padded(text)), label, depth + 1)
        for at in _places(raw, (_ZSTD,)):
            if end := _frame_end(raw, at):
                self._stream(_unzstd(raw[at:end]), label, depth + 1)

    def _picture(self, raw: Any, at: int, label: str) -> None:
        from PIL import Image

        with memoryview(raw) as view, view[at:] as rest:
            try:
                with Image.open(io.BufferedReader(_Bytes(rest))) as picture:
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
            self._array(_npy(raw, file), label, depth)
        elif head[:2] in _ZLIB:
            self._stream(_Inflated(file), label, depth + 1)
        for magic, opened in _OPENERS.items():
            if head.startswith(magic):
                self._stream(opened(file), label, depth + 1)
        for magic, what in _CLOSED.items():
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
            elif is_first and _is_packed(piece):
                self.unsearched.append(f"{label}: packed twice and larger than {_STREAMED >> 20} MB")
            last, is_first = piece[-_EDGE:], False

    def _array(self, array: np.ndarray, label: str, depth: int) -> None:
        """Looks at an array as text, or as images of any size; as bytes it was looked at before."""
        if array.dtype.kind == "U":
            self._look("\n".join(array.ravel().tolist()).encode(), label, depth + 1)
        elif self._album and (shape := _picture_shape(array)):
            for start in range(0, shape[0], 256):
                pictures = _as_u8(array.reshape(shape)[start : start + 256])
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


def _places(raw: Any, magics: Sequence[bytes]) -> Iterator[int]:
    """Where one of some byte strings begins."""
    for magic in magics:
        at = raw.find(magic)
        while at >= 0:
            if magic != b"RIFF" or raw[at + 8 : at + 12] == b"WEBP":
                yield at
            at = raw.find(magic, at + len(magic))


def _texts(raw: Any) -> Iterator[tuple[int, int]]:
    """Where images lie that are written as text."""
    for head in _IMAGES_AS_TEXT:
        at = raw.find(head)
        while at >= 0:
            match = _BASE64.match(raw, at)
            end = match.end() if match else at + len(head)
            yield at, end
            at = raw.find(head, end)


def _padded(text: bytes) -> bytes:
    """The last characters of base64 with what they lack."""
    rest = text[len(text) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


@functools.cache
def _tables() -> list[tuple[int, np.ndarray]]:
    """Of floats in [0,1]: their bytes, and from ``_words`` of them to the level of 255; -1 for no level.

    They are levels divided by 255, or multiplied by its inverse.
    """
    levels, tables = np.arange(256), []
    for width, dtype in ((2, np.float16), (4, np.float32), (8, np.float64)):
        table = np.full(1 << 16, -1, np.int16)
        for values in (levels.astype(np.float32) / 255, levels * np.float32(1 / 255), levels / 255):
            table[_words(np.frombuffer(values.astype(dtype).tobytes(), np.uint8), width)] = levels
        tables.append((width, table))
    return tables


def _words(data: np.ndarray, width: int, step: int = 1) -> np.ndarray:
    """Of each float, or of every ``step``-th, the 16 bits that tell levels apart."""
    count = len(data) // width
    high, low = (data[width - k : count * width : width * step].astype(np.uint16) for k in (1, 2))
    words = high << 8 | low
    return words if width < 8 else words << 4 | data[5 : count * width : width * step] >> 4


def _levels(data: np.ndarray) -> Iterator[np.ndarray]:
    """Stretches of bytes that may be images as float16, float32 or float64 in [0,1], as levels u8."""
    size, sampled, run = 4 << 20, 16, 8
    for width, table in _tables():
        for start in range(0, len(data), size):
            for shift in range(width):
                piece = data[start + shift : start + size + 4096 * width]
                samples = table[_words(piece, width, sampled)] > 0
                if len(samples) and np.convolve(samples, np.ones(run, int)).max() >= run // 2:
                    yield np.maximum(table[_words(piece, width)], 0).astype(np.uint8)


def _frame_end(raw: Any, at: int) -> int | None:
    """Where a zstd frame ends, by the lengths in it (RFC 8878); None where there is none, or not all of it."""
    head = raw[at + 4 : at + 5]
    if not head:
        return None
    is_single, has_sum = head[0] >> 5 & 1, head[0] >> 2 & 1
    at += 5 + (1 - is_single) + (0, 1, 2, 4)[head[0] & 3] + (is_single, 2, 4, 8)[head[0] >> 6]
    while True:
        block = int.from_bytes(raw[at : at + 3], "little")
        kind, size = block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == 1 else size)
        if kind == 3 or at + 4 * has_sum > len(raw):
            return None
        if block & 1:
            return at + 4 * has_sum


def _unzstd(frame: bytes) -> Any:
    import pyarrow as pa

    stream = pa.CompressedInputStream(pa.BufferReader(frame), "zstd")
    return _Quiet(stream)


class _Quiet:
    """A stream of what may be none: it ends where it cannot be read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError:
            return b""


class _Inflated:
    """What zlib compressed; as ``_Quiet``, for two bytes are no proof."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._state = file, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        try:
            rest = self._state.unconsumed_tail or self._file.read(1 << 20)
            out = self._state.decompress(rest, size)
            while not out and not self._state.eof and (rest := self._state.unconsumed_tail or self._file.read(1 << 20)):
                out = self._state.decompress(rest, size)
            return out
        except zlib.error:
            return b""


class _Bytes(io.RawIOBase):
    """A file of bytes that are not copied."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._view))[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        some = self._view[self._at : self._at + len(buffer)]
        buffer[: len(some)] = some
        self._at += len(some)
        return len(some)


def _npy(raw: Any, file: IO[bytes]) -> np.ndarray:
    """The array of a ``.npy`` file, copied only where it has to be."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of pickled objects")
    array = np.frombuffer(raw, dtype, int(np.prod(shape)), file.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def _picture_shape(array: np.ndarray) -> tuple[int, ...] | None:
    """The shape [N,H,W,3] or [N,H,W] of an array that may be images; None for another."""
    shape = array.shape[:-1] if array.ndim >= 4 and array.shape[-1] == 1 else array.shape
    sides = shape[-3:-1] if len(shape) >= 3 and shape[-1] == 3 else shape[-2:]
    if array.dtype.kind not in "uf" or len(sides) < 2 or not array.size or min(sides) < 4:
        return None
    pixels = (*sides, 3) if len(shape) >= 3 and shape[-1] == 3 else sides
    return (array.size // int(np.prod(pixels)), *pixels)


def _as_u8(images: np.ndarray) -> np.ndarray | None:
    """Images as levels; None where they are none."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not 0 <= images.min() <= images.max() <= 1:
        return None
    return np.rint(images.astype(np.float32) * 255).astype(np.uint8)


def _is_packed(piece: bytes) -> bool:
    return piece.startswith((b"PK\x03\x04", *_OPENERS, b"\x93NUMPY"))


def _may_be_listed(path: Path) -> bool:
    try:
        return next(path.iterdir(), path) is not None
    except OSError:
        return False
