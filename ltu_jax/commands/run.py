"""What ``python -m ltu_jax.unlearn`` does: prepares and unlearns, and writes a folder with the result of each seed."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.options import Options
from ltu_jax.config import Config
from ltu_jax.data.sources import load_source, num_fitting
from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import LOCK, DiskFullError, disk_of, free_bytes, locked, sync_tree, write_whole
from ltu_jax.interop.weights import save_weights
from ltu_jax.reporting.page import render_report
from ltu_jax.reporting.terminal import print_result
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError, plain, to_dict
from ltu_jax.training.checkpoint import CheckpointError, save_tree
from ltu_jax.training.saving import METRICS, History, Log, WrongRunError, as_lines
from ltu_jax.types import Progress, Source, UnlearnState
from ltu_jax.unlearning.estimate import disk_bytes, estimate
from ltu_jax.unlearning.evidence import changed_most, forget_confidence
from ltu_jax.unlearning.loggers import find_logger, times
from ltu_jax.unlearning.loop import run_options, run_together, start_from_problem
from ltu_jax.unlearning.problem import Loaded, Problem, load_problem, prepare_together, request_sha256
from ltu_jax.unlearning.result import make_result, now

FAILURES = (FloatingPointError, CheckpointError, DiskFullError, WrongRunError)
"""What ends a run with one line and status 1."""


class Job(NamedTuple):
    """One run, its folder and its data: nothing is trained yet."""

    config: Config
    workdir: Path
    loaded: Loaded


def unlearn(jobs: Sequence[tuple[Config, Path]], options: Options) -> int:
    """Does the runs that are not done yet; the exit status, 0 where all are done by then, else 1.

    Args:
      jobs: configurations that differ in their seeds alone, and their folders.
      options: the flags.

    Raises:
      ConfigError: before anything is written, if settings do not fit the data, a folder holds another run, or a disk
        has too little room.
    """
    processes.use_devices(jobs[0][0], options)
    with shutdown.catch_signals() as stop:
        progress = stop.watched(processes.progress())
        return processes.stop_if_one_is_lost(lambda: _unlearn(jobs, options, progress))


def read_source(config: Config) -> Source:
    """The data, with a line on standard error about images that were left out."""
    source = load_source(config.data, processes.progress())
    if left_out := source.unreadable:
        first = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        print(plain(f"left out, {len(left_out)} images that cannot be decoded: {first}"), file=sys.stderr)
    return source


def _unlearn(jobs: Sequence[tuple[Config, Path]], options: Options, progress: Progress) -> int:
    config = jobs[0][0]
    find_logger(config.logger)  # nothing is written before all is known to be right
    source = read_source(config)
    runs = [Job(one, workdir, load_problem(one, progress, source=source)) for one, workdir in jobs]
    if options.dry_run:
        print(json.dumps({"config": to_dict(config), **estimate(config, runs[0].loaded)}, indent=2))
        return 0
    todo = runs if options.prepare else [run for run in runs if not _is_done(run)]
    if writes_files():
        _check_disk(todo, options.cache)
    at_once, done = at_once_of(config, source), True
    left = {run.workdir for run in todo}
    if not options.prepare:
        _check_begun(todo, at_once)
    with contextlib.ExitStack() as stack:
        for run in todo if writes_files() and not options.prepare else ():
            stack.enter_context(locked(run.workdir / LOCK, "--workdir"))
        # A class has more rows in one split than in another, and only runs of the same sizes share a program.
        for size in sorted({run.loaded.splits.sizes for run in runs}):
            alike = [run for run in runs if run.loaded.splits.sizes == size]
            for start in range(0, len(alike), at_once):
                group = alike[start : start + at_once]  # of all runs: those that are done changed the others' bits
                done = _attempt([r for r in group if r.workdir in left], group, at_once, options, progress) and done
    if done and options.prepare:
        print(plain(f"prepared; original, Retrain and attackers in {options.cache}"))
    return 0 if done else 1


def _is_done(run: Job) -> bool:
    """Whether its folder has a result, which is then shown; that of another run is refused, a torn one made anew."""
    file = run.workdir / "result.json"
    if not agreed(file.exists):
        return False
    try:
        outcome = read_json(file)
    except (OSError, ValueError) as error:
        print(plain(f"note: {file} cannot be read ({reason(error)}) and is made anew"), file=sys.stderr)
        return False
    if outcome.get("request_sha256") != request_sha256(run.config, run.loaded):
        where = str(run.workdir)
        raise ConfigError(f"--workdir: {where!r} holds a run on other data, ids or weights; allowed: a new folder")
    _show(outcome, run.workdir, "already done; result in")
    return True


def _check_disk(todo: Sequence[Job], cache: Path) -> None:
    """Refuses runs that begin on a disk that they would fill; one that goes on stops when it is full."""
    new = [(run, disk_bytes(run.config, run.loaded.spec)) for run in todo if not run.workdir.exists()]
    wanted = [("--workdir", run.workdir, size["workdir"]) for run, size in new]
    wanted += [("--cache", cache, size["cache"]) for _, size in new]
    for flag, folder, _ in wanted:
        needed = sum(size for _, other, size in wanted if disk_of(other) == disk_of(folder))
        if (free := free_bytes(folder)) < needed:
            raise ConfigError(
                f"{flag}: {str(folder)!r} is on a disk with {free / 1e6:.1f} MB free, and up to {needed / 1e6:.1f} MB"
                " are written there; allowed: a disk with room"
            )


def at_once_of(config: Config, source: Source) -> int:
    """How many models a program; images that stay on the host are fetched for one model at a time."""
    if source.streamed:
        return 1
    if config.at_once or jax.default_backend() == "cpu":
        return config.at_once or 1
    return max(1, min(4, config.num_seeds, agreed(lambda: num_fitting(source))))


def _check_begun(todo: Sequence[Job], at_once: int) -> None:
    """Refuses to go on with other programs than those that a run was begun with: they make other models."""
    for run in todo:
        begun = None
        with contextlib.suppress(OSError, ValueError):  # not begun
            begun = read_json(run.workdir / "config.json").get("at_once")
        if begun not in (None, at_once):
            raise ConfigError(
                f"--workdir: {str(run.workdir)!r} was begun with {begun} models in one program, now it is {at_once};"
                f" allowed: the command that it was begun with (config.at_once={begun}), or a new folder"
            )


def _attempt(runs: Sequence[Job], group: Sequence[Job], at_once: int, options: Options, progress: Progress) -> bool:
    """Whether all of the runs were done; where one of several diverges, the others are run without it.

    Args:
      runs: those of the group that are not done yet.
      group: all runs whose models are trained together.
      at_once: models in one program.
      options: the flags.
      progress: reports the progress.
    """
    if not runs:
        return True
    started, problems = now(), None
    try:
        problems = _prepare(runs, group, at_once, options, progress)
        if not options.prepare:
            _run(runs, problems, started, options, progress)
    except FAILURES as error:
        if options.debug:
            raise
        of = runs if problems else group
        which = of[0].workdir if len(of) == 1 else f"one of {', '.join(str(run.workdir) for run in of)}"
        print(plain(f"error: {which}: {error}"), file=sys.stderr)
        if not isinstance(error, FloatingPointError):  # alone they would be other models than together
            return False
        if problems is None:  # a training diverged: each trains its own
            return len(group) > 1 and all([_attempt([run], [run], at_once, options, progress) for run in runs])
        return len(runs) > 1 and all([_attempt([run], group, at_once, options, progress) for run in runs])
    return True


def _prepare(
    runs: Sequence[Job], group: Sequence[Job], at_once: int, options: Options, progress: Progress
) -> list[Problem]:
    """The problems of runs, prepared with all of their group; their folders are begun."""
    for run in runs if writes_files() and not options.prepare else ():
        settings = {**to_dict(run.config), "at_once": at_once}
        write_whole(run.workdir / "config.json", json.dumps(settings, indent=2) + "\n")
    processes.keep_compiled(options.cache)
    configs, loaded = [run.config for run in group], [run.loaded for run in group]
    problems = prepare_together(configs, loaded, cache=options.cache, at_once=at_once, progress=progress)
    wanted = {run.workdir for run in runs}
    return [problem for problem, run in zip(problems, group, strict=True) if run.workdir in wanted]


def _run(runs: Sequence[Job], problems: Sequence[Problem], started: str, options: Options, progress: Progress) -> None:
    """Unlearns, all as one program, and writes each run into its folder."""
    starts = [
        start_from_problem(problem, folder=run.workdir)._replace(log=_log_of(run))
        for run, problem in zip(runs, problems, strict=True)
    ]
    ended = run_together(starts, run_options(runs[0].config, progress))
    for run, problem, one in zip(runs, problems, ended, strict=True):
        outcome = make_result(problem, *one, started)
        _write(run.workdir, problem, one, outcome, options.show_images)
        _show(outcome, run.workdir, "result in")


def _log_of(run: Job) -> Log | None:
    """What gets the rows of a run: ``times.jsonl`` and the logger of its configuration."""
    if not writes_files():
        return None
    make = find_logger(run.config.logger)
    logs = [times(run.workdir), *([make(run.workdir, to_dict(run.config))] if make else ())]

    def log_all(row: dict[str, float]) -> None:
        for log in logs:
            log(row)

    return log_all


def _write(
    workdir: Path, problem: Problem, ended: tuple[UnlearnState, History], outcome: dict[str, Any], show_images: bool
) -> None:
    state, history = ended
    confidence = forget_confidence(problem, state)
    changed = changed_most(problem, confidence) if show_images else None
    described = {name: outcome[name] for name in ("method", "forget", "splits_sha256")}
    described |= {"num_classes": problem.source.num_classes, "image_shape": list(problem.source.images.shape[1:])}
    save_tree(workdir / "model", {"params": state.params, "model_state": state.model_state}, described)
    if not writes_files():
        return
    if problem.config.weights is not None:
        given = Path(problem.config.weights)
        (workdir / "weights").mkdir(exist_ok=True)
        save_weights(given, workdir / "weights" / given.name, {"params": state.params, **state.model_state})
        sync_tree(workdir / "weights")
    write_whole(workdir / METRICS, as_lines(history.rows))  # its lines were not flushed to the disk
    write_whole(workdir / "report.html", render_report(outcome, history.rows, confidence, changed))
    # Last and whole: a folder with a result is done.
    write_whole(workdir / "result.json", json.dumps(outcome, indent=2) + "\n")


def _show(outcome: dict[str, Any], workdir: Path, words: str) -> None:
    print_result(outcome)
    weights = ", weights/" if (workdir / "weights").exists() else ""
    print(plain(f"{words} {workdir}: result.json, report.html, metrics.jsonl, model/, checkpoints/{weights}"))
