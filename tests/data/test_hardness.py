"""The table of how hard rows are: it comes back as it was written, and what is no such table is one line."""

import csv
import io

import numpy as np
import pytest

from ltu_jax.data import hardness
from ltu_jax.setting import ConfigError


def test_any_id_and_any_number_comes_back(tmp_path):
    ids = ["a", " b", "c,d", 'e"f', "g\nh", "i\rj", "7", "", "\u2003k"]
    iqr, confidence = np.random.default_rng(0).random((2, 9)) * 1e-7
    path = tmp_path / "rows.csv"
    path.write_bytes(hardness.text_of(ids, iqr, confidence).encode())
    found = hardness.read(str(path))
    assert list(found) == ids
    np.testing.assert_array_equal(list(found.values()), np.stack([iqr, confidence], axis=1))


def test_the_file_is_plain_csv():
    rows = list(csv.DictReader(io.StringIO(hardness.text_of(["x", "y"], np.array([1.5, 0]), np.array([0.25, 1])))))
    assert rows == [{"id": "x", "iqr": "1.5", "confidence": "0.25"}, {"id": "y", "iqr": "0.0", "confidence": "1.0"}]


def test_columns_come_in_any_order_and_others_are_not_looked_at(tmp_path):
    (tmp_path / "rows.csv").write_text("confidence,label,id,iqr\n0.5,cat,x,2\n\n0.75,dog,y,1e-3\n")
    assert hardness.read(str(tmp_path / "rows.csv")) == {"x": (2.0, 0.5), "y": (0.001, 0.75)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe", "cannot be read (it is not UTF-8 text)"),
        (b'id,iqr,confidence\n"a\n', "cannot be read (unexpected end of data)"),
        (b"", "has not one column id and iqr and confidence"),
        (b"id,iqr,iqr,confidence\na,1,1,1\n", "has not one column iqr"),
        (b"image,iqr\na,1\n", "has not one column id and confidence"),
        (b"id,iqr,confidence\na,1,high\n", "has no two numbers for the id 'a'"),
        (b"id,iqr,confidence\na,1\n", "has no two numbers for the id 'a'"),
        (b"id,iqr,confidence\na,nan,1\n", "has no two numbers for the id 'a'"),
        (b"id,iqr,confidence\na,1,inf\n", "has no two numbers for the id 'a'"),
        (b"id,iqr,confidence\na,1,1\na,1,1\n", "has the id 'a' twice"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        hardness.read(str(path))
    assert str(error.value) == (
        f"config.data.difficulty: {str(path)!r} {message}; allowed: what python -m ltu_jax.difficulty wrote of these"
        " training rows, CSV with id, iqr, confidence"
    )
