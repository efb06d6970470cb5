"""Images that stay on the host: which rows of them a step will draw, and fetching these ahead of it.

A method draws its rows inside jit, from images that it indexes like an array. Where they stay on the
host the same function is traced twice. Once the images are stand-ins that record the indices they
are read at: that gives a small program that computes indices alone. And once they are what was fetched for these
indices. So every method can be fed from the host, by the same draws, and none needs to know.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.devices import read_spread, spread_sharding
from ltu_jax.types import ArrayTree, StoredImages

THREADS, STEPS_AHEAD = 4, 4


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class StandIn:
    """Stands in a tree of arrays where there were stored images."""

    number: int  # which of them
    shape: tuple[int, ...]  # (M, H, W, 3)


def separate(tree: ArrayTree) -> tuple[ArrayTree, list[StoredImages]]:
    """The tree with a ``StandIn`` for all stored images in it, and the images by number."""
    stored: list[StoredImages] = []

    def replaced(leaf: Any) -> Any:
        if not isinstance(leaf, StoredImages):
            return leaf
        stored.append(leaf)
        return StandIn(len(stored) - 1, leaf.shape)

    return jax.tree.map(replaced, tree), stored


RowRequests = tuple[tuple[StandIn, jax.Array], ...]
"""Which images are read, and at which index i32[..., B], in the order of reading."""


def row_requests(fn: Callable[[ArrayTree], Any], tree: ArrayTree) -> RowRequests:
    """What ``fn`` asks of the stand-ins in ``tree``; for a traced function.

    Args:
      fn: indexes images by integers that do not depend on pixels.
      tree: its argument.

    Returns:
      ``RowRequests``.
    """
    requests: list[tuple[StandIn, jax.Array]] = []
    fn(_with_images(tree, lambda stand_in: _IndexRecorder(stand_in, requests)))
    return tuple(requests)


def with_fetched(fn: Callable[[ArrayTree], Any], tree: ArrayTree, blocks: Sequence[jax.Array]) -> Any:
    """``fn(tree)``, where each reading of images takes the next of ``blocks``.

    Args:
      fn: as for ``row_requests``.
      tree: its argument, with stand-ins.
      blocks: u8[..., B, H, W, 3] for each reading, in the same order.

    Returns:
      What ``fn`` returns.
    """
    fetched_blocks = iter(blocks)
    return fn(_with_images(tree, lambda stand_in: _FetchedImages(stand_in, fetched_blocks)))


def fetched(requests: RowRequests, stored: Sequence[StoredImages], num_steps: int) -> Iterator[tuple[jax.Array, ...]]:
    """The blocks of one step after another, read by threads that run ahead, each process only its share.

    Args:
      requests: what each step reads: indices i32[num_steps, ..., B].
      stored: the images by number.
      num_steps: steps there are.

    Yields:
      The blocks of a step, on the devices.
    """
    import grain

    def reader(images: StoredImages, index: np.ndarray) -> Callable[[int], jax.Array]:
        shape, axis = (*index.shape[1:], *images.shape[1:]), index.ndim - 2
        sharding = spread_sharding(shape, axis)  # here: a mesh is that of one thread, and others read

        def read(step: int) -> jax.Array:
            rows = index[step]
            return read_spread(shape, axis, sharding, lambda part: images[rows[..., part] if rows.ndim else rows])

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
