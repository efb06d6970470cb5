"""Vision Transformer (Dosovitskiy et al. 2021): class token, learned positions, pre-norm, no dropout."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltu_jax.models import initializers

_norm = partial(nn.LayerNorm, epsilon=1e-6)
_dense = partial(nn.Dense, kernel_init=initializers.xavier_uniform)


class EncoderBlock(nn.Module):
    """Self-attention and a GELU MLP of four times the width, each behind a LayerNorm and a residual."""

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[B,tokens,D] -> f32[B,tokens,D]."""
        dim = x.shape[-1]
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads, kernel_init=initializers.xavier_uniform, name="attention"
        )
        x = x + attention(_norm(name="norm1")(x))
        y = nn.gelu(_dense(4 * dim, name="mlp1")(_norm(name="norm2")(x)), approximate=False)
        return x + _dense(dim, name="mlp2")(y)


class ViT(nn.Module):
    """The backbone; the features are the class token after the last LayerNorm.

    Attributes:
      dim: D, the width of a token.
      depth: encoder blocks.
      num_heads: attention heads; must divide ``dim``.
      patch_size: side of a patch in pixels; must divide height and width.
    """

    dim: int
    depth: int
    num_heads: int
    patch_size: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images f32[B,H,W,3] -> features f32[B,D]."""
        del train  # no dropout, no batch statistics
        side = (self.patch_size, self.patch_size)
        x = nn.Conv(self.dim, side, side, padding="VALID", kernel_init=initializers.lecun_normal, name="patches")(x)
        x = jnp.reshape(x, (x.shape[0], -1, self.dim))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.dim))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.dim)).astype(x.dtype), x], axis=1)
        x = x + self.param("positions", initializers.normal(0.02), (1, x.shape[1], self.dim))
        for block in range(self.depth):
            x = EncoderBlock(self.num_heads, name=f"block{block}")(x)
        return _norm(name="norm")(x[:, 0])
