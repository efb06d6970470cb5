"""Amnesiac unlearning: takes back what training did at batches with forget rows (Graves et al. 2021)."""

import optax

from ltu_jax import config
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import begin, descend, label_loss
from ltu_jax.methods.streams import remain_stream
from ltu_jax.types import Parts


def build(settings: config.Amnesiac, parts: Parts) -> Method:
    """Amnesiac: ``theta <- theta - sum of the recorded updates``, then optionally FT to heal.

    The trainer recorded them for a forget set that was known before training: this is no answer to a
    request that comes later. At random rows nearly every batch holds one of them, so that without a
    limit all of training is taken back: ``recorded_epochs`` limits it to the last epochs. Parameters
    alone are taken back, not BatchNorm's statistics, as in the public code. What other repositories call
    amnesiac is training on random labels: the preset ``amnesiac_relabel``, see ``random_label``.

    Args:
      settings: see ``config.Amnesiac``.
      parts: needs ``updates``.

    Returns:
      ``Method``.

    Raises:
      ValueError: if ``updates`` is missing.
    """
    updates = parts.updates
    if updates is None:
        raise ValueError("amnesiac: parts.updates is missing; allowed: an original trained with its updates recorded")
    stream = remain_stream(settings)

    def num_steps(visible):
        return stream.num_steps(visible) if settings.epochs else 0

    def init(key, state, visible):
        state = state.replace(params=optax.tree.sub(state.params, updates))
        return begin(settings, state, key, num_steps(visible))

    return Method(init, stream.batches(settings, parts), descend(label_loss), num_steps, cost=stream.cost())
