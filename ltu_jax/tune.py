"""Tunes the rows of a sweep file on seeds that the table never uses: ``python -m ltu_jax.tune``."""

import dataclasses
import datetime
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.setting import ConfigError, allowed_names, plain
from ltu_jax.sweeping.grid import Job, Sweep, cells, load_sweep
from ltu_jax.sweeping.pool import Pool, prepare
from ltu_jax.sweeping.program import Parser, folder, start
from ltu_jax.sweeping.search import Search, mean_gap

USAGE = """
python -m ltu_jax.tune FILE.py --out runs/tune/tuned.json --trials 8

Tunes the rows of a sweep file with the same number of trials each, on seeds that the table never uses. Each row with a
search space gets its own search for the smallest mean gap to Retrain over Sweep.tuning_seeds, at the sweep's first rho
and forget fraction; the row's own settings are its first trial. In each round every search runs one trial, so what is
tried does not depend on how many jobs run at a time. A run that diverges makes a finished trial with an infinite gap.
With --prune seeds come one after another, and a trial is given up when its mean gap over those so far is above the best
trial's over all of them; it counts as a trial. Start the same command again to continue; a trial that was killed is
then finished.

Sweep(tuned="OUT.json") uses the best settings. The search itself (*.journal), trials/, logs/ and cache/ are beside
OUT.json, or in --runs.
"""


def main(argv: list[str]) -> int:
    """Runs the program; returns the exit status, 1 if a row has no best settings."""
    parser = Parser(USAGE, "python -m ltu_jax.tune")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.json", help="best settings and all trials")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the runs and the search; unset: beside OUT.json")
    parser.add_argument("--trials", type=int, default=8, help="finished trials of each row")
    parser.add_argument("--rows", help="labels of the rows to tune, separated by commas; unset: all that have a space")
    parser.add_argument("--prune", action="store_true", help="give a trial up that falls behind on the first seeds")
    args = parser.parse_args(argv)
    if args.trials < 1:
        raise ConfigError(f"--trials: {args.trials} is too few; allowed: 1 or more")
    runs = args.runs or args.out.parent
    cache, journal = args.cache or runs / "cache", runs / f"{args.out.stem}.journal"
    sweep = tuning(load_sweep(args.file), args.rows)
    searches = [Search(sweep, row, runs / "trials", cache, journal) for row in sweep.rows]
    out, own = folder("--out", args.out.parent) / args.out.name, folder("--runs", runs)
    own_lock = own / f"{journal.stem}.search.{LOCK}"  # Optuna waits for one that is called like the journal
    with locked(out.with_name(f"{out.name}.{LOCK}"), "--out"), locked(own_lock, "--runs"):
        pool = Pool(own, args.workers, args.cluster, args.slurm)
        blocked = prepare(pool, cells(sweep, runs / "trials", cache), cache)
        failures = sorted({pool.failure(job.slug, job) for job in blocked.values()})
        if not blocked:
            failures = run(pool, searches, args.trials, args.out, args.prune)
            print(plain(f"{len(searches) - len(failures)} of {len(searches)} rows: {args.out}"))
    for failure in failures:
        print(plain(f"failed: {failure}"), file=sys.stderr)
    return 1 if failures else 0


def tuning(sweep: Sweep, labels: str | None = None) -> Sweep:
    """The part of a sweep that is tuned: its rows with a search space, on its tuning seeds.

    Raises:
      ConfigError: if there is nothing to tune, or the sweep has no tuning seeds.
    """
    spaces = {row.label: row for row in sweep.rows if row.space}
    chosen = list(spaces) if labels is None else labels.split(",")
    for label in chosen:
        if label not in spaces:
            raise ConfigError(f"--rows: {label!r} is no row with a search space; {allowed_names(label, spaces)}")
    for name, values in (("Sweep.tuning_seeds", sweep.tuning_seeds), ("Row.space", chosen)):
        if not values:
            raise ConfigError(f"{name}: nothing to tune with; allowed: one or more")
    cells(dataclasses.replace(sweep, tuned=None), Path(), Path())  # checks the whole file, with its seeds
    return dataclasses.replace(
        sweep,
        rows=[spaces[label] for label in chosen],
        seeds=sweep.tuning_seeds,
        tuning_seeds=(),
        tuned=None,
        remain_fractions=sweep.remain_fractions[:1],
        forget_fractions=sweep.forget_fractions[:1],
    )


def run(pool: Pool, searches: Sequence[Search], trials: int, out: Path, prune: bool = False) -> list[str]:
    """Continues every search until it has ``trials`` finished trials; writes ``out`` after every round.

    Args:
      pool: what runs the jobs.
      searches: of the rows.
      trials: of each search.
      out: see ``_write``.
      prune: whether trials that fall behind on the first seeds are given up.

    Returns:
      A line for each row that has no best settings.
    """
    failures: dict[str, str] = {}
    going = [search for search in searches if len(search.finished()) < trials]
    num_seeds = len(searches[0].sweep.seeds)
    while going:
        label = f"trial {1 + min(len(search.finished()) for search in going)} of {trials}"
        open_trials = [(search, search.ask()) for search in going]
        for count in range(1, num_seeds + 1) if prune else [num_seeds]:
            todo = pool.unfinished([run for _, trial in open_trials for run in trial.runs[:count]])
            pool.run(label, [run.job for run in todo if not diverged(pool, run.job)])
            for search, trial in [*open_trials]:
                runs = trial.runs[:count]
                failed = [run for run in pool.unfinished(runs) if not diverged(pool, run.job)]
                if failed:
                    failures[search.row.label] = pool.failure(search.row.label, failed[0].job)
                elif math.isinf(gap := mean_gap(runs)) or count == num_seeds:
                    search.tell(trial, gap)
                elif search.falls_behind(trial, count):
                    search.tell(trial, None)
                else:
                    continue
                open_trials.remove((search, trial))
        _write(out, pool, searches, trials)
        going = [s for s in going if len(s.finished()) < trials and s.row.label not in failures]
    _write(out, pool, searches, trials)
    for search in searches:
        if all(math.isinf(trial.gap) for trial in search.finished()):
            failures.setdefault(search.row.label, f"{search.row.label}: every trial diverged")
    return list(failures.values())


def diverged(pool: Pool, job: Job) -> bool:
    """Whether a run ended because it diverged; a crash or a damaged cache does not count."""
    outcome = pool.outcome(job)
    return outcome.status == 1 and "not finite in steps" in outcome.last_line


def _write(out: Path, pool: Pool, searches: Sequence[Search], trials: int) -> None:
    """Adds these rows to ``out``; rows from earlier calls stay."""
    rows = json.loads(out.read_text())["rows"] if out.exists() else {}
    sources = []
    for search in searches:
        settings = [trial.settings for trial in search.finished()[:trials] if math.isfinite(trial.gap)]
        if settings:
            rows[search.row.label] = search.report(pool, trials)
            sources += [result["provenance"] for chosen in settings for result in search.results(chosen)]
    content = {
        "provenance": {
            **{name: ", ".join(sorted({str(source[name]) for source in sources})) for name in ("commit", "device")},
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": shlex.join(["python", "-m", "ltu_jax.tune", *sys.argv[1:]]),
        },
        "trials": trials,
        "tuning_seeds": [*searches[0].sweep.seeds],
        "rows": rows,
    }
    write_whole(out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    start(main)
