"""Query sets for remembering: nearest in feature space, nearest in label space, uniform. Eqs. 7-10."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class QueryPool(NamedTuple):
    """The data of the samplers, from ``make_query_pool``; indices point into the rho subset."""

    neighbours: jax.Array  # i32[F, n]: the rows nearest to each forget row in feature space
    forget_labels: jax.Array  # i32[F]
    label_distance: jax.Array  # f32[C, C]: from each label to each; inf to labels that the subset lacks
    by_label: jax.Array  # i32[R]: rows sorted by label
    first: jax.Array  # i32[C]: start of each label in by_label
    count: jax.Array  # i32[C]: number of rows of each label


Sampler = Callable[[jax.Array, jax.Array, QueryPool, int], jax.Array]
"""``sampler(key, anchors i32[B], pool, size) -> i32[size]``: rows of the rho subset."""


def nearest_neighbours(queries: jax.Array, pool: jax.Array, num: int, *, block: int = 256) -> jax.Array:
    """Rows of ``pool`` nearest to each query by Euclidean distance, nearest first. Eq. 8.

    Args:
      queries: f32[F, D].
      pool: f32[R, D].
      num: neighbours of each query, at most R.
      block: queries that are compared at a time: ``block x R`` distances are in memory.

    Returns:
      i32[F, min(num, R)].
    """
    chex.assert_rank([queries, pool], 2)
    square = jnp.sum(pool**2, axis=-1)

    def nearest(query):
        # |query|^2 is the same for every row, so it does not change their order. Full precision, because the
        # difference of two large numbers would be too inexact in a GPU's TF32.
        distance = square - 2 * jnp.matmul(pool, query, precision=jax.lax.Precision.HIGHEST)
        return jax.lax.top_k(-distance, min(num, pool.shape[0]))[1]

    return jax.lax.map(nearest, queries, batch_size=block)


def class_means(features: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """Mean of the features f32[R, D] of each class, f32[C, D]: our vectoriser I of Eq. 9; zero without rows."""
    total = jax.ops.segment_sum(features, labels, num_classes)
    return total / jnp.maximum(jnp.bincount(labels, length=num_classes), 1)[:, None]


def make_query_pool(
    forget_features: jax.Array,
    forget_labels: jax.Array,
    remain_features: jax.Array,
    remain_labels: jax.Array,
    *,
    num_classes: int,
    num_neighbours: int,
    label_vectors: str = "class_mean",
) -> QueryPool:
    """Precomputes what the samplers need of the rho subset.

    Paper leaves open: the vectoriser I of Eq. 9. Chosen: the class mean of F over the subset, or over the
    forget set for a class that the subset lacks, because one-hot vectors are all equally far apart.

    Args:
      forget_features: F of the forget rows, f32[F, D].
      forget_labels: i32[F].
      remain_features: F of the rho subset, f32[R, D].
      remain_labels: i32[R].
      num_classes: C.
      num_neighbours: z1 draws among this many nearest rows of each anchor.
      label_vectors: ``"class_mean"`` or ``"one_hot"``.
    """
    count = jnp.bincount(remain_labels, length=num_classes)
    if label_vectors == "one_hot":
        vectors = jnp.eye(num_classes)
    else:
        means = class_means(remain_features, remain_labels, num_classes)
        vectors = jnp.where(count[:, None] > 0, means, class_means(forget_features, forget_labels, num_classes))
    # Differences instead of the expanded square: equal vectors must have a distance of exactly 0, for ties.
    distance = jax.vmap(lambda vector: jnp.linalg.norm(vectors - vector[None], axis=-1))(vectors)
    return QueryPool(
        neighbours=nearest_neighbours(forget_features, remain_features, num_neighbours),
        forget_labels=forget_labels,
        label_distance=jnp.where(count[None] > 0, distance, jnp.inf),
        by_label=jnp.argsort(remain_labels),
        first=jnp.cumsum(count) - count,
        count=count,
    )


def nearest_feature(key: jax.Array, anchors: jax.Array, pool: QueryPool, size: int) -> jax.Array:
    """z1: for each anchor one of its nearest rows in feature space. Eq. 8.

    Paper leaves open: whether always the single nearest row is drawn. Chosen: uniform among the n nearest,
    so that epochs differ.

    Args:
      key: PRNG key.
      anchors: rows of the forget set, i32[B]; repeated in order if ``size`` is larger.
      pool: see ``make_query_pool``.
      size: samples to draw, k of Eq. 7.

    Returns:
      Rows of the rho subset, i32[size].
    """
    neighbours = pool.neighbours[jnp.resize(anchors, (size,))]
    rank = jax.random.randint(key, (size, 1), 0, neighbours.shape[1])
    return jnp.take_along_axis(neighbours, rank, axis=1)[:, 0]


def nearest_label(key: jax.Array, anchors: jax.Array, pool: QueryPool, size: int) -> jax.Array:
    """z2: for each anchor a row whose label is nearest to the anchor's, ties broken at random. Eq. 9.

    Arguments and result as for ``nearest_feature``.
    """
    label_key, row_key = jax.random.split(key)
    distance = pool.label_distance[pool.forget_labels[jnp.resize(anchors, (size,))]]
    # All rows of all nearest labels are equally likely, so a label is drawn in proportion to its rows.
    nearest = distance <= distance.min(axis=1, keepdims=True)
    label = jax.random.categorical(label_key, jnp.where(nearest, jnp.log(pool.count)[None], -jnp.inf))
    within = jax.random.randint(row_key, (size,), 0, pool.count[label])
    return pool.by_label[pool.first[label] + within]


def uniform(key: jax.Array, anchors: jax.Array, pool: QueryPool, size: int) -> jax.Array:
    """z3: rows of the subset at random, without replacement while there are enough. Eq. 10.

    Arguments and result as for ``nearest_feature``; the anchors are not used.
    """
    del anchors
    num_rows = pool.by_label.shape[0]
    return jax.random.choice(key, num_rows, (size,), replace=size > num_rows)


SAMPLERS: dict[str, Sampler] = {
    "nearest_feature": nearest_feature,
    "nearest_label": nearest_label,
    "uniform": uniform,
}


def draw_queries(
    key: jax.Array,
    samplers: Sequence[Sampler],
    anchors: jax.Array,
    pool: QueryPool,
    size: int,
    *,
    repeat: bool = True,
) -> jax.Array:
    """N query sets of ``size`` samples, one by each sampler. Eq. 7.

    Args:
      key: PRNG key.
      samplers: N sampling functions z^i.
      anchors: the forget rows of this step, i32[B].
      pool: see ``make_query_pool``.
      size: k of Eq. 7.
      repeat: whether fewer anchors than ``size`` are repeated; else each draws one sample, and the rest are uniform:
        samples of one anchor are much alike, and statistics of theirs alone are not those of the data.

    Returns:
      Rows of the rho subset, i32[N, size].
    """
    keys = jax.random.split(key, len(samplers))
    drawn = jnp.stack([sampler(k, anchors, pool, size) for k, sampler in zip(keys, samplers, strict=True)])
    if repeat or size <= len(anchors):
        return drawn
    rest = jax.vmap(lambda k: uniform(jax.random.fold_in(k, 1), anchors, pool, size - len(anchors)))(keys)
    return jnp.concatenate([drawn[:, : len(anchors)], rest], axis=1)
