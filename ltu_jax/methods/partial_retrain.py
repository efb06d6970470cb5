"""Partial Retrain: from scratch, stopped at a budget; where does plain retraining catch up?"""

import dataclasses
import functools
import math

import jax

from ltu_jax import config
from ltu_jax.methods import retrain
from ltu_jax.methods.base import Method
from ltu_jax.training.cost import image_flops
from ltu_jax.types import Parts


def build(settings: config.PartialRetrain, parts: Parts) -> Method:
    """Retrain with as many epochs as ``flops`` buys; warm-up and milestones shrink with them.

    It sees all remaining rows, whatever rho is, as Retrain does.

    Args:
      settings: see ``config.PartialRetrain``.
      parts: needs ``init_params`` and ``training``.

    Returns:
      ``Method``.

    Raises:
      ValueError: if a part is missing.
    """
    init_params, training = parts.init_params, parts.training
    if init_params is None or training is None:
        raise ValueError("partial_retrain: parts.init_params and parts.training are needed; allowed: a model to make")

    @functools.lru_cache(maxsize=8)
    def whole(num_rows: int, image_shape: tuple[int, ...]) -> Method:
        batch_size = min(training.batch_size, num_rows)
        params, model_state = jax.eval_shape(init_params, jax.random.key(0))
        image = image_flops(parts.apply_fn, params, model_state, image_shape, batch_size)
        per_step = batch_size * (image.forward + image.backward)
        if not math.isfinite(per_step):
            raise ValueError("partial_retrain: flops cannot be counted here; allowed: a backend whose compiler counts")
        num_steps = max(1, int(settings.flops / per_step))
        part = min(1.0, num_steps * batch_size / num_rows / training.epochs)
        shorter = dataclasses.replace(
            training,
            epochs=part * training.epochs,
            warmup_epochs=part * training.warmup_epochs,
            milestones=tuple(part * m for m in training.milestones),
        )
        return retrain.build(config.Retrain(), dataclasses.replace(parts, training=shorter))

    def of(visible):
        return whole(len(visible.remain.labels), tuple(visible.remain.images.shape[1:]))

    def init(key, state, visible):
        return of(visible).init(key, state, visible)

    def num_steps(visible):
        return of(visible).num_steps(visible)

    return retrain.build(config.Retrain(), parts)._replace(init=init, num_steps=num_steps)
