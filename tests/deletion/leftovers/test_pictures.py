"""An image is itself at another size and in grey, and no other one is."""

import numpy as np
from PIL import Image

from ltu_jax.deletion.leftovers.pictures import NEAR, SIDE, Album, small


def blobs(count, seed=0, side=32):
    rng = np.random.default_rng(seed)
    tiny = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in tiny]


def resized(images, side, mode="RGB"):
    return [Image.fromarray(image).convert(mode).resize((side, side), Image.Resampling.BICUBIC) for image in images]


def test_at_other_sizes_and_in_grey_each_is_found_and_no_other():
    images, others = blobs(30), blobs(300, seed=1)
    album = Album(images[:10], others)
    for side in (12, 20, 32, 100):
        for mode in ("RGB", "L"):
            assert album.found_in(small(resized(images[:10], side, mode))) == set(range(10)), (side, mode)
            assert album.found_in(small(resized([*images[10:], *others], side, mode))) == set(), (side, mode)
    assert album.found_in(small([])) == set()


def test_pictures_are_compared_at_one_size():
    assert small(blobs(3)).shape == (3, SIDE, SIDE, 3) and small(blobs(1)).dtype == np.float32
    grey = Image.fromarray(np.full((9, 7), 40, np.uint8))
    assert (small([grey]) == 40).all()


def test_an_image_with_a_near_neighbour_must_be_met_closely():
    """The neighbour is 4 levels away: within NEAR, but it is another image."""
    [image] = blobs(1)
    near = np.clip(image.astype(int) + 4, 0, 255).astype(np.uint8)
    far = Album([image], blobs(5, seed=2))
    assert far.found_in(small([near])) == {0} and NEAR > 4
    album = Album([image], [near])
    assert album.found_in(small([image])) == {0} and album.found_in(small([near])) == set()
