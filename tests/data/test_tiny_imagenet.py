"""Tiny-ImageNet from a made-up folder of the exact layout."""

import importlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ltu_jax.config import Data
from ltu_jax.data import tiny_imagenet
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError

WNIDS = ["n03000000", "n01000000", "n02000000"]  # not sorted, as in the real file


def write_raw(raw):
    """Returns the pixels and labels by id; one image of each part is grey."""
    rng, expected = np.random.default_rng(0), {}

    def write(path, label, grey):
        pixels = rng.integers(0, 256, (64, 64) if grey else (64, 64, 3), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, format="JPEG")
        with Image.open(path) as picture:
            assert picture.mode == ("L" if grey else "RGB")
            expected[path.stem] = (np.asarray(picture.convert("RGB")), label)

    raw.mkdir(parents=True)
    (raw / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (raw / "words.txt").write_text("n01000000\tdog\n")
    lines = []
    for label, wnid in enumerate(sorted(WNIDS)):
        for i in range(4):
            write(raw / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", label, grey=label == i == 1)
        (raw / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        write(raw / "val" / "images" / f"val_{label}.JPEG", label, grey=label == 2)
        lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (raw / "val" / "val_annotations.txt").write_text("".join(lines))
    (raw / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(raw / "test" / "images" / "test_0.JPEG")
    return expected


@pytest.mark.parametrize("place", ["tiny-imagenet-200", "downloads/manual/tiny-imagenet-200"])
def test_the_standard_folder_is_prepared_once_and_read_exactly(tmp_path, place):
    expected = write_raw(tmp_path / place)
    data = Data("tiny_imagenet", data_dir=str(tmp_path))
    source = load_source(data)
    assert source.images.shape == (15, 64, 64, 3) and source.num_train == 12 and source.num_classes == 3
    assert sorted(source.ids) == sorted(expected)
    assert set(source.ids[12:]) == {"val_0", "val_1", "val_2"}
    for name, image, label in zip(source.ids, source.images, source.labels, strict=True):
        np.testing.assert_array_equal(image, expected[str(name)][0])
        assert label == expected[str(name)][1]
    (tmp_path / place).rename(tmp_path / "gone")
    assert load_source(data).sha256() == source.sha256()
    assert "tensorflow" not in sys.modules


def test_the_prepared_data_set_is_one_that_tfds_itself_reads(tmp_path):
    expected = write_raw(tmp_path / "tiny-imagenet-200")
    builder = tfds.builder_from_directory(tiny_imagenet.prepare_tiny_imagenet(tmp_path))
    assert builder.info.features["label"].names == sorted(WNIDS)
    assert sorted(builder.info.splits) == ["train", "validation"]
    for row in [*builder.as_data_source(split="train"), *builder.as_data_source(split="validation")]:
        np.testing.assert_array_equal(row["image"], expected[row["id"].decode()][0])


def test_a_colour_jpeg_is_stored_as_it_is(tmp_path):
    write_raw(tmp_path / "tiny-imagenet-200")
    builder = tfds.builder_from_directory(tiny_imagenet.prepare_tiny_imagenet(tmp_path))
    stored = builder.as_data_source(split="validation", decoders={"image": tfds.decode.SkipDecoding()})
    for row in stored:
        content = (tmp_path / "tiny-imagenet-200" / "val" / "images" / f"{row['id'].decode()}.JPEG").read_bytes()
        assert (row["image"] == content) == (row["id"] != b"val_2")  # val_2 is grey


def test_a_missing_folder_is_one_line_that_says_where_it_must_be(tmp_path):
    with pytest.raises(ConfigError, match="^config.data.data_dir: .* has no tiny_imagenet; allowed: unpack") as error:
        load_source(Data("tiny_imagenet", data_dir=str(tmp_path)))
    assert str(tmp_path / "tiny-imagenet-200" / "wnids.txt") in str(error.value) and "\n" not in str(error.value)


def test_an_incomplete_folder_is_one_line_that_names_the_part(tmp_path):
    write_raw(tmp_path / "tiny-imagenet-200")
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").unlink()
    with pytest.raises(ConfigError, match=r"^config.data.data_dir: .* lacks val/val_annotations.txt; allowed: "):
        load_source(Data("tiny_imagenet", data_dir=str(tmp_path)))


def test_a_damaged_image_is_one_line_and_leaves_nothing_prepared(tmp_path):
    write_raw(tmp_path / "tiny-imagenet-200")
    damaged = tmp_path / "tiny-imagenet-200" / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_2.JPEG"
    damaged.write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=rf"^config.data.data_dir: .*{damaged.name} cannot be decoded") as error:
        load_source(Data("tiny_imagenet", data_dir=str(tmp_path)))
    assert "\n" not in str(error.value) and not (tmp_path / "tiny_imagenet" / "1.0.0").exists()


def test_the_module_can_be_imported_twice_and_stays_out_of_tfds_registry():
    importlib.reload(tiny_imagenet)
    assert "tiny_imagenet" not in tfds.list_builders(with_community_datasets=False)


@pytest.mark.parametrize(
    "line", ["../../../x.JPEG\tn01000000\t0", "/x.JPEG\tn01000000", "val_0.JPEG", "\tn01000000", ".."]
)
def test_the_annotations_name_files_of_their_folder_and_no_others(tmp_path, line):
    write_raw(tmp_path / "tiny-imagenet-200")
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"val_annotations.txt: .*; allowed: NAME, a tab, WNID"):
        load_source(Data("tiny_imagenet", data_dir=str(tmp_path)))


def test_an_image_bomb_is_named_with_its_size(tmp_path, monkeypatch):
    write_raw(tmp_path / "tiny-imagenet-200")
    monkeypatch.setattr("ltu_jax.data.records.MAX_PIXELS", 4095)
    with pytest.raises(ConfigError, match=r"JPEG cannot be decoded \(64x64 pixels, more than 4095\); allowed: a JPEG"):
        load_source(Data("tiny_imagenet", data_dir=str(tmp_path)))
