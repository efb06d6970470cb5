"""decode against NumPy, and against JAX's own antialiased resize."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from ltu_jax.data.records import decode

RNG = np.random.default_rng(0)


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("stored", [encoded, lambda pixels: pixels])
def test_rgb_is_kept_bit_for_bit(stored):
    pixels = RNG.integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(decode(stored(pixels), None), pixels)


@pytest.mark.parametrize("stored", [encoded, lambda pixels: pixels])
def test_grey_is_repeated_three_times(stored):
    pixels = RNG.integers(0, 256, (7, 5), np.uint8)
    np.testing.assert_array_equal(decode(stored(pixels), None), np.stack([pixels] * 3, axis=-1))


def test_transparency_is_dropped():
    pixels = RNG.integers(0, 256, (7, 5, 4), np.uint8)
    np.testing.assert_array_equal(decode(encoded(pixels), None), pixels[..., :3])


@pytest.mark.parametrize("image_size", [4, 16])
def test_resize_is_antialiased_bilinear(image_size):
    pixels = RNG.integers(0, 256, (12, 9, 3), np.uint8)
    expected = jax.image.resize(pixels.astype(np.float32), (image_size, image_size, 3), "linear", antialias=True)
    np.testing.assert_allclose(decode(encoded(pixels), image_size), expected, atol=1.01)  # rounding in each pass


def test_sixteen_bits_a_channel_are_refused_and_not_clipped():
    with pytest.raises(ValueError, match="8 bits a channel"):
        decode(encoded(RNG.integers(0, 65536, (7, 5), np.uint16)), None)
