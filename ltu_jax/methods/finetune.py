"""FT, fine-tuning: training goes on, on remaining rows alone, in the hope that the rest fades."""

from ltu_jax import config
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import begin, descend, label_loss
from ltu_jax.methods.streams import remain_stream
from ltu_jax.types import Parts


def build(settings: config.Finetune, parts: Parts) -> Method:
    """FT: ``theta <- SGD(CE)`` over the remaining rows; no forget row is ever touched.

    Args:
      settings: see ``config.Finetune``.
      parts: the model and its augmentation.

    Returns:
      ``Method``.
    """
    stream = remain_stream(settings)

    def init(key, state, visible):
        return begin(settings, state, key, stream.num_steps(visible))

    return Method(init, stream.batches(settings, parts), descend(label_loss), stream.num_steps, cost=stream.cost())
