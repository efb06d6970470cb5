"""Training augmentation, inside jit."""

import chex
import jax
import jax.numpy as jnp

AUGMENTATIONS = ("none", "flip", "crop_flip")


def augment(key: jax.Array, images: jax.Array, kind: str) -> jax.Array:
    """Random horizontal flips, and random crops of the zero-padded image (by an eighth, 4 pixels of 32).

    Args:
      key: PRNG key.
      images: f32[B, H, W, 3].
      kind: ``"none"``, ``"flip"`` or ``"crop_flip"``.

    Returns:
      f32[B, H, W, 3].

    Raises:
      ValueError: for an unknown kind.
    """
    chex.assert_rank(images, 4)
    if kind not in AUGMENTATIONS:
        raise ValueError(f"augment: {kind!r} is unknown; allowed: {', '.join(AUGMENTATIONS)}")
    if kind == "none":
        return images
    flip_key, crop_key = jax.random.split(key)
    flip = jax.random.bernoulli(flip_key, shape=(images.shape[0], 1, 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    return _crop(crop_key, images) if kind == "crop_flip" else images


def _crop(key: jax.Array, images: jax.Array) -> jax.Array:
    batch, height, width, _ = images.shape
    pad_h, pad_w = height // 8, width // 8
    padded = jnp.pad(images, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, jnp.array([2 * pad_h + 1, 2 * pad_w + 1])[None])
    cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (height, width, 3))  # noqa: E731
    return jax.vmap(cut)(padded, corners)
