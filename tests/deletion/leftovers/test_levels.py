"""Numbers that are an image are told from those that are not, at any width, order, scale and place."""

import ml_dtypes
import numpy as np
import pytest

from ltu_jax.deletion.leftovers.levels import as_u8, levels, narrowed, of_numbers, pictures_of

IMAGE = np.random.default_rng(0).integers(0, 256, 4000, np.uint8)
SCALES = {
    "divided": lambda x: x / 255,
    "multiplied": lambda x: x.astype(np.float32) * np.float32(1 / 255),
    "as it is": lambda x: x,
    "from -1 to 1": lambda x: x / 127.5 - 1,
    "by halves": lambda x: (x.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5),
}


def sections(raw):
    return [section.tobytes() for section in levels(np.frombuffer(raw, np.uint8))]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "bf16", ">bf16"])
@pytest.mark.parametrize("before", [0, 1, 7, 13])
@pytest.mark.parametrize("scale", SCALES)
def test_levels_come_back_from_floats_wherever_they_begin(dtype, before, scale):
    values = SCALES[scale](IMAGE)
    if "bf16" in dtype:
        bits = values.astype(ml_dtypes.bfloat16).view(np.uint16)
        raw = (bits.byteswap() if dtype[0] == ">" else bits).tobytes()
    else:
        raw = values.astype(dtype).tobytes()
    kept = IMAGE.tobytes()
    found = sections(bytes(before) + raw)
    assert any(kept in section for section in found)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", "<i4", ">i4", "<i8", ">u8"])
@pytest.mark.parametrize("before", [0, 3])
def test_levels_come_back_from_wider_integers(dtype, before):
    raw = bytes(before) + IMAGE.astype(dtype).tobytes()
    assert any(IMAGE.tobytes() in section for section in sections(raw))
    assert any(IMAGE.tobytes() in section.tobytes() for section in narrowed(np.frombuffer(raw, np.uint8)))


def test_levels_come_back_from_all_of_sixteen_bits():
    raw = (IMAGE.astype(np.uint16) * 257).tobytes()
    assert any(IMAGE.tobytes() in section for section in sections(raw))


def test_an_image_of_large_plain_parts_is_read():
    """Every 23rd number is looked at, and three of six must differ from the one before: each lasts for two here."""
    plain = np.repeat(np.random.default_rng(2).permutation(255)[:60].astype(np.uint8) + 1, 46)
    assert any(plain.tobytes() in section for section in sections((plain / np.float32(255)).tobytes()))


def test_of_weights_and_noise_little_is_read_as_levels():
    rng = np.random.default_rng(1)
    for scale in (0.01, 0.05, 0.5):
        weights = rng.normal(0, scale, 500_000)
        for dtype in (np.float16, np.float32, np.float64):
            raw = weights.astype(dtype).tobytes()
            assert sum(map(len, sections(raw))) < 0.5 * len(raw)
    assert sections(rng.bytes(1_000_000)) == []


def test_numbers_of_a_text_are_levels_at_the_scale_that_fits_them():
    assert [found.tolist() for found in of_numbers(np.array([0.2, 0.4, 1, 0]))] == [[51, 102, 255, 0]]
    assert [found.tolist() for found in of_numbers(np.array([3.0, 250, 12, 0]))] == [[3, 250, 12, 0]]
    assert next(of_numbers(np.array([0, 0.4, 0, 0]))).tolist() == [0, 102, 0, 0]  # black is a level
    assert list(of_numbers(np.array([0.123, 1000, -7, 0.7771]))) == []


@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((5, 8, 9, 3), (5, 8, 9, 3)),
        ((8, 9, 3), (1, 8, 9, 3)),
        ((8, 9, 4), (1, 8, 9, 3)),
        ((2, 3, 8, 9), (2, 8, 9, 3)),
        ((5, 8, 9, 1), (5, 8, 9)),
        ((2, 5, 8, 9), (10, 8, 9)),
        ((8, 9), (1, 8, 9)),
        ((40, 3), None),
        ((9,), None),
        ((0, 8, 9, 3), None),
    ],
)
def test_shapes_that_images_have(shape, wanted):
    images = pictures_of(np.zeros(shape, np.uint8))
    assert images.shape == wanted if wanted else images is None


def test_colours_are_read_first_or_last():
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    for array in (image, np.moveaxis(image, -1, 0)):
        np.testing.assert_array_equal(pictures_of(array)[0], image)


def test_what_is_no_image_has_no_levels():
    assert as_u8(np.array([[-3, 0.5]], np.float32)) is None and as_u8(np.array([[-3]], np.int64)) is None
    for stored in (np.float32([[0, 0.5, 1]]), np.float64([[-1, 0.003, 1]]), np.int64([[0, 128, 255]])):
        np.testing.assert_array_equal(as_u8(stored), [[0, 128, 255]])
    np.testing.assert_array_equal(as_u8(np.uint16([[0, 128 * 257, 65535]])), [[0, 128, 255]])
