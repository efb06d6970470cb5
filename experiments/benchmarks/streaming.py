"""Images on the device against images on the host: time to the first step, time per step, and peak memory.

python experiments/benchmarks/streaming.py                       100,000 images of 64x64, 1.2 GB in a mapped file
python experiments/benchmarks/streaming.py --rows 20000 --method random_label

Each row is a process of its own that maps the file and runs a method on all rows, 2 % of them held out, for one step,
with init, and then again for eleven steps, which give the time per step. Anonymous memory is the memory of the process
itself; resident memory adds the pages of the mapped file that it has read, which the system takes back when it needs
them. On a CPU the device's memory is that of the process.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10


def main() -> None:
    """Makes the file, measures each way in a process of its own, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--method", default="ltu")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--rho", type=float, default=1.0)
    parser.add_argument("--file", type=Path, default=Path("runs/streaming.u8"))
    parser.add_argument("--worker", choices=("device", "host"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    _make(args.file, args.rows, args.side)
    print(f"{args.rows} images of {args.side}x{args.side}, {args.file.stat().st_size / 1e9:.2f} GB; {args.method}")
    print(f"{'images':8}{'first step, s':>15}{'ms a step':>11}{'peak anonymous, MB':>20}{'peak resident, MB':>19}")
    for where in ("device", "host"):
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", where]
        result = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        times = f"{result['first_s']:15.2f}{1000 * result['step_s']:11.1f}"
        print(f"{where:8}{times}{result['anonymous'] / 1e6:20.0f}{result['resident'] / 1e6:19.0f}")


def measure(args: Any) -> dict[str, float]:
    """One way, in this process."""
    peak = {"RssAnon": 0, "VmRSS": 0}
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    start = time.perf_counter()
    import jax

    from ltu_jax.attackers.bank import init_bank
    from ltu_jax.config import Model, method_config
    from ltu_jax.methods import build_method
    from ltu_jax.models.build import build_model
    from ltu_jax.training.optimizers import SGD
    from ltu_jax.types import Parts, Source, Splits, make_state
    from ltu_jax.unlearning.loop import run_unlearning

    images = np.memmap(args.file, np.uint8, "r", shape=(args.rows, args.side, args.side, 3))
    labels = np.random.default_rng(0).integers(0, CLASSES, args.rows).astype(np.int32)
    ids = np.arange(args.rows).astype(str)
    source = Source("noise", images, labels, ids, CLASSES, args.rows, streamed=args.worker == "host")
    rows, none = np.random.default_rng(1).permutation(args.rows), np.arange(0)
    forget, remain, held_out = map(np.sort, np.split(rows, [args.rows // 10, args.rows - args.rows // 50]))
    splits = Splits(forget, remain, none, none, held_out, none)
    spec = build_model(Model(args.model, width=args.width), CLASSES, images.shape[1:])
    bank = init_bank(jax.random.key(0), ("sorted", "metrics"), CLASSES)
    parts = Parts(spec.apply_fn, CLASSES, init_params=spec.init, features=spec.features, bank=bank, augment="flip")
    method = build_method(method_config(args.method), parts)
    state = make_state(spec.apply_fn, *spec.init(jax.random.key(1)), SGD, jax.random.key(2))
    run_unlearning(method, state, splits, source, remain_fraction=args.rho, num_steps=1)
    first = time.perf_counter() - start
    _, history = run_unlearning(method, state, splits, source, remain_fraction=args.rho, num_steps=11)
    return {
        "first_s": first,
        "step_s": history.steps_s / 11,
        "anonymous": 1024 * peak["RssAnon"],
        "resident": 1024 * peak["VmRSS"],
    }


def _watch(peak: dict[str, int]) -> None:
    """Notes the largest values that the system reports, in kB, ten times a second."""
    while True:
        for line in Path("/proc/self/status").read_text().splitlines():
            name = line.partition(":")[0]
            if name in peak:
                peak[name] = max(peak[name], int(line.split()[1]))
        time.sleep(0.1)


def _make(path: Path, rows: int, side: int) -> None:
    if path.exists() and path.stat().st_size == rows * side * side * 3:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, 1000):
            count = min(1000, rows - start)
            file.write(rng.integers(0, 256, (count, side, side, 3), np.uint8).tobytes())


if __name__ == "__main__":
    main()
