"""z1, z2, z3 against brute force in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.core import queries
from ltu_jax.core.queries import (
    draw_queries,
    make_query_pool,
    nearest_feature,
    nearest_label,
    nearest_neighbours,
    uniform,
)

C = 5


def problem(seed=0, forget=23, remain=61, missing=None, label_vectors="class_mean", num_neighbours=4):
    rng = np.random.default_rng(seed)
    forget_features, remain_features = rng.normal(size=(forget, 7)), rng.normal(size=(remain, 7))
    forget_labels, remain_labels = rng.integers(0, C, forget), rng.integers(0, C, remain)
    if missing is not None:
        remain_labels[remain_labels == missing] = (missing + 1) % C
    arrays = (
        jnp.float32(forget_features),
        jnp.int32(forget_labels),
        jnp.float32(remain_features),
        jnp.int32(remain_labels),
    )
    pool = make_query_pool(*arrays, num_classes=C, num_neighbours=num_neighbours, label_vectors=label_vectors)
    return pool, forget_features, forget_labels, remain_features, remain_labels


def many(sampler, anchors, pool, size, draws=200):
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.jit(jax.vmap(lambda k: sampler(k, anchors, pool, size)))(keys))


@pytest.mark.parametrize("block", [1, 8, 256])
def test_blockwise_neighbours_equal_brute_force(block):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(37, 9)), rng.normal(size=(53, 9))
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    found = nearest_neighbours(jnp.float32(a), jnp.float32(b), 5, block=block)
    np.testing.assert_array_equal(found, np.argsort(distance, axis=1)[:, :5])


def test_no_more_than_a_block_of_distances_exists_at_once():
    shapes = [jax.ShapeDtypeStruct((5000, 64), jnp.float32), jax.ShapeDtypeStruct((50000, 64), jnp.float32)]
    compiled = jax.jit(lambda a, b: nearest_neighbours(a, b, 10, block=64)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.2 * 5000 * 50000 * 4


def test_z1_draws_each_of_the_nearest_rows_of_its_anchor_and_no_other():
    pool, ff, _, rf, _ = problem()
    anchors = jnp.array([3, 11])
    drawn = many(nearest_feature, anchors, pool, 4)  # anchors are taken in turn: 3, 11, 3, 11
    for column, anchor in enumerate([3, 11, 3, 11]):
        nearest = np.argsort(np.linalg.norm(ff[anchor] - rf, axis=1))[:4]
        assert set(drawn[:, column]) == set(nearest)


def test_z2_draws_rows_of_the_anchors_own_class_uniformly():
    pool, _, fl, _, rl = problem()
    anchors = jnp.arange(10)
    drawn = many(nearest_label, anchors, pool, 10, draws=2000)
    for column in range(10):
        rows = np.flatnonzero(rl == fl[column])
        assert set(drawn[:, column]) == set(rows)
        counts = np.bincount(drawn[:, column])[rows]
        assert abs(counts / 2000 - 1 / len(rows)).max() < 5 * np.sqrt(1 / len(rows) / 2000)


def test_z2_falls_to_the_class_of_nearest_mean_where_the_subset_lacks_the_anchors_class():
    pool, ff, fl, rf, rl = problem(missing=2)
    means = np.stack([(rf if c != 2 else ff)[(rl if c != 2 else fl) == c].mean(0) for c in range(C)])
    distance = np.linalg.norm(means - means[2], axis=1)
    distance[2] = np.inf
    anchor = int(np.flatnonzero(fl == 2)[0])
    drawn = many(nearest_label, jnp.array([anchor]), pool, 1)
    assert set(rl[drawn[:, 0]]) == {int(distance.argmin())}


def test_z2_breaks_the_ties_of_one_hot_vectors_at_random():
    pool, _, fl, _, rl = problem(missing=2, label_vectors="one_hot")
    anchor = int(np.flatnonzero(fl == 2)[0])
    drawn = many(nearest_label, jnp.array([anchor]), pool, 1, draws=4000)[:, 0]
    assert set(drawn) == set(range(len(rl)))  # all other classes are equally far: every row is as likely
    assert abs(np.bincount(drawn) / 4000 - 1 / len(rl)).max() < 5 * np.sqrt(1 / len(rl) / 4000)


def test_z3_is_uniform_without_replacement():
    pool, *_ = problem()
    drawn = many(uniform, jnp.arange(3), pool, 20, draws=1000)
    assert all(len(set(row)) == 20 for row in drawn)
    assert abs(np.bincount(drawn.ravel(), minlength=61) / 1000 - 20 / 61).max() < 0.08
    assert many(uniform, jnp.arange(3), pool, 100, draws=1).shape == (1, 100)  # more than there are rows


def test_query_sets_are_drawn_inside_jit_from_the_key_alone():
    pool, *_ = problem()
    samplers = (nearest_feature, nearest_label, uniform, uniform)
    draw = jax.jit(lambda key, anchors, pool: draw_queries(key, samplers, anchors, pool, 6))
    first = draw(jax.random.key(0), jnp.arange(5), pool)
    assert first.shape == (4, 6) and first.dtype == jnp.int32
    np.testing.assert_array_equal(first, draw(jax.random.key(0), jnp.arange(5), pool))
    assert (first[2] != first[3]).any(), "two sets of one sampler must differ"
    assert (first != draw(jax.random.key(1), jnp.arange(5), pool)).any()


def test_few_anchors_are_not_repeated_but_joined_by_uniform_rows():
    """One anchor of class 0, whose nearest rows are of that class: the other rows are of all classes."""
    labels = jnp.arange(300) % 3
    features = jax.nn.one_hot(labels, 3)
    pool = make_query_pool(features[:1], labels[:1], features, labels, num_classes=3, num_neighbours=10)
    samplers, anchors = (nearest_feature, nearest_label, uniform), jnp.zeros(1, jnp.int32)
    alone, joined = (
        np.asarray(draw_queries(jax.random.key(0), samplers, anchors, pool, 60, repeat=repeat))
        for repeat in (True, False)
    )
    assert joined.shape == alone.shape == (3, 60)
    assert set(alone[:2].ravel() % 3) == {0}
    np.testing.assert_array_equal(joined[:, 0], alone[:, 0])
    for rows in joined[:, 1:]:
        assert len(set(rows)) == 59 and np.bincount(rows % 3).min() >= 10
    many = jnp.zeros(60, jnp.int32)
    args = jax.random.key(0), samplers, many, pool, 60
    np.testing.assert_array_equal(draw_queries(*args), draw_queries(*args, repeat=False))


def test_class_means_are_the_means():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 4)), np.r_[rng.integers(0, 3, 29), 4]
    means = queries.class_means(jnp.float32(features), jnp.int32(labels), C)
    for c in (0, 1, 2, 4):
        np.testing.assert_allclose(means[c], features[labels == c].mean(0), rtol=1e-5)
    assert (means[3] == 0).all()
