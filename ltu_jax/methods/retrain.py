"""Retrain, the gold model: from scratch on all rows that remain, by the original's recipe."""

import jax

from ltu_jax import config
from ltu_jax.methods.base import Method, MethodCost
from ltu_jax.training.cost import Cost
from ltu_jax.training.supervised import TrainContext, init_training, make_sample, num_train_steps, train_step
from ltu_jax.types import Parts, UnlearnState, Visible


def build(settings: config.Retrain, parts: Parts) -> Method:
    """Retrain as a method; epochs are kept, so fewer rows are fewer steps.

    Args:
      settings: no settings but the name.
      parts: needs ``init_params`` and ``training``.

    Returns:
      ``Method``.

    Raises:
      ValueError: if a part is missing.
    """
    del settings
    init_params, training = parts.init_params, parts.training
    if init_params is None or training is None:
        raise ValueError("retrain: parts.init_params and parts.training are needed; allowed: a model that can be made")
    sample_rows = make_sample(training.batch_size, parts.augment)

    def init(key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, TrainContext]:
        del state  # nothing of the original is kept
        params, model_state = init_params(jax.random.fold_in(key, 0))
        num_rows = len(visible.remain.labels)
        key = jax.random.fold_in(key, 1)
        return init_training(parts.apply_fn, params, model_state, training, num_rows, key)

    def sample(key, step, context, visible):
        return sample_rows(key, step, context, visible.remain)

    def cost(visible: Visible) -> MethodCost:
        size = min(training.batch_size, len(visible.remain.labels))
        return MethodCost(Cost(), Cost(size, size, size))

    def num_steps(visible: Visible) -> int:
        return num_train_steps(training, len(visible.remain.labels))

    return Method(init, sample, train_step, num_steps, sees_all=True, cost=cost)
