"""Partial Retrain: from scratch within a budget of flops; where does plain retraining catch up?"""

import dataclasses
import math

import flax.struct
import jax

from ltu_jax.methods.retrain import Retrain
from ltu_jax.training.cost import image_flops
from ltu_jax.training.supervised import TrainContext
from ltu_jax.types import UnlearnState, Visible


@flax.struct.dataclass
class PartialRetrain(Retrain):
    """Retrain with as many epochs as ``flops`` buys; warm-up and milestones shrink with them.

    It sees all remaining rows, whatever rho is, as Retrain does, and needs the same parts.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, TrainContext]:
        """Retrain's, with the shorter recipe."""
        return self.affordable(visible).init(key, state, visible)

    def num_steps(self, visible: Visible) -> int:
        """As many as the budget buys, at most those of the recipe."""
        return self.affordable(visible).num_steps(visible)

    def affordable(self, visible: Visible) -> Retrain:
        """Retrain with the recipe squeezed into the budget.

        Raises:
          ValueError: if the backend cannot count flops.
        """
        training, init_params, num_rows = self.parts.training, self.parts.init_params, len(visible.remain.labels)
        assert init_params is not None  # build
        batch_size = min(training.batch_size, num_rows)
        params, model_state = jax.eval_shape(init_params, jax.random.key(0))
        image_shape = tuple(visible.remain.images.shape[1:])
        image = image_flops(self.parts.apply_fn, params, model_state, image_shape, batch_size)
        per_step = batch_size * (image.forward + image.backward)
        if not math.isfinite(per_step):
            raise ValueError("partial_retrain: flops cannot be counted here; allowed: a backend whose compiler counts")
        num_steps = max(1, int(self.settings.flops / per_step))
        part = min(1.0, num_steps * batch_size / num_rows / training.epochs)
        shorter = dataclasses.replace(
            training,
            epochs=part * training.epochs,
            warmup_epochs=part * training.warmup_epochs,
            milestones=tuple(part * m for m in training.milestones),
        )
        return Retrain(self.settings, dataclasses.replace(self.parts, training=shorter))
