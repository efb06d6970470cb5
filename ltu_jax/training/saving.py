"""A run that can be stopped at any time: its state, its history, and the folder that both are saved in."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltu_jax.devices import writes_files
from ltu_jax.files import room, write_whole
from ltu_jax.safe_reading import parse_json, read_text
from ltu_jax.training.checkpoint import StepCheckpoints, open_checkpoints, saved_steps, step_metadata
from ltu_jax.training.dispatch import Algorithm
from ltu_jax.types import ArrayTree, UnlearnState

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"


Log = Callable[[dict[str, float]], None]
"""``log(row)``: what is called with each logged row of a run, and the seconds of UT so far."""


class WrongRunError(RuntimeError):
    """A folder that holds the checkpoints of another run."""


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where and how often a run is saved: ``checkpoints/``, and ``metrics.jsonl`` if it logs."""

    directory: Path
    identity: str  # hash of everything that the run is a function of
    every: int = 0  # steps; 0: by the clock alone
    every_s: float = 60.0  # seconds
    at_end: bool = True  # whether the last state is saved too


@dataclasses.dataclass
class History:
    """What a run records beside its state.

    UT is ``init_s``, counted once, and ``steps_s``, which adds up over resumes.
    """

    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)  # one for each logged step
    steps: int = 0  # steps taken
    init_s: float = 0.0  # the method's init, without what JAX spent on compiling it
    steps_s: float = 0.0  # its steps; with images on the host, waiting for these too
    compile_s: float = 0.0
    saved_step: int | None = None
    best_step: int | None = None  # the step whose state eval_every kept
    best_distance: float | None = None
    stopped_early: bool = False  # because its judge gave it up
    warnings: list[str] = dataclasses.field(default_factory=list)
    rho: float | None = None  # the fraction of the remaining rows that the method saw
    cost: dict[str, float] | None = None  # a training.cost.Cost, if the method states one

    @property
    def ut_minutes(self) -> float:
        """UT in minutes: compilation, data loading and evaluation excluded."""
        return (self.init_s + self.steps_s) / 60


@dataclasses.dataclass(eq=False)
class Run:
    """A run in progress; ``training.steps.run_steps`` takes its steps."""

    algorithm: Algorithm
    state: UnlearnState  # consumed by the next step
    context: Any
    data: ArrayTree
    num_steps: int  # of the whole run
    saving: Saving | None = None  # None saves nothing
    history: History = dataclasses.field(default_factory=History)
    best: UnlearnState | None = None  # the best state so far, if the run is scored
    score: "Callable[[Run], dict[str, float]] | None" = None  # may keep the best state, and stop the run
    log: Log | None = None

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.history.steps

    @property
    def is_done(self) -> bool:
        """Whether it takes no further step."""
        return self.step >= self.num_steps or self.history.stopped_early


class Saver:
    """Saves a run and resumes it; made by ``open_savers``. A run without ``Saving`` is not saved."""

    def __init__(self, run: Run, checkpoints: StepCheckpoints | None) -> None:
        self.run, self._checkpoints = run, checkpoints
        self._saved_at = time.monotonic()

    def resume(self, logs: bool) -> None:
        """Puts the run where it was saved last, if it was.

        Args:
          logs: whether the run keeps a ``metrics.jsonl``.

        Raises:
          WrongRunError: if what was saved is another run.
          CheckpointError: if it is damaged.
        """
        run, saving = self.run, self.run.saving
        if saving is None or self._checkpoints is None:
            return
        step, file = self._checkpoints.latest_step(), saving.directory / METRICS
        if step is not None:
            if self._checkpoints.metadata(step).get("identity") != saving.identity:
                raise WrongRunError(
                    f"{saving.directory} holds the checkpoints of another run, or of this one on other cores,"
                    " devices or versions; allowed: those, or a new folder"
                )
            tree, metadata = self._checkpoints.load(step, _saved_tree(run))
            compile_s = run.history.compile_s
            written = [row for row in read_metrics(file) if row["step"] <= step]
            history: dict[str, Any] = {"rows": written, **metadata["history"]}  # older versions saved no rows
            run.history = History(**history)
            if logs and writes_files() and as_lines(written) != as_lines(run.history.rows):
                logging.getLogger(__name__).warning("%s is not what was saved: written anew", file)
            run.history.compile_s += compile_s
            run.best = run.state.replace(**tree["best"]) if "best" in tree else None
            run.state = run.state.replace(**tree["state"])
        if logs and writes_files():
            write_whole(file, as_lines(run.history.rows))

    def record(self, rows: list[dict[str, float]]) -> None:
        """Adds logged rows to the history, and tells them to the run's ``log``."""
        saving, history, log = self.run.saving, self.run.history, self.run.log
        history.rows += rows
        if saving is not None and rows and writes_files():
            with room(saving.directory), (saving.directory / METRICS).open("a") as file:
                file.write(as_lines(rows))
        if log is not None and writes_files():
            for row in rows:
                log({**row, "seconds": history.init_s + history.steps_s})

    @property
    def at_end(self) -> bool:
        """Whether the last state is saved too."""
        return self.run.saving is not None and self.run.saving.at_end

    @property
    def is_due(self) -> bool:
        """Whether it is time to save, by the step or by this process's clock."""
        run, saving = self.run, self.run.saving
        if saving is None:
            return False
        is_period = saving.every > 0 and run.step % saving.every == 0
        return is_period or time.monotonic() - self._saved_at >= saving.every_s

    def save(self) -> None:
        """Saves the run, unless that was done at this step."""
        run = self.run
        if run.saving is None or self._checkpoints is None or run.history.saved_step == run.step:
            return
        run.history.saved_step = run.step
        # With the rows, for a judge decides by them: nobody can alter those of a sealed checkpoint unseen.
        history = dataclasses.asdict(dataclasses.replace(run.history, rows=[])) | {"rows": run.history.rows}
        metadata = {"identity": run.saving.identity, "history": history}
        self._checkpoints.save(run.step, _saved_tree(run), metadata)
        self._saved_at = time.monotonic()


@contextlib.contextmanager
def open_savers(runs: Sequence[Run]) -> Iterator[list[Saver]]:
    """The saver of each run that takes its steps together with the others; folders are made if needed."""
    with contextlib.ExitStack() as stack:
        savers, last = [], _common_step([run.saving for run in runs])
        for run in runs:
            checkpoints = None
            if run.saving is not None:
                checkpoints = stack.enter_context(open_checkpoints(run.saving.directory / CHECKPOINTS, last))
            savers.append(Saver(run, checkpoints))
        yield savers


def _common_step(savings: Sequence[Saving | None]) -> int | None:
    """The step that several runs go on from; None lets each go on from its newest checkpoint.

    A kill while they are saved leaves some of them a checkpoint ahead. If the others caught up alone, they would do so
    in another program, which rounds otherwise: so all go back to the newest step that each of them has.
    """
    wanted, steps = [saving for saving in savings if saving is not None], []
    if len(wanted) <= 1:
        return None
    for saving in wanted:
        folder = saving.directory / CHECKPOINTS
        steps.append(set(saved_steps(folder)))
        if any(step_metadata(folder, step).get("identity") != saving.identity for step in steps[-1]):
            return None  # ``resume`` refuses it, and nothing of it may be deleted
    if all(len(own) <= 1 for own in steps):  # killed while they were saved for the first time
        steps = [own | {0} for own in steps]
    return max(set.intersection(*steps), default=None)


def as_lines(rows: Sequence[Mapping[str, float]]) -> str:
    """The contents of a ``metrics.jsonl``."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.jsonl``; what was half written or is no row is left out, and all of what is no text."""
    rows = []
    with contextlib.suppress(OSError, ValueError):
        for line in read_text(path).splitlines():
            with contextlib.suppress(ValueError):
                row = parse_json(line)
                rows += [row] if isinstance(row.get("step"), int | float) else []
    return rows


def _saved_tree(run: Run) -> dict[str, dict[str, Any]]:
    """What of a run's states changes; the model's function and the optimizer are no arrays."""
    fields = [field.name for field in dataclasses.fields(run.state) if field.metadata.get("pytree_node", True)]
    states = {"state": run.state} | ({} if run.best is None else {"best": run.best})
    return {key: {name: getattr(state, name) for name in fields} for key, state in states.items()}
