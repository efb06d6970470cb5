"""What a training step on a CPU gains where glibc keeps freed memory instead of giving it back to the system.

python experiments/benchmarks/freed_memory.py
taskset -c 0 python experiments/benchmarks/freed_memory.py --widths 8

XLA allocates the temporary buffers of a program as one block at each call. glibc gives a large block back when it is
freed, so at the next call the system clears every page of it again. Plain training steps of ResNet-18 on 32x32 pixels,
in a process of their own each time, in turn with glibc's own settings and with ``KEEP``. CPU: what the process took on
all cores, and the share of it in the kernel. New pages: minor page faults. Medians over the rounds, in brackets the
smallest and the largest.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import jax
import numpy as np

from ltu_jax.config import Model, Training
from ltu_jax.models.build import build_model
from ltu_jax.training.supervised import train
from ltu_jax.types import Rows

CLASSES, SIDE = 10, 32
KEEP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Variables of mallopt(3): one heap for all threads, large blocks on it too, and nothing of it is given back."""
SETTINGS = {"glibc's own": {}, "kept": KEEP}


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="8,16,64")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(int(args.measure), args.batch, args.steps)))
        return
    print(f"batch {args.batch}, {args.steps} steps, {args.rounds} rounds, {len(os.sched_getaffinity(0))} cores")
    columns = f"{'ms a step':>20}{'CPU ms':>20}{'kernel':>8}{'new pages a step':>18}{'GB at most':>12}"
    print(f"{'width':>6}{'memory':>13}{columns}")
    for width in args.widths.split(","):
        rounds = [{name: in_a_process(width, name, args) for name in SETTINGS} for _ in range(args.rounds)]
        for name in SETTINGS:
            found = {key: [of[name][key] for of in rounds] for key in rounds[0][name]}
            kernel = sum(found["kernel_s"]) / sum(found["cpu_s"])
            wall, cpu = (shown([1000 * s / args.steps for s in found[key]]) for key in ("wall_s", "cpu_s"))
            pages, largest = statistics.median(found["pages"]) / args.steps, max(found["bytes"]) / 1e9
            print(f"{width:>6}{name:>13}{wall:>20}{cpu:>20}{kernel:8.0%}{pages:18,.0f}{largest:12.2f}")


def shown(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"


def in_a_process(width: str, name: str, args: argparse.Namespace) -> dict[str, float]:
    """``measure`` in a process of its own, without the caller's settings of memory."""
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES" and not key.startswith("MALLOC_")}
    env |= {"JAX_PLATFORMS": "cpu", **SETTINGS[name]}
    words = [f"--measure={width}", f"--batch={args.batch}", f"--steps={args.steps}"]
    done = subprocess.run([sys.executable, __file__, *words], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(width: int, batch: int, steps: int) -> dict[str, float]:
    """Times, new pages and largest memory of a training of so many steps, after one that compiles them."""
    key = jax.random.key(0)
    spec = build_model(Model("resnet18", width=width), CLASSES, (SIDE, SIDE, 3))
    params, model_state = spec.init(key)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * batch, SIDE, SIDE, 3), np.uint8)
    rows = Rows(images, rng.integers(0, CLASSES, len(images), np.int32))
    recipe = Training(epochs=1, batch_size=batch)
    for _ in range(2):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        jax.block_until_ready(train(spec.apply_fn, params, model_state, rows, recipe, key, augment="flip").state.params)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    return {
        "wall_s": wall,
        "cpu_s": after.ru_utime - before.ru_utime + kernel,
        "kernel_s": kernel,
        "pages": after.ru_minflt - before.ru_minflt,
        "bytes": 1024 * after.ru_maxrss,
    }


if __name__ == "__main__":
    main()
