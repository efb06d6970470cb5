"""One program for a GPU or TPU: the share of its matrix-multiply rate that a step reaches, memory, and a whole run.

python experiments/benchmarks/gpu.py --out gpu.json
python experiments/benchmarks/gpu.py --out gpu.json --parts rate,steps
python experiments/benchmarks/gpu.py --backend cpu --tiny --out tiny.json          a check that it works, anywhere

Each part takes some minutes, mostly for compiling. ``rate``: the device's own rate of matrix products in bfloat16 and
float32. ``steps``: plain steps and LTU's (``paper``) of ResNet-18 of width 64 in both types, ten per dispatch, with
their share of that rate and their memory. ``seeds``: several models by vmap. ``run``: the paper's CIFAR-10 ResNet-18
problem at full size on random images, so that times are meaningful and scores are not. Results are written after each
measurement, with device, versions and commit.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

PARTS = ("rate", "steps", "seeds", "run")


def main() -> None:
    """Parses the arguments, measures the parts, writes after each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backend", default=None, help="cpu, gpu or tpu; unset: what JAX finds")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds")
    parser.add_argument("--parts", default=",".join(PARTS))
    args = parser.parse_args()
    if args.backend:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(args.backend, args.backend))

    from ltu_jax.unlearning.result import now, provenance

    results: dict[str, Any] = {"provenance": provenance(now())}
    parts = args.parts.split(",")
    if "steps" in parts and "rate" not in parts:
        parts.insert(0, "rate")
    for part in parts:
        start = time.perf_counter()
        for row in {"rate": rate, "steps": steps, "seeds": seeds, "run": run}[part](args.tiny, results):
            results.setdefault(part, []).append(row | {"wall_s": time.perf_counter() - start})
            args.out.write_text(json.dumps(results, indent=2) + "\n")
            print(part, json.dumps(results[part][-1]), flush=True)


def rate(tiny: bool, results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Flops per second of products of square matrices, twenty per dispatch."""
    del results
    size, times = (256, 2) if tiny else (8192, 20)
    rates = {}
    for dtype in ("bfloat16", "float32"):
        a = jnp.ones((size, size), dtype)

        @jax.jit
        def products(a: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, times, lambda _, x: (x @ a) / size, a)

        rates[dtype] = times * 2 * size**3 / _median(lambda: products(a))  # noqa: B023
    yield {"size": size, "flops_per_s": rates}


def steps(tiny: bool, results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Seconds, memory and share of the measured rate of plain and LTU steps."""
    rates, (width, batch) = results["rate"][0]["flops_per_s"], _sizes(tiny)
    for dtype in ("bfloat16",) if tiny else ("bfloat16", "float32"):
        for kind, save_memory in (("plain", False), ("ltu", False), ("ltu", True)):
            case = _case(kind, dtype, tiny, save_memory=save_memory)
            plain = case["plain_flops"]
            seconds, held = _timed(case["steps"], case["trees"], case["count"])
            row = {"batch": batch, "width": width, "kind": kind, "dtype": dtype, "save_memory": save_memory}
            # An exact LTU step costs 9 2/3 plain ones; what save_memory computes twice is not counted.
            useful = plain * (1 if kind == "plain" else 29 / 3)
            share = useful / seconds / rates[dtype]
            yield row | {"s": seconds, "bytes": held, "flops": useful, "share_of_rate": share}


def seeds(tiny: bool, results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Seconds per model of a plain and an LTU step when several models are one program."""
    del results
    from ltu_jax.training.dispatch import stack_trees

    for kind in ("plain", "ltu"):
        for number in (2,) if tiny else (1, 2, 4, 8):
            case = _case(kind, "bfloat16", tiny, batch=8 if tiny else 64, stacked=number > 1)
            trees = [stack_trees([tree] * number) for tree in case["trees"]] if number > 1 else case["trees"]
            seconds, _ = _timed(case["steps"], trees, case["count"])
            yield {"batch": 8 if tiny else 64, "kind": kind, "at_once": number, "s_per_model": seconds / number}


def run(tiny: bool, results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Training and unlearning of the paper's problem on random images: 45,000 of them, 4,500 to forget."""
    del results
    import numpy as np

    from ltu_jax.attackers.bank import init_bank
    from ltu_jax.config import Model, Training, method_config
    from ltu_jax.methods import build_method
    from ltu_jax.models.build import build_model
    from ltu_jax.training.optimizers import SGD
    from ltu_jax.training.supervised import train
    from ltu_jax.types import Parts, Source, Splits, make_state
    from ltu_jax.unlearning.loop import run_unlearning

    width, _ = _sizes(tiny)
    count, epochs, batch = (200, 1, 20) if tiny else (45_000, 2, 256)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    source = Source(
        "noise", images, rng.integers(0, 10, count).astype(np.int32), np.arange(count).astype(str), 10, count
    )
    none = np.arange(0)
    splits = Splits(np.arange(count // 10), np.arange(count // 10, count), none, none, none, none)
    spec = build_model(Model("resnet8" if tiny else "resnet18", width=width, dtype="bfloat16"), 10, (32, 32, 3))
    params, model_state = spec.init(jax.random.key(0))
    recipe = Training(epochs=epochs, batch_size=batch)
    rows = source.rows(splits.remain)
    trained = train(spec.apply_fn, params, model_state, rows, recipe, jax.random.key(1), augment="crop_flip")
    bank = init_bank(jax.random.key(2), ("sorted", "metrics"), 10)
    parts = Parts(spec.apply_fn, 10, features=spec.features, bank=bank, augment="crop_flip")
    sizes = {"epochs": 1.0 if tiny else 7.0, "batch_size": batch, "query_size": batch}
    method = build_method(dataclasses.replace(method_config("paper"), **sizes), parts)
    state = make_state(spec.apply_fn, trained.state.params, trained.state.model_state, SGD, jax.random.key(3))
    _, history = run_unlearning(method, state, splits, source, remain_fraction=0.3)
    epoch = trained.seconds / epochs
    yield {
        "retrain_epoch_s": epoch,
        "retrain_182_epochs_s": 182 * epoch,
        "ltu_s": history.init_s + history.steps_s,
        "ltu_init_s": history.init_s,
        "ltu_steps": history.steps,
        "compile_s": history.compile_s,
        "retrain_over_ltu": 182 * epoch / (history.init_s + history.steps_s),
    }


def _sizes(tiny: bool) -> tuple[int, int]:
    """Width and batch."""
    return (2, 8) if tiny else (64, 512)


def _case(
    kind: str, dtype: str, tiny: bool, *, batch: int | None = None, save_memory: bool = False, stacked: bool = False
) -> dict[str, Any]:
    """A function that compiles the steps of a kind, its arguments, and the number and flops of the steps."""
    from ltu_jax.attackers.bank import init_bank
    from ltu_jax.config import Model, Training, method_config
    from ltu_jax.methods import build_method
    from ltu_jax.models.build import build_model
    from ltu_jax.training.cost import image_flops
    from ltu_jax.training.dispatch import compile_steps, numbers_as_arrays, stack_trees
    from ltu_jax.training.optimizers import SGD
    from ltu_jax.training.supervised import Supervised, init_training
    from ltu_jax.types import Parts, Rows, Visible, make_state

    width, whole = _sizes(tiny)
    batch, count, key = batch or whole, 2 if tiny else 10, jax.random.key(0)
    model = "vit_micro" if tiny else "resnet18"  # it compiles in seconds
    spec = build_model(Model(model, width=width, dtype=dtype), 10, (32, 32, 3))
    params, model_state = spec.init(key)
    images = jax.random.randint(key, (4 * batch, 32, 32, 3), 0, 256, jnp.uint8)
    rows = Rows(images, jax.random.randint(key, (4 * batch,), 0, 10))
    if kind == "plain":
        algorithm: Any = Supervised(batch, "flip")
        state, context = init_training(spec.apply_fn, params, model_state, Training(), 4 * batch, key)
        data: Any = rows
    else:
        bank = init_bank(key, ("sorted", "metrics"), 10)
        parts = Parts(spec.apply_fn, 10, features=spec.features, bank=bank, augment="flip")
        sizes = {"batch_size": batch, "query_size": batch, "save_memory": save_memory}
        algorithm = build_method(dataclasses.replace(method_config("paper"), **sizes), parts)
        data = Visible(rows, rows)
        state, context = algorithm.init(key, make_state(spec.apply_fn, params, model_state, SGD, key), data)
    image = image_flops(spec.apply_fn, params, model_state, (32, 32, 3), batch)

    def steps(state: Any, context: Any, data: Any) -> Any:
        arrays = numbers_as_arrays(algorithm)
        arrays = stack_trees([arrays] * len(state.step)) if stacked else arrays
        return compile_steps(arrays, state, context, data, count, stacked=stacked)

    plain = batch * (image.forward + image.backward)
    return {"steps": steps, "trees": (state, context, data), "count": count, "plain_flops": plain}


def _timed(steps: Any, trees: Any, count: int) -> tuple[float, int | None]:
    """Seconds per step, and the bytes that the program holds; None if the compiler does not say."""
    state, context, data = trees
    program = steps(state, context, data)
    memory = program.memory_analysis() if hasattr(program, "memory_analysis") else None
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program(state, context, data))
        seconds.append((time.perf_counter() - start) / count)
    held = None if memory is None else memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return statistics.median(seconds[1:]), held


def _median(call: Any, rounds: int = 5) -> float:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
