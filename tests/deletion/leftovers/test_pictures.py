"""An image is itself at another size, mirrored and in grey, and no other one is; pictures are decoded, all pages."""

import io

import numpy as np
import pytest
from PIL import Image

from ltu_jax.deletion.leftovers import pictures
from ltu_jax.deletion.leftovers.pictures import NEAR, SIDE, Album, Picture, jpeg_extent, small
from ltu_jax.deletion.leftovers.unpacking import Budget, TooMuchError


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
            mirrored = [image[:, ::-1] for image in images[:5]]
            assert album.found_in(small(resized(mirrored, side, mode))) == set(range(5)), (side, mode)
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


def test_each_image_has_a_limit_of_its_own():
    """One with a near neighbour among the others does not narrow what is found of the next."""
    first, second = blobs(2)
    near = np.clip(first.astype(int) + 4, 0, 255).astype(np.uint8)
    album = Album([first, second], [near])
    brighter = [np.clip(image.astype(int) - 4, 0, 255).astype(np.uint8) for image in (first, second)]
    assert album.found_in(small(brighter)) == {1}


def encoded(frames, kind, **more):
    file = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(file, kind, **({"save_all": True, "append_images": rest} if rest else {}), **more)
    return file.getvalue()


def read(raw, budget=None):
    picture = Picture(np.frombuffer(raw, np.uint8), budget or Budget(len(raw)))
    return picture, list(picture.frames())


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_every_frame_or_page_is_decoded(kind):
    images = blobs(4)
    picture, frames = read(encoded(images, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert Album(images, blobs(50, seed=1)).found_in(np.concatenate([frame.small for frame in frames])) == {0, 1, 2, 3}
    assert picture.is_one and not picture.problem
    if kind != "GIF":
        assert all(any(np.array_equal(frame.pixels[..., :3], image) for frame in frames) for image in images)


def test_a_jpeg_is_compared_and_its_pixels_are_not_kept():
    picture, (frame,) = read(encoded(blobs(1, side=300), "JPEG") + b"more")
    assert picture.is_jpeg and frame.pixels is None
    np.testing.assert_allclose(frame.small, small(blobs(1, side=300)), atol=3)


def test_what_is_wide_is_brought_to_levels():
    wide = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    _, (frame,) = read(encoded([wide], "TIFF"))
    np.testing.assert_array_equal(frame.pixels, np.arange(256).reshape(16, 16))


def test_what_is_none_or_damaged_or_too_large_is_told(monkeypatch):
    png = encoded(blobs(1), "PNG")
    assert not read(b"no picture" * 20)[0].is_one
    picture, frames = read(png[:200])
    assert picture.is_one and "cannot be decoded" in picture.problem and not frames
    budget = Budget(0)
    budget.left = 5000
    with pytest.raises(TooMuchError):
        read(png, budget)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    assert "32x32 pixels" in read(png)[0].problem


def test_a_jpeg_ends_where_its_end_marker_is():
    raw = encoded(blobs(1), "JPEG")
    data = np.frombuffer(b"xy" + raw + b"more\xff\xd9", np.uint8)
    ends = np.array([at for at in range(len(data)) if data[at : at + 2].tobytes() == b"\xff\xd9"])
    scan, end = jpeg_extent(data, 2, ends)
    assert end == 2 + len(raw) and data[scan : scan + 2].tobytes() == b"\xff\xda"
    assert jpeg_extent(data, 2, ends[:0]) == (scan, len(data))
    assert jpeg_extent(np.frombuffer(b"\xff\xd8\xff" * 100, np.uint8), 0, ends[:0]) is None
