"""Flips and crops against a brute-force list of all that an augmented image may be."""

import chex
import jax
import numpy as np
import pytest

from ltu_jax.data.augment import augment


def images(batch, height=16, width=24):
    return jax.random.uniform(jax.random.key(7), (batch, height, width, 3), minval=0.1)


def test_none_changes_nothing():
    chex.assert_trees_all_equal(augment(jax.random.key(0), images(3), "none"), images(3))


def test_a_flip_mirrors_left_and_right_and_each_image_has_its_own_coin():
    before = np.asarray(images(400))
    after = np.asarray(augment(jax.random.key(0), images(400), "flip"))
    kept, mirrored = ((after == x).all(axis=(1, 2, 3)) for x in (before, before[:, :, ::-1]))
    assert np.all(kept ^ mirrored)
    assert abs(mirrored.mean() - 0.5) < 0.1  # four standard deviations


def test_a_crop_is_a_window_of_the_zero_padded_image_and_each_image_has_its_own():
    # an eighth: 2 rows above and below, 3 columns left and right, so 5 x 7 windows, each mirrored or not
    before = np.asarray(images(3000))
    after = np.asarray(jax.jit(augment, static_argnums=2)(jax.random.key(0), before, "crop_flip"))
    counts = np.zeros((2, 5, 7))
    for flip in range(2):
        padded = np.pad(before[:, :, :: -1 if flip else 1], ((0, 0), (2, 2), (3, 3), (0, 0)))
        for top in range(5):
            for left in range(7):
                window = padded[:, top : top + 16, left : left + 24]
                counts[flip, top, left] = (after == window).all(axis=(1, 2, 3)).sum()
    assert counts.sum() == 3000  # every image is exactly one of them
    expected = 3000 / 70
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected))
    drawn_flip = counts.sum(axis=(1, 2))
    assert abs(drawn_flip[1] / 3000 - 0.5) < 0.04


def test_another_key_draws_something_else_and_the_same_key_the_same():
    draw = lambda seed: augment(jax.random.key(seed), images(8), "crop_flip")  # noqa: E731
    chex.assert_trees_all_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_images_too_small_to_pad_are_only_flipped():
    before = images(50, 7, 7)
    key = jax.random.key(0)
    after = augment(key, before, "crop_flip")
    assert all(np.array_equal(a, b) or np.array_equal(a, b[:, ::-1]) for a, b in zip(after, before, strict=True))


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="augment: 'rotate' is unknown; allowed: none, flip, crop_flip"):
        augment(jax.random.key(0), images(2), "rotate")


@pytest.mark.parametrize("kind", ["flip", "crop_flip"])
def test_leading_axes_are_one_row_of_images(kind):
    flat, key = images(12), jax.random.key(3)
    stacked = augment(key, flat.reshape(3, 4, *flat.shape[1:]), kind)
    chex.assert_trees_all_equal(stacked.reshape(flat.shape), augment(key, flat, kind))
