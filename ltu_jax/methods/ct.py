"""CT: every convolution kernel is transposed in space, then fine-tuning (kgltop5 of the NeurIPS 2023 challenge)."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.methods.convolutions import on_kernels
from ltu_jax.methods.descent import Context
from ltu_jax.methods.finetune import Finetune
from ltu_jax.types import UnlearnState, Visible


@flax.struct.dataclass
class CT(Finetune):
    """CT: ``W[h, w] <- W[w, h]``, then FT; no forget row is ever touched.

    In a network of square kernels and equal strides, and with pooling over the whole image, this is the original
    seeing each image transposed. Kernels that are not square stay.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """FT's, of the transposed model."""
        params = on_kernels(self.settings.name, _transposed, state.params)
        return super().init(key, state.replace(params=params), visible)


def _transposed(kernel: jax.Array) -> jax.Array:
    return jnp.swapaxes(kernel, 0, 1) if kernel.shape[0] == kernel.shape[1] else kernel
