"""What is compressed or encrypted is told from what is not: weights, pixels, text."""

import base64
import bz2
import lzma
import zlib

import ml_dtypes
import numpy as np
import pytest

from ltu_jax.deletion.leftovers.opaque import BLOCK, LEAST, opaque_blocks, opaque_text

RNG = np.random.default_rng(7)
WORDS = [bytes(RNG.integers(97, 123, RNG.integers(2, 9), np.uint8)) for _ in range(2000)]
TEXT = b" ".join(WORDS[i] if i else b"%d" % n for n, i in enumerate(RNG.zipf(1.3, 60_000) % 2000))


def share(raw):
    return sum(last - first for first, last in opaque_blocks(np.frombuffer(raw, np.uint8))) / len(raw)


@pytest.mark.parametrize("size", [LEAST, 700, 2000, BLOCK, 10 * BLOCK + 600])
def test_noise_of_any_size_is_opaque(size):
    for seed in range(20):
        assert share(np.random.default_rng(seed).bytes(size)) == 1


def test_bytes_that_lack_more_than_half_a_bit_are_not():
    """Of 190 values a byte has 7.57 bits, of 138 it has 7.11."""
    rng = np.random.default_rng(3)
    assert share(rng.permutation(256)[rng.integers(0, 190, 40_000)].astype(np.uint8).tobytes()) == 1
    assert share(rng.permutation(256)[rng.integers(0, 138, 40_000)].astype(np.uint8).tobytes()) == 0


@pytest.mark.parametrize("pack", [zlib.compress, bz2.compress, lzma.compress])
def test_what_is_compressed_is_opaque(pack):
    assert share(pack(TEXT)) > 0.9


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ml_dtypes.bfloat16, "i4", "i8"])
@pytest.mark.parametrize("scale", [1e-4, 0.05, 1.0, 100.0])
def test_weights_are_not(dtype, scale):
    raw = (np.random.default_rng(0).standard_normal(50_000) * scale).astype(dtype).tobytes()
    assert share(raw) == share(raw[: LEAST + 100]) == 0


def test_squares_of_gradients_are_not():
    """Sums of Adam: float64 above zero, of many sizes."""
    raw = np.exp(np.random.default_rng(0).normal(-12, 4, 50_000)).tobytes()
    assert share(raw) == share(raw[:LEAST]) == 0


def test_text_and_pixels_are_not():
    rng = np.random.default_rng(0)
    photo = np.cumsum(rng.integers(-20, 21, (30_000, 3)), 0).astype(np.uint8)  # every value as often, neighbours near
    for raw in (TEXT, bytes(50_000), photo.tobytes(), photo.T.tobytes(), TEXT.hex().encode()):
        assert share(raw) == 0
    assert share(TEXT + rng.bytes(BLOCK * 4)) > 0


def test_text_that_is_coded_is_told_from_prose_numbers_and_hex():
    coded = base64.b85encode(np.random.default_rng(0).bytes(20_000))
    assert len(coded) - BLOCK <= opaque_text(coded) <= len(coded)
    for text in (TEXT, TEXT.hex().encode(), str(np.random.default_rng(0).random(5000).tolist()).encode()):
        assert opaque_text(text) == 0
