"""Many unlearning runs in one process: resident memory and open files must not grow.

python experiments/reliability/soak.py --runs 300

Each run is a whole one on digits with settings that come round again (method, seed, learning rate), saved and evaluated
as the command does it. Printed every 30 runs: resident memory, open files, maps of memory, seconds a run.
"""

import argparse
import dataclasses
import gc
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from small import get_config

from ltu_jax.config import Config, resolve
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import prepare
from ltu_jax.unlearning.result import make_result, now

METHODS = ("ltu", "finetune", "neggrad_plus", "salun", "scrub", "ssd")
EVERY = 30


def main() -> int:
    """Runs the program; 1 if memory or files at the last run are over 2 % of those at the thirtieth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    told = []
    print("  run  resident MB  files   maps  s a run")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        for number in range(1, runs + 1):
            one(settings(number), Path(folder))
            if number % EVERY == 0 or number == runs:
                gc.collect()
                told.append(held())
                memory, files, maps = told[-1]
                print(
                    f"{number:5}  {memory / 1e6:11.1f}  {files:5}  {maps:5}  {(time.monotonic() - begun) / EVERY:7.2f}"
                )
                sys.stdout.flush()
                begun = time.monotonic()
    memory, files = (100 * (told[-1][i] / told[0][i] - 1) for i in (0, 1))
    print(f"run {runs} against run {EVERY}: memory {memory:+.2f} %, files {files:+.2f} %")
    return 0 if max(memory, files) <= 2 else 1


def settings(number: int) -> Config:
    """Another run each time, of a handful of kinds."""
    config = get_config(METHODS[number % len(METHODS)])
    if hasattr(config.method, "learning_rate"):
        config.method.learning_rate *= 1 + number / 1000
    config = dataclasses.replace(config, seeds=dataclasses.replace(config.seeds, unlearn=number))
    return resolve(config)


def one(config: Config, folder: Path) -> None:
    """A run as the command makes it, in a folder that goes afterwards; originals and attackers stay in the cache."""
    problem = prepare(config, cache=folder / "cache")
    state, history = run_problem(problem, folder=folder / "run")
    make_result(problem, state, history, now())
    shutil.rmtree(folder / "run")


def held() -> tuple[int, int, int]:
    """Resident bytes, open files and maps of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), maps


if __name__ == "__main__":
    sys.exit(main())
