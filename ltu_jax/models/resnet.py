"""ResNet of basic blocks (He et al. 2016) with the stem for CIFAR or for ImageNet, with torchvision's semantics."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ltu_jax.models import initializers
from ltu_jax.models.families import Model

# Padding is given in numbers: at stride 2 XLA's "SAME" pads (0, 1), PyTorch (1, 1).
_conv3x3 = partial(
    nn.Conv,
    kernel_size=(3, 3),
    padding=1,
    use_bias=False,
    kernel_init=initializers.he_normal,
)
_conv7x7 = partial(_conv3x3, kernel_size=(7, 7), padding=3)
_conv1x1 = partial(_conv3x3, kernel_size=(1, 1), padding=0)
# Flax counts momentum from the other end: this is PyTorch's 0.1.
_norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    features: int
    stride: int
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B,H,W,.] -> [B,H/stride,W/stride,features]."""
        norm = partial(_norm, use_running_average=not train, dtype=self.dtype)
        conv3x3, conv1x1 = (partial(conv, self.features, dtype=self.dtype) for conv in (_conv3x3, _conv1x1))
        y = conv3x3(strides=self.stride, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = norm(name="bn2")(conv3x3(name="conv2")(y))
        if x.shape != y.shape:
            x = conv1x1(strides=self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The backbone; every stage after the first halves the image and doubles the channels.

    Attributes:
      stage_sizes: blocks in each stage.
      width: channels of the first stage; the features have ``width * 2 ** (stages - 1)``.
      dtype: what is computed in; None takes the type of images and parameters.
      stem: ``cifar``, a 3x3 convolution, or ``imagenet``, one of 7x7 and a pooling that quarter the image.
    """

    stage_sizes: tuple[int, ...]
    width: int
    dtype: DTypeLike | None = None
    stem: str = "cifar"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images f32[B,H,W,3] -> features [B,D]."""
        conv = partial(_conv7x7, strides=2) if self.stem == "imagenet" else _conv3x3
        x = conv(self.width, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(_norm(use_running_average=not train, dtype=self.dtype, name="bn1")(x))
        if self.stem == "imagenet":
            # Behind a ReLU a border of zeros is as good as one of minus infinity.
            x = nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (2, 2))
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                stride = 2 if stage > 0 and block == 0 else 1
                x = BasicBlock(self.width * 2**stage, stride, self.dtype, name=f"layer{stage + 1}_{block}")(x, train)
        return jnp.mean(x, axis=(1, 2))


def backbone(
    model: Model, stage_sizes: tuple[int, ...], image_shape: tuple[int, int, int], dtype: DTypeLike | None
) -> ResNet:
    """The ResNet that the settings ask for; of any image size."""
    del image_shape
    return ResNet(stage_sizes, model.width, dtype, model.stem)
