"""Damages every file of a checkpoint, a cache entry and a model, and counts how often the damage is noticed.

python experiments/reliability/damage.py

Each file is cut to its first half, has one byte flipped, is emptied and is deleted, one at a time, in a copy. Damage
is noticed if an error names the entry; a damaged checkpoint is noticed if it is dropped and the one before it becomes
the newest. Scores that are gone or torn are computed again and must be the same; rows of metrics.jsonl must be those of
the checkpoint. At the end a run with a damaged newest checkpoint continues, and its result is compared.
"""

import contextlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.reliability.small import get_config
from ltu_jax.config import resolve
from ltu_jax.interop.sealing import find_damage, tree_sha256
from ltu_jax.training.checkpoint import CheckpointError, load_tree, open_checkpoints
from ltu_jax.training.saving import read_metrics
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import Problem, prepare


def truncate(path: Path) -> None:
    """Keeps the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_byte(path: Path) -> None:
    """Changes one byte in the middle of a file; an empty file gets one byte."""
    data = bytearray(path.read_bytes() or b"\0")
    data[len(data) // 2] ^= 1 << 3
    path.write_bytes(bytes(data))


HARMS: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "one byte flipped": flip_byte,
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}


def main() -> int:
    """Runs the program; returns 1 if any damage was not noticed."""
    logging.getLogger("ltu_jax").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        problem = prepare(resolve(get_config()), cache=folder / "cache")
        whole, history = run_problem(problem, folder=folder / "run")
        checkpoints = folder / "run" / "checkpoints"
        before, newest = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
        counts = {"checkpoint": count_harms(checkpoints, str(newest), lambda step: goes_back(step, newest, before))}
        counts["metrics.jsonl"] = count_harms(
            folder / "run", "metrics.jsonl", lambda file: keeps_rows(file, problem, history.rows)
        )
        for entry in sorted((folder / "cache").iterdir()):
            kind = f"cache: {entry.name.split('-')[0]}"
            is_seen = is_refused if entry.is_dir() else lambda path: scores_refused(path, problem)
            files, harms, seen = count_harms(folder / "cache", entry.name, is_seen)
            so_far = counts.get(kind, (0, 0, 0))
            counts[kind] = files + so_far[0], harms + so_far[1], seen + so_far[2]
        print(f"{'':20}  files  harms  seen, none loaded")
        for what, (files, harms, seen) in counts.items():
            print(f"{what:20}  {files:5}  {harms:5}  {seen:5}")
        arrays = [path for path in (checkpoints / str(newest)).rglob("d/*") if path.is_file()]
        flip_byte(max(arrays, key=lambda path: path.stat().st_size))
        again, _ = run_problem(problem, folder=folder / "run")
        same = tree_sha256(again.params) == tree_sha256(whole.params)
        print(f"a run whose newest checkpoint was harmed ends with {'the same bits' if same else 'OTHER BITS'}")
        return 0 if same and all(harms == seen for _, harms, seen in counts.values()) else 1


def count_harms(folder: Path, part: str, is_seen: Callable[[Path], bool]) -> tuple[int, int, int]:
    """Numbers of files in ``folder / part``, of harms done to copies of them, and of harms that were noticed."""
    whole = folder / part
    files = [whole] if whole.is_file() else sorted(path for path in whole.rglob("*") if path.is_file())
    harms = seen = 0
    for path in files:
        for harm in HARMS.values():
            with tempfile.TemporaryDirectory() as scratch:
                copy = shutil.copytree(folder, Path(scratch) / folder.name)
                victim = copy / path.relative_to(folder)
                harm(victim)
                if victim.exists() and victim.read_bytes() == path.read_bytes():  # it was empty before
                    continue
                harms, seen = harms + 1, seen + is_seen(copy / part)
    return len(files), harms, seen


def goes_back(harmed_step: Path, newest: int, before: int) -> bool:
    """Whether the damaged newest step is dropped, so that the undamaged one before it is the newest."""
    with open_checkpoints(harmed_step.parent) as checkpoints:
        latest = checkpoints.latest_step()
    return (
        latest == before != newest
        and not harmed_step.exists()
        and find_damage(harmed_step.parent / str(before)) is None
    )


def is_refused(entry: Path) -> bool:
    """Whether loading an entry fails with an error that names it."""
    try:
        load_tree(entry)
    except CheckpointError as error:
        return entry.name in str(error)
    return False


def scores_refused(entry: Path, problem: Problem) -> bool:
    """Whether a damaged file of scores gives an error, and one that is gone or torn is made again, with the same."""
    gone = True
    with contextlib.suppress(OSError, ValueError):
        gone = not json.loads(entry.read_text())
    try:
        again = prepare(problem.config, cache=entry.parent)
    except CheckpointError as error:
        return entry.name in str(error)
    scores = (again.original_scores, again.retrain_scores)
    return gone and scores == (problem.original_scores, problem.retrain_scores)


def keeps_rows(file: Path, problem: Problem, rows: list[dict[str, float]]) -> bool:
    """Whether a run whose ``metrics.jsonl`` was harmed has the rows it had, and the file has them again."""
    _, history = run_problem(problem, folder=file.parent)
    return history.rows == rows == read_metrics(file)


if __name__ == "__main__":
    sys.exit(main())
