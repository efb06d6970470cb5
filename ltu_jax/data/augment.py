"""Training augmentation, inside jit."""

import math

import jax
import jax.numpy as jnp

AUGMENTATIONS = ("none", "flip", "crop_flip")


def augment(key: jax.Array, images: jax.Array, kind: str) -> jax.Array:
    """Random horizontal flips, and random crops of the zero-padded image (by an eighth, 4 pixels of 32).

    Args:
      key: PRNG key.
      images: f32[..., H, W, 3]; several leading axes get the same draws as one flattened batch axis.
      kind: ``"none"``, ``"flip"`` or ``"crop_flip"``.

    Returns:
      f32[..., H, W, 3].

    Raises:
      ValueError: for an unknown kind.
    """
    if kind not in AUGMENTATIONS:
        raise ValueError(f"augment: {kind!r} is unknown; allowed: {', '.join(AUGMENTATIONS)}")
    if kind == "none":
        return images
    flip_key, crop_key = jax.random.split(key)
    leading = images.shape[:-3]
    flip = jax.random.bernoulli(flip_key, shape=(math.prod(leading),)).reshape(*leading, 1, 1, 1)
    images = jnp.where(flip, images[..., ::-1, :], images)
    return _crop(crop_key, images) if kind == "crop_flip" else images


def _crop(key: jax.Array, images: jax.Array) -> jax.Array:
    *leading, height, width, _ = images.shape
    pad_h, pad_w = height // 8, width // 8
    padded = jnp.pad(images, [(0, 0)] * len(leading) + [(pad_h, pad_h), (pad_w, pad_w), (0, 0)])
    corners = jax.random.randint(key, (math.prod(leading), 2), 0, jnp.array([2 * pad_h + 1, 2 * pad_w + 1])[None])
    cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (height, width, 3))  # noqa: E731
    for _ in leading:
        cut = jax.vmap(cut)
    return cut(padded, corners.reshape(*leading, 2))
