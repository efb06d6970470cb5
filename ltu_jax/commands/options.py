"""The flags of ``python -m ltu_jax.unlearn``, and its folders, which are checked before JAX is imported."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltu_jax import safe_reading
from ltu_jax.config import Config, asked_for, each_seed
from ltu_jax.deletion.ledger import FILES
from ltu_jax.files import LOCK, check_folder, is_partial
from ltu_jax.setting import ConfigError, to_dict

RUN_FILES = (LOCK, "config.json", "result.json", "report.html", "metrics.jsonl", "checkpoints", "model", "weights")
RUN_FILES += ("audit.json", "audit.html", "times.jsonl", "tensorboard")
"""What the folder of a run may hold."""
FEWEST_CANARIES = 40
"""With fewer, no number of right guesses is worth a figure."""
WRITTEN = ("checkpoints", "model", "weights", "request-", "seed-")
"""How the folders begin that a run or request makes in its workdir."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags, by their names; a command that has fewer leaves the others as they are."""

    workdir: Path
    cache: Path
    forget: str | None = None
    sign: str | None = None
    operator: str | None = None
    keep_original: bool = False
    prepare: bool = False
    dry_run: bool = False
    show_images: bool = False
    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    deterministic: bool = True
    debug: bool = False


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """The flags of ``python -m ltu_jax.audit``."""

    base: Options
    audits: list[str]
    level: int
    retrains: int
    canaries: int | None
    shadows: int
    oracles: int


def default_workdir(config: Config, forget: str | None) -> str:
    """The folder of a command that names none."""
    if forget:
        return f"runs/{config.data.name}-requests"
    seeds = f"{config.seed}" if config.num_seeds == 1 else f"{config.seed}-to-{config.seed + config.num_seeds - 1}"
    method = "".join(c if c.isalnum() else "_" for c in config.method.name)
    return f"runs/{config.data.name}-{method}-{seeds}"


def check_run_folders(config: Config, options: Options) -> list[tuple[Config, Path]]:
    """The runs of a configuration, one a seed, and their folders, which ``--dry_run`` leaves alone.

    Raises:
      ConfigError: if a folder or the cache cannot be written, or a folder holds another run or anything else.
    """
    folder, is_one = options.workdir, config.num_seeds == 1
    jobs = [(one, folder if is_one else folder / f"seed-{one.seed}") for one in each_seed(config)]
    if not (options.prepare or options.dry_run):
        _check_apart(options.cache, [folder, *(workdir for _, workdir in jobs)])
    for one, workdir in jobs if not (options.prepare or options.dry_run) else ():
        _check_workdir(workdir, one)
    check_writable("--cache", options.cache)
    return jobs


def check_audited_folder(config: Config, options: AuditOptions) -> None:
    """Refuses a folder that is not that of a finished run of this configuration, and one that cannot be written.

    Raises:
      ConfigError: the flag, the folder, what is allowed.
    """
    workdir = options.base.workdir
    if not (workdir / "result.json").is_file():
        raise ConfigError(
            f"--workdir: {str(workdir)!r} has no result.json; allowed: a folder that python -m ltu_jax.unlearn finished"
        )
    _check_workdir(workdir, config)
    check_writable("--cache", options.base.cache)


def check_request_folders(options: Options) -> None:
    """Refuses folders that a deletion request cannot use.

    Raises:
      ConfigError: if one cannot be written, or the workdir holds anything but requests and the cache.
    """
    home, cache = options.workdir, options.cache
    check_writable("--workdir", home)
    check_writable("--cache", cache)
    _check_apart(cache, [home])
    for path in _inside(home):
        is_own = path.name in FILES or path.name.startswith("request-") or is_partial(path)
        if not is_own and path.absolute() != cache.absolute():
            where = str(home)
            raise ConfigError(f"--workdir: {where!r} holds {path.name!r}, no request; allowed: a folder of requests")


def _check_workdir(workdir: Path, config: Config) -> None:
    """Refuses a folder that cannot be written, that holds another run, or that holds anything else."""
    check_writable("--workdir", workdir)
    written, before = workdir / "config.json", None
    with contextlib.suppress(OSError, ValueError):
        before = safe_reading.read_json(written)
    if before is None:
        # Where a power cut left an empty file, what else is in the folder tells whether it is a run.
        own = RUN_FILES if written.is_file() else (LOCK,)
        if any(path.name not in own and not is_partial(path) for path in _inside(workdir)):
            raise ConfigError(
                f"--workdir: {str(workdir)!r} holds files that are no run; allowed: a new or empty folder"
            )
    else:
        if what := ", ".join([*_differences(asked_for(before), asked_for(to_dict(config)))][:3]):
            raise ConfigError(f"--workdir: {str(workdir)!r} holds another run ({what}); allowed: a new folder")


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _check_apart(cache: Path, workdirs: list[Path]) -> None:
    """Refuses a cache that would lie among the files of a run or request; a folder of its own in one may be."""
    there = cache.resolve()
    for workdir in (path.resolve() for path in workdirs):
        inside = there.relative_to(workdir).parts if there.is_relative_to(workdir) else None
        if inside is not None and (not inside or inside[0].startswith(WRITTEN)):
            raise ConfigError(
                f"--cache: {str(cache)!r} is --workdir or among what is written there; allowed: a folder of its own"
            )


def check_writable(flag: str, path: Path) -> None:
    """Refuses a folder that cannot be made or written to.

    Raises:
      ConfigError: the flag, the folder, what is allowed.
    """
    check_folder(path, flag)
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{flag}: {str(path)!r} cannot be made, {there} is no folder; allowed: a folder to write to")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{flag}: {str(path)!r} cannot be written; allowed: a folder to write to")


def _differences(before: Any, now: Any, name: str = "config") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*now, *(key for key in before if key not in now)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield f"{name} was {before!r}, is {now!r}"
