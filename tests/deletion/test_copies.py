"""Copies that were planted are found, by what they are; what is merely similar is not."""

import io
import time

import numpy as np
import pytest

from ltu_jax.deletion.copies import copies_in, find_copies
from ltu_jax.types import Source, Splits

ROWS = 60


@pytest.fixture(scope="module")
def images():
    """Smooth pictures of 32x32, each its own: waves of a few frequencies."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] / 32
    waves = np.zeros((ROWS, 32, 32, 3))
    for fx, fy in np.ndindex(4, 4):
        phase, height = rng.uniform(0, 6.28, (ROWS, 1, 1, 3)), rng.normal(0, 30, (ROWS, 1, 1, 3))
        waves += height * np.sin(6.28 * (fx * x + fy * y)[None, :, :, None] + phase)
    return np.clip(waves + 128, 0, 255).astype(np.uint8)


def jpeg(image, quality):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(image, side):
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side)).resize((32, 32)))


NEAR = {
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 60": lambda image: jpeg(image, 60),
    "at half the size and back": lambda image: resized(image, 16),
    "at twice the size and back": lambda image: resized(image, 64),
    "a little brighter": lambda image: np.clip(image.astype(int) + 6, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, JPEG 60": lambda image: jpeg(np.ascontiguousarray(image[:, ::-1]), 60),
    "one pixel": lambda image: np.where(np.arange(32 * 32 * 3).reshape(32, 32, 3) == 5, image ^ 1, image),
}


@pytest.mark.parametrize("form", NEAR)
def test_the_same_picture_in_another_form_is_found_and_no_other(images, form):
    planted = np.stack([NEAR[form](image) for image in images[:30:3]])
    found = find_copies(np.concatenate([images, planted]), np.arange(30), np.arange(30, ROWS + 10))
    assert found.rows.tolist() == list(range(ROWS, ROWS + 10)) and found.of.tolist() == list(range(0, 30, 3))
    assert not found.is_same.any()


def test_what_is_identical_is_told_from_what_is_near(images):
    all_images = np.concatenate([images, images[[4, 7]], jpeg(images[2], 60)[None]])
    found = find_copies(all_images, np.arange(30), np.arange(30, ROWS + 3))
    assert (found.rows.tolist(), found.of.tolist()) == ([ROWS, ROWS + 1, ROWS + 2], [4, 7, 2])
    assert found.is_same.tolist() == [True, True, False] and found.counts() == {"identical": 2, "near": 1}


def test_a_picture_turned_upside_down_is_no_copy(images):
    planted = images[:30:3][:, ::-1]
    assert not len(find_copies(np.concatenate([images, planted]), np.arange(30), np.arange(30, ROWS + 10)).rows)


def test_plain_images_are_copies_only_to_the_byte(images):
    plain = np.full((4, 32, 32, 3), 255, np.uint8)
    plain[1:3] -= np.array([1, 2], np.uint8)[:, None, None, None]
    found = find_copies(np.concatenate([images, plain]), np.arange(ROWS + 1), np.arange(ROWS + 1, ROWS + 4))
    assert found.rows.tolist() == [ROWS + 3] and found.counts() == {"identical": 1, "near": 0}


@pytest.mark.parametrize("shape", [(40, 1, 12, 3), (40, 4, 4, 3), (40, 9, 9, 1)])
def test_data_that_are_no_pictures_are_compared_to_the_byte_alone(shape):
    rows = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    rows[30], rows[31] = rows[3], rows[4] ^ 1
    found = find_copies(rows, np.arange(20), np.arange(20, 40))
    assert found.rows.tolist() == [30] and found.of.tolist() == [3] and found.is_same.all()


def test_what_is_near_is_found_whatever_the_order_and_the_pieces(images, monkeypatch):
    """Against every pair compared at once."""
    rng = np.random.default_rng(1)
    noisy = np.clip(images + rng.normal(0, 8, images.shape), 0, 255).astype(np.uint8)
    both = np.concatenate([images, noisy])[rng.permutation(2 * ROWS)]
    one, other = np.arange(0, 2 * ROWS, 2), np.arange(1, 2 * ROWS, 2)
    flat = both.reshape(2 * ROWS, -1).astype(float)
    expected = other[(np.corrcoef(flat)[one][:, other] >= 0.93).any(0)]
    assert 10 < len(expected) < ROWS - 10
    for at_once in (1, 7, 1000):
        monkeypatch.setattr("ltu_jax.deletion.copies._AT_ONCE", at_once)
        assert find_copies(both, one, other).rows.tolist() == expected.tolist()


def test_which_sets_are_compared_and_how_they_are_named(images):
    """Forgotten against what stays, training rows against held-out ones of every purpose."""
    rows = images.copy()
    rows[20], rows[41], rows[45], rows[55] = images[2], images[2], images[25], jpeg(images[30], 70)
    rows[42] = images[50]  # two held-out rows: nobody minds
    index = [np.arange(*ends) for ends in ((0, 10), (10, 40), (40, 45), (45, 52), (52, 60))]
    splits = Splits(index[0], index[1], index[2], index[3], index[4], np.zeros(0, np.int64))
    ids = np.array([f"id{i}" for i in range(ROWS)])
    source = Source("made", rows, np.zeros(ROWS, np.int32), ids, 2, 40)
    found = copies_in(source, splits)
    assert found["remain"].as_json(ids) == {"identical": 1, "near": 0, "first": [["id20", "id2"]]}
    assert found["held_out"].counts() == {"identical": 2, "near": 1}
    assert found["held_out"].named(ids) == [["id41", "id2"], ["id45", "id25"], ["id55", "id30"]]
    rows[10:17] = images[1]
    assert len(copies_in(source, splits)["remain"].named(ids)) == 5


def test_many_rows_take_seconds():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (20_000, 16, 16, 3), np.uint8)
    rows[19_000] = rows[5]
    start = time.process_time()
    assert find_copies(rows, np.arange(1000), np.arange(1000, 20_000)).rows.tolist() == [19_000]
    assert time.process_time() - start < 20
