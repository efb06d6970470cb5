"""A data set of the user's own goes the way of the others; what is wrong with one is one line, before it is trusted."""

import os
import sys

import numpy as np
import pytest

from ltu_jax.config import Data
from ltu_jax.data.sources import image_files, load_source
from ltu_jax.setting import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
MODULE = """
import numpy as np
from pathlib import Path
from ltu_jax.data.records import Example, Records

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
GIVEN = dict(num_classes=3, num_train=3, num_test=2)
FILES = {}


def examples(**changed):
    for row, label in enumerate((0, 2, 1, 1, 0)):
        given = dict(image=IMAGES[row], label=label, id=f"row {row}")
        yield Example(**given | (changed if row == 3 else {}))


def read(data):
    return Records(examples(), **GIVEN | FILES)


"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the module, with more functions; loads what one of them reads."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(more="", function="read", **settings):
        monkeypatch.delitem(sys.modules, "their_data", raising=False)
        (tmp_path / "their_data.py").write_text(MODULE + more)
        os.utime(tmp_path / "their_data.py", ns=(10**18, len(more) * 10**9))  # Python's own cache is by size and second
        return load_source(Data(f"their_data:{function}", **settings))

    yield load
    sys.modules.pop("their_data", None)


def test_it_is_read_as_every_data_set_is(written, tmp_path):
    source = written()
    np.testing.assert_array_equal(source.images, IMAGES)
    assert (source.labels.tolist(), source.num_classes, source.num_train) == ([0, 2, 1, 1, 0], 3, 3)
    assert source.ids.tolist() == [f"row {row}" for row in range(5)] and source.class_names is None
    source = written(classes=(1, 0), image_size=4)
    assert source.labels.tolist() == [1, 0, 0, 1] and source.num_train == 2 and source.images.shape == (4, 4, 4, 3)
    assert image_files(Data("their_data:read"), source.ids.tolist()) == {}  # pixels are no files


def test_its_function_gets_the_settings_also_those_that_belong_to_tables(written):
    more = "def read_from(data):\n    return Records(examples(), data.num_classes, 3, 2, data.class_names)\n"
    source = written(more, "read_from", num_classes=3, class_names=("a", "b", "c"))
    assert source.num_classes == 3 and source.class_names == ("a", "b", "c")


def records(changes):
    return f"def wrong(data):\n    return Records(**dict(examples=examples(), **GIVEN) | dict({changes}))\n"


def example(changes):
    return records(f"examples=examples({changes})")


WRONG = {
    "def wrong(data):\n    return 3\n": "'their_data:wrong' gives int; allowed: a function (data) that returns",
    "wrong = 3": "cannot be read (TypeError: 'int' object is not callable); allowed: a function (data) that returns",
    "def wrong(data):\n    raise OSError('gone\\nfor good')\n": "their_data.py', line 22: OSError: gone); allowed",
    "def wrong():\n    pass\n": "cannot be read (TypeError: wrong() takes 0 positional arguments but 1 was given)",
    records("num_classes='3'"): "Records.num_classes: '3'; allowed: a whole number from 2",
    records("num_train=0"): "Records.num_train: 0; allowed: a whole number from 1",
    records("num_test=2.0"): "Records.num_test: 2.0; allowed: a whole number from 0",
    records("class_names=('a', 'b')"): "Records.class_names: ('a', 'b'); allowed: a name for each of the 3 classes",
    records("class_names=3"): "Records.class_names: 3; allowed: a name for each of the 3 classes",
    records("files=('missing.bin',)"): "Records.files: ('missing.bin',); allowed: a tuple of paths",
    records("files='mine.py'"): "Records.files: 'mine.py'; allowed: a tuple of paths of files",
    records("files=(3,)"): "Records.files: (3,); allowed: a tuple of paths of files",
    records("examples=(exit(0) for _ in range(5))"): "cannot be read (",
    records("examples=7"): "cannot be read (TypeError: 'int' object is not iterable); allowed: a function (data)",
    "from sys import exit as wrong": "cannot be read (SystemExit: ",
    records("examples=[(IMAGES[0], 1, 'a')]"): "example 0: tuple; allowed: ltu_jax.data.records.Example",
    records("num_test=3"): "yields 5 examples; allowed: num_train + num_test, which are 3 + 3",
    records("num_test=1"): "yields more than 4 examples; allowed: num_train + num_test, which are 3 + 1",
    records("examples=[]"): "yields 0 examples; allowed: num_train + num_test, which are 3 + 2",
    records("examples=(1 / 0 for _ in 'ab')"): "their_data.py', line 22: ZeroDivisionError: division by zero); allowed",
    example("label=3"): "example 3: its label is 3; allowed: a whole number in 0..2",
    example("label='1'"): "example 3: its label is '1'; allowed: a whole number in 0..2",
    example("label=True"): "example 3: its label is True; allowed",
    example("id=3"): "example 3: its id is 3; allowed: text of one line",
    example("id=''"): "example 3: its id is ''; allowed: text of one line",
    example("id='a\\nb'"): "example 3: its id is 'a\\nb'; allowed: text of one line",
    example("id='row 0'"): "1 of 4 ids occur more than once: row 0; allowed: unique ids",
    example("coarse='x'"): "example 3: its coarse label is 'x'; allowed: a whole number from 0, or None",
    example("image=IMAGES[0] / 255"): "example 3: its image is float64[8, 6, 3]; allowed: uint8 [H,W] or [H,W,3]",
    example("image=IMAGES"): "example 3: its image is uint8[5, 8, 6, 3]; allowed: uint8 [H,W] or [H,W,3]",
    example("image=IMAGES[0][..., :1]"): "example 3: its image is uint8[8, 6, 1]; allowed: uint8 [H,W] or [H,W,3]",
    example("image='a.png'"): "example 3: its image is str; allowed: bytes of an image file, a pathlib.Path, a NumPy",
    example("image=b'GIF'"): "1 of 5 images cannot be decoded: row 3; allowed: BMP/GIF/",
    example("image=IMAGES[0][:4]"): "config.data.image_size: None, but images differ in size (4x6, 8x6); allowed",
}


@pytest.mark.parametrize("more", WRONG)
def test_what_is_wrong_is_one_line(written, more):
    with pytest.raises(ConfigError) as error:
        written(more, "wrong")
    message = str(error.value)
    assert WRONG[more] in message and "\n" not in message
    assert message.startswith("config.data.") and "allowed: " in message


@pytest.mark.parametrize("name", ["their_data:nothing", "no_such_module:read", ":", "their_data:"])
def test_what_cannot_be_imported_is_named(written, name):
    written()
    with pytest.raises(ConfigError, match=f"config.data.name: '{name}' cannot be imported .*; allowed: module:attr"):
        load_source(Data(name))


def test_an_image_that_cannot_be_decoded_is_left_out_where_that_is_asked_for(written):
    source = written(example("image=b'GIF'"), "wrong", skip_unreadable=True)
    assert source.unreadable == ("row 3",) and source.num_train == 3 and len(source.images) == 4


def test_what_is_mapped_follows_its_files_and_its_code(written, tmp_path):
    """A map that went on when the code changed would hold other pixels than the code reads."""
    settings = {"memory_map": str(tmp_path / "map")}
    with pytest.raises(ConfigError, match=r"config.data.memory_map: .* 'their_data:read' does not say which files it"):
        written(**settings)
    np.testing.assert_array_equal(written("FILES = dict(files=())\n", **settings).images, IMAGES)
    darker = "FILES = dict(files=())\nIMAGES //= 2\n"
    np.testing.assert_array_equal(written(darker, **settings).images, IMAGES // 2)
    stored = tmp_path / "images.npy"
    loaded = f"FILES = dict(files=(Path({str(stored)!r}),))\nIMAGES = np.load({str(stored)!r})\n"
    for images in (IMAGES, np.concatenate([IMAGES // 4, IMAGES])):  # of another size: a second may be too short
        np.save(stored, images)
        np.testing.assert_array_equal(written(loaded, **settings).images, images[:5])
    assert len(list((tmp_path / "map").glob("images-*"))) == 4
