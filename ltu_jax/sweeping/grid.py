"""The classes that a sweep file uses, and the runs that a sweep consists of.

A sweep file is a Python file with a function ``get_sweep() -> Sweep``; see docs/comparing.md.
"""

import dataclasses
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.config import Config, needs
from ltu_jax.config_file import call
from ltu_jax.setting import ConfigError, digest, import_reference, to_dict
from ltu_jax.sweeping.configuring import configure

PROGRAM = ("python", "-m", "ltu_jax.unlearn")

Seed = int | Mapping[str, int]
"""One number for all three seeds, or ``{"train": 0, "split": 0, "unlearn": 3}``."""

Range = tuple[float, float] | tuple[float, float, str] | list[Any]
"""What tuning may try: ``(low, high)``, ``(low, high, "log")`` or a list of choices; whole numbers stay whole."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: a method with its settings.

    Attributes:
      label: its name in the table; no two rows have the same.
      method: the part after the colon of ``--config FILE.py:METHOD``.
      settings: fields of the configuration, such as ``{"method.epochs": 5.0}``.
      remain_fraction: rho of this row, instead of the sweep's.
      space: what ``ltu_jax.tune`` may change, and within which bounds (``Range``).
    """

    label: str
    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remain_fraction: float | None = None
    space: Mapping[str, Range] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Every row at every seed, rho and forget fraction.

    Attributes:
      config: what ``--config`` takes: a configuration file, or the name of one that comes with the package.
      rows: of the table, in its order.
      seeds: of each row (``Seed``).
      remain_fractions: rho; None is that of the configuration file.
      forget_fractions: None is that of the configuration file.
      settings: fields of every run; those of a row override them.
      tuned: file that ``ltu_jax.tune`` wrote; its best settings override those of the rows.
      tuning_seeds: for ``ltu_jax.tune``; their split seeds are never those of the table.
    """

    config: str
    rows: Sequence[Row]
    seeds: Sequence[Seed]
    remain_fractions: Sequence[float | None] = (None,)
    forget_fractions: Sequence[float | None] = (None,)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuned: str | None = None
    tuning_seeds: Sequence[Seed] = ()


class Job(NamedTuple):
    """A command, and the name that everything it writes has in common."""

    slug: str
    command: list[str]


class Cell(NamedTuple):
    """One run of the sweep, and the jobs that must come before it, in order."""

    label: str
    job: Job
    problems: tuple[Job, ...]
    config: Config
    result: Path  # the result.json that it writes


class _Run(NamedTuple):
    row: Row
    name: str  # rho, forget fraction and seeds, as part of a file name
    words: list[str]  # --config and its overrides
    config: Config


def load_sweep(path: Path) -> Sweep:
    """The sweep of a sweep file.

    Raises:
      ConfigError: if the file cannot be read or holds no sweep.
    """
    return call(str(path), "FILE", "get_sweep()", Sweep)


def cells(sweep: Sweep, runs: Path, cache: Path) -> list[Cell]:
    """The runs of a sweep in the order of the table, each checked as the program itself would check it.

    A slug ends in a hash of the resolved configuration, so it names the same run at the next start, and never another
    one. Originals, Retrain models and attackers are made first, once for all runs that share them, by the command of
    the run that needs most of them. A method that needs recorded updates has an original of its own.

    Args:
      sweep: the sweep.
      runs: folder of the runs' folders.
      cache: folder of originals, Retrain models and attackers.

    Returns:
      The cells, no two with the same slug.

    Raises:
      ConfigError: one line that names the row, the field, its value and what is allowed.
    """
    _check(sweep)
    todo = list(_runs(sweep))
    makers: dict[str, _Run] = {}
    for run in sorted(todo, key=_needs_rank, reverse=True):  # stable: among equals the first row is taken
        makers.setdefault(_problem(run.config), run)
    planned = []
    for run in todo:
        slug = "-".join((_word(run.row.label), run.name, digest(run.row.label, to_dict(run.config))[:8]))
        flags = ["--workdir", str(runs / slug), "--cache", str(cache)]
        problems = [_preparation("problem", makers[_problem(run.config)], cache)]
        if _has_own_original(run):
            problems.append(_preparation(f"{_word(run.row.label)}-original", run, cache))
        job = Job(slug, _command(run.words, flags))
        planned.append(Cell(run.row.label, job, tuple(problems), run.config, runs / slug / "result.json"))
    if len({cell.job.slug for cell in planned}) < len(planned):
        raise ConfigError("Sweep: a run stands in it twice; allowed: seeds, fractions and labels that all differ")
    return planned


def forget_sets(seeds: Sequence[Seed]) -> set[int]:
    """The split seeds: two runs with the same one forget the same rows."""
    return {seed if isinstance(seed, int) else seed["split"] for seed in seeds}


def _runs(sweep: Sweep) -> Iterator[_Run]:
    best = {} if sweep.tuned is None else _best(sweep.tuned, sweep.rows)
    for row in sweep.rows:
        rhos = sweep.remain_fractions if row.remain_fraction is None else [row.remain_fraction]
        own = {**sweep.settings, **row.settings, **best.get(row.label, {})}
        for forget, rho, seed in itertools.product(sweep.forget_fractions, rhos, sweep.seeds):
            given = {"data.forget_fraction": forget, "data.remain_fraction": rho, **_seed_fields(seed), **own}
            fields = {name: value for name, value in given.items() if value is not None}
            try:
                config = configure(sweep.config, row.method, fields)
                _check_own(config)
            except ConfigError as error:
                raise ConfigError(f"row {row.label!r}: {error}") from error
            words = ["--config", f"{sweep.config}:{row.method}"]
            words += [f"--config.{name}={_text(value)}" for name, value in fields.items()]
            name = "" if forget is None else f"forget{forget:g}-"
            name += "" if rho is None else f"rho{rho:g}-"
            yield _Run(row, name + _seed_word(config, "train", "split", "unlearn"), words, config)


def _check_own(config: Config) -> None:
    """Refuses what is the user's own and cannot be imported, before anything is prepared."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a job, python -m ltu_jax.unlearn, looks too
    named = {f"{group}.name": getattr(config, group).name for group in ("method", "model", "data")}
    named |= {"logger": config.logger, "evaluation.measure": config.evaluation.measure}
    for field, name in [*named.items(), *(("attackers.names", name) for name in config.attackers.names)]:
        if name is not None and ":" in name:
            import_reference(name, f"config.{field}")


def _check(sweep: Sweep) -> None:
    labels = [row.label for row in sweep.rows]
    for name, values in (("rows", labels), ("seeds", sweep.seeds)):
        if not values or any(value in values[:i] for i, value in enumerate(values)):
            raise ConfigError(f"Sweep.{name}: {list(values)!r} is empty or names one twice; allowed: one or more")
    for seed in (*sweep.seeds, *sweep.tuning_seeds):
        if not isinstance(seed, int) and set(seed) != {"train", "split", "unlearn"}:
            raise ConfigError(f"Sweep.seeds: {seed!r}; allowed: a whole number, or train, split and unlearn")
    if met := forget_sets(sweep.seeds) & forget_sets(sweep.tuning_seeds):
        raise ConfigError(
            f"Sweep.tuning_seeds: split seed {min(met)} is one of Sweep.seeds;"
            " allowed: forget sets that are never those of the table"
        )
    ours = {"seed": "seeds", "data.forget_fraction": "forget_fractions", "data.remain_fraction": "remain_fractions"}
    for where, names in [("Sweep", sweep.settings)] + [
        (f"row {r.label!r}", {**r.settings, **r.space}) for r in sweep.rows
    ]:
        for name in names:
            field = ours.get("seed" if name.startswith("seeds.") else name)
            if field:
                raise ConfigError(f"{where}: {name!r} is no setting of its own; allowed: Sweep.{field}")


def _best(path: str, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    try:
        tuned = json.loads(Path(path).read_text())["rows"]
        best = {label: tuned[label]["best"] for label in tuned}
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"Sweep.tuned: {path!r} cannot be read; allowed: a file that ltu_jax.tune wrote") from None
    for row in rows:
        if row.space and row.label not in best:
            raise ConfigError(f"Sweep.tuned: {path!r} lacks row {row.label!r}; allowed: ltu_jax.tune on this row first")
    return best


def _needs_rank(run: _Run) -> int:
    """Higher for a run that needs more of what is shared: attackers count most, its own original counts against it."""
    return 2 * ("bank" in needs(run.config.method)) - _has_own_original(run)


def _has_own_original(run: _Run) -> bool:
    """Whether the original's training is recorded for this run's forget set."""
    return "updates" in needs(run.config.method)


def _problem(config: Config) -> str:
    """Hash of all settings that the original, Retrain and the attackers depend on."""
    fields = to_dict(config)
    seeds = {name: fields["seeds"][name] for name in ("train", "split")}
    data = {name: value for name, value in fields["data"].items() if name != "remain_fraction"}
    return digest(seeds, data, *(fields[name] for name in ("model", "training", "attackers", "evaluation")))


def _preparation(kind: str, run: _Run, cache: Path) -> Job:
    method = to_dict(run.config)["method"] if kind != "problem" else None
    name = digest(_problem(run.config), method, str(cache.absolute()))[:8]
    slug = "-".join((kind, _seed_word(run.config, "train", "split"), name))
    return Job(slug, _command(run.words, ["--prepare", "--cache", str(cache)]))


def _command(words: list[str], flags: list[str]) -> list[str]:
    return [*PROGRAM, *words[:2], *flags, *words[2:]]


def _seed_fields(seed: Seed) -> dict[str, int]:
    return {"seed": seed} if isinstance(seed, int) else {f"seeds.{name}": value for name, value in seed.items()}


def _seed_word(config: Config, *names: str) -> str:
    seeds = [str(getattr(config.seeds, name)) for name in names]
    return "seed" + (seeds[0] if len(set(seeds)) == 1 else ".".join(seeds))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(tuple(value) if isinstance(value, list) else value)


def _word(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
