"""GA, gradient ascent: training in reverse on the forget rows (Thudi et al. 2022, as SalUn runs it)."""

from ltu_jax import config
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import begin, descend, label_loss
from ltu_jax.methods.streams import forget_stream
from ltu_jax.training.optimizers import OPTIMIZERS, ascending
from ltu_jax.types import Parts


def build(settings: config.GradientAscent, parts: Parts) -> Method:
    """GA: ``theta <- SGD(-CE)`` over the forget rows.

    The loss has no bound, so the rate is everything. As published, momentum stays on and weight decay
    goes on shrinking the weights, and BatchNorm's statistics drift to those of the forget rows. SalUn's
    1e-4 is for whole classes; its author advises 5e-4 to 1e-3 for random rows.

    Args:
      settings: see ``config.GradientAscent``.
      parts: the model and its augmentation.

    Returns:
      ``Method``.
    """
    stream, tx = forget_stream(settings), ascending(OPTIMIZERS[settings.optimizer])

    def init(key, state, visible):
        return begin(settings, state, key, stream.num_steps(visible), tx=tx)

    return Method(init, stream.batches(settings, parts), descend(label_loss), stream.num_steps, cost=stream.cost())
