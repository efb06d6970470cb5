"""Images listed in a CSV or Parquet table with the columns path, label and, optionally, id and part."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltu_jax.data.records import Example, Records, check_ids, count_classes, first_five, places, refuse
from ltu_jax.safe_reading import OBJECT, check_claim
from ltu_jax.setting import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "label", "id", "part")

_NEEDED = ("path", "label")
_ALLOWED = "allowed: a .csv or .parquet file with the columns path, label and, if wanted, id and part"
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(\.0*)?")  # pandas turns 3 into 3.0 where a column has gaps


def read_table(
    table: str | None, data_dir: str | None, class_names: Sequence[str] = (), num_classes: int | None = None
) -> Records:
    """Reads the table and locates its images; each is read when it is decoded.

    Labels are class names if ``class_names`` is given or no label is a number; else they are integers.
    Values are read as text, so that the id 007 stays 007, and stripped of blanks, except for paths.

    Args:
      table: a ``.csv`` or ``.parquet`` file with the columns ``path``, ``label``, ``id`` (default: the path)
        and ``part``, which is ``train`` or ``test`` (default: ``train``). Other columns are ignored.
      data_dir: the folder that paths are relative to and must stay in; None means the table's folder.
      class_names: all classes of the model in order; () means the names found, sorted.
      num_classes: integer labels must be in ``0..num_classes - 1``; None means the largest label plus one.

    Returns:
      The records: the training rows in the order of the table, then the test rows.

    Raises:
      ConfigError: if the table cannot be read or has invalid rows; the message counts all rows with the first
        problem found and names five of them.
    """
    columns = _columns(table)
    where, paths = f"config.data.table: {table!r}", columns["path"]
    rows = [repr(path) for path in paths]
    if not rows:
        raise ConfigError(f"{where} has no rows; {_ALLOWED}")
    ids = [name.strip() for name in columns.get("id", paths)]
    check_ids(where, ids, rows)
    labels, names, num_classes = _labels(where, columns["label"], rows, tuple(class_names), num_classes)
    parts = [part.strip() for part in columns.get("part", ["train"] * len(rows))]
    strange = [f"{part!r} of {row}" for part, row in zip(parts, rows, strict=True) if part not in ("train", "test")]
    refuse(where, strange, len(rows), "parts are neither train nor test", "train, test, or no column part at all")
    if "train" not in parts:
        raise ConfigError(f"{where} has test rows only; allowed: rows with part train")
    root = Path(os.path.expanduser(data_dir or Path(str(table)).parent))
    files = _files(where, root, paths)
    order = sorted(range(len(rows)), key=lambda row: parts[row] == "test")  # stable: keeps the order within a part
    examples = (Example(files[row], labels[row], ids[row]) for row in order)
    num_train = parts.count("train")
    every = (Path(os.path.expanduser(str(table))), *files)
    return Records(examples, num_classes, num_train, len(rows) - num_train, names, every)


def _columns(table: str | None) -> dict[str, list[str]]:
    """The columns of ``COLUMNS`` that the table has, as text; missing values are empty."""
    import pyarrow as pa
    from pyarrow import csv

    if not table:
        raise ConfigError(f"config.data.table: {table!r}; {_ALLOWED}")
    path = Path(os.path.expanduser(table))
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"config.data.table: {table!r} ends in {path.suffix!r}; {_ALLOWED}")
    try:
        if not path.is_file():
            raise FileNotFoundError("no such file")
        if path.suffix.lower() == ".csv":
            as_text = csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS})
            lines = csv.ParseOptions(newlines_in_values=True)
            found = csv.read_csv(path, parse_options=lines, convert_options=as_text)
            names = found.column_names
        else:
            names, found = read_parquet(path, COLUMNS.__contains__)
        columns = {name: found.column(name).cast(pa.string()) for name in COLUMNS if names.count(name) == 1}
        values = {name: column.to_pylist() for name, column in columns.items()}
    except Exception as error:  # Arrow raises a dozen kinds, and UnicodeDecodeError
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"config.data.table: {table!r} cannot be read ({reason}); {_ALLOWED}") from error
    wrong = [name for name in COLUMNS if names.count(name) > 1 or name in _NEEDED and name not in names]
    if wrong:
        raise ConfigError(
            f"config.data.table: {table!r} has not one column {' and '.join(wrong)}, but {', '.join(map(repr, names))};"
            f" {_ALLOWED}"
        )
    return {name: ["" if value is None else value for value in column] for name, column in values.items()}


def read_parquet(path: Path, is_wanted: Callable[[str], bool]) -> tuple[list[str], "pa.Table"]:
    """The names of all columns of a Parquet file, and the columns that are wanted: others may hold whole images.

    Ten bytes can say that a billion rows are the same, or that a long text comes a billion times. So texts stay in
    their dictionary, where each is kept once, until it is known how much all rows are.

    Args:
      path: the file.
      is_wanted: whether to read a column of this name.

    Raises:
      ValueError: if the columns are more than ``check_claim`` allows, or of kinds whose size cannot be known before.
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    with parquet.ParquetFile(path) as file:
        names, schema, rows = file.schema_arrow.names, file.schema_arrow, file.metadata.num_rows
    wanted = [name for name in dict.fromkeys(names) if is_wanted(name)]
    chunks = [chunk for chunk in _chunks(path) if chunk[0].partition(".")[0] in wanted]
    nested = [field.name for field in schema if field.name in wanted and pa.types.is_nested(field.type)]
    nested += [column for column, encodings, _ in chunks if "DELTA_BYTE_ARRAY" in encodings]
    if nested:
        raise ValueError(f"column {nested[0]} is nested or DELTA_BYTE_ARRAY")
    widths = [_width(field.type) for field in schema if field.name in wanted]
    check_claim(sum(size for *_, size in chunks) + rows * sum(widths), path)
    with parquet.ParquetFile(path, read_dictionary=wanted) as file:
        found = file.read(columns=wanted)
    size = found.nbytes + rows * sum(widths)
    for column in found.columns:
        for chunk in column.chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary):
                lengths = compute.call_function("binary_length", [chunk.dictionary]).cast(pa.int64())
                size += compute.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0
    check_claim(size, path)
    return names, found


_CHUNKS = """
import json, sys
from pyarrow import parquet
with parquet.ParquetFile(sys.argv[1]) as file:
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    print(json.dumps([[chunk.path_in_schema, chunk.encodings, chunk.total_uncompressed_size] for chunk in chunks]))
"""


def _chunks(path: Path) -> list[tuple[str, list[str], int]]:
    """Column, encodings and bytes of each column chunk of a Parquet file, as it claims them.

    In a process of its own: where these are damaged, pyarrow ends the process instead of raising an error.
    """
    child = subprocess.run([sys.executable, "-P", "-c", _CHUNKS, path], capture_output=True, text=True)
    if child.returncode:
        raise ValueError("what it says of its columns is damaged")
    return json.loads(child.stdout)


def _width(kind: "pa.DataType") -> int:
    """Bytes of a value in Python; of a text, those that it has whatever its length."""
    try:
        return OBJECT + kind.bit_width // 8
    except ValueError:  # its values differ in length
        return OBJECT


def _labels(
    where: str, values: list[str], rows: list[str], class_names: tuple[str, ...], num_classes: int | None
) -> tuple[list[int], tuple[str, ...] | None, int]:
    """The label of each row, the class names if labels are names, and the number of classes."""
    values = [value.strip() for value in values]
    empty = [row for value, row in zip(values, rows, strict=True) if not value]
    refuse(where, empty, len(rows), "labels are empty", "a label for each image")
    named = [f"{value!r} of {row}" for value, row in zip(values, rows, strict=True)]
    if class_names and num_classes not in (None, len(class_names)):
        raise ConfigError(
            f"config.data.num_classes: {num_classes}, but config.data.class_names has {len(class_names)};"
            " allowed: one of the two"
        )
    numbers = [_whole_number(value) for value in values]
    no_number = [name for name, number in zip(named, numbers, strict=True) if number is None]
    if class_names or num_classes is None and len(no_number) == len(rows):
        names = class_names or tuple(sorted(set(values)))
        label_of = {name: label for label, name in enumerate(names)}
        unknown = [name for name, value in zip(named, values, strict=True) if value not in label_of]
        refuse(where, unknown, len(rows), "labels are not in config.data.class_names", first_five(names))
        return [label_of[value] for value in values], names, len(names)
    if num_classes is None:
        # One NA must not turn a column of numbers into names: sorted as text, 10 would come before 2.
        allowed = "whole numbers, or names alone, or all names in config.data.class_names"
        refuse(where, no_number, len(rows), "labels are not whole numbers like the others", allowed)
    labels = [-1 if number is None else number for number in numbers]
    return labels, None, count_classes(where, labels, named, num_classes)


def _whole_number(value: str) -> int | None:
    match = _WHOLE.fullmatch(value)
    return int(match[1]) if match else None


def _files(where: str, root: Path, paths: list[str]) -> list[Path]:
    """The path of each image, refused if it leads out of ``root``, also through a link."""
    found = places(root, paths)
    leaving = [repr(path) for path, place in zip(paths, found, strict=True) if place is None]
    refuse(where, leaving, len(paths), f"paths leave {root}", "paths within config.data.data_dir, relative to it")
    missing = [repr(path) for path, place in zip(paths, found, strict=True) if not os.path.isfile(place or "")]
    refuse(where, missing, len(paths), f"files are not in {root}", "paths of files, relative to config.data.data_dir")
    return [root / path for path in paths]
