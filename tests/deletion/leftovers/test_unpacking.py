"""What lies within bytes is found where it lies and opened; what only looks like it yields nothing."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pytest

from ltu_jax.deletion.leftovers import unpacking
from ltu_jax.deletion.leftovers.unpacking import Budget, BytesFile, Member, TooMuchError, opened, places

pytestmark = pytest.mark.smoke

NOISE = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
TEXT = b"the same words again and again " * 300
PACKERS = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda raw: pa.Codec("zstd", compression_level=19).compress(raw, asbytes=True),
    "lz4": lambda raw: pa.Codec("lz4").compress(raw, asbytes=True),
}


def array(raw):
    return np.frombuffer(bytes(raw), np.uint8)


def unpacked(raw):
    """All that can be unpacked as a whole, and where each ends."""
    out = []
    for at, magic in places(array(raw), unpacking.STREAMS):
        stream = opened(array(raw), at, magic)
        if stream and (content := stream.read(1 << 20)) and not stream.problem:
            out.append((at, content, stream.end))
    return out


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("data", [b"x", NOISE, TEXT, NOISE * 60], ids=["one byte", "noise", "text", "many blocks"])
def test_streams_are_found_within_other_bytes(packer, data):
    packed = PACKERS[packer](data)
    raw = b"abcde" * 7 + packed + b"abcde" * 1000
    assert (35, data, 35 + len(packed)) in unpacked(raw)


@pytest.mark.parametrize("packer", PACKERS)
def test_one_that_was_cut_short_is_told(packer):
    packed = array(PACKERS[packer](NOISE)[:-30])
    ((at, magic), *_) = places(packed, unpacking.STREAMS)
    stream = opened(packed, at, magic)
    if packer in ("zstd", "lz4"):  # whose frame has no end then
        assert stream is None
    else:
        assert NOISE.startswith(stream.read(5000)) and "early" in stream.problem


def test_one_that_is_damaged_ends_before_what_could_not_be_read():
    """What is fed at once is 1,024 bytes, then twice as many."""
    packed = bytearray(lzma.compress(NOISE))
    packed[2000] ^= 1
    stream = opened(array(b"before" + packed), 6, b"\xfd7zXZ\x00")
    assert len(stream.read(5000)) < 3000 and "damaged" in stream.problem
    assert stream.end == 6 + 1024


def test_lzma_of_old_is_opened_at_the_head_alone():
    packed = lzma.compress(TEXT, lzma.FORMAT_ALONE)
    assert unpacked(packed)[0][:2] == (0, TEXT) and (1, TEXT) not in [one[:2] for one in unpacked(b"x" + packed)]


@pytest.mark.parametrize("checksum", [0, 4])
def test_a_frames_end_is_where_its_own_lengths_say(checksum):
    """Written by hand (RFC 8878): one segment, 5 bytes of content, a raw block of 2 and an RLE block of 3, the last."""
    raw = b"\x28\xb5\x2f\xfd" + bytes([0x20 | checksum, 5])
    raw += (2 << 3 | 0 << 1).to_bytes(3, "little") + b"ab" + (3 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"c"
    frame = raw + bytes(checksum)
    assert unpacking._zstd_end(array(b"xy" + frame + NOISE), 2) == 2 + len(frame)
    assert unpacking._zstd_end(array(frame[:-1]), 0) is None


@pytest.mark.parametrize("sizes", [0, 8])
@pytest.mark.parametrize("sums", [0, 4, 16, 20])
def test_an_lz4_frame_ends_where_its_own_lengths_say(sizes, sums):
    """Written by hand: 0x40 version, 8 content size, 4 checksum of the content, 16 of each block; stored blocks."""
    frame = b"\x04\x22\x4d\x18" + bytes([0x40 | sizes | sums, 0x40]) + bytes(sizes) + b"h"
    for block in (b"abc", b"defgh"):
        frame += (len(block) | 1 << 31).to_bytes(4, "little") + block + bytes(4 if sums & 16 else 0)
    frame += bytes(4) + bytes(4 if sums & 4 else 0)
    assert unpacking._lz4_end(array(b"xy" + frame + b"more"), 2) == 2 + len(frame)
    assert unpacking._lz4_end(array(frame[:18]), 0) is None


@pytest.mark.parametrize("magic", unpacking.STREAMS)
def test_bytes_that_only_begin_as_a_stream_are_none(magic):
    for rest in (b"", b"\0", bytes(range(100)), NOISE):
        stream = opened(array(magic + rest), 0, magic)
        assert stream is None or not stream.read(100) or stream.read(1 << 20) is not None and stream.problem


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_tell_what_they_are(method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("größe.txt", TEXT)
    raw = array(b"before" + file.getvalue())
    member = Member(raw, 6)
    assert member.name == "größe.txt" and member.method == method and not member.is_encrypted and member.has_size
    if method == zipfile.ZIP_STORED:
        assert raw[member.start : member.start + member.size].tobytes() == TEXT
    elif method == zipfile.ZIP_LZMA:
        assert member.stream(raw) is None
    else:
        stream = member.stream(raw)
        assert stream.read(1 << 20) == TEXT and stream.end == member.start + member.size
    with pytest.raises(ValueError, match="no header"):
        Member(raw, len(raw) - 10)


def test_places_are_those_that_find_gives():
    magics = (b"abc", b"ab12", b"\xff\xd8\xff")
    raw = b"ab12abcab\xff\xd8\xff\xd8\xff" * 9 + b"ab"
    wanted = sorted((at, m) for m in magics for at in range(len(raw)) if raw.startswith(m, at))
    assert sorted(places(array(raw), magics)) == wanted and list(places(array(b""), magics)) == []


def test_what_is_not_opened_is_told_by_its_head():
    for head in (b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x89HDF\r\n\x1a\n", b"\0\0\0\x20ftypisom", b"RIFF\0\0\0\0AVI "):
        assert unpacking.closed(head + bytes(20))
    blosc = b"\x02\x01\x21\x08" + b"".join(n.to_bytes(4, "little") for n in (5000, 5000, 700))  # its lengths
    assert unpacking.closed(blosc + bytes(20)) == unpacking.closed(blosc) == "Blosc"
    assert unpacking.closed(blosc[:12] + (15).to_bytes(4, "little")) is None  # shorter than its own head
    for head in (b"", b"{", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"RIFF\0\0\0\0WEBP", bytes(20)):
        assert unpacking.closed(head + bytes(20)) is None


def test_a_file_of_bytes_reads_as_a_file_does_and_is_paid_for():
    budget = Budget(0)
    ours, theirs = BytesFile(array(NOISE), budget), io.BytesIO(NOISE)
    for offset, whence in ((1000, 0), (-5, 2), (-3, 1), (7, 0)):
        assert ours.seek(offset, whence) == theirs.seek(offset, whence)
        assert ours.read(4) == theirs.read(4) and ours.tell() == theirs.tell()
    assert ours.furthest == 3000 and budget.whole - budget.left == 16
    ours.seek(0)
    assert ours.read() == NOISE and ours.read() == b""
    budget.left = 10
    ours.seek(0)
    with pytest.raises(TooMuchError, match="more than 256 MB"):
        ours.read(11)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">i4"])
def test_an_array_is_numpys(order, dtype):
    wanted = np.asarray(np.arange(60).reshape(3, 4, 5), dtype, order=order)
    file = io.BytesIO()
    np.save(file, wanted)
    found = unpacking.npy(array(file.getvalue() + b"more"), io.BytesIO(file.getvalue()))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    for cut in (file.getvalue()[:-1], file.getvalue()[:150]):
        with pytest.raises(ValueError, match="ends early"):
            unpacking.npy(array(cut), io.BytesIO(cut))
