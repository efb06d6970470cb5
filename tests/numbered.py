"""Data whose rows can be told apart: every pixel says which row it is of, and whoever reads a row is noted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Source, make_state

C = 4


def numbered_source(num_rows):
    """Row r has red ``r % 256`` and green ``r // 256`` everywhere, blue on its left half, and the label ``r % C``."""
    row = np.arange(num_rows)
    images = np.zeros((num_rows, 4, 4, 3), np.uint8)
    images[..., 0], images[..., 1] = (row % 256)[:, None, None], (row // 256)[:, None, None]
    images[:, :, :2, 2] = 255
    return Source("numbered", images, np.int32(row % C), row.astype(str), C, num_rows)


def numbers(images):
    """Which row each image is, i32[B]."""
    red, green = (jnp.round(255 * images[:, 0, 0, channel]).astype(jnp.int32) for channel in (0, 1))
    return red + 256 * green


def tells(params, model_state, images, train):
    """Logits that are no answers: which row, is it mirrored, in training mode, and a number of the model's own."""
    columns = [numbers(images).astype(jnp.float32), images[:, 0, -1, 2], jnp.full(len(images), float(train))]
    return jnp.stack([*columns, jnp.full(len(images), params["own"])], axis=1), model_state


def knows(params, model_state, images, train):
    """A model that is right on the rows where ``params["right"]`` is 1, and wrong on all others."""
    row = numbers(images)
    return jax.nn.one_hot((row + 1 - params["right"][row].astype(jnp.int32)) % C, C), model_state


def state_of(apply_fn, **params):
    return make_state(apply_fn, jax.tree.map(jnp.float32, params), {}, SGD, jax.random.key(0))


class _Watched(np.ndarray):
    def __getitem__(self, index):
        plain = np.asarray(self)
        self.seen.update(np.ravel(np.arange(len(plain))[index]).tolist())
        return plain[index]


def watched(source):
    """The source, and the set of rows whose images or labels are read of it from now on, by index or slice."""
    seen = set()

    def watch(array):
        watch = array.view(_Watched)
        watch.seen = seen
        return watch

    # Without a known hash, hashing the data would read all of it.
    parts = {name: watch(getattr(source, name)) for name in ("images", "labels")}
    return dataclasses.replace(source, **parts, pixels_sha256="known"), seen
