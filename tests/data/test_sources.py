"""The choice of a reader, and what is done to every source alike."""

import time
from pathlib import Path

import numpy as np
import pytest

from ltu_jax.config import Data
from ltu_jax.data import records, sources
from ltu_jax.data.records import Example, Records
from ltu_jax.data.sources import data_root, load_source
from ltu_jax.setting import ConfigError
from ltu_jax.types import silent

LABELS = np.array([3, 1, 0, 2, 1, 3, 0, 0, 2, 1])
NUM_TRAIN = 7
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


@pytest.fixture
def made_up(monkeypatch):
    """Lets ``digits`` be ten rows whose pixels, labels, coarse labels and ids are known."""

    def read(labels=LABELS, ids=None):
        examples = (
            Example(image, int(label), ids[row] if ids else f"row{row}", int(label) // 2)
            for row, (image, label) in enumerate(zip(IMAGES, labels, strict=True))
        )
        records = Records(examples, 4, NUM_TRAIN, 10 - NUM_TRAIN, ("ant", "bee", "cat", "dog"))
        monkeypatch.setattr("ltu_jax.data.digits.read_digits", lambda: records)

    read()
    return read


def test_classes_keeps_these_labels_renumbered_in_order_and_leaves_coarse(made_up):
    source = load_source(Data("digits", classes=(3, 0)))
    kept = np.flatnonzero((LABELS == 3) | (LABELS == 0))
    np.testing.assert_array_equal(source.images, IMAGES[kept])
    np.testing.assert_array_equal(source.labels, np.where(LABELS[kept] == 3, 0, 1))
    np.testing.assert_array_equal(source.coarse, LABELS[kept] // 2)
    assert list(source.ids) == [f"row{row}" for row in kept]
    assert source.num_classes == 2 and source.num_train == np.sum(kept < NUM_TRAIN) < len(kept)
    assert source.class_names == ("dog", "ant")


def test_superclasses_are_the_coarse_labels_of_the_renumbered_classes(made_up):
    source = load_source(Data("digits", classes=(3, 0, 1), superclasses=(1, 0, 1)))
    np.testing.assert_array_equal(source.coarse, np.where(source.labels == 1, 0, 1))
    assert set(source.coarse[source.labels == 1]) == {0}


@pytest.mark.parametrize("coarse", [(0, 1), (0, 0, 0), (0, 2, 2), (0, 1, 1, 0)])
def test_superclasses_that_do_not_fit_the_labels_are_refused(made_up, coarse):
    with pytest.raises(ConfigError, match=r"config.data.superclasses: .* allowed: a coarse label for each of the 3"):
        load_source(Data("digits", classes=(3, 0, 1), superclasses=coarse))


def test_all_classes_are_kept_when_none_is_named(made_up):
    source = load_source(Data("digits"))
    np.testing.assert_array_equal(source.labels, LABELS)
    np.testing.assert_array_equal(source.images, IMAGES)
    assert source.num_classes == 4 and source.num_train == NUM_TRAIN
    assert source.class_names == ("ant", "bee", "cat", "dog")
    assert source.labels.dtype == source.coarse.dtype == np.int32


@pytest.mark.parametrize("classes", [(0, 4), (0, 0), (2,), (-1, 1)])
def test_classes_that_do_not_exist_are_refused(made_up, classes):
    with pytest.raises(ConfigError, match=r"config.data.classes: \(.*allowed: two or more different labels in 0..3"):
        load_source(Data("digits", classes=classes))


def test_rows_without_a_label_are_refused_and_not_dropped(made_up):
    made_up(labels=np.where(LABELS == 2, -1, LABELS))
    with pytest.raises(ConfigError, match="2 of 10 images have no label: row3, row8;"):
        load_source(Data("digits"))


def test_ids_must_be_unique(made_up):
    made_up(ids=["same"] * 3 + list("abcdeef"))
    with pytest.raises(
        ConfigError, match="^config.data.name: 'digits', 2 of 7 ids occur more than once: same, e; allow"
    ):
        load_source(Data("digits"))


@pytest.mark.parametrize("field, value, names", [
    ("table", "x.csv", "table"), ("num_classes", 10, "arrays or table"), ("class_names", ("a", "b"), "folder or table"),
])  # fmt: skip
def test_a_field_of_another_data_set_is_refused(field, value, names):
    with pytest.raises(ConfigError) as error:
        load_source(Data("digits", **{field: value}))
    assert str(error.value) == (
        f"config.data.{field}: {value!r}, but config.data.name is 'digits'; allowed: with config.data.name {names}"
    )


@pytest.mark.parametrize("class_names, count", [(("a",), "1 names, 1"), (("a", "b", "a"), "3 names, 2")])
def test_class_names_are_two_or_more_different_ones(tmp_path, class_names, count):
    with pytest.raises(ConfigError, match=f"^config.data.class_names: {count} different; allowed: two or more"):
        load_source(Data("folder", data_dir=str(tmp_path), class_names=class_names))


def test_image_size_resizes_every_image(made_up):
    assert load_source(Data("digits", image_size=5)).images.shape == (10, 5, 5, 3)


def test_progress_adds_up_to_the_rows():
    seen = []

    class Recorder:
        def __init__(self, label, total):
            seen.append([label, total])

        def __enter__(self):
            return seen[-1].append

        def __exit__(self, *_):
            pass

    load_source(Data("digits"), Recorder)
    [[label, total, *advances]] = seen
    assert label == "reading digits" and total == 1797 == sum(advances) and min(advances) > 0


@pytest.mark.parametrize(
    "name, meant",
    [("cifar1O", "cifar10"), ("fashion_mnst", "fashion_mnist"), ("my_sett", "my_set"), ("digit", "digits")],
)
def test_an_unknown_name_is_answered_in_one_line_with_the_nearest_match(tmp_path, name, meant):
    (tmp_path / "my_set" / "1.0.0").mkdir(parents=True)
    (tmp_path / "my_set" / "1.0.0" / "dataset_info.json").touch()
    started = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        load_source(Data(name, data_dir=str(tmp_path)))
    assert time.perf_counter() - started < 3
    message = str(error.value)
    assert message.startswith(
        f"config.data.name: {name!r} is unknown; allowed: arrays, cifar10, cifar100, digits, folder, my_set,"
    )
    assert message.endswith(f"; did you mean {meant!r}?") and "\n" not in message


def test_a_name_like_nothing_gets_no_guess(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_source(Data("qqqqqqqq", data_dir=str(tmp_path)))
    assert "did you mean" not in str(error.value)


def test_a_data_set_that_tfds_knows_but_nobody_prepared_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"config.data.name: 'mnist' is not prepared in .*; allowed: prepare it"):
        load_source(Data("mnist", data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10", "tiny_imagenet"])
def test_what_is_not_there_is_not_fetched_where_it_may_not_be(tmp_path, name, monkeypatch):
    for where in ("cifar.prepare_cifar", "tiny_imagenet.prepare_tiny_imagenet"):
        monkeypatch.setattr(f"ltu_jax.data.{where}", lambda *args: pytest.fail("it was fetched"))
    with pytest.raises(ConfigError, match=f"{name!r} is not prepared in .*, and nothing is fetched or written here"):
        load_source(Data(name, data_dir=str(tmp_path)), fetch=False)
    assert not list(tmp_path.iterdir())


def test_data_root_is_the_field_then_the_variable_then_the_home_folder(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/from/variable")
    assert data_root(Data(data_dir="/from/field")) == Path("/from/field")
    assert data_root(Data()) == Path("/from/variable")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data_root(Data()) == Path.home() / "tensorflow_datasets"
    assert data_root(Data(data_dir="~/x")) == Path.home() / "x"


def test_the_default_progress_is_silent(made_up, capsys):
    load_source(Data("digits"), silent)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_images_larger_than_the_memory_are_refused_before_they_are_decoded(made_up, monkeypatch):
    monkeypatch.setattr(sources, "memory", lambda: 10 * 100 * 100 * 3 - 1)
    with pytest.raises(ConfigError, match="config.data.image_size: 100 makes 0 GB of 10 images, and the memory is"):
        load_source(Data("digits", image_size=100))
    monkeypatch.setattr(sources, "memory", lambda: 10 * 100 * 100 * 3)
    assert load_source(Data("digits", image_size=100)).images.shape == (10, 100, 100, 3)


def test_an_image_that_is_too_large_is_named_with_its_size_and_the_limit(tmp_path, write_image, monkeypatch):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    monkeypatch.setattr(records, "MAX_PIXELS", 29)
    with pytest.raises(ConfigError, match=r"2 of 2 images cannot be decoded: a/1.png \(5x6 pixels, more than 29\), b"):
        load_source(Data("folder", data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["folder", "table", "arrays", "cifar10", "tiny_imagenet", "made_up"])
def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path, monkeypatch, name):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    for call in ("stat", "listdir", "scandir", "open"):
        monkeypatch.setattr(f"os.{call}", refused)
    data = Data(name, data_dir=str(tmp_path / "here"), table=str(tmp_path / "x.csv") if name == "table" else None)
    with pytest.raises(ConfigError, match="^config.data.(data_dir|table|name): "):
        load_source(data)


def test_a_user_that_is_not_there_is_a_folder_that_is_not_there():
    for name in ("folder", "arrays"):
        with pytest.raises(ConfigError, match="^config.data.data_dir: '~nobody-of-this-name/x'"):
            load_source(Data(name, data_dir="~nobody-of-this-name/x"))
