"""Images as ``.npz`` files written by NumPy."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from ltu_jax import safe_reading
from ltu_jax.config import Data
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError

RNG = np.random.default_rng(0)
TRAIN = {"images": RNG.integers(0, 256, (6, 5, 4, 3), np.uint8), "labels": np.array([2, 0, 1, 1, 0, 2])}
TEST = {"images": RNG.integers(0, 256, (3, 5, 4, 3), np.uint8), "labels": np.array([1, 1, 0], np.uint8)}


def load(folder, train=TRAIN, test=None, **fields):
    np.savez(folder / "train.npz", **train)
    if test is not None:
        np.savez(folder / "test.npz", **test)
    return load_source(Data("arrays", data_dir=str(folder), **fields))


def test_both_files_are_the_two_parts_and_rows_without_ids_are_numbered(tmp_path):
    source = load(tmp_path, TRAIN, TEST)
    np.testing.assert_array_equal(source.images, np.concatenate([TRAIN["images"], TEST["images"]]))
    np.testing.assert_array_equal(source.labels, [2, 0, 1, 1, 0, 2, 1, 1, 0])
    assert list(source.ids) == [f"train_{i:06d}" for i in range(6)] + [f"test_{i:06d}" for i in range(3)]
    assert (source.num_train, source.num_classes, source.class_names) == (6, 3, None)
    assert source.labels.dtype == np.int32 and source.images.dtype == np.uint8


def test_a_training_file_alone_has_no_test_part(tmp_path):
    source = load(tmp_path)
    assert source.num_train == len(source.labels) == 6


@pytest.mark.parametrize("ids", [np.arange(10, 16), np.array(["10", "11", " 12", "13 ", "14", "15"])])
def test_ids_are_text(tmp_path, ids):
    assert list(load(tmp_path, TRAIN | {"ids": ids}).ids) == ["10", "11", "12", "13", "14", "15"]


@pytest.mark.parametrize("grey", [TRAIN["images"][..., 0], TRAIN["images"][..., :1]])
def test_grey_is_repeated_three_times(tmp_path, grey):
    images = load(tmp_path, TRAIN | {"images": grey}).images
    np.testing.assert_array_equal(images, np.repeat(TRAIN["images"][..., :1], 3, axis=-1))


def test_num_classes_counts_those_that_the_sample_lacks(tmp_path):
    assert load(tmp_path, num_classes=9).num_classes == 9


@pytest.mark.parametrize("changes, problem", [
    ({"images": TRAIN["images"].astype(np.float32)}, "images are float32[6, 5, 4, 3]"),
    ({"images": TRAIN["images"].transpose(0, 3, 1, 2)}, "images are uint8[6, 3, 5, 4]"),
    ({"images": TRAIN["images"][..., :2]}, "images are uint8[6, 5, 4, 2]"),
    ({"images": TRAIN["images"].reshape(6, -1)}, "images are uint8[6, 60]"),
    ({"images": np.zeros((6, 0, 4), np.uint8)}, "images are uint8[6, 0, 4]"),
    ({"labels": TRAIN["labels"].astype(float)}, "labels are float64[6]"),
    ({"labels": TRAIN["labels"] > 0}, "labels are bool[6]"),
    ({"labels": TRAIN["labels"][:, None]}, "labels are int64[6, 1]"),
    ({"labels": np.array(1)}, "labels are int64[]"),
    ({"ids": np.arange(6.0)}, "ids are float64[6]"),
])  # fmt: skip
def test_arrays_of_another_type_or_shape_are_refused(tmp_path, changes, problem):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, TRAIN, TRAIN | changes)
    expected = (
        f"config.data.data_dir: '{tmp_path / 'test.npz'}', {problem}; allowed: what np.savez writes of images (uint8"
    )
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)


@pytest.mark.parametrize("arrays, problem", [
    ({"images": TRAIN["images"]}, "lacks labels, and has images"),
    ({"x": TRAIN["images"], "y": TRAIN["labels"]}, "lacks images and labels, and has x, y"),
    (TRAIN | {"labels": TRAIN["labels"][:4]}, "has 6 images, 4 labels and ids [4]"),
    (TRAIN | {"ids": np.arange(7)}, "has 6 images, 6 labels and ids [7]"),
    (TRAIN | {"ids": np.arange(6)[:, None]}, "has 6 images, 6 labels and ids [6, 1]"),
    ({name: array[:0] for name, array in TRAIN.items()}, "has no images"),
    (TRAIN | {"labels": TRAIN["labels"].astype(object)}, "cannot be read (Object arrays cannot be loaded when"),
])  # fmt: skip
def test_files_that_lack_something_are_refused(tmp_path, arrays, problem):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, arrays)
    assert str(error.value).startswith(f"config.data.data_dir: '{tmp_path / 'train.npz'}' {problem}")
    assert "; allowed: what np.savez writes" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("train, test, fields, problem", [
    (TRAIN | {"labels": [2, -1, 1, 1, -7, 2]}, None, {},
     "2 of 6 labels are not in 0..99999: -1 of row 1 of train.npz, -7 of row 4 of train.npz; allowed: whole numbers"),
    (TRAIN, TEST, {"num_classes": 2}, "2 of 9 labels are not in 0..1: 2 of row 0 of train.npz, 2 of row 5 of"),
    (TRAIN | {"labels": [9, 9, 9, 9, 9, 9]}, TEST, {"num_classes": 9},
     "6 of 9 labels are not in 0..8: 9 of row 0 of train.npz, 9 of row 1 of train.npz, 9 of row 2 of train.npz,"
     " 9 of row 3 of train.npz, 9 of row 4 of train.npz, ...; allowed: "),
    (TRAIN | {"ids": ["a", "b", "a", "c", "b", "a"]}, None, {}, "2 of 3 ids occur more than once: 'a', 'b'; allowed: "),
    (TRAIN | {"ids": [1, 2, 3, 4, 5, 6]}, TEST | {"ids": [7, 6, 8]}, {}, "1 of 8 ids occur more than once: '6';"),
    (TRAIN, TEST | {"ids": ["a", "", " "]}, {}, "2 of 9 ids are empty: row 1 of test.npz, row 2 of test.npz;"),
])  # fmt: skip
def test_rows_that_are_wrong_are_counted_and_named(tmp_path, train, test, fields, problem):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, train, test, **fields)
    assert str(error.value).startswith(f"config.data.data_dir: {str(tmp_path)!r}, {problem}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"^config.data.data_dir: '.*train.npz' cannot be read \(.*\); allowed"
    ) as error:
        load_source(Data("arrays", data_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path / "absent", lambda path: path])
def test_no_folder_or_no_training_file_is_one_line(tmp_path, make):
    np.savez(tmp_path / "test.npz", **TEST)
    path = make(tmp_path)
    with pytest.raises(ConfigError, match=r"^config.data.data_dir: .*; allowed: .*") as error:
        load_source(Data("arrays", data_dir=path and str(path)))
    assert "train.npz" in str(error.value) and "\n" not in str(error.value)


def test_mapped_arrays_are_the_same_and_made_anew_when_a_file_changes(tmp_path):
    kept, here = tmp_path / "kept", tmp_path / "here"
    here.mkdir()
    for train in (TRAIN, TRAIN | {"images": TRAIN["images"] // 2}):
        mapped = load(here, train, TEST, memory_map=str(kept))
        np.testing.assert_array_equal(mapped.images[:6], train["images"])
        assert mapped.sha256() == load_source(Data("arrays", data_dir=str(here))).sha256()


def npy(dtype, shape, content=b""):
    """What NumPy would write of an array, its header true or not."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


@pytest.mark.parametrize("name, content, problem", [
    ("images", npy("|u1", (10**6, 10**3, 10**3, 3)), "images.npy claims 3000000000000 bytes"),
    ("images", npy("|u1", (6, 5, 4, 3), bytes(6 * 5 * 4 * 3 - 1)), "images.npy claims 360 bytes, and there are 359"),
    ("images", npy("|u1", (-1, 5, 4, 3)), "images.npy claims"),
    ("images", npy("|u1", (2**70, 0, 4, 3)), "images"),
    ("labels", npy("|O", (6,), pickle.dumps([os.getpid] * 6) + bytes(9)), "Object arrays cannot be loaded"),
    ("ids", npy("<U1", (6,), b"\xff" * 24), "cannot be read"),
    ("ids", npy("<U250000000", (6,)), "ids.npy claims 6000000000 bytes"),
    ("labels", b"", "cannot be read"),
])  # fmt: skip
def test_a_header_that_lies_is_refused_before_there_is_an_array(tmp_path, name, content, problem):
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        for other in ("images", "labels", "ids"):
            array = TRAIN.get(other, np.arange(6))
            good = npy(array.dtype.str, array.shape, array.tobytes())
            archive.writestr(f"{other}.npy", content if other == name else good)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_source(Data("arrays", data_dir=str(tmp_path)))
    assert str(caught.value).startswith("config.data.data_dir: ")


BLACK = TRAIN | {"images": np.zeros((6, 100, 100, 3), np.uint8)}


def test_compressed_arrays_larger_than_the_memory_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "train.npz", **BLACK)
    size = (tmp_path / "train.npz").stat().st_size
    assert size < 5000
    assert load_source(Data("arrays", data_dir=str(tmp_path))).images.nbytes == 180_000
    monkeypatch.setattr(safe_reading, "memory", lambda: 100_000)
    with pytest.raises(ConfigError, match=f"it claims 180432 bytes, and 100000 are the most for a file of {size}"):
        load_source(Data("arrays", data_dir=str(tmp_path)))


def test_compressed_arrays_far_larger_than_their_file_are_refused_by_their_sum(tmp_path, monkeypatch):
    """34 KB made 1 GB, each array below the memory."""
    monkeypatch.setattr(safe_reading, "LARGEST", 300_000)
    monkeypatch.setattr(safe_reading, "TIMES", 10)
    np.savez_compressed(tmp_path / "train.npz", **BLACK)
    assert load_source(Data("arrays", data_dir=str(tmp_path))).images.nbytes == 180_000
    np.savez_compressed(tmp_path / "train.npz", **BLACK | {"ids": np.arange(6).astype("<U5000")})
    with pytest.raises(ConfigError, match="it claims 300816 bytes, and 300000 are the most"):
        load_source(Data("arrays", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "entry, content",
    [
        ("ids.npy", npy("<U0", (10**9,))),  # no bytes, and a billion texts
        ("labels.npy", npy("|i1", (10**9, 0))),
        ("images", npy("|u1", (2**20, 2**10, 2**10, 3))),  # NumPy reads it, with no .npy in its name
    ],
)
def test_claims_without_bytes_are_refused_before_there_is_an_array(tmp_path, entry, content):
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        for name, array in (TRAIN | {"ids": np.arange(6)}).items():
            if name != entry.partition(".")[0]:
                archive.writestr(f"{name}.npy", npy(array.dtype.str, array.shape, array.tobytes()))
        archive.writestr(entry, content)
    with pytest.raises(ConfigError, match=" claims "):
        load_source(Data("arrays", data_dir=str(tmp_path)))
