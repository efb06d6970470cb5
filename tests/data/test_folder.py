"""Images by class, written by Pillow and read back."""

import os

import numpy as np
import pytest

from ltu_jax.config import Data
from ltu_jax.data.records import FORMATS
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError

pytestmark = pytest.mark.smoke


def load(path, **fields):
    return load_source(Data("folder", data_dir=str(path), **fields))


def test_classes_are_sorted_and_ids_are_relative_paths(tmp_path, write_image):
    zebra = write_image(tmp_path / "zebra" / "a.png", seed=1)
    ant = [write_image(tmp_path / "ant" / name, seed=2 + i) for i, name in enumerate(["b.PNG", "c.bmp"])]
    source = load(tmp_path)
    assert list(source.ids) == ["ant/b.PNG", "ant/c.bmp", "zebra/a.png"]
    np.testing.assert_array_equal(source.images, [*ant, zebra])
    np.testing.assert_array_equal(source.labels, [0, 0, 1])
    assert source.num_classes == 2 and source.num_train == 3


def test_train_and_test_folders_are_the_two_parts(tmp_path, write_image):
    train = [write_image(tmp_path / "train" / name / "x.png", seed=i) for i, name in enumerate(["a", "b", "c"])]
    test = write_image(tmp_path / "test" / "b" / "x.png", seed=9)
    source = load(tmp_path)
    assert list(source.ids) == ["train/a/x.png", "train/b/x.png", "train/c/x.png", "test/b/x.png"]
    np.testing.assert_array_equal(source.images, [*train, test])
    np.testing.assert_array_equal(source.labels, [0, 1, 2, 1])
    assert source.num_train == 3 and source.num_classes == 3


def test_other_files_hidden_names_and_empty_classes_are_passed_over(tmp_path, write_image):
    for name in ("a/1.png", "b/1.png", ".cache/1.png", "a/.hidden.png"):
        write_image(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "aa").mkdir()
    source = load(tmp_path)
    assert list(source.ids) == ["a/1.png", "b/1.png"] and source.num_classes == 2


def test_every_format_that_is_read_is_found_by_its_usual_names(tmp_path):
    """Their names are those that Pillow lists for the formats; what is no image by its name is told."""
    from PIL import Image

    Image.init()
    kinds = {name: kind for name, kind in Image.registered_extensions().items() if kind in FORMATS}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    for name in (".apng", ".pfm"):  # moving, of floats
        kinds.pop(name, None)
    for name, kind in kinds.items():
        (tmp_path / name[1:]).mkdir()
        picture.save(tmp_path / name[1:] / f"a{name.upper()}", kind)
    source = load(tmp_path)
    assert sorted(source.ids) == sorted(f"{name[1:]}/a{name.upper()}" for name in kinds)
    assert (source.images[source.labels == source.class_names.index("tiff")] == np.asarray(picture)).all()


def test_files_that_are_left_out_are_named(tmp_path, write_image, caplog):
    for name in "ab":
        write_image(tmp_path / "train" / name / "1.png")
    for i in range(7):
        (tmp_path / "train" / "a" / f"{i}.heic").write_bytes(b"")
    (tmp_path / "train" / "a" / ".DS_Store").write_bytes(b"")
    assert list(load(tmp_path).ids) == ["train/a/1.png", "train/b/1.png"]
    [message] = [record.getMessage() for record in caplog.records]
    assert "left out, 7 files whose names are not those of images: a/0.heic, a/1.heic, a/2.heic, a/3" in message


def test_damaged_images_are_counted_and_the_first_five_named(tmp_path, write_image):
    write_image(tmp_path / "b" / "good.png")
    for i in range(7):
        write_image(tmp_path / "a" / f"{i}.png")
        damaged = (tmp_path / "a" / f"{i}.png").read_bytes()[: 60 if i % 2 else 5]  # within the pixels, the header
        (tmp_path / "a" / f"{i}.png").write_bytes(damaged)
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    message = str(error.value)
    assert "7 of 8 images cannot be decoded: a/0.png, a/1.png, a/2.png, a/3.png, a/4.png, ...; allowed:" in message
    assert "5.png" not in message and "\n" not in message


def test_images_of_several_sizes_need_image_size(tmp_path, write_image):
    write_image(tmp_path / "a" / "1.png", (6, 5, 3))
    write_image(tmp_path / "b" / "1.png", (6, 7, 3))
    with pytest.raises(ConfigError, match=r"config.data.image_size: None, .* \(6x5, 6x7\); allowed: an integer"):
        load(tmp_path)
    assert load(tmp_path, image_size=8).images.shape == (2, 8, 8, 3)


def test_a_test_class_without_training_images_is_refused(tmp_path, write_image):
    for name in ("train/a/1.png", "train/b/1.png", "test/c/1.png"):
        write_image(tmp_path / name)
    with pytest.raises(ConfigError, match="test images of 'c' and no training images; allowed: a, b"):
        load(tmp_path)


@pytest.mark.parametrize("present", [("ant", "cat"), ("dog", "ant"), ("ant", "bee", "cat", "dog")])
def test_class_names_keep_the_labels_where_the_sample_lacks_a_class(tmp_path, write_image, present):
    names = ("dog", "bee", "ant", "cat")
    for i, name in enumerate(present):
        write_image(tmp_path / name / "1.png", seed=i)
    source = load(tmp_path, class_names=names)
    assert source.num_classes == 4 and source.class_names == names
    assert [names[label] for label in source.labels] == [str(i).split("/")[0] for i in source.ids] == sorted(present)
    assert load(tmp_path).class_names == tuple(sorted(present))


def test_a_test_class_without_training_images_is_allowed_where_class_names_has_it(tmp_path, write_image):
    for name in ("train/a/1.png", "train/b/1.png", "test/c/1.png"):
        write_image(tmp_path / name)
    source = load(tmp_path, class_names=("c", "b", "a"))
    np.testing.assert_array_equal(source.labels, [2, 1, 0])
    assert source.num_train == 2


def test_folders_that_are_no_class_are_counted_and_named(tmp_path, write_image):
    for name in ("train/a/1.png", "train/x/1.png", "test/y/1.png", "test/x/1.png"):
        write_image(tmp_path / name)
    with pytest.raises(ConfigError) as error:
        load(tmp_path, class_names=("b", "a"))
    assert str(error.value) == (
        f"config.data.data_dir: {str(tmp_path)!r}, 2 of 3 folders are not in config.data.class_names: 'x', 'y';"
        " allowed: b, a"
    )


@pytest.mark.parametrize("kept", [None, "kept"])
def test_unreadable_images_are_left_out_and_named_where_that_is_asked_for(tmp_path, write_image, kept):
    good = [write_image(tmp_path / "here" / name, seed=i) for i, name in enumerate(["train/a/2.png", "train/b/1.png"])]
    tested = write_image(tmp_path / "here" / "test" / "a" / "2.png", seed=5)
    for name in ("train/a/1.png", "train/b/2.png", "test/a/1.png"):
        write_image(tmp_path / "here" / name)
        (tmp_path / "here" / name).write_bytes((tmp_path / "here" / name).read_bytes()[:60])
    fields = {"memory_map": kept and str(tmp_path / kept)}
    with pytest.raises(ConfigError, match=r"3 of 6 images .*, or config.data.skip_unreadable=True to leave them out$"):
        load(tmp_path / "here", **fields)
    for _ in range(2):  # made, and read again
        source = load(tmp_path / "here", skip_unreadable=True, **fields)
        assert source.unreadable == ("train/a/1.png", "train/b/2.png", "test/a/1.png")
        assert list(source.ids) == ["train/a/2.png", "train/b/1.png", "test/a/2.png"] and source.num_train == 2
        np.testing.assert_array_equal(source.images, [*good, tested])
        np.testing.assert_array_equal(source.labels, [0, 1, 0])
    with pytest.raises(ConfigError, match="3 of 6 images cannot be decoded"):
        load(tmp_path / "here", **fields)


def test_readable_images_are_the_same_whether_others_may_be_left_out(tmp_path, write_image):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    source = load(tmp_path, skip_unreadable=True)
    assert source.unreadable == load(tmp_path).unreadable == () and source.sha256() == load(tmp_path).sha256()


def test_training_images_that_are_all_unreadable_are_no_data_set(tmp_path, write_image):
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        write_image(tmp_path / name)
    for name in ("a", "b"):
        (tmp_path / "train" / name / "1.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="2 of 3 images cannot be decoded: train/a/1.png, train/b/1.png;") as error:
        load(tmp_path, skip_unreadable=True)
    assert "skip_unreadable" not in str(error.value)


def test_one_class_is_refused(tmp_path, write_image):
    write_image(tmp_path / "only" / "1.png")
    with pytest.raises(ConfigError, match="number of classes 1; allowed: 2 to 100000"):
        load(tmp_path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path / "absent", lambda path: path])
def test_no_folder_or_an_empty_one_is_one_line(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(ConfigError, match=r"^config.data.data_dir: .*; allowed: a folder with CLASS/\*.png") as error:
        load_source(Data("folder", data_dir=path and str(path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("link, target", [("a/2.png", "../../x.png"), ("c", "../outside"), ("c", "/")])
def test_images_that_links_lead_to_lie_in_the_folder(tmp_path, write_image, link, target):
    write_image(tmp_path / "x.png")
    write_image(tmp_path / "outside" / "3.png")
    write_image(tmp_path / "top" / "a" / "1.png")
    (tmp_path / "top" / "b").symlink_to("a")
    assert list(load(tmp_path / "top").ids) == ["a/1.png", "b/1.png"]
    (tmp_path / "top" / link).symlink_to(target if target != "/" else tmp_path / "outside")
    with pytest.raises(
        ConfigError, match=f"[12] of [34] images are links that leave it: '{link}.*; allowed: links within"
    ):
        load(tmp_path / "top")


@pytest.mark.parametrize("name", [b"caf\xe9", b"in\ncorrect"])
def test_names_that_are_no_text_are_refused_in_one_line_or_shown_escaped(tmp_path, write_image, name):
    write_image(tmp_path / "a" / "1.png")
    write_image(tmp_path / "b" / "1.png")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / os.fsdecode(name + b".png"))
    if b"\n" in name:
        (tmp_path / "a" / os.fsdecode(name + b".png")).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"names that are no text: 'a/caf\\udce9|decoded: a/in\\ncorrect") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
