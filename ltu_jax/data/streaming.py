"""Streams images from the host: computes which rows a step will draw, and fetches them ahead of it.

A method draws its rows inside jit, by indexing images as if they were an array. To stream them, the same
function is traced twice: first with stand-ins that record the indices, which gives a small program that
computes only indices; then with the blocks fetched for these indices. So every method can be streamed
with the same draws, without changes to the method.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.devices import batch_sharding, read_sharded
from ltu_jax.types import ArrayTree, StoredImages

THREADS, STEPS_AHEAD = 4, 4


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class StandIn:
    """Replaces ``StoredImages`` in a tree of arrays."""

    number: int  # index into the list of replaced images
    shape: tuple[int, ...]  # (M, H, W, 3)


def separate(tree: ArrayTree) -> tuple[ArrayTree, list[StoredImages]]:
    """The tree with a ``StandIn`` for each ``StoredImages``, and the list of images replaced."""
    stored: list[StoredImages] = []

    def replaced(leaf: Any) -> Any:
        if not isinstance(leaf, StoredImages):
            return leaf
        stored.append(leaf)
        return StandIn(len(stored) - 1, leaf.shape)

    return jax.tree.map(replaced, tree), stored


RowRequests = tuple[tuple[StandIn, jax.Array], ...]
"""Which images are read at which index i32[..., B], in the order of reading."""


def row_requests(fn: Callable[[ArrayTree], Any], tree: ArrayTree) -> RowRequests:
    """The reads that ``fn(tree)`` makes; to be called inside jit.

    Args:
      fn: indexes images by integers that do not depend on pixels.
      tree: its argument, with stand-ins.
    """
    requests: list[tuple[StandIn, jax.Array]] = []
    fn(_with_images(tree, lambda stand_in: _IndexRecorder(stand_in, requests)))
    return tuple(requests)


def with_fetched(fn: Callable[[ArrayTree], Any], tree: ArrayTree, blocks: Sequence[jax.Array]) -> Any:
    """``fn(tree)``, where each read of images returns the next of ``blocks``.

    Args:
      fn: as for ``row_requests``.
      tree: its argument, with stand-ins.
      blocks: u8[..., B, H, W, 3] for each read, in the order of ``row_requests``.
    """
    fetched_blocks = iter(blocks)
    return fn(_with_images(tree, lambda stand_in: _FetchedImages(stand_in, fetched_blocks)))


def fetched(requests: RowRequests, stored: Sequence[StoredImages], num_steps: int) -> Iterator[tuple[jax.Array, ...]]:
    """The blocks of each step, on the devices; threads read ahead, and each process reads only its shard.

    Args:
      requests: the reads of all steps: indices i32[num_steps, ..., B].
      stored: the images, as listed by ``separate``.
      num_steps: number of steps.
    """
    import grain

    def reader(images: StoredImages, index: np.ndarray) -> Callable[[int], jax.Array]:
        shape, axis = (*index.shape[1:], *images.shape[1:]), index.ndim - 2
        sharding = batch_sharding(shape, axis)  # computed here: a mesh is set per thread, and other threads read

        def read(step: int) -> jax.Array:
            rows = index[step]
            return read_sharded(shape, axis, sharding, lambda part: images[rows[..., part] if rows.ndim else rows])

        return read

    readers = [reader(stored[stand_in.number], np.asarray(index)) for stand_in, index in requests]

    class Steps:
        def __len__(self) -> int:
            return num_steps

        def __getitem__(self, index: int) -> tuple[jax.Array, ...]:
            return tuple(read(index) for read in readers)

    options = grain.ReadOptions(THREADS, prefetch_buffer_size=STEPS_AHEAD)
    yield from grain.MapDataset.source(Steps()).to_iter_dataset(options)


@dataclasses.dataclass(frozen=True)
class _IndexRecorder:
    stand_in: StandIn
    requests: list[tuple[StandIn, jax.Array]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stand_in.shape

    def __getitem__(self, index: jax.Array) -> jax.Array:
        self.requests.append((self.stand_in, index))
        return jnp.zeros((*index.shape, *self.shape[1:]), jnp.uint8)


@dataclasses.dataclass(frozen=True)
class _FetchedImages:
    stand_in: StandIn
    blocks: Iterator[jax.Array]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stand_in.shape

    def __getitem__(self, index: jax.Array) -> jax.Array:
        return next(self.blocks)


def _with_images(tree: ArrayTree, images: Callable[[StandIn], Any]) -> ArrayTree:
    def replaced(leaf: Any) -> Any:
        return images(leaf) if isinstance(leaf, StandIn) else leaf

    return jax.tree.map(replaced, tree, is_leaf=lambda x: isinstance(x, StandIn))
