"""Vision Transformer (Dosovitskiy et al. 2021): class token, learned positions, pre-norm, no dropout."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ltu_jax.models import initializers
from ltu_jax.models.families import Model
from ltu_jax.setting import ConfigError

_norm = partial(nn.LayerNorm, epsilon=1e-6)
_dense = partial(nn.Dense, kernel_init=initializers.xavier_uniform)


class EncoderBlock(nn.Module):
    """Self-attention and a GELU MLP of four times the width, each behind a LayerNorm and a residual."""

    num_heads: int
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,tokens,D] -> [B,tokens,D]."""
        dim, norm, dense = x.shape[-1], partial(_norm, dtype=self.dtype), partial(_dense, dtype=self.dtype)
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads, kernel_init=initializers.xavier_uniform, dtype=self.dtype, name="attention"
        )
        x = x + attention(norm(name="norm1")(x))  # pyrefly: ignore[unsupported-operation]
        y = nn.gelu(dense(4 * dim, name="mlp1")(norm(name="norm2")(x)), approximate=False)
        return x + dense(dim, name="mlp2")(y)


class ViT(nn.Module):
    """The backbone; the features are the class token after the last LayerNorm.

    Attributes:
      dim: D, the width of a token.
      depth: encoder blocks.
      num_heads: attention heads; must divide ``dim``.
      patch_size: side of a patch in pixels; must divide height and width.
      dtype: what is computed in; None takes the type of images and parameters.
    """

    dim: int
    depth: int
    num_heads: int
    patch_size: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images f32[B,H,W,3] -> features [B,D]."""
        del train  # no dropout, no batch statistics
        side, kernel_init = (self.patch_size, self.patch_size), initializers.lecun_normal
        patches = nn.Conv(
            self.dim, side, side, padding="VALID", kernel_init=kernel_init, dtype=self.dtype, name="patches"
        )
        x = jnp.reshape(patches(x), (x.shape[0], -1, self.dim))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.dim))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.dim)).astype(x.dtype), x], axis=1)
        x = x + self.param("positions", initializers.normal(0.02), (1, x.shape[1], self.dim)).astype(x.dtype)
        for block in range(self.depth):
            x = EncoderBlock(self.num_heads, self.dtype, name=f"block{block}")(x)
        return _norm(dtype=self.dtype, name="norm")(x[:, 0])


def backbone(model: Model, sizes: tuple[int, ...], image_shape: tuple[int, int, int], dtype: DTypeLike | None) -> ViT:
    """The ViT that the settings ask for.

    Raises:
      ConfigError: if its patches do not fill the image.
    """
    height, width, _ = image_shape
    sides = [p for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
    if model.patch_size not in sides:
        raise ConfigError(
            f"config.model.patch_size: {model.patch_size} does not divide the image size {height}x{width};"
            f" allowed: {', '.join(map(str, sides))}"
        )
    return ViT(*sizes, patch_size=model.patch_size, dtype=dtype)
