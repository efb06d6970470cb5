"""What lies within bytes is found where it lies and opened; what only looks like it yields nothing."""

import base64
import io

import numpy as np
import pyarrow as pa
import pytest

from ltu_jax.deletion.leftovers import unpacking

pytestmark = pytest.mark.smoke

NOISE = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
TEXT = b"the same words again and again " * 300


def zstd(data, level):
    """A frame as pyarrow's codec writes it."""
    return pa.Codec("zstd", compression_level=level).compress(data, asbytes=True)


@pytest.mark.parametrize("data", [b"x", NOISE, TEXT, NOISE * 200], ids=["one byte", "noise", "text", "many blocks"])
@pytest.mark.parametrize("level", [1, 19])
def test_zstd_frames_are_found_within_other_bytes(data, level):
    frame = zstd(data, level)
    raw = NOISE + frame + NOISE + frame[:-5]  # and one that was cut short
    streams = list(unpacking.zstd_frames(raw))
    assert streams and streams[0].read(len(data) + 1) == data
    assert unpacking._frame_end(raw, len(NOISE)) == len(NOISE) + len(frame)


@pytest.mark.parametrize("checksum", [0, 4])
def test_a_frames_end_is_where_its_own_lengths_say(checksum):
    """Written by hand (RFC 8878): one segment, 5 bytes of content, a raw block of 2 and an RLE block of 3, the last."""
    raw = b"\x28\xb5\x2f\xfd" + bytes([0x20 | checksum, 5])
    raw += (2 << 3 | 0 << 1).to_bytes(3, "little") + b"ab" + (3 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"c"
    frame = raw + bytes(checksum)
    assert unpacking._frame_end(b"xy" + frame + NOISE, 2) == 2 + len(frame)
    assert unpacking._frame_end(frame[:-1], 0) is None


def test_bytes_that_only_begin_as_a_frame_are_none():
    for rest in (b"", b"\0", bytes(range(100)), NOISE):
        for stream in unpacking.zstd_frames(b"\x28\xb5\x2f\xfd" + rest):
            assert stream.read(100) == b""


@pytest.mark.parametrize("size", [60, 61, 62, 63])  # each way in which base64 pads
@pytest.mark.parametrize("wrapped", ["as it is", "in lines", "in JSON", "without padding"])
def test_images_in_base64_are_decoded_however_they_are_wrapped(size, wrapped):
    image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + NOISE[:size]
    text = base64.b64encode(image)
    if wrapped == "without padding":
        text = text.rstrip(b"=")
    if wrapped in ("in lines", "in JSON"):
        ends = {"in lines": b"\n", "in JSON": b"\\n"}[wrapped]
        text = ends.join(text[i : i + 20] for i in range(0, len(text), 20))
    assert list(unpacking.base64_images(b'{"image": "' + text + b'"}')) == [image]


def test_a_file_of_bytes_reads_as_a_file_does():
    raw = memoryview(NOISE)
    ours, theirs = io.BufferedReader(unpacking.BytesFile(raw)), io.BytesIO(NOISE)
    for file in (ours, theirs):
        file.seek(1000)
    assert ours.read(10) == theirs.read(10) and ours.tell() == theirs.tell() == 1010
    for offset, whence in ((-5, 2), (-3, 1), (7, 0)):
        assert ours.seek(offset, whence) == theirs.seek(offset, whence)
        assert ours.read(4) == theirs.read(4)
    bare = unpacking.BytesFile(raw)  # a buffer asks for absolute places only
    assert [bare.seek(10), bare.seek(5, 1), bare.seek(-1, 2), bare.tell()] == [10, 15, 2999, 2999]
    ours.seek(0)
    assert ours.read() == NOISE and ours.read() == b""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">i4"])
def test_an_array_is_numpys(order, dtype):
    array = np.asarray(np.arange(60).reshape(3, 4, 5), dtype, order=order)
    file = io.BytesIO()
    np.save(file, array)
    found = unpacking.npy(file.getvalue(), file)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
