"""Floats that are an image are told from those that are not, at any width and place."""

import numpy as np
import pytest

from ltu_jax.deletion.leftovers.levels import as_u8, levels, picture_shape

IMAGE = np.random.default_rng(0).integers(0, 256, 4000, np.uint8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("before", [0, 1, 7, 13])
@pytest.mark.parametrize("scale", ["divided", "multiplied"])
def test_levels_come_back_from_floats_wherever_they_begin(dtype, before, scale):
    values = IMAGE / 255 if scale == "divided" else IMAGE.astype(np.float32) * np.float32(1 / 255)
    raw = bytes(before) + values.astype(dtype).tobytes()
    found = [stretch.tobytes() for stretch in levels(np.frombuffer(raw, np.uint8))]
    assert any(IMAGE.tobytes() in stretch for stretch in found)


def test_weights_and_noise_are_no_levels():
    rng = np.random.default_rng(1)
    for raw in (rng.normal(0, 0.05, 100_000).astype(np.float32).tobytes(), rng.bytes(400_000)):
        stretches = list(levels(np.frombuffer(raw, np.uint8)))
        assert not any(IMAGE[:32].tobytes() in stretch.tobytes() for stretch in stretches)


@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((5, 8, 9, 3), (5, 8, 9, 3)),
        ((8, 9, 3), (1, 8, 9, 3)),
        ((5, 8, 9, 1), (5, 8, 9)),
        ((2, 5, 8, 9), (10, 8, 9)),
        ((8, 9), (1, 8, 9)),
        ((40, 3), None),
        ((9,), None),
        ((0, 8, 9, 3), None),
    ],
)
def test_shapes_that_images_have(shape, wanted):
    assert picture_shape(np.zeros(shape, np.uint8)) == wanted


def test_what_is_no_image_has_no_levels():
    assert as_u8(np.array([[-0.1, 0.5]], np.float32)) is None and as_u8(np.array([[3]], np.int64)) is None
    np.testing.assert_array_equal(as_u8(np.float32([[0, 0.5, 1]])), [[0, 128, 255]])
