"""SSD against a loop over batches and a loop over weights."""

import chex
import jax
import numpy as np
import pytest
from by_hand import VISIBLE, label_loss, numpy, original, parts, rows, started

from ltu_jax.config import SSD
from ltu_jax.data.batches import gather
from ltu_jax.methods import ssd
from ltu_jax.types import Visible


def importance(params, images, labels, size):
    """The mean over batches of the squared gradient of the batch's mean loss, in evaluation mode."""
    starts = range(0, len(labels), size)
    squares = [label_loss(params, images[i : i + size], labels[i : i + size], shift=0.4)[1] for i in starts]
    return {name: sum(s[name] ** 2 for s in squares) / len(starts) for name in params}


@pytest.mark.parametrize(
    "alpha, dampening, batch_size", [(1.0, 0.5, 10), (1.0, 1.5, 10), (2.0, 1.0, 128), (1e9, 1.0, 128)]
)
def test_dampening_is_that_of_a_loop_over_weights(x64, alpha, dampening, batch_size):
    method = ssd.SSD.build(SSD(alpha=alpha, dampening=dampening, batch_size=batch_size), parts())
    before = numpy(original().params)
    after = started(method)[0]
    forget, remain = (gather(rows, slice(None)) for rows in VISIBLE[:2])
    order = np.asarray(jax.random.permutation(jax.random.key(4), 84))  # of all rows, by the key of the run
    of_forget = importance(before, *forget, batch_size)
    of_all = importance(before, *(np.concatenate(pair)[order] for pair in zip(forget, remain, strict=True)), batch_size)
    chosen = capped = 0
    for name, weights in before.items():
        for place in np.ndindex(weights.shape):
            wanted = weights[place]
            if of_forget[name][place] > alpha * of_all[name][place]:
                ratio = dampening * of_all[name][place] / of_forget[name][place]
                wanted *= min(ratio, 1.0)
                chosen, capped = chosen + 1, capped + (ratio > 1)
            np.testing.assert_allclose(after.params[name][place], wanted, rtol=1e-5)
    assert (chosen > 20) == (alpha < 1e9), "the case must dampen some weights, or none"
    assert (capped > 0) == (dampening > 1)


def test_all_rows_are_mixed_so_that_batches_of_forget_rows_do_not_bound_the_ratio():
    """Were they first, the mean over 14 batches would hold the same 4, and no I_f exceed 3.5 I_D."""
    after = started(ssd.SSD.build(SSD(alpha=3.6, batch_size=6), parts()))[0]
    changed = jax.tree.map(lambda a, b: int((np.asarray(a) != np.asarray(b)).sum()), after.params, original().params)
    assert sum(changed.values()) > 0


def test_statistics_stay_and_nothing_is_trained():
    method = ssd.SSD.build(SSD(alpha=1.0), parts())
    before = original()
    after, _ = started(method)
    chex.assert_trees_all_equal(after.model_state, before.model_state)
    assert method.num_steps(VISIBLE) == 0 and after.step == 0


def test_the_cost_counts_the_forget_rows_twice():
    cost = ssd.SSD.build(SSD(), parts()).cost(Visible(rows(0, 24), rows(24, 54)))
    assert cost.init == (78, 78, 30, 48)
    assert cost.of(0) == cost.init
