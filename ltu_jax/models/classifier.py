"""What every model shares: normalisation before the backbone, a linear head behind it.

The backbone's output is F of Eq. 8, the penultimate features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltu_jax.config import CIFAR10_MEAN, CIFAR10_STD
from ltu_jax.models import initializers


class Classifier(nn.Module):
    """A backbone ``(images, train) -> f32[B,D]`` between a fixed normalisation and a linear head.

    Attributes:
      backbone: the module that makes the features.
      num_classes: C.
      mean: mean of each channel of the images, in [0,1].
      std: standard deviation of each channel.
    """

    backbone: nn.Module
    num_classes: int
    mean: tuple[float, ...] = CIFAR10_MEAN
    std: tuple[float, ...] = CIFAR10_STD

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits and features.

        Args:
          images: f32[B,H,W,3] in [0,1].
          train: a Python bool; whether BatchNorm uses and records the statistics of the batch.

        Returns:
          ``(logits f32[B,C], features f32[B,D])``.
        """
        mean, std = (jnp.reshape(jnp.array(x, images.dtype), (1, 1, 1, -1)) for x in (self.mean, self.std))
        features = self.backbone((images - mean) / std, train)
        torch_linear = initializers.uniform(features.shape[-1] ** -0.5)
        head = nn.Dense(self.num_classes, kernel_init=torch_linear, bias_init=torch_linear, name="head")
        return head(features).astype(jnp.float32), features.astype(jnp.float32)
