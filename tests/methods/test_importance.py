"""Sums over batches against loops over rows, whatever the last batch holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import label_loss, numpy, original, rows

from ltu_jax.data.batches import gather
from ltu_jax.methods.importance import importance, squared_batch_gradient, sum_over_batches, summed_gradient

ROWS = rows(0, 23)


def batches(size):
    images, labels = gather(ROWS, slice(None))
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, 23, size)]


@pytest.mark.parametrize("batch_size", [5, 23, 100])
def test_each_row_counts_once(batch_size):
    def pixels_and_labels(apply_fn, params, model_state, batch, weight):
        return {"pixels": jnp.tensordot(weight, batch.images, 1), "labels": weight @ batch.labels, "batches": 1}

    total = sum_over_batches(pixels_and_labels, original(), ROWS, batch_size)
    np.testing.assert_allclose(total["pixels"], np.asarray(ROWS.images, float).sum(axis=0) / 255, rtol=1e-5)
    assert total["labels"] == ROWS.labels.sum()
    assert total["batches"] == -(-23 // min(batch_size, 23))


@pytest.mark.parametrize("batch_size", [5, 23])
def test_the_summed_gradient_is_that_of_all_rows_in_evaluation_mode(x64, batch_size):
    state = original()
    _, grad = label_loss(numpy(state.params), *gather(ROWS, slice(None)), shift=0.4)
    found = sum_over_batches(summed_gradient, state, ROWS, batch_size)
    for name in grad:
        np.testing.assert_allclose(found[name], 23 * grad[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("batch_size", [5, 23])
def test_the_squared_gradient_is_that_of_each_batchs_mean_the_last_one_short(x64, batch_size):
    state = original()
    gradients = [label_loss(numpy(state.params), *batch, shift=0.4)[1] for batch in batches(batch_size)]
    found = sum_over_batches(squared_batch_gradient, state, ROWS, batch_size)
    for name in found:
        np.testing.assert_allclose(found[name], sum(g[name] ** 2 for g in gradients), rtol=1e-5, atol=1e-10)


def test_some_rows_alone_can_be_summed_over(x64):
    index = np.array([20, 3, 3, 11, 7, 0])
    images, labels = gather(ROWS, slice(None))
    _, grad = label_loss(numpy(original().params), images[index], labels[index], shift=0.4)
    found = sum_over_batches(summed_gradient, original(), ROWS, 4, jnp.asarray(index))
    for name in grad:
        np.testing.assert_allclose(found[name], 6 * grad[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("batch_size", [5, 23, 100])
def test_importance_is_the_mean_over_batches(x64, batch_size):
    gradients = [label_loss(numpy(original().params), *batch, shift=0.4)[1] for batch in batches(batch_size)]
    found = importance(original(), ROWS, batch_size)
    for name in found:
        wanted = np.mean([g[name] ** 2 for g in gradients], axis=0)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-10)


def test_shapes_alone_can_be_asked_for():
    fn = squared_batch_gradient
    shapes = jax.eval_shape(lambda state, rows: sum_over_batches(fn, state, rows, 5), original(), ROWS)
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (x.shape, x.dtype) for name, x in original().params.items()
    }
