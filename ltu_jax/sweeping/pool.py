"""Runs a limited number of commands at a time, on this machine or, through ``submitit``, as Slurm job arrays.

The output of a job goes to ``FOLDER/logs/SLUG.txt``, its exit status to ``FOLDER/logs/SLUG.json``. A job holds a lock
on its log while it runs: if a killed program has left a job running, the next start waits for it instead of running it
twice.

On this machine each job has its own share of the cores; if the jobs share a GPU, one worker is enough. Slurm was not
available here: that side is tested with stand-ins for its commands. ``FOLDER`` must be visible from every node.
"""

import collections
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ltu_jax.commands.shutdown import StoppedError
from ltu_jax.reporting.terminal import progress_for
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import execute
from ltu_jax.sweeping.grid import Cell, Job

DAY = 24 * 60
"""Time limit of a job on Slurm, in minutes; submitit's own is five."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    status: int | None  # exit status; None if it has not ended yet
    seconds: float
    last_line: str  # of its log


@dataclasses.dataclass(frozen=True)
class Pool:
    """Where and how jobs run."""

    folder: Path  # must exist
    workers: int
    cluster: str = "local"
    slurm: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers: {self.workers} is too few; allowed: 1 or more")
        parameters = dict(map(_pair, self.slurm))  # a wrong one is reported at once
        if parameters and self.cluster != "slurm":
            raise ConfigError(f"--slurm: {' '.join(self.slurm)!r}, but --cluster is {self.cluster!r}; allowed: slurm")
        if self.cluster == "slurm":
            _slurm_executor(self.folder, self.workers, parameters)
        self.log("").parent.mkdir(parents=True, exist_ok=True)

    def run(self, label: str, jobs: Sequence[Job], finished: Callable[[Job], None] = lambda job: None) -> None:
        """Runs jobs in order and returns when all have ended; if interrupted, it stops those that run.

        Args:
          label: for the progress bar.
          jobs: what to run.
          finished: called with each job that ends, whether it succeeded or not.
        """
        if not jobs:
            return
        waiting, free = collections.deque(jobs), list(range(self.workers if self.cluster == "local" else len(jobs)))
        running: dict[Any, tuple[Job, int]] = {}
        # Each call has its own folder: submitit names its files by process numbers, which the system reuses.
        with (
            tempfile.TemporaryDirectory(prefix="jobs-", dir=self.folder, ignore_cleanup_errors=True) as own,
            progress_for()(label, len(jobs)) as advance,
            _noted_signals() as noted,
        ):
            try:
                while waiting or running:
                    if noted:
                        raise StoppedError(noted[0])
                    starting = [(waiting.popleft(), free.pop()) for _ in range(min(len(waiting), len(free)))]
                    running |= zip(self._submit(Path(own), starting), starting, strict=True)
                    for ended in [submitted for submitted in running if submitted.done()]:
                        job, slot = running.pop(ended)
                        free.append(slot)
                        finished(job)
                        advance(1)
                    time.sleep(0.1)
            finally:
                self._cancel(list(running))

    def outcome(self, job: Job) -> Outcome:
        """How a job ended when it last ran."""
        log, record = self.log(job.slug), self._record(job)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it has printed nothing")
        return Outcome(record.get("status"), record.get("seconds", 0.0), last)

    def done(self, job: Job) -> bool:
        """Whether a job has succeeded."""
        return self._record(job).get("status") == 0

    def unfinished(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have no result."""
        left = [cell for cell in cells if not (self.done(cell.job) and cell.result.is_file())]
        for cell in left:
            self.forget(cell.job)
        return left

    def forget(self, job: Job) -> None:
        """Deletes the record that a job succeeded, because its files are gone."""
        if self.done(job):
            self.log(job.slug).with_suffix(".json").unlink(missing_ok=True)

    def shown(self, job: Job) -> str:
        """See ``shown_command``."""
        return shown_command(job, self.workers, self.cluster)

    def failure(self, name: str, job: Job) -> str:
        """A line about a job that has not succeeded."""
        return f"{name}: {self.outcome(job).last_line} ({self.log(job.slug)})"

    def log(self, slug: str) -> Path:
        """The file with the output of a job."""
        return self.folder / "logs" / f"{slug}.txt"

    def _record(self, job: Job) -> dict[str, Any]:
        path = self.log(job.slug).with_suffix(".json")
        return json.loads(path.read_text()) if path.exists() else {}

    def _submit(self, own: Path, starting: list[tuple[Job, int]]) -> list[Any]:
        if not starting:
            return []
        arguments = [(job.command, str(self.log(job.slug).absolute()), os.getcwd()) for job, _ in starting]
        if self.cluster == "local":
            each = zip(arguments, starting, strict=True)
            return [
                _LocalJob((*words, _share(slot, self.workers)), own / f"{job.slug}.txt") for words, (job, slot) in each
            ]
        executor = _slurm_executor(own, self.workers, dict(map(_pair, self.slurm)))
        # Ctrl-C reaches every process of a terminal, but only this one should act on it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return executor.map_array(execute.run_command, *zip(*arguments, strict=True))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _cancel(self, running: list[Any]) -> None:
        while running := [job for job in running if not job.done()]:
            for job in running:
                job.cancel(check=False)
            if self.cluster != "local":
                return
            time.sleep(0.1)  # a job that is just starting may miss the signal, so it is sent until the job is gone


_RUN = """
import json, runpy, sys

sys.path[:], file, arguments = json.loads(sys.argv[1])
runpy.run_path(file)["run_command"](*arguments)
"""
"""Finds the package where this program found it, without telling the command's own processes."""


class _LocalJob:
    """A job on this machine, by the names that submitit has for it; Ctrl-C in the terminal does not reach it."""

    def __init__(self, arguments: tuple[Any, ...], output: Path) -> None:
        words = json.dumps([sys.path, execute.__file__, arguments])
        command = [sys.executable, "-c", _RUN, words]
        with output.open("w") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def cancel(self, check: bool) -> None:
        """Asks it to end."""
        del check
        self._process.terminate()


def _slurm_executor(folder: Path, workers: int, parameters: dict[str, Any]) -> Any:
    """The submitit executor with its parameters.

    Raises:
      ConfigError: if submitit or Slurm is not there, or does not know a parameter.
    """
    # submitit's set-up of logging closes other handlers, and absl's then closes standard error.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    try:
        import submitit
    except ImportError:
        allowed = "allowed: after pip install 'ltu-jax[experiments]'"
        raise ConfigError(f"--cluster: 'slurm' needs the package submitit; {allowed}") from None
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm")
        executor.update_parameters(timeout_min=DAY, slurm_array_parallelism=workers)
        executor.update_parameters(**{f"slurm_{key}": value for key, value in parameters.items()})
    except (NameError, RuntimeError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"--cluster slurm: {why}; allowed: what submitit.AutoExecutor takes") from None
    return executor


def prepare(pool: Pool, cells: Sequence[Cell], cache: Path) -> dict[str, Job]:
    """Runs the jobs that make what cells share, one stage after the other.

    Args:
      pool: where the jobs run.
      cells: the cells that are to run.
      cache: folder that the jobs fill; if it is gone, all of them run again.

    Returns:
      For each cell that cannot run, the failed job by the cell's slug.
    """
    if not cache.is_dir():
        for job in (job for cell in cells for job in cell.problems):
            pool.forget(job)
    blocked: dict[str, Job] = {}
    for stage in range(max((len(cell.problems) for cell in cells), default=0)):
        jobs = {
            cell.problems[stage].slug: cell.problems[stage]
            for cell in cells
            if len(cell.problems) > stage and cell.job.slug not in blocked
        }
        pool.run("problems", [job for job in jobs.values() if not pool.done(job)])
        for cell in cells:
            if len(cell.problems) > stage and not pool.done(cell.problems[stage]):
                blocked.setdefault(cell.job.slug, cell.problems[stage])
    return blocked


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Records SIGINT and SIGTERM instead of raising: an exception between two lines would lose track of a job."""
    noted: list[int] = []
    before = {number: signal.signal(number, lambda n, _: noted.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _share(slot: int, workers: int) -> list[int]:
    """The cores of a job. All get equally many, because their number changes the bits of a result."""
    cores = usable_cores()
    each = max(1, len(cores) // workers)
    return [cores[(slot * each + i) % len(cores)] for i in range(each)]


def shown_command(job: Job, workers: int, cluster: str) -> str:
    """The command of a job as a reader can run it: on as many cores as here, because on others it rounds otherwise."""
    pins = cluster == "local" and hasattr(os, "sched_setaffinity")
    each = len(_share(0, workers)) - 1
    return shlex.join([*(("taskset", "-c", f"0-{each}" if each else "0") if pins else ()), *job.command])


def _pair(word: str) -> tuple[str, Any]:
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise ConfigError(f"--slurm: {word!r} is no pair; allowed: KEY=VALUE")
    return key, int(value) if value.isdigit() else value
