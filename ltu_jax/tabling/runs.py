"""Reads finished runs for a table, and refuses runs that do not belong in one table."""

import math
import shlex
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.reporting.runs import Audited, find_fault, read_audits
from ltu_jax.reporting.table import own_figures
from ltu_jax.safe_reading import parse_json, read_json, read_text
from ltu_jax.setting import ConfigError

MEASURES = ("ua", "ra", "ta", "mi")
SEEDS = ("train", "split", "unlearn")
NEEDED = ("method", "dataset", "model", "rho", "original", "provenance", "splits_sha256")
ALLOWED = "allowed: a results.jsonl of python -m ltu_jax.sweep, or a run folder with result.json"
OF_ONE_RUN = ("--workdir", "--cache", "--config.seed", *(f"--config.seeds.{name}" for name in SEEDS))
"""Flags in which the commands of one row may differ."""


class Seeds(NamedTuple):
    """The three seeds of a run."""

    train: int
    split: int
    unlearn: int

    @property
    def pair(self) -> tuple[int, int]:
        """(train, split): runs with the same pair share the original and its Retrain models."""
        return self.train, self.split


class Run(NamedTuple):
    """One method at one triple of seeds."""

    label: str  # of its row
    command: str
    settings: str  # the part of the command that all runs of a row share
    result: Mapping[str, Any]  # content of result.json
    audits: Mapping[str, Audited] = {}  # of audit.json, of single runs

    @property
    def seeds(self) -> Seeds:
        """The seeds it ran with."""
        return Seeds(*(self.result["seeds"][name] for name in SEEDS))

    def close(self, model: str) -> Mapping[str, float | None]:
        """How close ``unlearned``, ``original`` or ``retrain`` is to Retrain row by row; empty if not known."""
        return (self.result.get("closeness") or {}).get(model) or {}

    def own(self, model: str) -> Mapping[str, float | None]:
        """Figures of the user's own (``config.evaluation.measure``) of a model; empty if not known."""
        return own_figures(self.result, model)

    @property
    def num_train(self) -> int | None:
        """Rows that the original was trained on; None if the result does not say."""
        fraction = self.result["forget"].get("fraction")
        return round(self.result["forget"]["count"] / fraction) if fraction else None


def read(paths: Sequence[str]) -> list[Run]:
    """The runs of several files and folders, in order.

    Args:
      paths: ``results.jsonl`` files of ``ltu_jax.sweep``, or folders of single runs, whose label is the method.

    Raises:
      ConfigError: if one of them cannot be read, or none of them holds a run.
    """
    runs = []
    for path in map(Path, paths):
        try:
            runs += [_of_folder(path)] if path.is_dir() else _of_lines(path)
        except OSError as error:
            raise ConfigError(f"results: {str(path)!r} cannot be read ({error.strerror}); {ALLOWED}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"results: {str(path)!r} holds no finished run ({error!r}); {ALLOWED}") from None
    if not runs:
        raise ConfigError(f"results: no run in {', '.join(paths)}; {ALLOWED}")
    return runs


def _of_lines(path: Path) -> Iterator[Run]:
    for line in filter(str.strip, read_text(path).splitlines()):
        record = parse_json(line)
        yield _checked(Run(record["label"], record["command"], settings_of(record["command"]), record["result"]))


def _of_folder(path: Path) -> Run:
    config, result = read_json(path / "config.json"), read_json(path / "result.json")
    settings = shlex.join(word for word in _flags(config) if not word.startswith(OF_ONE_RUN))
    audits = read_audits(path, result)
    return _checked(Run(result["method"], f"# settings in {path / 'config.json'}", settings, result, audits))


def _flags(config: Any, name: str = "--config") -> list[str]:
    """A configuration as flags of the command line."""
    if isinstance(config, dict):
        return [flag for key, value in config.items() for flag in _flags(value, f"{name}.{key}")]
    return [f"{name}={config}"]


def _checked(run: Run) -> Run:
    """The run, if it has all that a table needs; else a ValueError."""
    if why := find_fault({"time": {}, **run.result}):  # tables do not show times, so "time" may be missing
        raise ValueError(why)
    compared = [run.result.get(name) or {} for name in ("gap", "original_gap") if run.result.get("retrain")]
    compared += [spread] if (spread := run.result.get("retrain_spread")) else []
    parts = [(run.result, NEEDED), (run.result["seeds"], SEEDS), (run.result["forget"], ("kind", "count"))]
    parts += [(run.result[name], MEASURES) for name in ("scores", "original", "retrain") if run.result.get(name)]
    parts += [(gap, (*MEASURES, "mean")) for gap in compared]
    missing = [name for part, names in parts for name in names if part.get(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    return run


def settings_of(command: str) -> str:
    """A command without its seeds and folders, the part that all runs of a row share."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        flag, joined, _ = word.partition("=")
        if flag not in OF_ONE_RUN:
            kept.append(word)
        elif not joined:
            next(words, None)  # the value stands alone
    return shlex.join(kept)


def block_of(run: Run, table: int) -> str:
    """The block of columns that a run belongs to: its rho in Table 2, else what was forgotten."""
    if table == 2:
        return f"rho {run.result['rho']:g}"
    forget = run.result["forget"]
    if forget["kind"] != "random":
        return str(forget["kind"])
    return f"{100 * forget['fraction']:.3g} %" if forget.get("fraction") else f"{forget['count']} rows"


def by_block(runs: Sequence[Run], table: int) -> dict[str, list[Run]]:
    """The runs of each block of columns, the smallest fraction first."""

    def order(block: str) -> tuple[float, str]:
        numbers = [float(word) for word in block.split() if word.replace(".", "", 1).isdigit()]
        return min(numbers, default=math.inf), block

    blocks = sorted({block_of(run, table) for run in runs}, key=order)
    return {block: [run for run in runs if block_of(run, table) == block] for block in blocks}


def check(runs: Sequence[Run], table: int) -> None:
    """Refuses runs that do not belong in one table.

    Raises:
      ConfigError: if data set, model, number of training rows or (except in Table 1) what was forgotten differ; if
        runs of the same seeds differ in split or Retrain, or have no Retrain; if a row mixes settings or repeats a
        seed.
    """
    common: dict[str, Callable[[Run], Any]] = {
        "dataset": lambda run: run.result["dataset"],
        "model": lambda run: run.result["model"],
        "training rows": lambda run: run.num_train,
    }
    if table != 1:
        common["forgotten"] = lambda run: block_of(run, 1)
    for name, value in common.items():
        _agree(runs, lambda run: 0, value, f"{name}: {{}} and {{}} in Table {table}; allowed: one of them")
    for run in runs:
        if not run.result.get("retrain"):
            raise ConfigError(
                f"retrain: {run.label!r} has none to compare with; allowed: runs with evaluation.num_retrain >= 1"
            )

    def place(run: Run) -> Hashable:
        return block_of(run, 1), run.seeds.pair

    def retrain(run: Run) -> tuple[float, ...]:
        return tuple(round(run.result["retrain"][measure], 6) for measure in MEASURES)

    same_seeds = "of runs with the same train and split seed; allowed: one of them"
    _agree(runs, place, lambda run: run.result["splits_sha256"][:12], f"splits_sha256: {{}} and {{}} {same_seeds}")
    _agree(runs, place, retrain, f"retrain (UA, RA, TA, MI): {{}} and {{}} {same_seeds}")

    _check_rows(runs, table)


def _check_rows(runs: Sequence[Run], table: int) -> None:
    """Refuses rows that mix settings or repeat a seed."""
    settings: dict[Hashable, set[str]] = {}
    cells: set[Hashable] = set()
    for run in runs:
        row, words = (block_of(run, table), run.label), set(shlex.split(run.settings))
        if other := settings.setdefault(row, words) ^ words:
            different = ", ".join(sorted(other)[:4])
            raise ConfigError(f"label: {run.label!r} for runs that differ ({different}); allowed: a label for each")
        if (row, run.seeds) in cells:
            raise ConfigError(f"label: {run.label!r} twice with seeds {tuple(run.seeds)}; allowed: a seed once")
        cells.add((row, run.seeds))


def _agree(runs: Sequence[Run], group: Callable[[Run], Hashable], value: Callable[[Run], Any], message: str) -> None:
    """Raises ``message``, filled with two values, if runs of one group have different values."""
    first: dict[Hashable, Any] = {}
    for run in runs:
        before = first.setdefault(group(run), value(run))
        if before != value(run):
            raise ConfigError(message.format(repr(before), repr(value(run))))
