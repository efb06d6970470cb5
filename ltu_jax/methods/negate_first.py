"""NoT: the first convolution's kernel changes its sign, then fine-tuning (Khalil et al. 2025)."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.methods.convolutions import on_kernels
from ltu_jax.methods.descent import Context
from ltu_jax.methods.finetune import Finetune
from ltu_jax.types import UnlearnState, Visible


@flax.struct.dataclass
class NegateFirst(Finetune):
    """NoT: ``W <- -W`` of the convolution that the image enters, then FT; no forget row is ever touched.

    It is the one with three input channels, a ViT's patches included. Biases and BatchNorm stay; the running mean
    behind it is wrong until FT has renewed it, which training mode does not notice.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """FT's, of the negated model."""
        params = on_kernels(self.settings.name, jnp.negative, state.params, channels=3)
        return super().init(key, state.replace(params=params), visible)
