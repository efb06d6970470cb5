"""Prepared data sets: small ones written here by TFDS, and the real ones where they are."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.registered import skip_registration

from ltu_jax.config import Data
from ltu_jax.data import tfds as reader
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError

RNG = np.random.default_rng(0)
IMAGES = {
    split: RNG.integers(0, 256, (n, 6, 5, 3), np.uint8) for split, n in [("train", 12), ("test", 5), ("validation", 4)]
}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    buffer.seek(0)
    return buffer


def write(root, splits, features, rows, file_format="array_record"):
    """Prepares ``made_up``, whose row ``i`` of a split has the features ``rows(split, i)``."""

    with skip_registration():

        class MadeUp(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(split) for split in splits}

            def _generate_examples(self, split):
                for i in range(len(IMAGES[split])):
                    yield i, rows(split, i)

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    MadeUp(data_dir=root, file_format=file_format).download_and_prepare(download_config=config)


@pytest.fixture(autouse=True)
def no_bars():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


FEATURES = {
    "image": tfds.features.Image(shape=(6, 5, 3)),
    "label": tfds.features.ClassLabel(num_classes=3),
}
FULL = FEATURES | {"id": tfds.features.Text(), "coarse_label": tfds.features.ClassLabel(num_classes=2)}


def plain(split, i):
    return {"image": png(IMAGES[split][i]), "label": i % 3}


def full(split, i):
    return plain(split, i) | {"id": f"{split}-{i}", "coarse_label": i % 3 // 2}


@pytest.mark.smoke
def test_ids_labels_coarse_labels_and_pixels_stay_together(tmp_path):
    write(tmp_path, ("train", "test", "validation"), FULL, full)
    source = load_source(Data("made_up", data_dir=str(tmp_path)))
    assert source.num_train == 12 and len(source.ids) == 17 and source.num_classes == 3
    assert set(source.ids[:12]) == {f"train-{i}" for i in range(12)}
    assert set(source.ids[12:]) == {f"test-{i}" for i in range(5)}  # test, not validation
    for row, name in enumerate(source.ids):
        split, i = str(name).split("-")
        np.testing.assert_array_equal(source.images[row], IMAGES[split][int(i)])
        assert source.labels[row] == int(i) % 3 and source.coarse[row] == int(i) % 3 // 2


@pytest.mark.smoke
def test_rows_read_in_chunks_are_all_there(tmp_path, monkeypatch):
    write(tmp_path, ("train", "test"), FULL, full)
    whole = load_source(Data("made_up", data_dir=str(tmp_path)))
    monkeypatch.setattr(reader, "_CHUNK", 5)
    chunked = load_source(Data("made_up", data_dir=str(tmp_path)))
    assert len(set(chunked.ids)) == 17 and chunked.sha256() == whole.sha256()


def test_validation_is_the_test_part_where_there_is_no_test_split(tmp_path):
    write(tmp_path, ("train", "validation"), FULL, full)
    source = load_source(Data("made_up", data_dir=str(tmp_path)))
    assert set(source.ids[12:]) == {f"validation-{i}" for i in range(4)}


def test_a_training_split_alone_has_no_test_part_and_rows_without_id_are_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_CHUNK", 5)
    write(tmp_path, ("train",), FEATURES, plain)
    source = load_source(Data("made_up", data_dir=str(tmp_path)))
    assert list(source.ids) == [f"train_{i:06d}" for i in range(12)]
    assert source.num_train == 12 and source.coarse is None
    stored = tfds.builder_from_directory(tmp_path / "made_up" / "1.0.0").as_data_source(split="train")
    for row in range(12):  # numbered in the order of the stored rows
        np.testing.assert_array_equal(source.images[row], stored[row]["image"])


def test_grey_images_become_rgb(tmp_path):
    features = FEATURES | {"image": tfds.features.Image(shape=(6, 5, 1))}

    def grey(split, i):
        return plain(split, i) | {"image": png(np.full((6, 5), i, np.uint8))}

    write(tmp_path, ("train",), features, grey)
    images = load_source(Data("made_up", data_dir=str(tmp_path))).images
    assert images.shape == (12, 6, 5, 3) and sorted(images[:, 0, 0, 2]) == list(range(12))


def test_the_newest_version_is_found_by_number(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.10.0.incompleteABC", "note"):
        (tmp_path / "some" / version).mkdir(parents=True)
        (tmp_path / "some" / version / "dataset_info.json").touch()
    (tmp_path / "some" / "2.0.0").mkdir()  # nothing prepared in it
    (tmp_path / "other").mkdir()
    assert reader.find_prepared(tmp_path, "some") == tmp_path / "some" / "1.10.0"
    assert reader.find_prepared(tmp_path, "other") is None and reader.find_prepared(tmp_path / "absent", "some") is None
    assert reader.prepared_names(tmp_path) == ["some"]


@pytest.mark.parametrize("splits, features, rows, message", [
    (("test",), FEATURES, plain, r"has splits \['test'\]; allowed: one called 'train'"),
    (("train",), {"label": FEATURES["label"]}, lambda s, i: {"label": 0}, "is not an image classification"),
    (("train",), FEATURES | {"label": tfds.features.Scalar(np.int64)}, plain, "is not an image classification"),
])  # fmt: skip
def test_what_is_not_image_classification_is_refused(tmp_path, splits, features, rows, message):
    write(tmp_path, splits, features, rows)
    with pytest.raises(ConfigError, match=f"^config.data.name: 'made_up' {message}"):
        load_source(Data("made_up", data_dir=str(tmp_path)))


def test_a_format_without_random_access_is_refused(tmp_path):
    write(tmp_path, ("train",), FULL, full)
    info = tmp_path / "made_up" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ConfigError, match="is stored as tfrecord; allowed: prepared with file_format='array_record'"):
        load_source(Data("made_up", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "name, num_classes, num_train", [("cifar10_jpeg", 10, 50000), ("tiny_imagenet32", 200, 100000)]
)
def test_the_real_data_sets_have_their_known_sizes(tfds_dir, name, num_classes, num_train):
    records = reader.read_prepared(reader.find_prepared(tfds_dir, name))
    assert (records.num_classes, records.num_train, records.num_test) == (num_classes, num_train, 10000)


@pytest.mark.slow
def test_real_images_of_two_classes_equal_tfds_own_decoding(tfds_dir):
    source = load_source(Data("tiny_imagenet32", data_dir=str(tfds_dir), classes=(7, 3)))
    assert source.num_train == 1000 and len(source.ids) == 1100
    names = next((tfds_dir / "tiny_imagenet32").glob("*/label.labels.txt")).read_text().split()
    assert source.class_names == (names[7], names[3])
    part = tfds.builder_from_directory(reader.find_prepared(tfds_dir, "tiny_imagenet32")).as_data_source(
        split="validation"
    )
    rows = [row for row in part.__getitems__(list(range(len(part)))) if row["label"] in (7, 3)]
    assert [row["id"].decode() for row in rows] == list(source.ids[1000:])
    np.testing.assert_array_equal(source.images[1000:], [row["image"] for row in rows])
    np.testing.assert_array_equal(source.labels[1000:], [0 if row["label"] == 7 else 1 for row in rows])


@pytest.mark.smoke
def test_reading_prints_nothing_and_needs_no_tensorflow(tfds_dir):
    """The real files have groups of 128 rows, about which the reader would complain."""
    version = reader.find_prepared(tfds_dir, "cifar10_jpeg")
    code = (
        "import sys, pathlib; from ltu_jax.data import tfds;"
        f"next(tfds.read_prepared(pathlib.Path({str(version)!r})).examples); sys.exit('tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def damaged(root, name, old, new):
    [path] = root.rglob(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name, old, new, problem", [
    ("features.json", "tensorflow_datasets.core.features.image_feature.Image", "antigravity.X", "not run"),
    ("dataset_info.json", "{DATASET}-{SPLIT}", "../{DATASET}-{SPLIT}", "which leaves it"),
    ("dataset_info.json", '"name": "train"', '"name": ".."', "which leaves it"),
    ("dataset_info.json", "12", "13", "cannot be read"),
    ("dataset_info.json", "{", "[", "cannot be read"),
    ("dataset_info.json", '"version": "1.0.0"', '"version": "x"', "cannot be read"),
    ("features.json", '"numClasses": "3"', '"numClasses": "3000000000"', "claims 3000000000 classes; allowed: 100000"),
    ("features.json", "featuresDict", "featuresDich", "cannot be read"),
    ("features.json", "uint8", "uint9", "cannot be read"),
])  # fmt: skip
def test_a_description_that_lies_is_one_line_and_imports_nothing(tmp_path, monkeypatch, name, old, new, problem):
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)  # another test may have imported it
    write(tmp_path, ("train",), FEATURES, plain)
    damaged(tmp_path, name, old, new)
    with pytest.raises(ConfigError, match=problem):
        load_source(Data("made_up", data_dir=str(tmp_path)))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_records_that_are_cut_off_are_one_line(tmp_path, keep):
    write(tmp_path, ("train",), FEATURES, plain)
    [path] = tmp_path.rglob("*.array_record-*")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_source(Data("made_up", data_dir=str(tmp_path)))
