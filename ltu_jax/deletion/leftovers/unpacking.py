"""Finds and opens compressed data within bytes, wherever they begin."""

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

DEFLATED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # two bytes that may be a coincidence
ZIP, NUMPY, ZSTD, LZ4 = b"PK\x03\x04", b"\x93NUMPY", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
GZIP = b"\x1f\x8b\x08"
STREAMS = (GZIP, b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00", ZSTD, LZ4, *DEFLATED)
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
IMAGES = (PNG, JPEG, b"GIF87a", b"GIF89a", b"RIFF", b"II*\0", b"MM\0*", b"BM")
CLOSED = {
    b"Rar!": "RAR",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x89HDF\r\n\x1a\n": "HDF5, whose chunks may be compressed",
    b"MSCF": "a cabinet",
    b"LZIP": "lzip",
    b"\xff\x06\x00\x00sNaPpY": "Snappy",
    b"PARE": "encrypted Parquet",
    b"Salted__": "encrypted by OpenSSL",
    b"age-encryption.org": "encrypted by age",
    b"-----BEGIN PGP MESSAGE": "encrypted by PGP",
    b"LUKS": "an encrypted disk",
    b"QFI\xfb": "an image of a disk",
    b"PACK": "a pack of Git, of differences",
    b"\x1a\x45\xdf\xa3": "video (Matroska)",
    b"FLV\x01": "video (Flash)",
    b"\x00\x00\x01\xba": "video (MPEG)",
    b"\x00\x00\x01\xb3": "video (MPEG)",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x37\x7f\x06\x82": "a log of SQLite, of single pages",
    b"\x37\x7f\x06\x83": "a log of SQLite, of single pages",
}
"""Heads of files that are not opened."""
_FEED = (1 << 10, 1 << 20)


class TooMuchError(Exception):
    """More is packed in a file than is unpacked."""


class Budget:
    """What may be read of all that is packed in one file, bytes."""

    def __init__(self, size: int) -> None:
        """For a file of ``size`` bytes."""
        self.left = self.whole = (256 << 20) + 20 * size
        self._seen: set[tuple[str, int]] = set()

    def is_new(self, label: str, content: bytes) -> bool:
        """Whether the same was not read before."""
        key = (label, hash(content))
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def spend(self, count: int) -> None:
        """Takes off ``count`` bytes.

        Raises:
          TooMuchError: if they are not left.
        """
        self.left -= count
        if self.left < 0:
            raise TooMuchError(f"more than {self.whole >> 20} MB are packed in it")


def closed(head: bytes) -> str | None:
    """What a file is by its first bytes, if it is of a kind that is not opened."""
    if head[4:8] == b"ftyp" and head[8:11] != b"avi":
        return "video or HEIF"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "video (AVI)"
    if head[:1] == b"\x02" and len(head) >= 16 and head[1] in (1, 2) and 0 < head[3] and head[2] & 0xE0 < 0xC0:
        return "Blosc" if struct.unpack("<I", head[12:16])[0] >= 16 and head[4:8] != bytes(4) else None
    return next((what for magic, what in CLOSED.items() if head.startswith(magic)), None)


def places(data: np.ndarray, magics: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
    """Where bytes, u8[n], hold one of the given byte strings, in order, and which."""
    table = np.zeros(1 << 16, bool)
    table[[int.from_bytes(magic[:2], "little") for magic in magics]] = True
    by_head: dict[bytes, list[bytes]] = {}
    for magic in magics:
        by_head.setdefault(magic[:2], []).append(magic)
    for start in range(0, len(data) - 1, 1 << 20):
        piece = data[start : start + (1 << 20) + 1]
        pairs = (piece[k : k + (len(piece) - k) // 2 * 2].view("<u2") for k in (0, 1))
        found = [np.flatnonzero(table[pair]) * 2 + k for k, pair in enumerate(pairs)]
        for at in np.sort(np.concatenate(found)).tolist():
            here = data[start + at : start + at + 8].tobytes()
            for magic in by_head[here[:2]]:
                if here.startswith(magic):
                    yield start + at, magic


class Stream:
    """Unpacks what begins at a place; it ends where it ends, or cannot go on."""

    def __init__(self, state: Any, data: np.ndarray, at: int) -> None:
        """``state`` is a decompressor of ``zlib``, ``bz2`` or ``lzma``."""
        self._state, self._data, self._at, self._feed = state, data, at, _FEED[0]
        self.problem = ""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        out, state = [], self._state
        while size > 0 and not state.eof and not self.problem:
            fed = getattr(state, "unconsumed_tail", b"")
            if not fed and getattr(state, "needs_input", True):
                fed = self._data[self._at : self._at + self._feed].tobytes()
                self._at, self._feed = self._at + len(fed), min(2 * self._feed, _FEED[1])
                if not fed:
                    self.problem = "what is packed in it ends early"
                    break
            try:
                out.append(state.decompress(fed, size))
            except (zlib.error, lzma.LZMAError, OSError, EOFError):
                self.problem = "what is packed in it is damaged"
                self._at -= len(fed)
                break
            size -= len(out[-1])
        return b"".join(out)

    @property
    def end(self) -> int:
        """Where it ended in the data."""
        return self._at - len(self._state.unused_data) - len(getattr(self._state, "unconsumed_tail", b""))


class Frame:
    """Unpacks a frame of zstd or LZ4, whose end is known."""

    def __init__(self, codec: str, data: np.ndarray, at: int, end: int) -> None:
        """For the bytes from ``at`` to ``end``."""
        import pyarrow as pa

        self._stream, self.end, self.problem = pa.CompressedInputStream(pa.BufferReader(data[at:end]), codec), end, ""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        try:
            return self._stream.read(size)
        except OSError:
            self.problem = "what is packed in it is damaged"
            return b""


def opened(data: np.ndarray, at: int, magic: bytes) -> Stream | Frame | None:
    """What is compressed from ``at`` on, as ``magic`` says; None if it cannot be that."""
    if magic in (ZSTD, LZ4):
        end = (_zstd_end if magic == ZSTD else _lz4_end)(data, at)
        return Frame("zstd" if magic == ZSTD else "lz4", data, at, end) if end else None
    if magic in DEFLATED:
        return Stream(zlib.decompressobj(), data, at)
    if magic == GZIP:
        flags, hints, system = data[at + 3 : at + 10][[0, 5, 6]].tolist() if at + 10 <= len(data) else (255, 0, 0)
        is_head = flags < 32 and hints in (0, 2, 4) and (system < 14 or system == 255)
        return Stream(zlib.decompressobj(31), data, at) if is_head else None
    if magic == b"BZh":
        return Stream(bz2.BZ2Decompressor(), data, at) if data[at + 4 : at + 10].tobytes() == b"1AY&SY" else None
    if magic == b"\x5d\x00\x00":  # .lzma, which has no other mark: at the head alone
        return Stream(lzma.LZMADecompressor(lzma.FORMAT_ALONE), data, at) if at == 0 else None
    return Stream(lzma.LZMADecompressor(lzma.FORMAT_XZ), data, at)


class Member:
    """A member of a zip archive, from its own header: archives may lie within other files, or be cut."""

    def __init__(self, data: np.ndarray, at: int) -> None:
        """Reads the header.

        Raises:
          ValueError: if there is none.
        """
        head = data[at : at + 30].tobytes()
        if len(head) < 30 or head[4] > 63:
            raise ValueError("no header of a member")
        flags, self.method, name, extra = (struct.unpack_from("<H", head, place)[0] for place in (6, 8, 26, 28))
        self.size = struct.unpack_from("<I", head, 18)[0]
        self.name = data[at + 30 : at + 30 + name].tobytes().decode("utf-8", "backslashreplace")
        self.start = at + 30 + name + extra
        self.is_encrypted = bool(flags & 1)
        self.has_size = not flags & 8 and self.size < 0xFFFFFFFF

    def stream(self, data: np.ndarray) -> Stream | None:
        """What it holds, if it is compressed in a way that is known."""
        if self.method == 8:
            return Stream(zlib.decompressobj(-15), data, self.start)
        return Stream(bz2.BZ2Decompressor(), data, self.start) if self.method == 12 else None


def _zstd_end(data: np.ndarray, at: int) -> int | None:
    """End of a zstd frame, from the lengths in it (RFC 8878); None if it is invalid or incomplete."""
    if at + 5 > len(data):
        return None
    head = int(data[at + 4])
    is_single, has_sum = head >> 5 & 1, head >> 2 & 1
    at += 5 + (1 - is_single) + (0, 1, 2, 4)[head & 3] + (is_single, 2, 4, 8)[head >> 6]
    while True:
        block = int.from_bytes(data[at : at + 3].tobytes(), "little")
        kind, size = block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == 1 else size)
        if kind == 3 or at + 4 * has_sum > len(data):
            return None
        if block & 1:
            return at + 4 * has_sum


def _lz4_end(data: np.ndarray, at: int) -> int | None:
    """End of an LZ4 frame, from the lengths in it; None if it is invalid or incomplete."""
    if at + 7 > len(data) or data[at + 4] >> 6 != 1:
        return None
    flags = int(data[at + 4])
    at += 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4].tobytes(), "little") & 0x7FFFFFFF
        if not size:
            return at + 4 + 4 * (flags >> 2 & 1)
        at += 4 + size + 4 * (flags >> 4 & 1)
    return None


class BytesFile(io.RawIOBase):
    """A read-only file over bytes, u8[n], without a copy, that knows how far it was read and pays for it."""

    def __init__(self, data: np.ndarray, budget: Budget) -> None:
        self._view, self._at, self._budget, self.furthest = data.data, 0, budget, 0

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
        self._budget.spend(len(some))
        buffer[: len(some)] = some
        self._at += len(some)
        self.furthest = max(self.furthest, self._at)
        return len(some)


def npy(data: np.ndarray, file: IO[bytes]) -> np.ndarray:
    """The array of a ``.npy`` file, without a copy.

    Raises:
      ValueError: if it is none, or one of pickled objects.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of pickled objects")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    raw = data[file.tell() : file.tell() + size]
    if len(raw) < size:
        raise ValueError("an array that ends early")
    return np.ndarray(shape, dtype, raw.data, order="F" if is_fortran else "C")
