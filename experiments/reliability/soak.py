"""Many unlearning runs or deletion requests in one process: memory, its maps and open files must not grow.

MALLOC_ARENA_MAX=1 python experiments/reliability/soak.py --runs 300
MALLOC_ARENA_MAX=1 python experiments/reliability/soak.py --runs 200 --what forget

Each run is a complete run on digits, saved and evaluated as the command does it. The methods take turns, and each run
has another seed and learning rate. One malloc arena, because otherwise glibc gives every thread its own, and each keeps
freed memory. ``--what forget`` calls ``ltu_jax.forget`` with a function, each time in a new folder;
``forget_one_folder`` makes one request after another in one folder, so that each has other numbers of rows;
``forget_new_function`` passes a new function each time, of which nothing compiled can be used again. Every 30 runs it
prints: resident memory; how much of it malloc has given out (to XLA and NumPy; it may
keep what is freed); the number of Python's memory blocks; open files; memory maps; seconds per run.
"""

import argparse
import ctypes
import dataclasses
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.reliability.small import build, get_config
from ltu_jax import config as settings_of
from ltu_jax.config import Config, resolve
from ltu_jax.data.sources import load_source
from ltu_jax.deletion.forget import forget
from ltu_jax.types import ApplyFn, Source
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import prepare
from ltu_jax.unlearning.result import make_result, now

METHODS = ("ltu", "finetune", "neggrad_plus", "salun", "scrub", "ssd")
EVERY = 30
ALSO = (75, 100, 200)
"""Runs after which it prints too."""
TRAIN, TEST = 300, 100


def main() -> int:
    """Runs the program; returns 1 if memory or open files grew by more than 2 % after the thirtieth run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument(
        "--what", choices=("runs", "forget", "forget_one_folder", "forget_new_function"), default="runs"
    )
    args = parser.parse_args()
    runs, usages = args.runs, []
    once = (lambda number, folder: run_once(settings(number), folder)) if args.what == "runs" else requests(args.what)
    print("  run  resident MB  in use MB  Python blocks  files   maps  s a run")
    with tempfile.TemporaryDirectory() as folder:
        start, last = time.monotonic(), 0
        for number in range(1, runs + 1):
            once(number, Path(folder))
            if number % EVERY == 0 or number in ALSO or number == runs:
                gc.collect()
                usages.append(usage())
                memory, files, maps, in_use, blocks = usages[-1]
                seconds = (time.monotonic() - start) / (number - last)
                print(
                    f"{number:5}  {memory / 1e6:11.1f}  {in_use / 1e6:9.1f}  {blocks:13}  {files:5}  {maps:5}"
                    f"  {seconds:7.2f}",
                    flush=True,
                )
                start, last = time.monotonic(), number
    pairs = zip(usages[0], usages[-1], strict=True)
    memory, files, maps, in_use, blocks = (100 * (last / first - 1) for first, last in pairs)
    print(
        f"run {runs} against run {min(EVERY, runs)}: resident {memory:+.2f} %, in use {in_use:+.2f} %, "
        f"Python blocks {blocks:+.2f} %, files {files:+.2f} %, maps {maps:+.2f} %"
    )
    return 0 if max(memory, files, maps) <= 2 else 1


def settings(number: int) -> Config:
    """The settings of a run: the methods in turn, each time with another seed and learning rate."""
    config = get_config(METHODS[number % len(METHODS)])
    if hasattr(config.method, "learning_rate"):
        config.method.learning_rate *= 1 + number / 1000
    usual = Config()  # small.py saves often, for kill.py
    return resolve(
        dataclasses.replace(
            config,
            seeds=dataclasses.replace(config.seeds, unlearn=number),
            save_every=usual.save_every,
            save_seconds=usual.save_seconds,
        )
    )


def run_once(config: Config, folder: Path) -> None:
    """A run as the command does it; its folder is deleted, but originals and attackers stay in the cache."""
    problem = prepare(config, cache=folder / "cache")
    state, history = run_problem(problem, folder=folder / "run")
    make_result(problem, state, history, now())
    shutil.rmtree(folder / "run")


def requests(what: str) -> Callable[[int, Path], None]:
    """``once(number, folder)``: a call of ``ltu_jax.forget`` on a part of digits, with a model that knows nothing."""
    digits = load_source(settings_of.Data("digits"))
    rows = np.arange(TRAIN + TEST)
    source = Source("few", digits.images[rows], digits.labels[rows], digits.ids[rows], digits.num_classes, TRAIN)
    spec = build(settings_of.Model("own"), source.num_classes, source.images.shape[1:])
    params, model_state = jax.tree.map(np.asarray, spec.init(jax.random.key(0)))
    config = Config(
        attackers=settings_of.Attackers(names=("sorted", "metrics"), epochs=2, draws=1),
        method=settings_of.LTU(
            epochs=2.0, batch_size=4, query_size=4, num_queries=1, forget_by="attackers", order="first", relabel="step"
        ),
        calibration=settings_of.Calibration(trials=0),
        evaluation=settings_of.Evaluation(batch_size=50),
    )

    def once(number: int, folder: Path) -> None:
        apply_fn: ApplyFn = spec.apply_fn
        if what == "forget_new_function":
            apply_fn = lambda *args, **more: spec.apply_fn(*args, **more)  # noqa: E731
        in_one = what == "forget_one_folder"
        ids = source.ids[number - 1 : number] if in_one else source.ids[:4]
        workdir = folder / ("one" if in_one else str(number))
        forget(apply_fn, params, source, ids.tolist(), workdir=workdir, model_state=model_state, config=config)
        if not in_one:
            shutil.rmtree(workdir)

    return once


def usage() -> tuple[int, int, int, int, int]:
    """Resident bytes, open files, memory maps, bytes that malloc has given out, memory blocks of Python."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    files = len(os.listdir("/proc/self/fd"))
    return pages * os.sysconf("SC_PAGE_SIZE"), files, maps, malloc_in_use(), sys.getallocatedblocks()


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def malloc_in_use() -> int:
    """Bytes that malloc has given out and that are not freed."""
    mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo2.restype = _MallocInfo
    info = mallinfo2()
    return info.uordblks + info.hblkhd


if __name__ == "__main__":
    sys.exit(main())
