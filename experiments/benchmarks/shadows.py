"""Models per minute when several are trained, or unlearned, in one program by vmap; which number at once is best.

python experiments/benchmarks/shadows.py                              ResNet-8 and ViT-Micro on this device
python experiments/benchmarks/shadows.py --models resnet18 --width 64 --rows 5000 --at_once 1,2,4,8
JAX_NUM_CPU_DEVICES=2 python experiments/benchmarks/shadows.py --at_once 1             each batch on two devices

On a CPU convolutions of stacked weights become grouped convolutions, which are slow; matrix products do not. Each row
is one compiled program of plain steps or LTU's (``paper``), the best of the rounds; ratios are to one model at a time.
"""

import argparse
import dataclasses
import time
from typing import Any

import jax

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import Model, Training, method_config
from ltu_jax.devices import device_mesh
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.dispatch import compile_steps, numbers_as_arrays, stack_trees
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import Supervised, init_training
from ltu_jax.types import Parts, Rows, Visible, make_state

CLASSES = 10


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet8,vit_micro")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--at_once", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    device, count = jax.devices()[0], jax.device_count()
    if count > 1:
        jax.set_mesh(device_mesh())
    print(f"{count} x {device.device_kind}, jax {jax.__version__}; batch {args.batch}, {args.side} pixels")
    print(f"{'model':12}{'step':>8}{'at once':>9}{'ms a model and step':>22}{'models a minute*':>18}{'x one':>8}")
    for name in args.models.split(","):
        for kind in ("plain", "ltu"):
            one = None
            for number in map(int, args.at_once.split(",")):
                seconds = measure(name, kind, number, args) / number / args.steps
                one = one or seconds
                minute = 60 / (seconds * 60 * args.rows / args.batch)
                print(f"{name:12}{kind:>8}{number:9}{1000 * seconds:22.2f}{minute:18.2f}{seconds / one:8.2f}")
    print(f"* of 60 epochs of {args.rows} rows")


def measure(name: str, kind: str, number: int, args: Any) -> float:
    """Seconds of ``args.steps`` steps of ``number`` models, the best of the rounds."""
    spec = build_model(Model(name, width=args.width), CLASSES, (args.side, args.side, 3))
    made = [one_model(spec, kind, seed, args) for seed in range(number)]
    trees = [stack_trees(trees) if number > 1 else trees[0] for trees in zip(*made, strict=True)]
    algorithm, state, context, data = trees
    run = compile_steps(algorithm, state, context, data, args.steps, stacked=number > 1)
    best = float("inf")
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(run(state, context, data))
        best = min(best, time.perf_counter() - start)
    return best


def one_model(spec: Any, kind: str, seed: int, args: Any) -> tuple:
    """Algorithm, state, context and rows of a model to be trained, or to be unlearned."""
    key = jax.random.key(seed)
    params, model_state = spec.init(key)
    if kind == "plain":
        state, context = init_training(spec.apply_fn, params, model_state, Training(), args.rows, key)
        return Supervised(args.batch, "flip"), state, context, _rows(args.rows, args.side, seed)
    bank = init_bank(key, ("sorted", "metrics"), CLASSES)
    parts = Parts(spec.apply_fn, CLASSES, features=spec.features, bank=bank, augment="flip")
    settings = dataclasses.replace(method_config("paper"), batch_size=args.batch, query_size=args.batch)
    method = build_method(settings, parts)
    visible = Visible(_rows(args.rows // 10, args.side, seed), _rows(args.rows, args.side, seed + 1))
    state = make_state(spec.apply_fn, params, model_state, SGD, key)
    return numbers_as_arrays(method), *method.init(key, state, visible), visible


def _rows(count: int, side: int, seed: int) -> Rows:
    image_key, label_key = jax.random.split(jax.random.key(seed))
    images = jax.random.randint(image_key, (count, side, side, 3), 0, 256, jax.numpy.uint8)
    return Rows(images, jax.random.randint(label_key, (count,), 0, CLASSES))


if __name__ == "__main__":
    main()
