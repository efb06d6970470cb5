r"""The paper's own size on one GPU: ResNet-18 of width 64 in bfloat16 on all of cifar10_jpeg, five methods, one seed.

export TFDS_DATA_DIR=...
python experiments/paper_size.py --seed 0 --out runs/paper_size
python -m ltu_jax.tables 1 runs/paper_size/seed-*.jsonl
python experiments/paper_size.py --tiny --out runs/tiny                   the program alone, a minute on a CPU

An original (45,000 rows, 30 epochs), two Retrains without 10 % of them, and LTU, BadT, SalUn, RandL and AMUN with
attackers fitted on the original; ``sweeps/paper_size.py`` has all settings, of which none was tuned. Each method's
result is written as it comes, and the same command goes on with what is missing: after ``--minutes`` nothing further
is started. It prints what each part took and how long that was compiling, and at the end a table.

No GPU was at hand: whether the original reaches RA 99, and whether 12 minutes of one are enough, has not been seen. The
estimate is 9. On an H100 an epoch of 40,500 rows took 0.81 s at batches of 256 (``results/speed/gpu.txt``), so the
three models take 75 s, and the other methods' 50 epochs or so 45; a step of LTU took 43 ms at 256, so its 175 steps of
180 take 5; compiling LTU took 113 s, for two numbers of steps where this takes one. A guess are 20 s to compile each of
eleven smaller programs, and 75 s for eight scores (6 s each on two CPU cores, the SVC), the data and starting. A second
seed in the same folder finds its programs compiled.
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.sweeps.paper_size import get_sweep
from ltu_jax.commands.command_line import parse
from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping.grid import Cell, cells
from ltu_jax.sweeping.program import folder, start

Numbers = dict[str, float]

LEAST_RA = 99.0
"""Percent of the remaining rows that an original of this size should know."""
HEADS = ("", "gap", "UA", "RA", "TA", "MI", "JS", "KS", "AUC", "seconds", "compiling", "forward", "backward")


def main(arguments: Sequence[str]) -> int:
    """Runs what is missing and prints the table; the exit status, 1 if a method diverged."""
    begun, args = time.perf_counter(), _parsed(arguments)
    sweep = dataclasses.replace(get_sweep(tiny=args.tiny), seeds=(args.seed,))
    if args.data_dir:
        os.environ["TFDS_DATA_DIR"] = str(args.data_dir)
    cache = args.out / "cache"
    todo = cells(sweep, args.out / "cells", cache)
    from experiments import one_process  # it waits for JAX

    if not args.tiny:
        one_process.check_device()
    with locked(folder("--out", args.out) / f"seed-{args.seed}.{LOCK}", "--out"):
        failures = one_process.run(todo, cache, one_process.Clock(begun, args.minutes))
        done = [(cell, json.loads(cell.result.read_text())) for cell in todo if cell.result.exists()]
        if done:
            write_whole(args.out / f"seed-{args.seed}.jsonl", "".join(_line(*one) for one in done))
    print_table({cell.label: result for cell, result in done})
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if len(done) < len(todo) and not failures:
        print(f"{len(done)} of {len(todo)} methods in {args.minutes:g} minutes; the same command makes the others")
    return 1 if failures else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, exit_on_error=False
    )
    parser.add_argument("--out", type=Path, help="folder of results and cache; needed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no further method is started")
    parser.add_argument("--data_dir", type=Path, help="where TFDS prepared the data; unset: TFDS_DATA_DIR")
    parser.add_argument("--tiny", action="store_true", help="digits and a model of nothing, on any device")
    args = parse(parser, arguments)
    if args.out is None:
        raise ConfigError("--out: not given; allowed: a folder")
    if not args.minutes >= 0:
        raise ConfigError(f"--minutes: {args.minutes}; allowed: 0 or more")
    return args


def _line(cell: Cell, result: dict[str, Any]) -> str:
    """A line for ``ltu_jax.tables``. The command lets kernels add in any order, as this program does."""
    command = shlex.join([*cell.job.command, "--nodeterministic"])
    return json.dumps({"label": cell.label, "command": command, "result": result}) + "\n"


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """The original, Retrain (its gap and JS are to the other Retrain) and each method, by its label.

    Beside the four scores and their gap: Jensen-Shannon divergence to Retrain on the forget rows, KS and AUC of forget
    against test rows, seconds of the run and of compiling beside it, thousands of images forward and backward.
    """
    if not results:
        return
    first = next(iter(results.values()))
    near = first["closeness"]
    rows = [
        HEADS,
        _cells("original", first["original_gap"], first["original"], near["original"]),
        _cells("Retrain", first["retrain_spread"], first["retrain"], near["retrain"]),
    ]
    for label, result in results.items():
        cost, scores = result["cost"], (result["gap"], result["scores"], result["closeness"]["unlearned"])
        spent = (cost["run_s"], cost["compile_s"], cost["forward_images"] / 1000, cost["backward_images"] / 1000)
        rows.append((*_cells(label, *scores), *(f"{value:.1f}" for value in spent)))
    for row in rows:
        print("".join(f"{cell:>10}" for cell in row))
    if first["original"]["ra"] < LEAST_RA:
        print(f"note: the original's RA is {first['original']['ra']:.2f}, below {LEAST_RA:g}: train it longer")


def _cells(label: str, gap: Numbers, scores: Numbers, near: Numbers) -> tuple[str, ...]:
    four = (scores[name] for name in ("ua", "ra", "ta", "mi"))
    close = (f"{near['js_forget']:.4f}", f"{near['ks']:.1f}", f"{near['auc']:.3f}")
    return label, f"{gap['mean']:.2f}", *(f"{value:.2f}" for value in four), *close


if __name__ == "__main__":
    start(main)
