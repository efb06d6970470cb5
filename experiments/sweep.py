"""Runs every method at every seed: the cells of a sweep file, here or as Slurm job arrays.

python experiments/sweep.py experiments/sweeps/digits.py --out runs/digits-sweep
python experiments/sweep.py FILE.py --out DIR --cluster slurm --workers 20 --slurm partition=gpu gpus_per_node=1

First what the cells share (originals, Retrain models, attackers), then the cells. The same command again goes on: a
finished cell is not run again, a killed one continues, a failed one is tried once more. DIR holds results.jsonl (what
tables.py reads), cells/ (a folder a run), logs/ and cache/.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.grid import Cell, cells, load_sweep
from experiments.sweeping.pool import Pool, prepare
from experiments.sweeping.program import Parser, folder, start
from ltu_jax.files import write_whole


def main(argv: list[str]) -> int:
    """Runs the program; the exit status: 0, 1 if any cell failed."""
    parser = Parser(__doc__ or "")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--dry_run", action="store_true", help="print the commands; run nothing")
    given = parser.parse_args(argv)
    cache = given.cache or given.out / "cache"
    todo = cells(load_sweep(given.file), given.out / "cells", cache)
    if given.dry_run:
        jobs = {job.slug: job for cell in todo for job in cell.problems}
        print("\n".join(shlex.join(job.command) for job in (*jobs.values(), *(cell.job for cell in todo))))
        return 0
    here = Pool(folder("--out", given.out), given.workers, given.cluster, given.slurm)
    told = [{"label": c.label, "slug": c.job.slug, "command": shlex.join(c.job.command)} for c in todo]
    write_whole(given.out / "sweep.json", json.dumps({"file": str(given.file), "cells": told}, indent=2) + "\n")
    failures = run(here, todo, cache)
    print(f"{len(todo) - len(failures)} of {len(todo)} cells: {given.out / 'results.jsonl'}")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def run(here: Pool, todo: Sequence[Cell], cache: Path) -> list[str]:
    """Runs the cells that are not finished, and what they share before them.

    Args:
      here: where they run.
      todo: all cells of the sweep.
      cache: where what they share lies.

    Returns:
      A line for each cell that failed.
    """
    left = here.unfinished(todo)
    blocked = prepare(here, left, cache)
    write_results(here, todo)
    jobs = [cell.job for cell in left if cell.job.slug not in blocked]
    here.run("cells", jobs, lambda job: write_results(here, todo))
    failed = here.unfinished(todo)
    return [here.failure(cell.job.slug, blocked.get(cell.job.slug, cell.job)) for cell in failed]


def write_results(here: Pool, todo: Sequence[Cell]) -> None:
    """Writes ``results.jsonl``: a line for each finished cell, in the order of the table."""
    left = {cell.job.slug for cell in here.unfinished(todo)}
    lines = [
        {"label": c.label, "command": shlex.join(c.job.command), "result": json.loads(c.result.read_text())}
        for c in todo
        if c.job.slug not in left
    ]
    write_whole(here.folder / "results.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    start(main)
