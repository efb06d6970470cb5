"""Audits every finished cell of a sweep, and prints what each audit finds of each method.

python -m ltu_jax.sweep experiments/sweeps/audits.py --out runs/audits
python experiments/audit_sweep.py experiments/sweeps/audits.py --out runs/audits [--level 0|1|2]

A cell is audited by ``python -m ltu_jax.audit`` with its own configuration and the cache of the sweep, so that models
are trained once for all methods; ``--workers`` has to be that of the sweep, for on other cores they are other models. A
cell with an ``audit.json`` of the level, or of a higher one, is not audited again. In the table: means over the seeds
of a figure and of the ends of its interval, and of how many seeds Holm's verdict is that it was found. DIR gets
audits.jsonl, a line for each audited cell without the audits' details.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.safe_reading import read_json
from ltu_jax.sweeping import grid
from ltu_jax.sweeping.grid import Cell, Job, cells, load_sweep
from ltu_jax.sweeping.pool import Pool, shown_command
from ltu_jax.sweeping.program import Parser, folder, start

PROGRAM = ("python", "-m", "ltu_jax.audit")


class Audited(NamedTuple):
    """A cell and its audit."""

    label: str
    command: str
    audit: dict[str, Any]  # content of audit.json


def main(argv: list[str]) -> int:
    """Runs the program; returns the exit status, 1 if a cell has no result or its audit failed."""
    parser = Parser(__doc__ or "")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--level", type=int, choices=(0, 1, 2), default=1, help="as of python -m ltu_jax.audit")
    parser.add_argument("--dry_run", action="store_true", help="print the commands; run nothing")
    args = parser.parse_args(argv)
    planned = cells(load_sweep(args.file), args.out / "cells", args.cache or args.out / "cache")
    jobs = {cell.job.slug: audit_job(cell, args.level) for cell in planned}
    if args.dry_run:
        for job in jobs.values():
            print(shown_command(job, args.workers, args.cluster))
        return 0
    with locked(folder("--out", args.out) / LOCK, "--out"):
        pool = Pool(args.out, args.workers, args.cluster, args.slurm)
        finished = [cell for cell in planned if cell.result.is_file()]
        left = [jobs[cell.job.slug] for cell in finished if not is_audited(cell, args.level)]
        for job in left:
            pool.forget(job)
        pool.run("audits", left)
        done = [cell for cell in finished if is_audited(cell, args.level)]
        found = [Audited(cell.label, pool.shown(jobs[cell.job.slug]), read_json(_file(cell))) for cell in done]
        write_whole(args.out / "audits.jsonl", "".join(json.dumps(_line(one)) + "\n" for one in found))
    for line in table(found):
        print(line)
    for cell in planned:
        if cell not in done:
            job = jobs[cell.job.slug]
            why = (
                pool.failure(job.slug, job)
                if cell in finished
                else f"{cell.job.slug}: no result.json; ltu_jax.sweep first"
            )
            print(f"failed: {why}", file=sys.stderr)
    return 0 if len(done) == len(planned) else 1


def audit_job(cell: Cell, level: int) -> Job:
    """The audit of a cell."""
    words = cell.job.command[len(grid.PROGRAM) :]
    return Job(f"audit{level}-{cell.job.slug}", [*PROGRAM, *words, f"--level={level}"])


def is_audited(cell: Cell, level: int) -> bool:
    """Whether a cell has an audit of this level or a higher one."""
    return _file(cell).is_file() and read_json(_file(cell))["level"] >= level


def table(found: Sequence[Audited]) -> list[str]:
    """The lines of the table, in Markdown: a row for each method, the original and the Retrains; a column an audit."""
    findings: dict[str, dict[str, list[dict[str, Any]]]] = {}  # by audit, then by method
    for one in found:
        for finding in one.audit["findings"]:
            if not finding["not_done"]:
                verdict = one.audit["verdict"][finding["audit"]]
                by_method = findings.setdefault(finding["audit"], {})
                by_method.setdefault(one.label, []).append({**finding, "found": verdict})
    labels = dict.fromkeys(one.label for one in found)
    rows = [["", *findings], ["---"] * (1 + len(findings))]
    rows += [[label, *(_cell(of.get(label, [])) for of in findings.values())] for label in labels]
    every = [[finding for several in of.values() for finding in several] for of in findings.values()]
    rows.append(["original (ceiling)", *(_ceiling(of) for of in every)])
    rows.append(["Retrains (floor)", *(_floor(of) for of in every)])
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _cell(findings: Sequence[dict[str, Any]]) -> str:
    if not findings:
        return ""
    figures = [finding["unlearned"] for finding in findings]
    interval = ", ".join(_mean([figure[end] for figure in figures]) for end in ("low", "high"))
    verdicts = [finding["found"] for finding in findings if finding["found"] is not None]
    shown = f"{_mean([figure['value'] for figure in figures])} [{interval}]"
    return f"{shown} {sum(verdicts)}/{len(verdicts)}" if verdicts else shown


def _ceiling(findings: Sequence[dict[str, Any]]) -> str:
    return _mean([finding["original"]["value"] for finding in findings if finding["original"]])


def _floor(findings: Sequence[dict[str, Any]]) -> str:
    low, high = ([finding["floor"][end] for finding in findings if finding["floor"]] for end in (0, 1))
    return f"{_mean(low)} to {_mean(high)}" if low else ""


def _mean(values: Sequence[float | None]) -> str:
    """Empty where there is none, or one without a limit."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known and len(known) == len(values) else ""


def _line(one: Audited) -> dict[str, Any]:
    findings = [{name: value for name, value in of.items() if name != "details"} for of in one.audit["findings"]]
    return {"label": one.label, "command": one.command, "audit": {**one.audit, "findings": findings}}


def _file(cell: Cell) -> Path:
    return cell.result.parent / "audit.json"


if __name__ == "__main__":
    start(main)
