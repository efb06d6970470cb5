"""Retrain, the gold model: from scratch on all rows that remain, by the original's recipe."""

import flax.struct
import jax

from ltu_jax.methods.base import MethodCost, SettingsMethod
from ltu_jax.training.cost import Cost
from ltu_jax.training.supervised import Supervised, TrainContext, init_training, num_train_steps, train_step
from ltu_jax.types import Batch, Metrics, UnlearnState, Visible


@flax.struct.dataclass
class Retrain(SettingsMethod):
    """Retrain as a method; epochs are kept, so fewer rows are fewer steps.

    Needs ``parts.init_params`` and ``parts.training``.
    """

    @property
    def sees_all(self) -> bool:
        """All remaining rows, whatever rho is."""
        return True

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, TrainContext]:
        """An untrained model: nothing of the original is kept."""
        del state
        assert self.parts.init_params is not None  # build
        params, model_state = self.parts.init_params(jax.random.fold_in(key, 0))
        num_rows, key = len(visible.remain.labels), jax.random.fold_in(key, 1)
        return init_training(self.parts.apply_fn, params, model_state, self.parts.training, num_rows, key)

    def sample(self, key: jax.Array, step: jax.Array, context: TrainContext, visible: Visible) -> Batch:
        """A batch of remaining rows."""
        algorithm = Supervised(self.parts.training.batch_size, self.parts.augment)
        return algorithm.sample(key, step, context, visible.remain)

    def step(self, state: UnlearnState, context: TrainContext, batch: Batch) -> tuple[UnlearnState, Metrics]:
        """A step of supervised training."""
        return train_step(state, context, batch)

    def num_steps(self, visible: Visible) -> int:
        """Those of the recipe."""
        return num_train_steps(self.parts.training, len(visible.remain.labels))

    def cost(self, visible: Visible) -> MethodCost:
        """Each image of a batch once."""
        size = min(self.parts.training.batch_size, len(visible.remain.labels))
        return MethodCost(Cost(), Cost(size, size, size))
