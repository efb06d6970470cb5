"""Which rows a step sees: every epoch holds each row once, whatever the batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.data.augment import augment
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.types import Batch, Rows

NUM_ROWS, NUM_EPOCHS = 12, 5


def stream(batch_size, key=0):
    """The rows of the first five epochs, in the order in which steps see them."""
    rows = jax.jit(lambda key, step: epoch_rows(key, step, NUM_ROWS, batch_size))
    num_steps = -(-NUM_ROWS * NUM_EPOCHS // batch_size)
    drawn = np.concatenate([rows(jax.random.key(key), jnp.int32(t)) for t in range(num_steps)])
    return drawn[: NUM_ROWS * NUM_EPOCHS]


@pytest.mark.parametrize("batch_size", [1, 5, 7, 11, 12])
def test_every_epoch_holds_each_row_once_however_batches_straddle(batch_size):
    epochs = stream(batch_size).reshape(NUM_EPOCHS, NUM_ROWS)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(NUM_ROWS), (NUM_EPOCHS, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == NUM_EPOCHS  # shuffled anew


@pytest.mark.parametrize("batch_size", [1, 5, 11, 12])
def test_the_stream_does_not_depend_on_the_batch_size(batch_size):
    np.testing.assert_array_equal(stream(batch_size), stream(7))


def test_another_key_is_another_stream():
    assert not np.array_equal(stream(5, key=0), stream(5, key=1))


def test_a_batch_larger_than_the_data_is_one_epoch():
    rows = epoch_rows(jax.random.key(0), jnp.int32(3), NUM_ROWS, 100)
    assert rows.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(rows), np.arange(NUM_ROWS))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_gather_takes_rows_as_floats_of_the_bytes_over_255(shape):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 4, 5, 3), np.uint8), rng.integers(0, 6, 9).astype(np.int32)
    index = rng.integers(0, 9, shape)
    batch = gather(Rows(jnp.asarray(images), jnp.asarray(labels)), jnp.asarray(index))
    assert batch.images.dtype == jnp.float32
    np.testing.assert_allclose(batch.images, images[index].astype(np.float64) / 255, rtol=1e-6)
    np.testing.assert_array_equal(batch.labels, labels[index])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_gather_takes_rows_that_are_no_bytes_as_they_are(dtype, shape):
    features = np.random.default_rng(0).normal(100, 50, (9, 5)).astype(dtype)
    index = np.random.default_rng(1).integers(0, 9, shape)
    batch = gather(Rows(jnp.asarray(features), jnp.arange(9)), jnp.asarray(index))
    assert batch.images.dtype == dtype
    np.testing.assert_array_equal(batch.images, features[index])


def test_labels_stay_with_their_images_under_augmentation():
    labels = jnp.arange(20)
    batch = Batch(jnp.broadcast_to((labels[:, None, None, None] + 1) / 20, (20, 8, 8, 3)), labels)
    out = augmented(jax.random.key(0), batch, "crop_flip")
    np.testing.assert_allclose(out.images.max(axis=(1, 2, 3)), (out.labels + 1) / 20, rtol=1e-6)
    np.testing.assert_array_equal(out.images, augment(jax.random.key(0), batch.images, "crop_flip"))
    assert np.any(out.images == 0)  # the padding: something was cropped
