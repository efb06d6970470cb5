"""decode against NumPy, and against JAX's own antialiased resize."""

import io
import os
import struct
import zlib

import jax
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from ltu_jax.data.records import UnfitImageError, count_classes, decode, first_five, places, refuse, repeated
from ltu_jax.setting import ConfigError

pytestmark = pytest.mark.smoke

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


@pytest.mark.parametrize(
    ("height", "width", "shorter", "size", "top", "left"),
    [
        (6, 10, 6, 4, 1, 3),  # nothing to resize: rows 1 to 4, columns 3 to 6
        (11, 6, 6, 3, 4, 2),  # torchvision rounds halves to even: (6 - 3) / 2 is 2, (11 - 3) / 2 is 4
        (8, 8, 8, 8, 0, 0),
    ],
)
def test_the_middle_is_cut_out_as_by_torchvisions_center_crop(height, width, shorter, size, top, left):
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(decode(pixels, size, shorter), pixels[top : top + size, left : left + size])


def test_the_aspect_ratio_is_kept_where_the_middle_is_cut_out():
    """Of 12 x 30 pixels at a shorter side of 8 the longer one has int(8 * 30 / 12) = 20, of which 6 to 13 stay."""
    pixels = RNG.integers(0, 256, (12, 30, 3), np.uint8)
    whole = jax.image.resize(pixels.astype(np.float32), (8, 20, 3), "linear", antialias=True)
    np.testing.assert_allclose(decode(encoded(pixels), 8, 8), whole[:, 6:14], atol=1.01)


def test_a_strip_that_would_be_too_large_at_its_shorter_side_is_refused():
    strip = np.full((1, 100_000, 3), 7, np.uint8)
    with pytest.raises(UnfitImageError, match="^25600000x256 pixels at that shorter side, more than "):
        decode(strip, 4, 256)
    assert decode(strip, 4, 8).tolist() == [[[7] * 3] * 4] * 4


def test_sixteen_bits_a_channel_are_refused_and_not_clipped():
    with pytest.raises(ValueError, match="8 bits a channel"):
        decode(encoded(RNG.integers(0, 65536, (7, 5), np.uint16)), None)


def test_a_file_is_decoded_as_its_bytes_are(tmp_path):
    pixels = RNG.integers(0, 256, (7, 5, 3), np.uint8)
    (tmp_path / "x.png").write_bytes(encoded(pixels))
    np.testing.assert_array_equal(decode(tmp_path / "x.png", None), pixels)


def png_that_claims(width, height):
    """A PNG of 60 bytes whose header is right and whose pixels are none."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(8000, 8001), (64_000_001, 1)])
def test_an_image_of_more_than_64_million_pixels_is_refused_before_it_is_decoded(width, height, monkeypatch):
    def convert(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ValueError, match=f"^{width}x{height} pixels, more than 64000000$"):
        decode(png_that_claims(width, height), None)
    with pytest.raises(AssertionError, match="decoded"):
        decode(png_that_claims(8000, 8000), None)


def test_the_first_five_are_named():
    assert first_five("abcde") == "a, b, c, d, e" and first_five("abcdef") == "a, b, c, d, e, ..."


def test_offenders_are_counted_and_none_is_no_error():
    refuse("config.x: 1", [], 9, "rows are odd", "even ones")
    with pytest.raises(ConfigError, match=r"^config.x: 1, 2 of 9 rows are odd: a, b; allowed: even ones$"):
        refuse("config.x: 1", ["a", "b"], 9, "rows are odd", "even ones")


def test_repeated_ids_are_named_once_in_order():
    assert repeated(["b", "a", "c", "a", "b", "b"]) == ["b", "a"] and repeated(["a", "b"]) == []


def test_classes_are_the_largest_label_and_one_unless_they_are_given():
    assert count_classes("x", [0, 4, 2], ["", "", ""], None) == 5
    assert count_classes("x", [0, 4, 2], ["", "", ""], 12) == 12


@pytest.mark.parametrize("num_classes, highest, outside", [(3, 2, "b, c, d"), (None, 99999, "b, d")])
def test_labels_outside_the_classes_are_refused(num_classes, highest, outside):
    rows, labels = ["a", "b", "c", "d", "e"], [0, -1, 3, 100000, 2]
    with pytest.raises(ConfigError, match=rf"^x, . of 5 labels are not in 0..{highest}: {outside}; allowed: whole"):
        count_classes("x", labels, rows, num_classes)


@pytest.mark.parametrize("width, height", [(10_000, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_pillows_own_limits_are_neither_a_warning_nor_another_error(width, height, recwarn):
    with pytest.raises(UnfitImageError, match="more than 64000000"):
        decode(png_that_claims(width, height), None)
    assert not recwarn.list


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"])
def test_no_format_is_read_for_which_pillow_starts_a_program(content):
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "EPS"
    with pytest.raises(UnidentifiedImageError):
        decode(content, None)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ValueError, match="not a regular file"):
        decode(tmp_path / "x.png", None)


def test_paths_lead_to_where_they_lead_within_their_folder_and_nowhere_outside(tmp_path):
    (tmp_path / "top" / "in").mkdir(parents=True)
    for link, target in {"out": "..", "up": "in/../..", "loop": "loop", "in/same": ".", "in/abs": tmp_path}.items():
        (tmp_path / "top" / link).symlink_to(target)
    (tmp_path / "link").symlink_to("top")
    top = str(tmp_path / "top")
    wanted = {
        "a": f"{top}/a",
        "in/../a": f"{top}/a",
        "in/same/b": f"{top}/in/b",
        "a\0": "",
        **dict.fromkeys(["../a", "in/../../a", "out/a", "up", "in/abs/a", "/etc/passwd", f"{top}/a", "in/same/../.."]),
        "out/top/a": f"{top}/a",
    }
    assert places(tmp_path / "link", list(wanted)) == list(wanted.values())
