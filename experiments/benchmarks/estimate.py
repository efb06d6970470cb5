"""What the paper's largest problem would need, by arithmetic: ViT-B/16, ImageNet-1k at 224 pixels, 10 % to forget.

python experiments/benchmarks/estimate.py
python experiments/benchmarks/estimate.py --device_flops 312e12 --devices 64 --batch 1024

Nothing is run: the model is traced for its shapes and flops. Assumptions, which are printed: the share of the devices'
peak rate that a step reaches; a float32 master copy of the weights with momentum; activations as in XLA's float32 plan
of a plain step, halved for bfloat16; the factors of our LTU step, measured on a ResNet with ``step.py`` (29/3 plain
gradients of a batch and 5.3 plain steps of activations; 11.3 and 2.2 with save_memory).
"""

import argparse

import jax
import jax.numpy as jnp

from ltu_jax.config import Model
from ltu_jax.models.build import build_model
from ltu_jax.training.cost import image_flops

TRAIN, CLASSES, SIDE, PATCH = 1_281_167, 1000, 224, 16
STEP_COST, SAVING_COST, STEP_MEMORY, SAVING_MEMORY = 29 / 3, 11.3, 5.3, 2.2


def main() -> None:
    """Parses the arguments, computes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base")
    parser.add_argument("--batch", type=int, default=1024, help="forget images a step, of all devices")
    parser.add_argument("--retrain_epochs", type=int, default=300)
    parser.add_argument("--ltu_epochs", type=float, default=7.0)
    parser.add_argument("--rho", type=float, default=0.3)
    parser.add_argument("--forget", type=float, default=0.1)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--device_flops", type=float, default=989e12, help="peak a second in bfloat16; default: H100")
    parser.add_argument("--share", type=float, default=0.4, help="of that peak which a step reaches")
    args = parser.parse_args()

    spec = build_model(Model(args.model, patch_size=PATCH, dtype="bfloat16"), CLASSES, (SIDE, SIDE, 3))
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    size = sum(x.size for x in jax.tree.leaves(params))
    image = image_flops(spec.apply_fn, params, model_state, (SIDE, SIDE, 3), 8)
    gradient = image.forward + image.backward
    per_device = args.batch / args.devices
    num_forget, num_remain = args.forget * TRAIN, (1 - args.forget) * TRAIN
    rate = args.device_flops * args.share * args.devices
    images = SIDE * SIDE * 3

    features = image.forward * (num_forget + args.rho * num_remain)
    ltu = features + args.ltu_epochs * num_forget * STEP_COST * gradient
    retrain = args.retrain_epochs * num_remain * gradient
    activations = _activations(spec, params, model_state) * per_device
    a_second = 4 * images * rate / (STEP_COST * gradient)
    neighbours = 2 * num_forget * args.rho * num_remain * _width(spec, params, model_state)
    different = (num_forget + args.rho * num_remain) * images
    lines = {
        "parameters": f"{size / 1e6:.1f} million",
        "flops of a gradient, one image": f"{gradient / 1e9:.1f} G",
        f"Retrain, {args.retrain_epochs} epochs": f"{retrain:.3g} flops, {retrain / rate / 3600:.1f} h",
        f"LTU, {args.ltu_epochs:g} epochs over D_f": f"{ltu:.3g} flops, {ltu / rate / 3600:.2f} h",
        "  of them features, once": f"{features:.3g} flops",
        "  with save_memory": f"{(ltu - features) * SAVING_COST / STEP_COST + features:.3g} flops",
        "Retrain / LTU": f"{retrain / ltu:.1f}",
        "different images that LTU reads": f"{different / 1e9:.1f} GB as uint8 pixels",
        "  a step, over all devices": f"{4 * args.batch * images / 1e6:.0f} MB",
        "  a second, while it runs": f"{a_second / 1e9:.2f} GB",
        "weights, momentum and gradients": f"{(2 + 4) * 4 * size / 1e9:.1f} GB a device",
        f"activations of a plain step, {per_device:g} images": f"{activations / 1e9:.1f} GB a device",
        "  of an LTU step": f"{STEP_MEMORY * activations / 1e9:.1f} GB a device",
        "  of one with save_memory": f"{SAVING_MEMORY * activations / 1e9:.1f} GB a device",
        "neighbours (z1)": f"{neighbours:.3g} flops, once",
    }
    print(f"{args.model}/{PATCH} at {SIDE} pixels, {CLASSES} classes, {TRAIN:,} images, rho {args.rho:g}")
    print(
        f"assumed: {args.devices} devices of {args.device_flops:.3g} flops a second, of which {args.share:.0%} reached"
    )
    for name, value in lines.items():
        print(f"{name:48}{value}")


def _activations(spec, params, model_state) -> float:
    """Bytes that a gradient keeps for its backward pass (the residuals of ``jax.vjp``), for one image in bfloat16."""

    def loss(params, images):
        return spec.apply_fn(params, model_state, images, train=True)[0].sum()

    count = 2
    images = jax.ShapeDtypeStruct((count, SIDE, SIDE, 3), jnp.float32)
    residuals = jax.eval_shape(lambda params, images: jax.vjp(loss, params, images)[1], params, images)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals))
    weights = sum(x.size * 2 for x in jax.tree.leaves(params))  # the bfloat16 copies among them
    return max(held - weights, 0) / count


def _width(spec, params, model_state) -> int:
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(spec.features, params, model_state, images).shape[-1]


if __name__ == "__main__":
    main()
