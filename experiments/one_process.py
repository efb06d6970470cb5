"""Runs the cells of one problem in this process: the data are read, and each program is compiled, once for all."""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
from absl import logging

from ltu_jax.commands import processes, shutdown
from ltu_jax.config import Config
from ltu_jax.evaluation.closeness import Answers
from ltu_jax.files import write_whole
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping.grid import Cell
from ltu_jax.training.dispatch import compile_clock
from ltu_jax.training.jobs import Trainer
from ltu_jax.types import Progress, Source
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.preparation import original_job, retrain_jobs
from ltu_jax.unlearning.problem import Problem, load_problem, prepare
from ltu_jax.unlearning.result import make_result, now


@dataclasses.dataclass(frozen=True)
class Clock:
    """Says what each part of the work takes, and when no further one is to start."""

    begun: float  # time.perf_counter()
    minutes: float

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() - self.begun >= 60 * self.minutes

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the work; prints its seconds."""
        start = time.perf_counter()
        with compile_clock() as compiling:
            yield
        end = time.perf_counter()
        print(
            f"{name:22} {end - start:7.1f} s, {compiling.seconds:6.1f} of them compiling;"
            f" {(end - self.begun) / 60:5.2f} minutes in all",
            flush=True,
        )


def check_device() -> None:
    """Refuses a CPU, on which a problem for a GPU would take days.

    Raises:
      ConfigError: if JAX finds nothing else.
    """
    if jax.default_backend() == "cpu":
        raise ConfigError("device: JAX finds a CPU alone; allowed: a GPU or TPU, or --tiny")


def run(cells: Sequence[Cell], cache: Path, clock: Clock) -> list[str]:
    """Runs the cells that have no result yet, until the time is over; what was done is found by the next call.

    Args:
      cells: runs of one seed that differ in method and rho alone, the one that needs most first.
      cache: folder of what they share.
      clock: asked before each model and each run.

    Returns:
      A line for each model or run that diverged.

    Raises:
      ConfigError, CheckpointError: as ``prepare``.
    """
    left, failures = [cell for cell in cells if not cell.result.exists()], []
    if not left or clock.is_over:
        return []
    logging.set_verbosity(logging.ERROR)  # Orbax logs every step of every save
    processes.keep_compiled(cache)
    with shutdown.catch_signals() as stop:
        progress, config = stop.watched(processes.progress()), left[0].config
        with clock.part("data"):
            source, splits, spec, _ = load_problem(config, progress)
        trainer, jobs = Trainer(config, source, spec, cache, progress), [original_job(splits)]
        retrained: list[Answers] = []  # asked once for all methods
        shared: dict[str, Callable[[], object]] = {
            job.label: functools.partial(trainer.model, job) for job in jobs + retrain_jobs(config, splits)
        }
        shared["attackers and scores"] = lambda: retrained.extend(
            map(functools.cache, prepared(config, source, cache, progress).retrained)
        )
        own = {cell.label: functools.partial(finish, cell, source, retrained, cache, progress) for cell in left}
        for name, make in {**shared, **own}.items():
            if clock.is_over:
                break
            try:
                with clock.part(name):
                    make()
            except FloatingPointError as error:
                failures.append(f"{name}: {error}")
                if name in shared:
                    break
    return failures


def prepared(config: Config, source: Source, cache: Path, progress: Progress) -> Problem:
    """``prepare`` of data that were read before."""
    return prepare(config, loaded=load_problem(config, progress, source=source), cache=cache, progress=progress)


def finish(cell: Cell, source: Source, retrained: Sequence[Answers], cache: Path, progress: Progress) -> None:
    """Runs a cell and writes its ``result.json``."""
    started, problem = now(), prepared(cell.config, source, cache, progress)
    state, history = run_problem(problem, progress=progress)
    result = make_result(problem, state, history, started, retrained)
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    write_whole(cell.result, json.dumps(result, indent=2) + "\n")
