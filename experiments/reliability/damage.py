"""Harms every file of a checkpoint, of a cache entry and of a model, and counts what is seen, loaded and gone on from.

python experiments/reliability/damage.py

Each file is truncated to its half, has one byte flipped, is emptied and is deleted, one at a time, in a copy. Seen: an
error names it, or, of a checkpoint, it is dropped and the one before, untouched, is the newest. Scores that are gone
are made anew, the same. At the end a run whose newest checkpoint was harmed is let go on, and compared.
"""

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.reliability.small import get_config
from ltu_jax.config import resolve
from ltu_jax.interop.sealing import find_damage, tree_sha256
from ltu_jax.training.checkpoint import CheckpointError, load, open_checkpoints
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import Problem, prepare


def truncated(path: Path) -> None:
    """Its first half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(path: Path) -> None:
    """One byte in its middle; one is added where there is none."""
    data = bytearray(path.read_bytes() or b"\0")
    data[len(data) // 2] ^= 1 << 3
    path.write_bytes(bytes(data))


HARMS: dict[str, Callable[[Path], object]] = {
    "truncated": truncated,
    "one byte flipped": flipped,
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}


def main() -> int:
    """Runs the program; 1 if any harm was not seen."""
    logging.getLogger("ltu_jax").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        problem = prepare(resolve(get_config()), cache=room / "cache")
        whole, _ = run_problem(problem, folder=room / "run")
        checkpoints = room / "run" / "checkpoints"
        before, newest = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
        found = {"checkpoint": harmed(checkpoints, str(newest), lambda folder: goes_back(folder, newest, before))}
        for entry in sorted((room / "cache").iterdir()):
            kind = f"cache: {entry.name.split('-')[0]}"
            is_seen = refused if entry.is_dir() else lambda path: numbers_refused(path, problem)
            files, harms, seen = harmed(room / "cache", entry.name, is_seen)
            before_it = found.get(kind, (0, 0, 0))
            found[kind] = files + before_it[0], harms + before_it[1], seen + before_it[2]
        print(f"{'':20}  files  harms  seen, none loaded")
        for what, (files, harms, seen) in found.items():
            print(f"{what:20}  {files:5}  {harms:5}  {seen:5}")
        arrays = [path for path in (checkpoints / str(newest)).rglob("d/*") if path.is_file()]
        flipped(max(arrays, key=lambda path: path.stat().st_size))
        again, _ = run_problem(problem, folder=room / "run")
        same = tree_sha256(again.params) == tree_sha256(whole.params)
        print(f"a run whose newest checkpoint was harmed ends with {'the same bits' if same else 'OTHER BITS'}")
        return 0 if same and all(harms == seen for _, harms, seen in found.values()) else 1


def harmed(folder: Path, part: str, is_seen: Callable[[Path], bool]) -> tuple[int, int, int]:
    """Files of a part of a folder, harms done to copies of the folder, and how many were seen."""
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
    """Whether the harmed newest step is dropped, and the one before, which is whole, is the newest then."""
    with open_checkpoints(harmed_step.parent) as checkpoints:
        latest = checkpoints.latest_step()
    return (
        latest == before != newest
        and not harmed_step.exists()
        and find_damage(harmed_step.parent / str(before)) is None
    )


def refused(entry: Path) -> bool:
    """Whether an entry is not loaded, and named."""
    try:
        load(entry)
    except CheckpointError as error:
        return entry.name in str(error)
    return False


def numbers_refused(entry: Path, problem: Problem) -> bool:
    """Whether a file of scores is not believed; one that is gone is made anew, the same."""
    gone = not entry.exists()
    try:
        again = prepare(problem.config, cache=entry.parent)
    except CheckpointError as error:
        return entry.name in str(error)
    scores = (again.original_scores, again.retrain_scores)
    return gone and scores == (problem.original_scores, problem.retrain_scores)


if __name__ == "__main__":
    sys.exit(main())
