"""Two rows of an image, or parts of four, are found wherever and however they lie; no other image is."""

import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.data.sources import load_source
from ltu_jax.deletion.leftovers.pixels import ROW, STRETCH, Pixels


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


IMAGES = {7: noise((32, 32, 3), 1), 8: noise((32, 32, 3), 2)}
PIXELS = Pixels(IMAGES)
LAYOUTS = {
    "RGB": lambda x: x,
    "BGR": lambda x: x[..., ::-1],
    "RGBA": lambda x: np.concatenate([x, np.full_like(x[..., :1], 255)], -1),
    "ARGB": lambda x: np.concatenate([np.full_like(x[..., :1], 255), x], -1),
    "planar": lambda x: np.moveaxis(x, -1, 0),
    "one channel": lambda x: x[..., 1],
    "mirrored": lambda x: x[:, ::-1],
    "columns first": lambda x: x.transpose(2, 1, 0),
}


def seen(raw):
    return PIXELS.found_in(np.frombuffer(raw, np.uint8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_each_layout_at_each_place_and_no_other(layout):
    for before in range(0, 27):
        junk = noise(60, before).tobytes()[:before]
        assert seen(junk + LAYOUTS[layout](IMAGES[8]).tobytes() + junk) == {8}, before
        assert seen(junk + LAYOUTS[layout](noise((32, 32, 3), 3)).tobytes() + junk) == set()


def test_grey_as_pillow_makes_it():
    from PIL import Image

    assert seen(Image.fromarray(IMAGES[7]).convert("L").tobytes()) == {7}


@pytest.mark.parametrize("layout", ["RGB", "BGR", "planar"])
def test_any_two_rows_are_found_and_less_than_a_stretch_is_not(layout):
    for row in range(31):
        two = LAYOUTS[layout](IMAGES[7][row : row + 2]).tobytes()
        for before in range(8):
            assert seen(b"xyzxyzxyz"[:before] + two + b"xyz") == {7}, (row, before)
    assert seen(IMAGES[7].reshape(-1, 3)[100 : 100 + STRETCH - 1].tobytes()) == set()


@pytest.mark.parametrize("width", [40, 100, 333])
def test_beside_others_in_a_larger_picture_and_cropped(width):
    sheet = np.zeros((60, width, 3), np.uint8)
    sheet[5:37, 6:38] = IMAGES[8]
    assert seen(sheet.tobytes()) == {8}
    sheet[...] = 0
    sheet[:28, : ROW + 4] = IMAGES[8][4:, 32 - ROW - 4 :]
    assert seen(sheet.tobytes()) == {8}
    sheet[3:] = 0  # three rows are too few
    assert seen(sheet.tobytes()) == set()


def test_small_images_are_found_as_a_whole():
    pixels = Pixels({0: noise((4, 4, 3), 4), 1: noise((8, 8, 3), 5)})
    assert pixels.found_in(noise((4, 4, 3), 4).ravel()) == {0}
    assert pixels.found_in(noise((8, 8, 3), 5).ravel()) == {1}
    assert pixels.found_in(noise((8, 8, 3), 6).ravel()) == set()


def test_plain_stretches_are_nobodys():
    sky = np.full((32, 32, 3), (30, 90, 200), np.uint8)
    half = sky.copy()
    half[16:] = noise((16, 32, 3), 4)
    pixels = Pixels({0: sky, 1: half})
    assert pixels.plain == [0]
    assert pixels.found_in(sky.ravel()) == set()
    assert pixels.found_in(half.ravel()) == pixels.found_in(half[15:].ravel()) == {1}


def test_every_digit_is_found_as_it_is_kept_or_told():
    """The thinnest ones have no eight pixels in a row of which half differ."""
    images = dict(enumerate(np.asarray(load_source(config.Data("digits")).images)))
    pixels = Pixels(images)
    missed = [i for i, image in images.items() if i not in pixels.found_in(image.ravel())]
    assert len(missed) < 5 and set(missed) <= set(pixels.plain)


def test_a_stretch_with_little_in_it_is_nobodys():
    """Rows of 9 different pixels and 55 plain ones: 48 of a row differ 9 times."""
    image = np.full((32, 64, 3), 90, np.uint8)
    image[:, 10:19] = noise((32, 9, 3), 4)
    pixels = Pixels({0: image})
    part = image[3:9, :50, 1]
    assert pixels.found_in(np.concatenate([part, noise((6, 40), 5)], 1).ravel()) == set()


def test_words_that_are_met_before_a_stretch_do_not_hide_it():
    plane, junk = IMAGES[7][..., 1].ravel(), noise(40, 9)
    words = [np.concatenate([plane[at : at + 20], junk, plane[at + 60 : at + 80]]) for at in range(100)]
    assert PIXELS.found_in(np.concatenate(words)) == set()
    for at in range(100):
        assert PIXELS.found_in(np.concatenate([*words, plane[at : at + 64], junk])) == {7}, at


def test_what_is_known_is_not_looked_for_and_nothing_is_found_in_nothing():
    raw = IMAGES[7].ravel()
    assert PIXELS.found_in(raw, {7}) == PIXELS.found_in(raw[:5]) == PIXELS.found_in(raw[:0]) == set()
    assert Pixels({}).found_in(raw) == set()
