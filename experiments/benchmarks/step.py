"""The cost of one LTU step in plain training steps of the same batch, measured side by side.

python experiments/benchmarks/step.py                                ResNet-18 of width 64, batch 64, N = 3
python experiments/benchmarks/step.py --width 16 --rounds 5
python experiments/benchmarks/step.py --model vit_tiny --forms plain,second,first

An exact step costs at least 10 plain gradients: a support gradient, N = 3 query sets and a Hessian product (2) to
remember, and a support gradient, a query and a Hessian product to forget. A third of one is saved, because one forward
pass of the forget images serves both halves.

In convolutions: a model of L convolutions has L forward and 2 L - 1 backward (the images need no gradient). Along a
direction each of these becomes two, because each is bilinear in images and weights: 6 L - 4 for a Hessian product.
Query sets are one batch under vmap. So an exact step has L + 2 (2 L - 1) + 2 (3 L - 1) + 2 (6 L - 4) = 23 L - 12:
448 for ResNet-18 (L = 20), and a plain step has 59.

Forms: plain; second (exact), naive (double backward), first, none; save_memory (exact, less memory) and bfloat16
(exact, computed in it). Each round times every form once, in turn, so that changes of the machine's speed do not favour
one. Host: the part of a step, with its draw, until the calls return, before the device is done. Memory: arguments and
temporaries as the compiler planned them, relative to the plain step. Error: the difference of the parameters from the
exact step's, in percent of the exact step's move; all forms take the same first step.
"""

import argparse
import dataclasses
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import Attackers, Model, Training, method_config
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.dispatch import compiled, numbers_as_arrays, take_step
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import Supervised, init_training
from ltu_jax.types import Parts, Rows, Visible, make_state

CLASSES, SIDE = 10, 32
FORMS = ("plain", "second", "save_memory", "bfloat16", "first", "none", "naive")


class Form(NamedTuple):
    """A way to take a step, compiled."""

    once: Callable[[], float]  # draws, takes a step and waits for it; returns the seconds until the calls returned
    params: Callable[[], jax.Array]  # as they are now, as one vector
    convolutions: int
    flops: float
    bytes: int


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default=",".join(FORMS), help="of these, the plain one first")
    args = parser.parse_args()

    names = args.forms.split(",")
    forms = {name: build(name, args.model, args.width, args.batch, args.queries) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    host: dict[str, list[float]] = {name: [] for name in forms}
    moved: dict[str, jax.Array] = {}
    for round_ in range(args.rounds + 1):
        for name, form in forms.items():
            before = None if round_ else form.params()
            start = time.perf_counter()
            returned = form.once()
            if before is not None:  # the first round warms up
                moved[name] = form.params() - before
                continue
            seconds[name].append(time.perf_counter() - start)
            host[name].append(returned)

    device = jax.devices()[0]
    print(f"{args.model}, width {args.width}, batch {args.batch}, N = {args.queries}, {args.rounds} rounds")
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}")
    print(f"{'':12}{'x plain':>27}" + _row(["s", "host", "flops", "memory", "convo-", "error"]))
    print(f"{'form':12}" + _row(["median", "min", "max", "median", "%", "x plain", "x plain", "lutions", "%"]))
    plain = forms[names[0]]
    for name, form in forms.items():
        ratios = [s / p for s, p in zip(seconds[name], seconds[names[0]], strict=True)]
        waited = 100 * statistics.median(h / s for h, s in zip(host[name], seconds[name], strict=True))
        figures = [f"{f(ratios):.2f}" for f in (statistics.median, min, max)]
        figures += [f"{statistics.median(seconds[name]):.3f}", f"{waited:.2f}"]
        figures += [f"{form.flops / plain.flops:.2f}", f"{form.bytes / plain.bytes:.2f}", str(form.convolutions)]
        if name != names[0] and "second" in moved:
            exact = moved["second"]
            figures.append(f"{100 * jnp.linalg.norm(moved[name] - exact) / jnp.linalg.norm(exact):.4f}")
        print(f"{name:12}" + _row(figures))


def _row(words: list[str]) -> str:
    return "".join(f"{word:>9}" for word in words)


def build(form: str, model: str, width: int, batch: int, queries: int = 3) -> Form:
    """A step of one of ``FORMS``."""
    dtype = "bfloat16" if form == "bfloat16" else "float32"
    spec = build_model(Model(model, width=width, dtype=dtype), CLASSES, (SIDE, SIDE, 3))
    params, model_state = spec.init(jax.random.key(0))
    if form == "plain":
        state, context = init_training(spec.apply_fn, params, model_state, Training(), 10 * batch, jax.random.key(1))
        return _form(Supervised(batch, "none"), jax.tree.map(jnp.copy, state), context, _rows(2 * batch))
    order = "second" if form in ("save_memory", "bfloat16") else form
    sizes = {"batch_size": batch, "query_size": batch, "num_queries": queries}
    settings = dataclasses.replace(method_config("paper"), order=order, save_memory=form == "save_memory", **sizes)
    bank = init_bank(jax.random.key(2), Attackers().names, CLASSES)
    parts = Parts(spec.apply_fn, CLASSES, features=spec.features, bank=bank)
    method = build_method(settings, parts)
    state = make_state(spec.apply_fn, params, model_state, SGD, jax.random.key(3))
    visible = Visible(_rows(batch), _rows(2 * batch))
    state, context = method.init(jax.random.key(4), state, visible)
    return _form(numbers_as_arrays(method), state, context, visible)


def _rows(count: int) -> Rows:
    key = jax.random.key(6)
    images = jax.random.randint(key, (count, SIDE, SIDE, 3), 0, 256, jnp.uint8)
    return Rows(images, jax.random.randint(key, (count,), 0, CLASSES))


def _form(algorithm: Any, state: Any, context: Any, data: Any) -> Form:
    draw = jax.jit(lambda state, context, data: algorithm.sample(state.rng, state.step, context, data))
    drawn = jax.eval_shape(draw, state, context, data)
    program = compiled(take_step, algorithm, state, context, drawn, donate=(1,))
    holder = [state]

    def once() -> float:
        start = time.perf_counter()
        holder[0], metrics = program(algorithm, holder[0], context, draw(holder[0], context, data))
        returned = time.perf_counter() - start
        jax.block_until_ready((holder[0], metrics))
        return returned

    memory = program.memory_analysis()
    convolutions = len(re.findall(r"dim_labels=", program.as_text()))
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    params = lambda: ravel_pytree(holder[0].params)[0].copy()  # noqa: E731
    return Form(once, params, convolutions, program.cost_analysis()["flops"], held)


if __name__ == "__main__":
    main()
