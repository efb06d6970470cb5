"""Images in a file: the same as in memory, decoded once, and decoded again when their sources change."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from ltu_jax.config import Data
from ltu_jax.data import sources
from ltu_jax.data.pixels import files_fingerprint
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (6, 5, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i}.png")
    return tmp_path / "images"


def source_of(folder, kept=None):
    return load_source(Data("folder", data_dir=str(folder), memory_map=kept and str(kept)))


def assert_same_source(one, other):
    for name in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert (one.num_classes, one.num_train, one.coarse) == (other.num_classes, other.num_train, other.coarse)
    assert one.sha256() == other.sha256()


def test_mapped_images_are_those_in_memory(folder, tmp_path):
    mapped = source_of(folder, tmp_path / "kept")
    assert isinstance(mapped.images, np.memmap)
    assert_same_source(mapped, source_of(folder))
    coarse = Data("digits", superclasses=(0, 0, 0, 0, 0, 1, 1, 1, 1, 1))
    in_file = Data("digits", superclasses=coarse.superclasses, memory_map=str(tmp_path / "kept"))
    np.testing.assert_array_equal(load_source(in_file).coarse, load_source(coarse).coarse)


def test_a_second_start_decodes_nothing(folder, tmp_path, monkeypatch):
    first = source_of(folder, tmp_path / "kept")
    monkeypatch.setattr(sources, "decode", None)
    assert_same_source(source_of(folder, tmp_path / "kept"), first)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_pixel_that_was_altered_is_seen(folder, tmp_path, place):
    source_of(folder, tmp_path / "kept")
    [file] = (tmp_path / "kept").rglob("images.u8")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^config.data.memory_map: .*images-.*' is damaged \(its pixels are not"):
        source_of(folder, tmp_path / "kept")
    file.parent.rename(tmp_path / "elsewhere")
    assert_same_source(source_of(folder, tmp_path / "kept"), source_of(folder))  # made anew, as the message says


def test_another_image_or_setting_is_another_file(folder, tmp_path):
    kept = tmp_path / "kept"
    source_of(folder, kept)
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(folder / "cat" / "0.png")
    assert_same_source(source_of(folder, kept), source_of(folder))
    small = Data("folder", data_dir=str(folder), memory_map=str(kept), image_size=4)
    assert load_source(small).images.shape == (8, 4, 4, 3)
    cut = dataclasses.replace(small, shorter_side=5)
    np.testing.assert_array_equal(
        load_source(cut).images, load_source(dataclasses.replace(cut, memory_map=None)).images
    )
    assert not np.array_equal(load_source(cut).images, load_source(small).images)


def test_a_folder_of_mapped_images_is_no_part_of_what_they_are_made_of(folder):
    before = files_fingerprint(folder, folder / "kept")
    (folder / "kept" / "images-0").mkdir(parents=True)
    (folder / "kept" / "images-0" / "images.u8").write_bytes(b"pixels")
    assert files_fingerprint(folder, folder / "kept") == before != files_fingerprint(folder, folder / "other")


def test_images_that_cannot_be_decoded_leave_nothing_behind(folder, tmp_path):
    (folder / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="cannot be decoded"):
        source_of(folder, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("name", ["columns.npz", "images.u8"])
@pytest.mark.parametrize("keep", [0, 30])
def test_a_damaged_file_is_one_line_that_says_what_to_do(folder, tmp_path, name, keep):
    source_of(folder, tmp_path / "kept")
    [file] = (tmp_path / "kept").rglob(name)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r"^config.data.memory_map: .* is damaged \(.*\); allowed: delete it"):
        source_of(folder, tmp_path / "kept")
