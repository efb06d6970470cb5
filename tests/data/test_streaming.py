"""Images on the host: what a step asks for is what it is given, and each step gets its own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.data.batches import gather
from ltu_jax.data.streaming import fetched, row_requests, separate, with_fetched
from ltu_jax.types import Rows, StoredImages

pytestmark = pytest.mark.smoke

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)
ROWS = np.arange(40, 10, -1)  # a subset, in an order of its own


def stored(rows=ROWS):
    return Rows(StoredImages(IMAGES, rows), jnp.arange(len(rows)))


def two_kinds(tree):
    """Asks twice, with indices of two shapes."""
    one = gather(tree["a"], jnp.array([3, 0, 3]))
    two = gather(tree["b"], jnp.array([[1, 2], [4, 4]]))
    return one.images.sum(axis=0), two


def test_stored_images_are_indexed_like_an_array():
    images = stored().images
    assert images.shape == (30, 4, 5, 3) and len(images) == 30 and images.dtype == np.uint8
    np.testing.assert_array_equal(images[:], IMAGES[ROWS])
    np.testing.assert_array_equal(images[jnp.array([[2, 0]])], IMAGES[[[38, 40]]])


def test_what_is_asked_for_is_written_down_and_what_is_answered_is_used():
    tree = {"a": stored(), "b": stored(ROWS[:7])}
    stand_ins, images = separate(tree)
    requests = row_requests(two_kinds, stand_ins)
    assert [stand_in.number for stand_in, _ in requests] == [0, 1]
    np.testing.assert_array_equal(requests[0][1], [3, 0, 3])
    blocks = [images[stand_in.number][index] for stand_in, index in requests]
    found = jax.jit(lambda blocks: with_fetched(two_kinds, stand_ins, blocks))([jnp.asarray(b) for b in blocks])
    on_device = jax.tree.map(jnp.asarray, {k: Rows(v.images[:], v.labels) for k, v in tree.items()})
    chex.assert_trees_all_close(found, two_kinds(on_device), rtol=1e-6)


def test_trees_without_stored_images_are_left_alone():
    tree = {"x": jnp.ones(3), "y": (jnp.int32(2),)}
    same, images = separate(tree)
    assert images == []
    chex.assert_trees_all_equal(same, tree)


def test_every_step_gets_its_own_rows_in_order_however_far_threads_run_ahead():
    (stand_in,), images = separate((stored().images,))
    index = jax.random.randint(jax.random.key(0), (37, 2, 3), 0, 30)
    blocks = list(fetched(((stand_in, index),), images, 37))
    assert len(blocks) == 37
    for step, (block,) in enumerate(blocks):
        np.testing.assert_array_equal(block, IMAGES[ROWS[np.asarray(index[step])]])


def test_an_error_while_reading_reaches_the_caller():
    (stand_in,), _ = separate((stored().images,))

    class Broken(StoredImages):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(fetched(((stand_in, jnp.zeros((2, 1), int)),), [Broken(IMAGES, ROWS)], 2))
