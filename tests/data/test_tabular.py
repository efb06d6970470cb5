"""Tables of images: CSV as bytes written by hand, Parquet by pyarrow, images by Pillow."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from ltu_jax import safe_reading
from ltu_jax.config import Data
from ltu_jax.data import sources
from ltu_jax.data.sources import load_source
from ltu_jax.setting import ConfigError

pytestmark = pytest.mark.smoke

SHAPE = (6, 5, 3)


@pytest.fixture
def pixels(tmp_path, write_image):
    """Six images ``a.png`` to ``e.png`` and ``in/f.png`` beside the table; by path."""
    names = [*(f"{letter}.png" for letter in "abcde"), "in/f.png"]
    return {name: write_image(tmp_path / "here" / name, SHAPE, seed) for seed, name in enumerate(names)}


@pytest.fixture
def load(tmp_path, pixels):
    """``load(text, **fields)`` writes the text as ``here/table.csv`` and loads it."""

    def load(text, **fields):
        path = tmp_path / "here" / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_source(Data("table", table=str(path), **fields))

    return load


def message_of(load, text, **fields):
    with pytest.raises(ConfigError) as error:
        load(text, **fields)
    message = str(error.value)
    assert "\n" not in message and "; allowed: " in message
    return message


FULL = "part,id,label,note,path\ntest,007,2,x,b.png\ntrain,7,0,,in/f.png\ntrain,NA,1,,a.png\ntest,8,0,,c.png\n"


def test_rows_keep_pixels_labels_and_ids_as_text_and_training_rows_come_first(load, pixels):
    source = load(FULL)
    assert list(source.ids) == ["7", "NA", "007", "8"] and source.num_train == 2
    np.testing.assert_array_equal(source.images, [pixels[name] for name in ("in/f.png", "a.png", "b.png", "c.png")])
    np.testing.assert_array_equal(source.labels, [0, 1, 2, 0])
    assert source.num_classes == 3 and source.class_names is None and source.labels.dtype == np.int32


def test_without_id_and_part_the_path_is_the_id_and_all_rows_are_train(load):
    source = load("path,label\nb.png,1\nin/f.png,0\n")
    assert list(source.ids) == ["b.png", "in/f.png"] and source.num_train == 2


def test_a_byte_order_mark_windows_line_ends_and_blanks_change_nothing(load):
    plain = load(FULL)
    blanks = FULL.replace("007", "  007 ").replace("train", " train").replace(",2,", ", 2,")
    assert load(b"\xef\xbb\xbf" + blanks.replace("\n", "\r\n").encode()).sha256() == plain.sha256()


def test_parquet_of_several_types_is_the_same_table(tmp_path, load):
    columns = {
        "path": pa.array(["b.png", "in/f.png", "a.png", "c.png"]).dictionary_encode(),
        "label": pa.array([2.0, 0.0, 1.0, 0.0]),  # what pandas makes of a column that once had a gap
        "id": pa.array(["007", "7", "NA", "8"], pa.large_string()),
        "part": pa.array(["test", "train", "train", "test"]).dictionary_encode(),
        "embedding": pa.array([[0.5, 1.0]] * 4),
    }
    path = tmp_path / "here" / "table.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    expected = load(FULL)
    assert load_source(Data("table", table=str(path))).sha256() == expected.sha256()
    numbers = columns | {"id": pa.array([7, 8, 9, 10]), "label": pa.array([2, 0, 1, None])}
    pa.parquet.write_table(pa.table(numbers), path)
    with pytest.raises(ConfigError, match=r"1 of 4 labels are empty: 'c.png'; allowed: "):
        load_source(Data("table", table=str(path)))


SAME = {"path": "a.png", "label": 0}
MILLION = 1_000_000


@pytest.mark.parametrize(
    "columns",
    [
        {name: pa.array(np.full(MILLION, value)) for name, value in SAME.items()},  # a million rows of one value
        {"path": pa.array(["x" * 50_000] * 10_000), "label": pa.array([1] * 10_000)},  # half a gigabyte of one text
        {"path": pa.array(["a.png"]), "label": pa.array([["1"] * MILLION])},  # one row, and in it a million
        {"path": pa.array(["a.png"] * MILLION, pa.binary(5)), "label": pa.array([1] * MILLION)},
    ],
)
def test_a_small_parquet_file_cannot_make_large_columns(tmp_path, monkeypatch, columns):
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(safe_reading, "LARGEST", 40_000_000)
    before = pa.total_allocated_bytes()
    with pytest.raises(ConfigError, match=r"x.parquet' cannot be read \((it claims|column label is nested)"):
        load_source(Data("table", table=str(path)))
    assert pa.total_allocated_bytes() - before < 40_000_000


def test_texts_that_share_their_beginnings_are_refused_in_one_line(tmp_path):
    """A megabyte once, and three bytes a row: 300 MB of one."""
    texts = pa.array([f"{'a' * 10_000}{row:03d}" for row in range(100)])
    encoding = {"path": "DELTA_BYTE_ARRAY"}
    table = pa.table({"path": texts, "label": pa.array([1] * 100)})
    pa.parquet.write_table(table, tmp_path / "x.parquet", use_dictionary=["label"], column_encoding=encoding)
    with pytest.raises(ConfigError, match="column path is nested or DELTA_BYTE_ARRAY"):
        load_source(Data("table", table=str(tmp_path / "x.parquet")))


def test_paths_are_relative_to_data_dir_where_it_is_given(tmp_path, load):
    source = load("path,label\na.png,0\nb.png,1\n")
    (tmp_path / "elsewhere.csv").write_text("path,label\na.png,0\nb.png,1\n")
    moved = Data("table", table=str(tmp_path / "elsewhere.csv"), data_dir=str(tmp_path / "here"))
    assert load_source(moved).sha256() == source.sha256()


def test_whole_numbers_are_the_models_labels_also_where_the_sample_lacks_some(load):
    text = "path,label\na.png,3\nb.png,1\n"
    assert load(text).num_classes == 4 and load(text, num_classes=7).num_classes == 7
    np.testing.assert_array_equal(load(text, num_classes=7).labels, [3, 1])
    np.testing.assert_array_equal(load("path,label\na.png,3.0\nb.png,+01\n").labels, [3, 1])


def test_names_are_sorted_or_in_the_order_of_class_names(load):
    text = "path,label\na.png,dog\nb.png,ant\nc.png,cat\n"
    found, given = load(text), load(text, class_names=("dog", "elk", "cat", "ant"))
    np.testing.assert_array_equal(found.labels, [2, 0, 1])
    assert found.class_names == ("ant", "cat", "dog") and found.num_classes == 3
    np.testing.assert_array_equal(given.labels, [0, 3, 2])
    assert given.class_names == ("dog", "elk", "cat", "ant") and given.num_classes == 4


def test_numbers_are_names_where_class_names_are_given(load):
    source = load("path,label\na.png,10\nb.png,2\nc.png,x\n", class_names=("2", "10", "x"))
    np.testing.assert_array_equal(source.labels, [1, 0, 2])


ROWS = "".join(f"{name}.png,{i % 2},{name}\n" for i, name in enumerate("abcde")) + "in/f.png,1,f\n"


@pytest.mark.parametrize("text, problem", [
    ("path,klass\na.png,0\n", "has not one column label, but 'path', 'klass'"),
    ("id,part\na.png,train\n", "has not one column path and label, but 'id', 'part'"),
    ("path,label,label\na.png,0,1\n", "has not one column label, but 'path', 'label', 'label'"),
    ("path, label\na.png,0\n", "has not one column label, but 'path', ' label'"),
    ("path,label\n", "has no rows"),
    ("", "cannot be read (Empty CSV file)"),
    ("path,label\na.png,0,1\n", "cannot be read (CSV parse error: Expected 2 columns, got 3: a.png,0,1)"),
    (b"path,label\n\xff.png,0\n", "cannot be read (In CSV column #0: CSV conversion error to string: invalid UTF8"),
    ("path,label,part\na.png,0,test\nb.png,1,test\n", "has test rows only"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path, load, text, problem):
    path = str(tmp_path / "here" / "table.csv")
    assert message_of(load, text).startswith(f"config.data.table: {path!r} {problem}")


@pytest.mark.parametrize("text, problem", [
    ("path,label,id\n" + ROWS.replace(",c\n", ",\n").replace(",e\n", ", \n"), "2 of 6 ids are empty: 'c.png', 'e.png'"),
    ("path,label,id\n" + ROWS.replace(",c\n", ",a\n").replace(",e\n", ",a\n"), "1 of 4 ids occur more than once: 'a'"),
    ("path,label\na.png,0\nb.png,1\na.png,1\n", "1 of 2 ids occur more than once: 'a.png'"),
    ("path,label,id\n" + ROWS.replace(",1,", ",,"), "3 of 6 labels are empty: 'b.png', 'd.png', 'in/f.png'"),
    ("path,label,id\n" + ROWS.replace(",0,", ",-1,"),
     "3 of 6 labels are not in 0..99999: '-1' of 'a.png', '-1' of 'c.png', '-1' of 'e.png'"),
    ("path,label,id\n" + ROWS.replace("1,d", "100000,d"), "1 of 6 labels are not in 0..99999: '100000' of 'd.png'"),
    ("path,label,id\n" + ROWS.replace("1,d", "NA,d"), "1 of 6 labels are not whole numbers like the others: 'NA' of"),
    ("path,label,id\n" + ROWS.replace("1,d", "0.5,d"), "1 of 6 labels are not whole numbers like the others: '0.5' of"),
    ("path,label,part\na.png,0,train\nb.png,1,val\nc.png,1,\nd.png,1,Train\n",
     "3 of 4 parts are neither train nor test: 'val' of 'b.png', '' of 'c.png', 'Train' of 'd.png'"),
    ("path,label\na.png,0\nx.png,1\nin,1\n,1\n", "1 of 4 ids are empty: ''"),
    ("path,label,id\na.png,0,1\nx.png,1,2\nin,1,3\n,1,4\n.,1,5\nx/a.png,1,6\na.png/b.png,1,7\n",
     "6 of 7 files are not in {here}: 'x.png', 'in', '', '.', 'x/a.png', ...; allowed: paths of files"),
    ("path,label\na.png,0\na\0.png,1\n", "1 of 2 files are not in {here}: 'a\\x00.png'"),
])  # fmt: skip
def test_rows_that_are_wrong_are_counted_and_named(tmp_path, load, text, problem):
    here = tmp_path / "here"
    expected = f"config.data.table: {str(here / 'table.csv')!r}, {problem.format(here=here)}"
    assert message_of(load, text).startswith(expected)


def test_the_first_five_of_more_are_named(load):
    text = "path,label\n" + "".join(f"{i}.png,0\n" for i in range(7))
    assert "7 of 7 files are not in" in (message := message_of(load, text))
    assert ": '0.png', '1.png', '2.png', '3.png', '4.png', ...; allowed: " in message and "5.png" not in message


@pytest.mark.parametrize("fields, problem", [
    ({"num_classes": 3}, "3 of 4 labels are not in 0..2: 'dog' of 'a.png', '3' of 'b.png', '-1' of 'd.png'; allowed: "),
    ({"class_names": ("dog", "3", "x")}, "2 of 4 labels are not in config.data.class_names: '2' of 'c.png', '-1' of"
     " 'd.png'; allowed: dog, 3, x"),
])  # fmt: skip
def test_labels_outside_what_the_model_knows_are_refused(load, fields, problem):
    assert problem in message_of(load, "path,label\na.png,dog\nb.png,3\nc.png,2\nd.png,-1\n", **fields)


def test_names_where_numbers_are_asked_for_are_refused(load):
    assert "2 of 2 labels are not in 0..2" in message_of(load, "path,label\na.png,x\nb.png,y\n", num_classes=3)


def test_two_numbers_of_classes_are_refused(load):
    message = message_of(load, "path,label\na.png,x\nb.png,y\n", num_classes=3, class_names=("x", "y"))
    assert message.startswith("config.data.num_classes: 3, but config.data.class_names has 2; allowed: ")
    assert load("path,label\na.png,x\nb.png,y\n", num_classes=2, class_names=("x", "y")).num_classes == 2


@pytest.mark.parametrize("leaving", [
    "../out.png", "..", "in/../..", "in/../../out.png", "{tmp}/here/a.png", "{tmp}/out.png", "link.png",
    "folder/out.png",
])  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused_and_not_read(tmp_path, load, write_image, leaving):
    write_image(tmp_path / "out.png", SHAPE)
    os.symlink(tmp_path / "out.png", tmp_path / "here" / "link.png")
    os.symlink(tmp_path, tmp_path / "here" / "folder")
    leaving = leaving.format(tmp=tmp_path)
    message = message_of(load, f"path,label\na.png,0\n{leaving},1\n")
    assert f"1 of 2 paths leave {tmp_path / 'here'}: {leaving!r}; allowed: paths within config.data.data_dir" in message


def test_links_and_dots_that_stay_within_the_folder_are_followed(tmp_path, load, pixels):
    os.symlink(tmp_path / "here" / "a.png", tmp_path / "here" / "link.png")
    os.symlink(tmp_path / "here", tmp_path / "also_here")
    source = load("path,label\nlink.png,0\nin/../b.png,1\n", data_dir=str(tmp_path / "also_here"))
    np.testing.assert_array_equal(source.images, [pixels["a.png"], pixels["b.png"]])
    sibling = tmp_path / "here_too"  # its name begins like that of the folder
    (tmp_path / "here").rename(sibling)
    (tmp_path / "here").mkdir()
    assert "1 of 2 paths leave" in message_of(load, "path,label\n../here_too/a.png,0\nb.png,1\n")


@pytest.mark.parametrize("table, problem", [
    (None, "None; allowed: a .csv or .parquet file with the columns path, label and, if wanted, id and part"),
    ("x.txt", "'x.txt' ends in '.txt'; allowed: a .csv or .parquet file"),
    ("absent.csv", "'absent.csv' cannot be read ("),
    ("absent.parquet", "'absent.parquet' cannot be read ("),
])  # fmt: skip
def test_no_table_is_one_line(table, problem):
    with pytest.raises(ConfigError) as error:
        load_source(Data("table", table=table))
    assert str(error.value).startswith(f"config.data.table: {problem}") and "\n" not in str(error.value)


def _with_a_repetition_that_does_not_exist() -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.table({"path": ["a.png"], "label": [0]}), buffer)
    optional, unknown = (b"\x25" + kind + b"\x18\x05label" for kind in (b"\x02", b"\x56"))
    assert buffer.getvalue().count(optional) == 1
    return buffer.getvalue().replace(optional, unknown)


@pytest.mark.parametrize("content", [b"PAR1 no table PAR1", _with_a_repetition_that_does_not_exist()])
def test_a_damaged_parquet_file_is_one_line(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x.parquet' cannot be read \(.*\); allowed: a .csv or") as error:
        load_source(Data("table", table=str(tmp_path / "x.parquet")))
    assert "\n" not in str(error.value)


def test_mapped_images_are_made_anew_only_for_what_the_table_names(tmp_path, load, write_image, monkeypatch):
    text, kept = "path,label\na.png,0\nb.png,1\n", str(tmp_path / "kept")
    first = load(text, memory_map=kept)

    def again(**fields):
        return load_source(Data("table", table=str(tmp_path / "here" / "table.csv"), memory_map=kept, **fields))

    (tmp_path / "here" / "metrics.jsonl").write_text("a run that is kept beside the table")
    with monkeypatch.context() as patched:
        patched.setattr(sources, "decode", None)
        assert again().sha256() == first.sha256() and again().class_names is None and again().unreadable == ()
    for _ in range(2):  # made, and read again
        named = again(class_names=("1", "0"))
        assert named.class_names == ("1", "0") and named.labels.tolist() == [1, 0]
    assert (again().num_classes, again(num_classes=5).num_classes) == (2, 5)
    assert list(load(text.replace("b.png", "c.png"), memory_map=kept).ids) == ["a.png", "c.png"]
    assert load("path,label\na.png,1\nb.png,0\n", memory_map=kept).labels.tolist() == [1, 0]  # the same images
    changed = write_image(tmp_path / "here" / "a.png", SHAPE, seed=99)
    np.testing.assert_array_equal(again().images[0], changed)


def test_text_of_a_table_that_is_no_utf8_is_one_line(tmp_path):
    paths = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pa.parquet.write_table(pa.table({"path": paths, "label": ["1"]}), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_bytes(b"path,label,\xff\n1,2,3\n")
    for name in ("x.parquet", "x.csv"):
        with pytest.raises(ConfigError, match=f"{name}' cannot be read .*allowed: a .csv or"):
            load_source(Data("table", table=str(tmp_path / name)))


def test_a_table_without_an_end_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(ConfigError, match=r"x.csv' cannot be read \(no such file\)"):
        load_source(Data("table", table=str(tmp_path / "x.csv")))
