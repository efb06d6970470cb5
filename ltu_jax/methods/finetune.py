"""FT, fine-tuning: training goes on with the remaining rows alone, so that the rest fades."""

import flax.struct

from ltu_jax.methods.descent import DescentMethod
from ltu_jax.methods.streams import Stream, remain_stream


@flax.struct.dataclass
class Finetune(DescentMethod):
    """FT: ``theta <- SGD(CE)`` over the remaining rows; no forget row is ever touched."""

    @property
    def stream(self) -> Stream:
        """Remaining rows alone."""
        return remain_stream(self.settings)
