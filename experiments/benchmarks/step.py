"""The cost of one LTU step in plain training steps of the same batch, measured side by side.

python experiments/benchmarks/step.py                     ResNet-18 of width 64, batch 64, N = 3
python experiments/benchmarks/step.py --width 16 --rounds 5

An exact step has a floor of 10: a support gradient, three query sets and a Hessian product (2) to
remember, four gradients to forget. Each round times every form once, in turn, so that a machine whose
speed drifts does not favour one; the medians and their ratios are printed, and the median of the
ratios round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import LTU, Attackers, Model, Training
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import init_training, train_step
from ltu_jax.types import Parts, Rows, UnlearnState, Visible, make_state

CLASSES, SIDE = 10, 32


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", default="second,naive", help="of second, naive, first, none")
    args = parser.parse_args()

    spec = build_model(Model(args.model, width=args.width), CLASSES, (SIDE, SIDE, 3))
    params, model_state = spec.init(jax.random.key(0))
    forms = {"plain": plain_step(spec, params, model_state, args.batch)}
    for order in args.orders.split(","):
        forms[order] = ltu_step(spec, params, model_state, args.batch, args.queries, order)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for round_ in range(args.rounds + 1):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)

    device = jax.devices()[0]
    print(f"{args.model}, width {args.width}, batch {args.batch}, N = {args.queries}, {args.rounds} rounds")
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}")
    print(f"{'form':8}{'s, median':>12}{'s, min':>10}{'x plain':>10}{'median of rounds':>19}")
    plain = seconds["plain"]
    for name, values in seconds.items():
        ratios = statistics.median(v / p for v, p in zip(values, plain, strict=True))
        median = statistics.median(values)
        print(f"{name:8}{median:12.3f}{min(values):10.3f}{median / statistics.median(plain):10.2f}{ratios:19.2f}")


def plain_step(spec: Any, params: Any, model_state: Any, batch: int) -> Callable[[], None]:
    """One step of ordinary training, compiled; called, it takes a step and waits for it."""
    state, context = init_training(spec.apply_fn, params, model_state, Training(), 10 * batch, jax.random.key(1))
    draw = jax.tree.map(jnp.asarray, _rows(batch))
    draw = draw._replace(images=draw.images.astype(jnp.float32) / 255)
    return _repeated(train_step, jax.tree.map(jnp.copy, state), context, draw)


def ltu_step(spec: Any, params: Any, model_state: Any, batch: int, queries: int, order: str) -> Callable[[], None]:
    """One step of LTU, compiled; called, it takes a step and waits for it."""
    settings = LTU(batch_size=batch, query_size=batch, num_queries=queries, order=order)
    bank = init_bank(jax.random.key(2), Attackers().names, CLASSES)
    parts = Parts(spec.apply_fn, CLASSES, features=spec.features, bank=bank)
    method = build_method(settings, parts)
    state = make_state(spec.apply_fn, params, model_state, SGD, jax.random.key(3))
    visible = Visible(_rows(batch), _rows(2 * batch))
    state, context = method.init(jax.random.key(4), state, visible)
    draw = jax.jit(method.sample)(jax.random.key(5), state.step, context, visible)
    return _repeated(method.step, state, context, draw)


def _rows(count: int) -> Rows:
    key = jax.random.key(6)
    images = jax.random.randint(key, (count, SIDE, SIDE, 3), 0, 256, jnp.uint8)
    return Rows(images, jax.random.randint(key, (count,), 0, CLASSES))


def _repeated(step: Callable, state: UnlearnState, context: Any, draw: Any) -> Callable[[], None]:
    run, holder = compiled(step, state, context, draw, donate=(0,)), [state]

    def once() -> None:
        holder[0], _ = jax.block_until_ready(run(holder[0], context, draw))

    return once


if __name__ == "__main__":
    main()
