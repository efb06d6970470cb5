"""What a run writes while it runs, and how it goes on from there: ``metrics.jsonl`` and ``checkpoints/``."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import room
from ltu_jax.training.checkpoint import StepCheckpoints, open_checkpoints
from ltu_jax.types import UnlearnState


class WrongRunError(RuntimeError):
    """A folder that holds the checkpoints of another run."""


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where and how often a run is saved; ``identity`` is a hash of what the run is a function of."""

    directory: Path
    every: int  # steps
    identity: str
    every_s: float = 60.0  # and after so many seconds in any case


@dataclasses.dataclass
class History:
    """What a run tells beside its state.

    UT is ``init_s``, counted once, and ``steps_s``, which adds up over resumes.
    """

    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)  # a row a logged step
    steps: int = 0  # steps taken
    init_s: float = 0.0  # the method's init, without what JAX spent on compiling it
    steps_s: float = 0.0  # its steps; with images on the host, waiting for these too
    compile_s: float = 0.0
    saved_step: int | None = None
    best_step: int | None = None  # the step whose state eval_every kept
    best_distance: float | None = None
    stopped_early: bool = False  # where its judge saw no hope
    warnings: list[str] = dataclasses.field(default_factory=list)
    rho: float | None = None  # the fraction of the remaining rows that the method saw
    cost: dict[str, float] | None = None  # a training.cost.Cost, where the method states one

    @property
    def ut_minutes(self) -> float:
        """UT in minutes: compilation, data loading and evaluation excluded."""
        return (self.init_s + self.steps_s) / 60


@dataclasses.dataclass
class Run:
    """A run under way."""

    state: UnlearnState
    best: UnlearnState | None  # the best state so far, where the run scores itself
    history: History

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.state.step)


class Recorder:
    """Writes a run down; made by ``recorder``. Without ``Saving`` it writes nothing."""

    def __init__(self, saving: Saving | None, checkpoints: StepCheckpoints | None) -> None:
        self._saving, self._checkpoints = saving, checkpoints
        self._saved_at = time.monotonic()

    def resume(self, run: Run) -> Run:
        """The run as last saved, or ``run`` itself where nothing was.

        Raises:
          WrongRunError: if what was saved is another run.
          CheckpointError: if it is damaged.
        """
        if self._saving is None or self._checkpoints is None:
            return run
        step, metrics = self._checkpoints.latest_step(), self._saving.directory / "metrics.jsonl"
        if step is None:
            if writes_files():
                metrics.write_text("")
            return run
        if self._checkpoints.metadata(step).get("identity") != self._saving.identity:
            raise WrongRunError(f"{self._saving.directory} holds the checkpoints of another run; allowed: a new folder")
        tree, metadata = self._checkpoints.load(step, _tree(run))
        rows = [row for row in read_metrics(metrics) if row["step"] <= step]
        if writes_files():
            metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        best = run.state.replace(**tree["best"]) if "best" in tree else None
        history = History(rows=rows, **metadata["history"])
        history.compile_s += run.history.compile_s
        return Run(run.state.replace(**tree["state"]), best, history)

    def record(self, run: Run, rows: list[dict[str, float]], *, last: bool) -> None:
        """Adds logged rows to the history, and saves the state when it is due or the run is at its end."""
        run.history.rows += rows
        if self._saving is None or self._checkpoints is None:
            return
        if writes_files():
            metrics = self._saving.directory / "metrics.jsonl"
            with room(metrics.parent), metrics.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        due = time.monotonic() - self._saved_at >= self._saving.every_s
        if last or run.step % self._saving.every == 0 or agreed(lambda: due):
            self.save(run)

    def save(self, run: Run) -> None:
        """Saves the state, unless that was done at this step."""
        if self._saving is None or self._checkpoints is None or run.history.saved_step == run.step:
            return
        run.history.saved_step = run.step
        history = dataclasses.asdict(dataclasses.replace(run.history, rows=[]))
        del history["rows"]
        self._checkpoints.save(run.step, _tree(run), {"identity": self._saving.identity, "history": history})
        self._saved_at = time.monotonic()


@contextlib.contextmanager
def recorder(saving: Saving | None) -> Iterator[Recorder]:
    """The recorder of a run; the folder is made if needed."""
    if saving is None:
        yield Recorder(None, None)
        return
    saving.directory.mkdir(parents=True, exist_ok=True)
    with open_checkpoints(saving.directory / "checkpoints") as checkpoints:
        yield Recorder(saving, checkpoints)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.jsonl``; a last line that was half written is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def _tree(run: Run) -> dict[str, Any]:
    names = ("step", "params", "opt_state", "model_state", "rng")
    states = {"state": run.state} | ({} if run.best is None else {"best": run.best})
    return {key: {name: getattr(state, name) for name in names} for key, state in states.items()}
