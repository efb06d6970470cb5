"""Runs every method at every seed, all cells of a sweep file: ``python -m ltu_jax.sweep``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.commands.command_line import print_lines
from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.setting import plain
from ltu_jax.sweeping.grid import Cell, cells, load_sweep
from ltu_jax.sweeping.pool import Pool, prepare, shown_command
from ltu_jax.sweeping.program import Parser, folder, start

USAGE = """
python -m ltu_jax.sweep FILE.py --out DIR
python -m ltu_jax.sweep FILE.py --out DIR --cluster slurm --workers 20 --slurm partition=gpu gpus_per_node=1

Runs all cells of a sweep file, on this machine or as Slurm job arrays. First come the models that cells share
(originals, Retrain models, attackers), then the cells. Start the same command again to continue: a finished cell is not
run again, a killed one continues, a failed one is tried once more. DIR holds results.jsonl (for python -m
ltu_jax.tables), cells/ (one folder per run), logs/ and cache/.
"""


def main(argv: list[str]) -> int:
    """Runs the program; returns the exit status, 1 if any cell failed."""
    parser = Parser(USAGE, "python -m ltu_jax.sweep")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--dry_run", action="store_true", help="print the commands; run nothing")
    args = parser.parse_args(argv)
    cache = args.cache or args.out / "cache"
    todo = cells(load_sweep(args.file), args.out / "cells", cache)
    if args.dry_run:
        jobs = {job.slug: job for cell in todo for job in cell.problems}
        jobs |= {cell.job.slug: cell.job for cell in todo}
        print_lines(shown_command(job, args.workers, args.cluster) for job in jobs.values())
        return 0
    with locked(folder("--out", args.out) / LOCK, "--out"):
        pool = Pool(args.out, args.workers, args.cluster, args.slurm)
        listed = [{"label": c.label, "slug": c.job.slug, "command": pool.shown(c.job)} for c in todo]
        write_whole(args.out / "sweep.json", json.dumps({"file": str(args.file), "cells": listed}, indent=2) + "\n")
        failures = run(pool, todo, cache)
    print(plain(f"{len(todo) - len(failures)} of {len(todo)} cells: {args.out / 'results.jsonl'}"))
    for failure in failures:
        print(plain(f"failed: {failure}"), file=sys.stderr)
    return 1 if failures else 0


def run(pool: Pool, todo: Sequence[Cell], cache: Path) -> list[str]:
    """Runs the cells that are not finished; before that, the jobs that make what they share.

    Args:
      pool: where the jobs run.
      todo: all cells of the sweep.
      cache: folder of what they share.

    Returns:
      A line for each cell that failed.
    """
    left = pool.unfinished(todo)
    blocked = prepare(pool, left, cache)
    write_results(pool, todo)
    jobs = [cell.job for cell in left if cell.job.slug not in blocked]
    pool.run("cells", jobs, lambda job: write_results(pool, todo))
    failed = pool.unfinished(todo)
    return [pool.failure(cell.job.slug, blocked.get(cell.job.slug, cell.job)) for cell in failed]


def write_results(pool: Pool, todo: Sequence[Cell]) -> None:
    """Writes ``results.jsonl``: one line per finished cell, in the order of the table."""
    left = {cell.job.slug for cell in pool.unfinished(todo)}
    lines = [
        {"label": c.label, "command": pool.shown(c.job), "result": json.loads(c.result.read_text())}
        for c in todo
        if c.job.slug not in left
    ]
    write_whole(pool.folder / "results.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    start(main)
