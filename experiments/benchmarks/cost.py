"""The cost that each method states, against XLA's count of the flops of its compiled step.

python experiments/benchmarks/cost.py                                   ResNet-18 of width 8, 32 x 32 pixels
python experiments/benchmarks/cost.py --model vit_micro --side 16

The last column is the memory of a step, arguments and temporaries as the compiler planned them, in MB. One-shot
methods take no step and are not listed; tests/training/test_cost.py checks their cost over a batch too, and requires an
agreement within 5 % for all methods.
"""

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import METHOD_CONFIGS, Attackers, Model, Training
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.cost import ImageFlops, image_flops
from ltu_jax.training.dispatch import compiled, numbers_as_arrays, take_step
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, Rows, Visible, make_state

CLASSES, BATCH = 5, 50
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in METHOD_CONFIGS},
    "paper, without MetaOpt": {"order": "none"},
    "paper, without ForFeed": {"forget": False},
    "paper, without RemFeed": {"remember": False},
}


def main() -> None:
    """Parses the arguments, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    args = parser.parse_args()

    shape = (args.side, args.side, 3)
    spec, key = build_model(Model(args.model, width=args.width), CLASSES, shape), jax.random.key(0)
    params, model_state = spec.init(key)
    image = image_flops(spec.apply_fn, params, model_state, shape, BATCH)
    parts = Parts(
        spec.apply_fn,
        CLASSES,
        init_params=spec.init,
        features=spec.features,
        bank=init_bank(key, Attackers().names, CLASSES),
        updates=params,
        training=Training(batch_size=BATCH),
    )
    state = make_state(spec.apply_fn, params, model_state, SGD, key)
    visible = Visible(*(_rows(key, count, shape) for count in (60, 180, 60)))
    print(f"{args.model}, {args.side} x {args.side}, batch {BATCH}; one image forward {image.forward / 1e6:.2f} MFLOP,")
    print(f"backward {image.backward / 1e6:.2f}. Of one step: images forward and backward, account / XLA's count, MB")
    for name, changes in VARIANTS.items():
        settings = METHOD_CONFIGS[name.partition(",")[0]]()
        if hasattr(settings, "batch_size"):
            changes = {**changes, "batch_size": BATCH}
        _print(name, build_method(dataclasses.replace(settings, **changes), parts), state, visible, image)


def _print(name: str, method: Any, state: Any, visible: Visible, image: ImageFlops) -> None:
    if not method.num_steps(visible):
        return
    started, context = jax.eval_shape(method.init, jax.random.key(0), state, visible)
    draw = jax.eval_shape(method.sample, jax.random.key(0), started.step, context, visible)
    program = compiled(take_step, numbers_as_arrays(method), started, context, draw)
    flops, memory, cost = program.cost_analysis()["flops"], program.memory_analysis(), method.cost(visible).step
    megabytes = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e6
    print(f"{name:22}{cost.forward:8.0f}{cost.backward:8.0f}{image.of(cost) / flops:10.3f}{megabytes:8.0f}", flush=True)


def _rows(key: jax.Array, count: int, shape: tuple[int, ...]) -> Rows:
    images = jax.random.randint(key, (count, *shape), 0, 256, jnp.uint8)
    return Rows(images, jax.random.randint(key, (count,), 0, CLASSES))


if __name__ == "__main__":
    main()
