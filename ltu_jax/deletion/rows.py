"""The rows of a request: the purpose of each held-out row, and the rows that the evidence is measured on.

They are recorded as salted ids, because the data change: forgotten images are deleted, and new ones are added. A row
that was held out for one purpose keeps it in later requests, and the evidence is checked on the rows that it was
measured on.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.deletion.ledger import LedgerError, salted
from ltu_jax.safe_reading import read_json
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source, Splits

ROWS = "rows.json"
HELD_OUT = ("validation", "test", "reserve")
MEASURED = 10_000
"""Most remaining rows that are measured: their accuracy then has a standard error of at most half a point."""
DRAWN = 0.8
"""Share of the held-out rows that is measured: with as many forgotten rows noise is 6 % larger than with all."""
ENOUGH = 100
"""Least number of remaining rows unseen by the method for which the evidence uses only these."""
HELD_BACK = 0.2
"""Share of the remaining rows that the method does not see, whatever rho, where that is ``ENOUGH``."""
LOOKED_AT = 1_000
"""Most of these that a calibration looks at, again and again: a point of accuracy is clear of noise then."""


def rows_to_calibrate_by(splits: Splits, seed: int) -> np.ndarray:
    """The remaining rows, unseen by the method, on which a calibration looks what is lost; indices into the source.

    Half of those that there are, sorted, ``LOOKED_AT`` at most; the evidence is measured on the others. Empty
    where halves would be too few.
    """
    return _unseen(splits, seed)[0]


def _unseen(splits: Splits, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The remaining rows that the method does not see: those to calibrate by, if there are enough, and the others."""
    others = np.setdiff1d(splits.remain, splits.visible)
    if len(others) < 2 * ENOUGH:
        return others[:0], others
    mixed = np.random.default_rng([seed, 4]).permutation(others)  # 4: that of canaries, of which a request has none
    to_calibrate, to_measure = np.split(mixed, [min(len(mixed) // 2, LOOKED_AT)])
    return np.sort(to_calibrate), np.sort(to_measure)


def rows_to_measure(
    splits: Splits, earlier: np.ndarray, seed: int, *, calibrated: bool = True
) -> dict[str, np.ndarray]:
    """The rows that the evidence is measured on.

    Args:
      splits: the splits of the request.
      earlier: rows that earlier requests forgot, indices into the source.
      seed: the split seed.
      calibrated: whether the request is calibrated, by rows that are then not measured.

    Returns:
      Sorted indices into the source: ``forget``; ``remain``, those that neither the method nor its calibration saw if
      they are enough; ``held_out``, the test rows; ``earlier``, if there are any.
    """
    others = _unseen(splits, seed)[1] if calibrated else np.setdiff1d(splits.remain, splits.visible)
    remain = others if len(others) >= ENOUGH else splits.visible
    if len(remain) > MEASURED:
        remain = np.sort(np.random.default_rng([seed, 3]).choice(remain, MEASURED, replace=False))
    rows = {"forget": splits.forget, "remain": remain, "held_out": splits.test}
    return rows | ({"earlier": earlier} if len(earlier) else {})


def draw_held_out(
    pool: np.ndarray, source: Source, salt: bytes, model_sha256: str
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """The held-out rows that a model is measured on.

    Args:
      pool: held-out rows that neither the method nor its calibration saw, indices into the source.
      source: the data.
      salt: the salt of the folder of requests.
      model_sha256: hash of the unlearned model.

    Returns:
      Sorted indices into the source, and the salted ids of the pool by class, from which ``drawn`` finds them again.
    """
    names = np.array(salted(salt, source.ids[pool].tolist()))
    labels = source.labels[pool]
    by_class = {str(label): sorted(names[labels == label].tolist()) for label in np.unique(labels)}
    return np.sort(pool[np.isin(names, drawn(by_class, salt, model_sha256))]), by_class


def drawn(pool: Mapping[str, list[str]], salt: bytes, model_sha256: str) -> list[str]:
    """Draws ``DRAWN`` of each class of a pool of salted ids, at least one.

    Salt and model decide which, so the model was made before anybody knew them: it cannot be fitted to these alone.
    """
    order = lambda name: salted(salt, [f"{model_sha256} {name}"])  # noqa: E731
    return [name for names in pool.values() for name in sorted(names, key=order)[: math.ceil(DRAWN * len(names))]]


def fraction_seen(asked: float, num_remain: int) -> float:
    """The fraction of the remaining rows that the method may see: rho, less what is held back to measure on."""
    return min(asked, 1 - HELD_BACK) if HELD_BACK * num_remain >= ENOUGH else asked


class RecordedRows(NamedTuple):
    """The contents of ``rows.json``: sorted salted ids. Forgotten ids are in the ledger instead."""

    held_out: dict[str, list[str]]  # by purpose, see ``HELD_OUT``: all held-out rows of the first request
    measured: dict[str, list[str]]  # ``remain`` and ``held_out``
    drawn_from: dict[str, list[str]] | None = None  # the pool that ``held_out`` was drawn from, by class; None: all


def record_rows(
    splits: Splits, measured: Mapping[str, np.ndarray], source: Source, salt: bytes, last: RecordedRows | None
) -> RecordedRows:
    """The rows to record for a request; ``last`` are those of the request before."""

    def named(index: np.ndarray) -> list[str]:
        return sorted(salted(salt, source.ids[index].tolist()))

    held_out = {part: named(getattr(splits, part)) for part in HELD_OUT} if last is None else last.held_out
    return RecordedRows(held_out, {name: named(measured[name]) for name in ("remain", "held_out")})


def read_rows(folder: Path) -> RecordedRows:
    """Reads the recorded rows of a request.

    Raises:
      LedgerError: if the file is missing or damaged.
    """
    try:
        recorded = read_json(folder / ROWS)
        held_out = {part: _names(recorded["held_out"][part]) for part in HELD_OUT}
        measured = {name: _names(recorded["measured"][name]) for name in ("remain", "held_out")}
        pool = recorded.get("drawn_from")
        return RecordedRows(held_out, measured, pool and {label: _names(names) for label, names in pool.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"{folder / ROWS} cannot be read: without it nobody can tell which rows were held out"
        ) from error


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("not a list of salted ids")
    return value


def keep_held_out(
    splits: Splits, source: Source, salt: bytes, last: RecordedRows, done: Collection[str], held_out: str
) -> Splits:
    """The splits restricted to the held-out rows of the first request, each with its purpose.

    Rows added later are left out: the model may have been trained on them, in another part of the data.

    Args:
      splits: the splits of the current data.
      source: the data.
      salt: the salt of the folder of requests.
      last: the recorded rows of the last request.
      done: salted ids that earlier requests forgot.
      held_out: the part of the data with the held-out rows, ``train`` or ``test``.

    Raises:
      ConfigError: if held-out rows have become training rows or the other way round, or if none are left.
    """
    purpose = {name: part for part in HELD_OUT for name in last.held_out[part]}
    rows = np.concatenate([getattr(splits, part) for part in HELD_OUT])
    names = salted(salt, source.ids[rows].tolist())
    allowed = "allowed: the same rows less those forgotten, or held-out rows of their own (config.data.held_out='test')"
    if moved := sum(name in purpose for name in salted(salt, source.ids[splits.train].tolist())):
        raise ConfigError(f"config.data: {moved} rows that were held out count as trained on now; {allowed}")
    if held_out == "train" and (new := sum(name not in purpose for name in names)):
        raise ConfigError(f"config.data: {new} rows that were trained on count as held out now; {allowed}")
    if back := sum(name in done for name in names):
        raise ConfigError(f"config.data: {back} rows that earlier requests forgot count as held out now; {allowed}")
    parts = np.array([purpose.get(name, "") for name in names])
    kept = {part: np.sort(rows[parts == part]) for part in HELD_OUT}
    if empty := [part for part in HELD_OUT if not len(kept[part]) and last.held_out[part]]:
        raise ConfigError(f"config.data: none of the {empty[0]} rows is left that the first request had; {allowed}")
    return dataclasses.replace(splits, **kept)
