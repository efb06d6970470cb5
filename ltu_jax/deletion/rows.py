"""Which rows a request is about: what the held-out rows are for, and what its evidence is measured on.

They are written down, under the salt, because data change: images that were forgotten are deleted, as they should be,
and others come. A row that was held out for one purpose stays so in later requests, and evidence is checked on the
rows that it was measured on.
"""

import dataclasses
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
"""Remaining rows measured at most: their accuracy is known to a point then, twice over."""
ENOUGH = 100
"""Remaining rows that the method did not see, from which on the evidence is about those and not about its sample."""


def to_measure(splits: Splits, earlier: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The rows that evidence is measured on.

    Args:
      splits: of the request.
      earlier: rows that earlier requests forgot, indices into the source.
      seed: the split seed.

    Returns:
      Indices into the source, sorted: ``forget``; ``remain``, rows outside the rho subset where there are enough of
      them, for those within were trained on while the others were forgotten; ``held_out``, the test rows; ``earlier``
      where there are any.
    """
    others = np.setdiff1d(splits.remain, splits.visible)
    remain = others if len(others) >= ENOUGH else splits.visible
    if len(remain) > MEASURED:
        remain = np.sort(np.random.default_rng([seed, 3]).choice(remain, MEASURED, replace=False))
    rows = {"forget": splits.forget, "remain": remain, "held_out": splits.test}
    return rows | ({"earlier": earlier} if len(earlier) else {})


class Recorded(NamedTuple):
    """What ``rows.json`` says, in salted ids, sorted; those forgotten stand in the ledger."""

    held_out: dict[str, list[str]]  # by what they are for, see ``HELD_OUT``: all there were at the first request
    measured: dict[str, list[str]]  # ``remain`` and ``held_out``


def record(
    splits: Splits, measured: Mapping[str, np.ndarray], source: Source, salt: bytes, last: Recorded | None
) -> Recorded:
    """What is to be written down of a request; ``last`` is that of the one before."""

    def named(index: np.ndarray) -> list[str]:
        return sorted(salted(salt, source.ids[index].tolist()))

    held_out = {part: named(getattr(splits, part)) for part in HELD_OUT} if last is None else last.held_out
    return Recorded(held_out, {name: named(measured[name]) for name in ("remain", "held_out")})


def read(folder: Path) -> Recorded:
    """What ``record`` gave of a request.

    Raises:
      LedgerError: if it is missing or damaged.
    """
    try:
        told = read_json(folder / ROWS)
        held_out = {part: _names(told["held_out"][part]) for part in HELD_OUT}
        return Recorded(held_out, {name: _names(told["measured"][name]) for name in ("remain", "held_out")})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{folder / ROWS} cannot be read: without it nobody can tell which rows were held out"
        ) from error


def _names(told: Any) -> list[str]:
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise TypeError("not a list of salted ids")
    return told


def kept_apart(
    splits: Splits, source: Source, salt: bytes, last: Recorded, done: Collection[str], held_out: str
) -> Splits:
    """The splits with the held-out rows of the first request, each in its part, and no others.

    What came later may be what the model was trained on, moved from one part of the data to the other.

    Args:
      splits: as the data are cut now.
      source: the data.
      salt: of the folder of requests.
      last: what was written down of the last request.
      done: salted ids that earlier requests forgot.
      held_out: where held-out rows come from, ``train`` or ``test``.

    Raises:
      ConfigError: if rows that were held out count as trained on now, or the other way round; if none are left.
    """
    was = {name: part for part in HELD_OUT for name in last.held_out[part]}
    rows = np.concatenate([getattr(splits, part) for part in HELD_OUT])
    names = salted(salt, source.ids[rows].tolist())
    allowed = "allowed: the same rows less those forgotten, or held-out rows of their own (config.data.held_out='test')"
    if moved := sum(name in was for name in salted(salt, source.ids[splits.train].tolist())):
        raise ConfigError(f"config.data: {moved} rows that were held out count as trained on now; {allowed}")
    if held_out == "train" and (new := sum(name not in was for name in names)):
        raise ConfigError(f"config.data: {new} rows that were trained on count as held out now; {allowed}")
    if back := sum(name in done for name in names):
        raise ConfigError(f"config.data: {back} rows that earlier requests forgot count as held out now; {allowed}")
    parts = np.array([was.get(name, "") for name in names])
    kept = {part: np.sort(rows[parts == part]) for part in HELD_OUT}
    if empty := [part for part in HELD_OUT if not len(kept[part]) and last.held_out[part]]:
        raise ConfigError(f"config.data: none of the {empty[0]} rows is left that the first request had; {allowed}")
    return dataclasses.replace(splits, **kept)
