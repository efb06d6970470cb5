"""A data set of the user's own: a function that returns ``Records``, named by ``config.data.name=module:function``."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType

import numpy as np

from ltu_jax.config import Data
from ltu_jax.data.records import Example, Records
from ltu_jax.setting import ConfigError, import_reference, raised

_ALLOWED = "allowed: a function (data) that returns ltu_jax.data.records.Records"


def read_own(data: Data) -> Records:
    """Calls the user's function.

    Args:
      data: handed to the function; its ``name`` is the reference.

    Returns:
      Its records. Their ``files`` begin with the module's own, so that a ``memory_map`` follows the code too.

    Raises:
      ConfigError: if there is no such function, it raises, or returns something else; if ``memory_map`` is asked for
        and ``Records.files`` is None. What is wrong with an example is raised when it is reached.
    """
    where = f"config.data.name: {data.name!r}"
    function = import_reference(data.name, "config.data.name")
    try:
        records = function(data)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's own, and may raise anything
        raise _failed(where, error) from error
    if not isinstance(records, Records):
        raise ConfigError(f"{where} gives {type(records).__name__}; {_ALLOWED}")
    _check_totals(where, records)
    if data.memory_map is not None and records.files is None:
        raise ConfigError(
            f"config.data.memory_map: {data.memory_map!r}, but {data.name!r} does not say which files it reads, so a"
            " change in them would go unseen; allowed: Records(..., files=...), () if there are none, or unset"
        )
    code = getattr(sys.modules[data.name.partition(":")[0]], "__file__", None)
    files = None if records.files is None else tuple(map(Path, filter(None, (code, *records.files))))
    return dataclasses.replace(records, examples=_checked(where, records), files=files)


def _failed(where: str, error: BaseException) -> ConfigError:
    return ConfigError(f"{where} cannot be read ({': '.join(filter(None, raised(error)))}); {_ALLOWED}")


def _check_totals(where: str, records: Records) -> None:
    for field, low in (("num_classes", 2), ("num_train", 1), ("num_test", 0)):
        if not _is_whole(value := getattr(records, field), low):
            raise ConfigError(f"{where}, Records.{field}: {value!r}; allowed: a whole number from {low}")
    names, files = records.class_names, records.files
    if names is not None and not (_are(names, str) and len(names) == records.num_classes):
        raise ConfigError(
            f"{where}, Records.class_names: {names!r}; allowed: a name for each of the {records.num_classes} classes,"
            " or None"
        )
    if files is not None and not (_are(files, str | Path) and all(map(os.path.isfile, files))):
        raise ConfigError(
            f"{where}, Records.files: {files!r}; allowed: a tuple of paths of files that are there, or None"
        )


def _are(values: object, kind: type | UnionType) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, kind) for value in values)


def _checked(where: str, records: Records) -> Iterator[Example]:
    """The examples, each of the right types, and as many as announced."""
    total, row = records.num_train + records.num_test, -1
    try:
        for row, example in enumerate(records.examples):
            if wrong := _what_is_wrong(example, records.num_classes):
                raise ConfigError(f"{where}, example {row}: {wrong}")
            if row == total:
                break
            yield example
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # a generator runs the user's code
        raise _failed(where, error) from error
    if row + 1 != total:
        count = f"more than {total}" if row == total else f"{row + 1}"
        raise ConfigError(
            f"{where} yields {count} examples; allowed: num_train + num_test, which are {records.num_train} +"
            f" {records.num_test}"
        )


def _what_is_wrong(example: Example, num_classes: int) -> str | None:
    """What is wrong with an example, and what is allowed instead."""
    if not isinstance(example, Example):
        return f"{type(example).__name__}; allowed: ltu_jax.data.records.Example"
    image, label, name, coarse = example
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim < 2 or not image.size:
            return f"its image is {image.dtype}{list(image.shape)}; allowed: uint8 [H,W] or [H,W,3]"
    elif not isinstance(image, bytes | Path):
        return f"its image is {type(image).__name__}; allowed: bytes of an image file, a pathlib.Path, a NumPy array"
    if not _is_whole(label, 0) or label >= num_classes:
        return f"its label is {label!r}; allowed: a whole number in 0..{num_classes - 1}"
    if not isinstance(name, str) or name.splitlines() != [name.strip()]:
        return f"its id is {name!r}; allowed: text of one line, without spaces around it"
    if coarse is not None and not _is_whole(coarse, 0):
        return f"its coarse label is {coarse!r}; allowed: a whole number from 0, or None"
    return None


def _is_whole(value: object, low: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= low)
