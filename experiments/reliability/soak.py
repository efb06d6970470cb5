"""Many unlearning runs in one process: resident memory and open files must not grow.

MALLOC_ARENA_MAX=1 python experiments/reliability/soak.py --runs 300

Each run is a complete run on digits, saved and evaluated as the command does it. The methods take turns, and each run
has another seed and learning rate. One malloc arena, because otherwise glibc gives every thread its own, and each keeps
freed memory. Every 30 runs it prints: resident memory; how much of it malloc has given out (to XLA and NumPy; it may
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
from pathlib import Path

from experiments.reliability.small import get_config
from ltu_jax.config import Config, resolve
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import prepare
from ltu_jax.unlearning.result import make_result, now

METHODS = ("ltu", "finetune", "neggrad_plus", "salun", "scrub", "ssd")
EVERY = 30


def main() -> int:
    """Runs the program; returns 1 if memory or open files grew by more than 2 % after the thirtieth run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    usages = []
    print("  run  resident MB  in use MB  Python blocks  files   maps  s a run")
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        for number in range(1, runs + 1):
            run_once(settings(number), Path(folder))
            if number % EVERY == 0 or number == runs:
                gc.collect()
                usages.append(usage())
                memory, files, maps, in_use, blocks = usages[-1]
                seconds = (time.monotonic() - start) / EVERY
                print(
                    f"{number:5}  {memory / 1e6:11.1f}  {in_use / 1e6:9.1f}  {blocks:13}  {files:5}  {maps:5}"
                    f"  {seconds:7.2f}",
                    flush=True,
                )
                start = time.monotonic()
    pairs = zip(usages[0], usages[-1], strict=True)
    memory, files, _, in_use, blocks = (100 * (last / first - 1) for first, last in pairs)
    print(
        f"run {runs} against run {EVERY}: resident {memory:+.2f} %, in use {in_use:+.2f} %, "
        f"Python blocks {blocks:+.2f} %, files {files:+.2f} %"
    )
    return 0 if max(memory, files) <= 2 else 1


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
