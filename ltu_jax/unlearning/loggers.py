"""Where the rows of ``metrics.jsonl`` go too while a run is under way: TensorBoard, or a logger of one's own.

A run that was stopped takes the steps after its last checkpoint again, so a logger gets their rows twice.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ltu_jax.files import write_whole
from ltu_jax.setting import ConfigError, import_reference
from ltu_jax.training.saving import Log, as_lines, read_metrics

TIMES = "times.jsonl"

MakeLog = Callable[[Path, dict[str, Any]], Log]
"""``make(workdir, config) -> log``; ``log(row)`` is called with each row, which also has ``seconds``, UT so far."""


def find_logger(name: str | None) -> MakeLog | None:
    """What ``config.logger`` names.

    Raises:
      ConfigError: if it cannot be imported, or TensorBoard's package is not installed.
    """
    if name is None:
        return None
    if ":" in name:
        return import_reference(name, "config.logger")
    if importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(f"config.logger: {name!r} needs a package; allowed: after pip install 'ltu-jax[tensorboard]'")
    return tensorboard


def tensorboard(workdir: Path, config: dict[str, Any]) -> Log:
    """Writes every number to ``tensorboard/`` in the workdir: ``tensorboard --logdir WORKDIR`` shows it."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(workdir / "tensorboard"), flush_secs=5)  # a thread writes; at the exit, the rest
    writer.add_text("config", json.dumps(config, indent=2))

    def log(row: dict[str, float]) -> None:
        for name in sorted(set(row) - {"step"}):
            writer.add_scalar(name, row[name], int(row["step"]))

    return log


def times(workdir: Path) -> Log:
    """Writes the seconds of each row to ``times.jsonl``, for ``metrics.jsonl`` is the same to the bit in every run."""
    file, last = workdir / TIMES, float("inf")

    def log(row: dict[str, float]) -> None:
        nonlocal last
        if row["step"] <= last:  # the first row; a run that goes on takes some steps again
            write_whole(file, as_lines([old for old in read_metrics(file) if old["step"] < row["step"]]))
        last = row["step"]
        with file.open("a") as out:
            out.write(as_lines([{"step": row["step"], "seconds": row["seconds"]}]))

    return log
