"""Finds and opens packed, compressed and encoded data within bytes."""

import base64
import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

OPENERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
CLOSED = {b"Rar!": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"PAR1": "Parquet, whose columns may be compressed"}
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZSTD = b"\x28\xb5\x2f\xfd"
IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")
_IMAGES_AS_TEXT = (b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")  # the same in base64
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/=\s]|\\n)+")


def places(raw: Any, magics: Sequence[bytes]) -> Iterator[int]:
    """Positions of the given byte strings."""
    for magic in magics:
        at = raw.find(magic)
        while at >= 0:
            if magic != b"RIFF" or raw[at + 8 : at + 12] == b"WEBP":
                yield at
            at = raw.find(magic, at + len(magic))


def base64_images(raw: Any) -> Iterator[bytes]:
    """Decodes the images written in base64."""
    for head in _IMAGES_AS_TEXT:
        at = raw.find(head)
        while at >= 0:
            match = _BASE64.match(raw, at)
            end = match.end() if match else at + len(head)
            text = re.sub(rb"\\n|\s", b"", raw[at:end]).partition(b"=")[0]
            whole, rest = text[: len(text) // 4 * 4], text[len(text) // 4 * 4 :]
            yield base64.b64decode(whole + (rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""))
            at = raw.find(head, end)


def zstd_frames(raw: Any) -> Iterator[Any]:
    """The zstd frames within bytes, as decompressed streams."""
    import pyarrow as pa

    for at in places(raw, (_ZSTD,)):
        if end := _frame_end(raw, at):
            yield _Quiet(pa.CompressedInputStream(pa.BufferReader(bytes(raw[at:end])), "zstd"))


def _frame_end(raw: Any, at: int) -> int | None:
    """End of a zstd frame, from the lengths in it (RFC 8878); None if it is invalid or incomplete."""
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


class _Quiet:
    """A stream that ends where it cannot be decompressed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError:
            return b""


class Inflated:
    """Decompresses zlib data; ends where it cannot, because two magic bytes may be a coincidence."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._state = file, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Reads up to ``size`` bytes."""
        try:
            rest = self._state.unconsumed_tail or self._file.read(1 << 20)
            out = self._state.decompress(rest, size)
            while not out and not self._state.eof and (rest := self._state.unconsumed_tail or self._file.read(1 << 20)):
                out = self._state.decompress(rest, size)
            return out
        except zlib.error:
            return b""


class BytesFile(io.RawIOBase):
    """A read-only file over a memoryview, without a copy."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """See ``io.IOBase.seek``."""
        self._at = max(0, offset + (0, self._at, len(self._view))[whence])
        return self._at

    def tell(self) -> int:
        """See ``io.IOBase.tell``."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """See ``io.RawIOBase.readinto``."""
        some = self._view[self._at : self._at + len(buffer)]
        buffer[: len(some)] = some
        self._at += len(some)
        return len(some)


def npy(raw: Any, file: IO[bytes]) -> np.ndarray:
    """The array of a ``.npy`` file, without a copy."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of pickled objects")
    array = np.frombuffer(raw, dtype, int(np.prod(shape)), file.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def is_packed(piece: bytes) -> bool:
    """Whether bytes begin like a file that can be opened."""
    return piece.startswith((b"PK\x03\x04", *OPENERS, b"\x93NUMPY"))
