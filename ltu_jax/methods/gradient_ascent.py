"""GA, gradient ascent: training in reverse on the forget rows (Thudi et al. 2022, as SalUn runs it)."""

import flax.struct
import optax

from ltu_jax.methods.descent import DescentMethod
from ltu_jax.methods.streams import Stream, forget_stream
from ltu_jax.training.optimizers import ASCENDING


@flax.struct.dataclass
class GradientAscent(DescentMethod):
    """GA: ``theta <- SGD(-CE)`` over the forget rows.

    The loss has no bound, so the rate is everything. As published, momentum stays on and weight decay
    goes on shrinking the weights, and BatchNorm's statistics drift to those of the forget rows. SalUn's
    1e-4 is for whole classes; its author advises 5e-4 to 1e-3 for random rows.
    """

    @property
    def stream(self) -> Stream:
        """Forget rows alone."""
        return forget_stream(self.settings)

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer, up the gradient."""
        return ASCENDING[self.settings.optimizer]
