"""NegGrad+: its weighted loss by SGD in NumPy; two streams, two passes, one set of statistics."""

import dataclasses

import numpy as np
import pytest
from by_hand import VISIBLE, check_steps, draw_at, label_gradient, label_loss, numpy, parts, rows_of, started

from ltu_jax.config import NegGradPlus
from ltu_jax.methods import neggrad_plus

SETTINGS = NegGradPlus(epochs=1, batch_size=12, learning_rate=0.25, momentum=0.5, weight_decay=0.125)


def built(**changes):
    return neggrad_plus.NegGradPlus.build(dataclasses.replace(SETTINGS, **changes), parts())


@pytest.mark.parametrize("weight", [0.75, 1.0])
def test_steps_are_sgd_on_the_weighted_difference_of_the_losses(x64, weight):

    def gradient(params, draw):
        down, up = (label_gradient(params, batch) for batch in (draw.remain, draw.forget))
        return {name: weight * down[name] - (1 - weight) * up[name] for name in params}

    check_steps(built(remain_weight=weight), SETTINGS, gradient)


def test_the_loss_is_told_and_the_statistics_of_the_remaining_rows_pass_are_kept(x64):
    method = built(remain_weight=0.75)
    state, context = started(method)
    draw = draw_at(method, context, 0)
    after, metrics = method.step(state, context, draw)
    down, up = (label_loss(numpy(state.params), *batch)[0] for batch in (draw.remain, draw.forget))
    np.testing.assert_allclose(metrics["loss/train"], 0.75 * down - 0.25 * up, rtol=1e-6)
    means = [np.asarray(batch.images, float).mean() for batch in (draw.remain, draw.forget)]
    np.testing.assert_allclose(after.model_state["mean"], means[0], rtol=1e-6)
    assert abs(means[0] - means[1]) > 1e-4


@pytest.mark.parametrize("ratio, size", [(None, 12), (2.5, 30), (100.0, 60)])
def test_an_epoch_passes_over_the_remaining_rows_and_the_forget_rows_come_round_again(ratio, size):
    method = built(epochs=4, remain_per_forget=ratio)
    assert method.num_steps(VISIBLE) == 4 * 60 // size
    _, context = started(method)
    seen = {"remain": [], "forget": []}
    for t in range(method.num_steps(VISIBLE)):
        for kind, batch in draw_at(method, context, t)._asdict().items():
            kinds, rows = zip(*rows_of(batch.images), strict=True)
            assert set(kinds) == {kind} and len(rows) == (size if kind == "remain" else 12)
            np.testing.assert_array_equal(batch.labels, np.asarray(getattr(VISIBLE, kind).labels)[np.array(rows)])
            seen[kind] += rows
    np.testing.assert_array_equal(np.bincount(seen["remain"], minlength=60), np.full(60, 4))
    assert np.ptp(np.bincount(seen["forget"], minlength=24)) <= 1
    assert method.cost(VISIBLE).step == (size + 12, size + 12, size, 12)
