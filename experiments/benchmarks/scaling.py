"""How costs grow with batch, N, forget rows, remaining rows and parameters.

python experiments/benchmarks/scaling.py                               ResNet-18 of width 8, 32x32
python experiments/benchmarks/scaling.py --width 64 --batch 64 --rows 50000

One setting at a time differs from the base. Draw: choosing and gathering the rows of a step. Init: features of all rows
and their nearest neighbours, once per run. SVC: fitting the evaluating attacker on that many confidences, once per
score. The last row of ``remain`` shows what a run on 50,000 images costs beside its steps.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import Model, method_config
from ltu_jax.evaluation.svc_mia import svc_mia
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.dispatch import compiled, draw_batch, numbers_as_arrays, take_step
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, Rows, Visible, make_state

CLASSES = 10


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=50_000, help="the largest number of remaining rows")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()

    base = {"batch": args.batch, "queries": 3, "forget": 500, "remain": 5_000, "width": args.width}
    grid = {
        "batch": [args.batch // 2, args.batch, 2 * args.batch],
        "queries": [1, 3, 6],
        "forget": [500, 2_000],
        "remain": [args.rows // 10, args.rows],
        "width": [args.width, 2 * args.width],
    }
    device = jax.devices()[0]
    print(f"{args.model}, {args.side} pixels; base: {base}")
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}; medians of {args.steps} steps")
    print(f"{'changed':10}{'to':>8}{'parameters':>12}{'step, s':>10}{'draw, s':>10}{'init, s':>10}{'SVC, s':>9}")
    seen = set()
    for name, values in grid.items():
        for value in values:
            case = base | {name: value}
            if tuple(case.values()) in seen and name != "batch":
                continue
            seen.add(tuple(case.values()))
            size, step, draw, init = measure(args, **case)
            svc = timed_svc(case["remain"], case["forget"])
            print(f"{name:10}{value:8}{size:12}{step:10.4f}{draw:10.5f}{init:10.2f}{svc:9.3f}", flush=True)


def measure(
    args: Any, batch: int, queries: int, forget: int, remain: int, width: int
) -> tuple[int, float, float, float]:
    """Number of parameters; seconds of a step, of a draw, and of the method's init, all compiled beforehand."""
    spec = build_model(Model(args.model, width=width), CLASSES, (args.side, args.side, 3))
    key = jax.random.key(0)
    params, model_state = spec.init(key)
    bank = init_bank(key, ("sorted", "metrics"), CLASSES)
    parts = Parts(spec.apply_fn, CLASSES, features=spec.features, bank=bank, augment="flip")
    sizes = {"batch_size": batch, "query_size": batch, "num_queries": queries}
    method = build_method(dataclasses.replace(method_config("paper"), **sizes), parts)
    visible = Visible(_rows(forget, args.side), _rows(remain, args.side))
    state = make_state(spec.apply_fn, params, model_state, SGD, key)
    do_init: Callable[[], Any] = lambda: jax.block_until_ready(method.init(key, state, visible))  # noqa: E731
    do_init()
    start = time.perf_counter()
    started, context = do_init()
    init = time.perf_counter() - start
    method = numbers_as_arrays(method)
    draw = compiled(draw_batch, method, started, context, visible)
    drawn = draw(method, started, context, visible)
    step = compiled(take_step, method, started, context, drawn)
    steps = _median(lambda: step(method, started, context, drawn), args.steps)
    draws = _median(lambda: draw(method, started, context, visible), args.steps)
    return sum(x.size for x in jax.tree.leaves(params)), steps, draws, init


def timed_svc(remain: int, forget: int) -> float:
    """Seconds of the evaluating attacker on random confidences."""
    rng = np.random.default_rng(0)
    confidences = [rng.random(count).astype(np.float32) for count in (remain, 10_000, forget)]
    start = time.perf_counter()
    svc_mia(*confidences)
    return time.perf_counter() - start


def _median(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _rows(count: int, side: int) -> Rows:
    key = jax.random.key(1)
    images = jax.random.randint(key, (count, side, side, 3), 0, 256, jax.numpy.uint8)
    return Rows(images, jax.random.randint(key, (count,), 0, CLASSES))


if __name__ == "__main__":
    main()
