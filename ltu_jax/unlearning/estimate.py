"""What a run would cost, without training anything: ``--dry_run``."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import Config, needs
from ltu_jax.methods import build_method
from ltu_jax.methods.registry import BUILT_IN
from ltu_jax.models.build import ModelSpec
from ltu_jax.training.checkpoint import KEPT
from ltu_jax.training.cost import image_flops
from ltu_jax.training.optimizers import OPTIMIZERS, SGD
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.training.supervised import num_train_steps
from ltu_jax.types import ArrayTree, Parts, Rows, Visible, make_state
from ltu_jax.unlearning.loop import MOST_HELD_OUT
from ltu_jax.unlearning.problem import Loaded


def estimate(config: Config, loaded: Loaded) -> dict[str, Any]:
    """Shapes, steps, flops and memory of a run, from ``jax.eval_shape`` alone.

    Flops are XLA's count of one image's passes times the method's own account of passes.

    Args:
      config: resolved settings.
      loaded: data, splits and model.

    Returns:
      JSON-ready: ``rows``, ``shapes`` (of the images, the logits and what a step of the method draws),
      ``parameters``, ``steps``, ``flops`` of each part of the run, ``disk_bytes`` that it writes at most,
      ``held_bytes`` of what the device holds all the time (activations come on top).
    """
    source, splits, spec, _ = loaded
    image_shape = source.images.shape[1:]
    key = jax.random.key(0)

    def rows(count: int) -> Rows:
        return Rows(_shape((count, *image_shape), jnp.uint8), _shape((count,), jnp.int32))

    params, model_state = jax.eval_shape(spec.init, key)
    state = jax.eval_shape(lambda p, s: make_state(spec.apply_fn, p, s, SGD, key), params, model_state)
    method = build_method(
        config.method,
        Parts(
            apply_fn=spec.apply_fn,
            num_classes=source.num_classes,
            init_params=spec.init,
            features=spec.features,
            bank=jax.eval_shape(lambda: init_bank(key, config.attackers.names, source.num_classes)),
            updates=jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), params),  # takes no memory
            training=config.training,
            augment=config.data.augment,
        ),
    )
    num_remain = len(splits.remain if method.sees_all else splits.visible)
    held_out = rows(min(len(splits.reserve), MOST_HELD_OUT)) if method.sees_held_out else None
    visible = Visible(rows(len(splits.forget)), rows(num_remain), held_out)
    begun, context = jax.eval_shape(method.init, key, state, visible)
    steps = {"unlearning": method.num_steps(visible)}
    draw = jax.eval_shape(method.sample, key, begun.step, context, visible) if steps["unlearning"] else ()

    size = min(config.training.batch_size, len(splits.train))
    image = image_flops(spec.apply_fn, params, model_state, image_shape, size)
    plain = size * (image.forward + image.backward)
    steps |= {
        "original": num_train_steps(config.training, len(splits.train)) if config.weights is None else 0,
        "retrain": config.evaluation.num_retrain * num_train_steps(config.training, len(splits.remain)),
        "shadows": config.attackers.num_shadows * num_train_steps(config.training, len(splits.reserve) // 2),
    }
    if "bank" not in needs(config.method) or config.attackers.fitted_on == "original":
        steps["shadows"] = 0
    flops: dict[str, float | None] = {name: plain * count for name, count in steps.items()}
    flops["unlearning"] = image.of(method.cost(visible).of(steps["unlearning"])) if method.cost else None
    flops["train_step"] = plain
    images = _shape((size, *image_shape), jnp.float32)
    logits, _ = jax.eval_shape(lambda *args: spec.apply_fn(*args, train=False), params, model_state, images)
    on_device = [rows.labels for rows in visible if rows] if source.streamed else visible
    held = {"visible": on_device, "state": begun, "context": context, "draw": draw}
    sizes = {name: len(getattr(splits, name)) for name in ("forget", "remain", "validation", "test", "reserve")}
    return {
        "rows": sizes | {"visible_remain": num_remain},
        "shapes": {
            "images": list(source.images.shape),
            "logits": list(logits.shape),
            "draw": _shapes(draw),
        },
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "steps": steps,
        "flops": flops,
        "disk_bytes": disk_bytes(config, spec),
        "held_bytes": {name: _bytes(tree) for name, tree in held.items()},
    }


def request_seconds(config: Config, loaded: Loaded, num_unseen: int) -> dict[str, float]:
    """Roughly what a request takes on this machine, by its own method and by all others that need nothing more.

    A forward pass is timed, and all else counted in its flops: the trials, their looks, the evidence. Compiling comes
    on top, half a minute to two on a CPU.

    Args:
      config: resolved settings of the request.
      loaded: data, splits and model.
      num_unseen: remaining rows that a look scores beside the rho subset.

    Returns:
      Seconds by the name of the method, its own first, then the cheapest. A method that states no cost is left out,
      and so is one that needs attackers.
    """
    source, splits, spec, weights = loaded
    params, model_state = spec.init(jax.random.key(0))
    if weights is not None:
        model_state = dict(weights)
        params = model_state.pop("params")
    forward, size = EvalForward(spec.apply_fn), config.evaluation.batch_size
    images = source.rows(splits.train[:size]).images
    for _ in range(2):  # the first compiles
        began = time.perf_counter()
        jax.block_until_ready(predict(forward, params, model_state, images, batch_size=size))
        took = time.perf_counter() - began
    image = image_flops(spec.apply_fn, params, model_state, source.images.shape[1:], min(size, len(splits.train)))
    per_flop = took / (min(size, len(splits.train)) * image.forward)

    def rows(index: np.ndarray) -> Rows:
        return Rows(_shape((len(index), *source.images.shape[1:]), jnp.uint8), _shape((len(index),), jnp.int32))

    visible = Visible(*(rows(index) for index in (splits.forget, splits.visible, splits.reserve[:MOST_HELD_OUT])))
    parts = Parts(spec.apply_fn, source.num_classes, spec.init, spec.features, augment=config.data.augment)
    others = {name: one.settings() for name, one in BUILT_IN.items()}
    others = {name: one for name, one in others.items() if hasattr(one, "learning_rate")}
    scored = len(splits.forget) + len(splits.visible) + num_unseen + len(splits.validation)
    passes = 2 * (len(splits.forget) + len(splits.test) + len(splits.remain))
    trials = max(1, config.calibration.trials)
    passes += trials * config.calibration.evaluations * scored
    found = {}
    for name, settings in {**others, config.method.name: config.method}.items():
        if not needs(settings) <= {"init_params"}:
            continue
        method = build_method(settings, parts)
        if method.cost is not None:
            flops = trials * image.of(method.cost(visible).of(method.num_steps(visible))) + passes * image.forward
            found[name] = round(per_flop * flops, 1)
    return dict(sorted(found.items(), key=lambda item: (item[0] != config.method.name, item[1])))


def disk_bytes(config: Config, spec: ModelSpec) -> dict[str, int]:
    """What a run writes at most, in bytes: ``workdir``, and ``cache``, compiled programs on top of it.

    Args:
      config: resolved settings.
      spec: the model.
    """
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    model = _bytes(params) + _bytes(model_state)
    optimizer = OPTIMIZERS[getattr(config.method, "optimizer", "sgd")]
    trains, unlearns = (model + _bytes(jax.eval_shape(tx.init, params)) for tx in (SGD, optimizer))
    trained = 1 + config.evaluation.num_retrain + config.attackers.num_shadows
    kept = KEPT + 1  # the next one is written before the oldest goes
    return {
        "workdir": kept * unlearns * (2 if config.eval_every else 1) + 2 * model,
        "cache": trained * model + kept * trains,
    }


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _shapes(tree: ArrayTree) -> dict[str, list[int]]:
    return {jax.tree_util.keystr(path): list(x.shape) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _bytes(tree: ArrayTree) -> int:
    leaves = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in leaves)
