"""A run that can be stopped at any time: its state, its history, and the folder that both are saved in."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import room
from ltu_jax.training.checkpoint import StepCheckpoints, open_checkpoints
from ltu_jax.training.dispatch import Algorithm
from ltu_jax.types import ArrayTree, UnlearnState


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

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.history.steps


class Saver:
    """Saves a run and resumes it; made by ``open_saver``. A run without ``Saving`` is not saved."""

    def __init__(self, run: Run, checkpoints: StepCheckpoints | None) -> None:
        self._run, self._checkpoints = run, checkpoints
        self._saved_at = time.monotonic()

    def resume(self, logs: bool) -> None:
        """Puts the run where it was saved last, if it was.

        Args:
          logs: whether the run keeps a ``metrics.jsonl``.

        Raises:
          WrongRunError: if what was saved is another run.
          CheckpointError: if it is damaged.
        """
        run, saving = self._run, self._run.saving
        if saving is None or self._checkpoints is None:
            return
        step, rows = self._checkpoints.latest_step(), []
        if step is not None:
            if self._checkpoints.metadata(step).get("identity") != saving.identity:
                raise WrongRunError(f"{saving.directory} holds the checkpoints of another run; allowed: a new folder")
            tree, metadata = self._checkpoints.load(step, _saved_tree(run))
            rows = [row for row in read_metrics(saving.directory / "metrics.jsonl") if row["step"] <= step]
            compile_s = run.history.compile_s
            run.history = History(rows=rows, **metadata["history"])
            run.history.compile_s += compile_s
            run.best = run.state.replace(**tree["best"]) if "best" in tree else None
            run.state = run.state.replace(**tree["state"])
        if logs and writes_files():
            (saving.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def record(self, rows: list[dict[str, float]], *, last: bool) -> None:
        """Adds logged rows to the history; saves the run when it is due or at its end."""
        run, saving = self._run, self._run.saving
        run.history.rows += rows
        if saving is None:
            return
        if rows and writes_files():
            with room(saving.directory), (saving.directory / "metrics.jsonl").open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        if last:
            if saving.at_end:
                self.save()
        elif saving.every and run.step % saving.every == 0 or agreed(self._is_due):
            self.save()

    def save(self) -> None:
        """Saves the run, unless that was done at this step."""
        run = self._run
        if run.saving is None or self._checkpoints is None or run.history.saved_step == run.step:
            return
        run.history.saved_step = run.step
        history = dataclasses.asdict(dataclasses.replace(run.history, rows=[]))
        del history["rows"]
        self._checkpoints.save(run.step, _saved_tree(run), {"identity": run.saving.identity, "history": history})
        self._saved_at = time.monotonic()

    def _is_due(self) -> bool:
        saving = self._run.saving
        return saving is not None and time.monotonic() - self._saved_at >= saving.every_s


@contextlib.contextmanager
def open_saver(run: Run) -> Iterator[Saver]:
    """The saver of a run; its folder is made if needed."""
    if run.saving is None:
        yield Saver(run, None)
        return
    run.saving.directory.mkdir(parents=True, exist_ok=True)
    with open_checkpoints(run.saving.directory / "checkpoints") as checkpoints:
        yield Saver(run, checkpoints)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.jsonl``; a last line that was half written is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def _saved_tree(run: Run) -> dict[str, dict[str, Any]]:
    """What of a run's states changes; the model's function and the optimizer are no arrays."""
    fields = [field.name for field in dataclasses.fields(run.state) if field.metadata.get("pytree_node", True)]
    states = {"state": run.state} | ({} if run.best is None else {"best": run.best})
    return {key: {name: getattr(state, name) for name in fields} for key, state in states.items()}
