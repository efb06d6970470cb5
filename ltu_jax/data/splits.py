"""Splits a source into index sets: a function of the source, the settings and a seed.

Train, validation, test and reserve are split first, and the forget rows are then chosen from train. So
other forget rows of the same data have the same original model.
"""

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from ltu_jax.config import Data
from ltu_jax.data import hardness
from ltu_jax.safe_reading import read_text, reason
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source, Splits

FORGET_IDS = "config.data.forget_ids"
CANARIES = 200


class Canaries(NamedTuple):
    """Training rows with a wrong label, and the coins that say which of them are trained on, and then forgotten."""

    rows: np.ndarray  # i64[m], sorted
    labels: np.ndarray  # i32[m], none of them true
    is_in: np.ndarray  # bool[m]


def make_splits(source: Source, data: Data, seed: int, ids: Sequence[str] | None = None) -> Splits:
    """Splits a source by the sizes, fractions and choice of forget rows in ``data``; ``ids`` replaces that choice.

    Raises:
      ConfigError: if there are too few rows, or forget rows are not training rows.
    """
    train, validation, test, reserve = _cut(source, data, seed)
    if len(reserve) < 4:
        raise ConfigError(f"config.data.reserve_size: {len(reserve)} rows are left to guide it; allowed: >= 4")

    if ids is not None:
        forget = rows_of_ids(source, train, ids, "--forget")
    elif data.forget_kind == "canaries":
        drawn = draw_canaries(source, data, seed)
        forget, train = drawn.rows[drawn.is_in], np.setdiff1d(train, drawn.rows[~drawn.is_in])
    else:
        forget = _forget_rows(source, train, data, seed)
    remain = np.setdiff1d(train, forget)
    if not len(remain):
        raise ConfigError("config.data: all training rows are to be forgotten; allowed: at least one that remains")
    gone = np.zeros(len(test), bool)
    if data.forget_kind in ("class", "subclass"):
        gone = source.labels[test] == data.forget_class
    if gone.all():
        raise ConfigError(f"config.data: {len(test)} test rows leave none to score; allowed: more rows, or classes")
    parts = (forget, remain, validation, test[~gone], reserve, test[gone])
    return see(Splits(*(np.sort(part).astype(np.int64) for part in parts)), data.remain_fraction, seed)


def see(splits: Splits, fraction: float, seed: int) -> Splits:
    """The splits with ``seen`` drawn anew: the rho subset of the remaining rows that a method may see (sec. 3.2).

    It has ``round(fraction |D_r|)`` rows, at least one.
    """
    size = max(1, round(fraction * len(splits.remain)))
    seen = np.random.default_rng([seed, 2]).choice(splits.remain, size, replace=False)
    return dataclasses.replace(splits, seen=np.sort(seen))


def draw_canaries(source: Source, data: Data, seed: int) -> Canaries:
    """The canaries among the training rows of a source as it was read, with its true labels: see ``canaries_of``."""
    train, *_ = _cut(source, data, seed)
    return canaries_of(source.labels, train, source.num_classes, data.canaries or CANARIES, seed)


def canaries_of(labels: np.ndarray, train: np.ndarray, num_classes: int, count: int, seed: int) -> Canaries:
    """Canaries among the training rows, for the audit of one run (``auditing.canaries``).

    Args:
      labels: true ones of all rows of the source, i32[M].
      train: the training rows, i64[.].
      num_classes: C; a wrong label is any of the C - 1 others.
      count: m; about half of them are in, for each has its own fair coin.
      seed: that of the splits. Rows and labels are one stream of it, coins another.

    Raises:
      ConfigError: if there are fewer training rows.
    """
    _enough("canaries", count, len(train))
    rng, coins = np.random.default_rng([seed, 4]), np.random.default_rng([seed, 5])
    rows = np.sort(rng.choice(train, count, replace=False)).astype(np.int64)
    wrong = (labels[rows] + rng.integers(1, num_classes, count)) % num_classes
    return Canaries(rows, wrong.astype(labels.dtype), coins.integers(2, size=count) == 1)


def read_ids(path: str, field: str = FORGET_IDS) -> list[str]:
    """The ids in a text file, one per line; blank lines and a byte order mark are skipped. ``field`` is for messages.

    Raises:
      ConfigError: if the file cannot be read or holds no id.
    """
    try:
        ids = [
            line.strip()
            for line in read_text(path).removeprefix("\ufeff").replace("\r", "\n").split("\n")
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field}: {path!r} cannot be read ({reason(error)}); allowed: a text file") from error
    if not ids:
        raise ConfigError(f"{field}: {path!r} holds no id; allowed: one id a line")
    return ids


def _cut(source: Source, data: Data, seed: int) -> tuple[np.ndarray, ...]:
    cut = _cut_test_part if data.held_out == "test" else _cut_training_part
    return cut(source, data, np.random.default_rng([seed, 0]))


def _cut_training_part(source: Source, data: Data, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Train, validation, test and reserve; validation and reserve are training rows that the original never sees."""
    pool, test = rng.permutation(source.num_train), np.arange(source.num_train, len(source.labels))
    if not len(test):
        test, pool = np.split(pool, [round(data.test_fraction * len(pool))])
    if data.test_size is not None:
        _enough("test_size", data.test_size, len(test))
        test = rng.permutation(test)[: data.test_size]
    num_rows = len(pool)  # the training part
    validation, pool = np.split(pool, [round(data.validation_fraction * num_rows)])
    num_reserve, num_train = _sizes(data, len(pool), num_rows)
    return np.sort(pool[:num_train]), validation, test, pool[num_train : num_train + num_reserve]


def _cut_test_part(source: Source, data: Data, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The same for an original that was trained elsewhere on the whole training part.

    Only the test part is unseen: it is divided into thirds for validation, test and reserve, unless sizes are given.
    """
    train, held_out = rng.permutation(source.num_train), np.arange(source.num_train, len(source.labels))
    if len(held_out) < 6:
        raise ConfigError(
            f"config.data.held_out: 'test', but {source.name!r} has {len(held_out)} rows in its test part;"
            " allowed: 6 or more rows that the model was never trained on, or 'train'"
        )
    if data.train_size is not None:
        _enough("train_size", data.train_size, len(train))
        train = train[: data.train_size]
    third = len(held_out) // 3
    num_reserve = third if data.reserve_size is None else data.reserve_size
    num_test = third if data.test_size is None else data.test_size
    _enough("reserve_size", num_reserve, len(held_out) - 2)
    _enough("test_size", num_test, len(held_out) - num_reserve - 1)
    reserve, test, validation = np.split(rng.permutation(held_out), [num_reserve, num_reserve + num_test])
    return np.sort(train), validation, test, reserve


def _enough(field: str, wanted: int, there: int) -> None:
    if wanted > there:
        raise ConfigError(f"config.data.{field}: {wanted} is more than the {there} rows there are; allowed: <= {there}")


def _sizes(data: Data, spare: int, num_rows: int) -> tuple[int, int]:
    """Rows of reserve and of train, out of ``spare``."""
    if data.train_size is None:
        num_reserve = round(0.1 * num_rows) if data.reserve_size is None else data.reserve_size
        _enough("reserve_size", num_reserve, spare - 2)
        return num_reserve, spare - num_reserve
    _enough("train_size", data.train_size, spare - 4)
    spare -= data.train_size
    num_reserve = min(spare, 2 * data.train_size) if data.reserve_size is None else data.reserve_size
    _enough("reserve_size", num_reserve, spare)
    return num_reserve, data.train_size


def _forget_rows(source: Source, train: np.ndarray, data: Data, seed: int) -> np.ndarray:
    count = max(1, round(data.forget_fraction * len(train)))
    if data.forget_kind == "random":
        return np.random.default_rng([seed, 1]).choice(train, count, replace=False)
    if data.forget_kind in ("hard", "easy"):
        assert data.difficulty is not None  # config.resolve
        return _hardest_or_easiest(source, train, data.difficulty, data.forget_kind, count)
    if data.forget_kind == "ids":
        assert data.forget_ids is not None  # config.resolve
        return rows_of_ids(source, train, read_ids(data.forget_ids))
    if data.forget_kind == "subclass" and source.coarse is None:
        raise ConfigError(
            f"config.data.forget_kind: 'subclass' needs coarse labels and {source.name!r} has none; allowed: any other"
        )
    rows = train[source.labels[train] == data.forget_class]
    if not len(rows):
        there = np.unique(source.labels[train])
        raise ConfigError(
            f"config.data.forget_class: {data.forget_class} is no label of the training rows;"
            f" allowed: {there[0]}..{there[-1]}"
        )
    return rows


def _hardest_or_easiest(source: Source, train: np.ndarray, path: str, kind: str, count: int) -> np.ndarray:
    """Those of the largest LT-IQR or mean confidence; of equal ones the first come first."""
    found, ids = hardness.read(path), source.ids[train].tolist()
    rows_of_ids(source, train, list(found), hardness.FIELD)
    if missing := [name for name in ids if name not in found]:
        raise ConfigError(
            f"{hardness.FIELD}: {path!r} lacks {len(missing)} of {len(ids)} training rows:"
            f" {', '.join(map(repr, missing[:5]))}; {hardness.ALLOWED}"
        )
    measured = np.array([found[name] for name in ids])[:, 0 if kind == "hard" else 1]
    return train[np.argsort(-measured, kind="stable")[:count]]


def rows_of_ids(source: Source, train: np.ndarray, ids: Sequence[str], field: str = FORGET_IDS) -> np.ndarray:
    """Sorted indices into the source of the rows with the given ids; ``train`` are the indices of the training rows.

    Raises:
      ConfigError: if an id is not that of a training row: unlearning a row that the model never saw would
        report a meaningless success. Five of them are named.
    """
    # Lines of a file are stripped: such an id would be unknown, or that of another row.
    blank = {name.strip(): name for name in source.ids.tolist() if name != name.strip()}
    if unclear := [blank[i] for i in dict.fromkeys(ids) if i in blank]:
        raise ConfigError(
            f"{field}: {unclear[0]!r} is an id that begins or ends with a blank, which no line of a file can say;"
            f" allowed: ids without (rename what it is the id of), or a list of ids passed to ltu_jax.forget"
        )
    row_of = dict(zip(source.ids[train].tolist(), train.tolist(), strict=True))
    foreign = [i for i in dict.fromkeys(ids) if i not in row_of]
    if foreign:
        why = {**dict.fromkeys(source.unreadable, "unreadable"), **dict.fromkeys(source.ids.tolist(), "held out")}
        known = {name: _path(name) for name in row_of} if any(i not in why for i in foreign[:5]) else {}
        named = ", ".join(f"{i!r} ({why.get(i) or _known_as(i, known)})" for i in foreign[:5])
        raise ConfigError(
            f"{field}: {len(foreign)} of {len(set(ids))} ids are not in the training set: {named};"
            f" allowed: ids of the {len(train)} rows that the model was trained on, such as {next(iter(row_of))!r}"
        )
    return np.array(sorted({row_of[i] for i in ids}), np.int64)


def _known_as(name: str, known: Mapping[str, PurePosixPath]) -> str:
    """Says of an unknown id which of the known ones it may mean: it is not taken for that, for its hash is another."""
    form, path = unicodedata.normalize("NFC", name), _path(name)
    alike = ""
    for other, theirs in known.items():
        if theirs == path and form == unicodedata.normalize("NFC", other):
            return f"unknown; known in another Unicode form, as {ascii(other)} and not {ascii(name)}"
        if theirs.parts[-len(path.parts) :] == path.parts or path.parts[-len(theirs.parts) :] == theirs.parts:
            return f"unknown; known is {other!r}"
        alike = alike or (other if theirs.stem.casefold() == path.stem.casefold() else "")
    return f"unknown; known is {alike!r}" if alike else "unknown"


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
