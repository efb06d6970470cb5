"""SFR-on: its mask, weights, schedule and bound by SGD in NumPy; the order of its steps."""

import dataclasses

import jax
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    all_draws,
    backward,
    forward,
    label_gradient,
    label_loss,
    numpy,
    one_hot,
    original,
    parts,
    rows_of,
    run_all,
    sgd,
    softmax,
    started,
)

from ltu_jax.config import method_config
from ltu_jax.data.batches import gather
from ltu_jax.methods import build_method, sfr_on

SETTINGS = dataclasses.replace(
    method_config("sfr_on"), epochs=2.0, batch_size=12, learning_rate=0.0625, momentum=0.5, weight_decay=0.125
)


def built(**changes):
    return build_method(dataclasses.replace(SETTINGS, **changes), parts())


def importances(size):
    """The mean over batches of the squared gradient of the batch's mean loss, in evaluation mode, of both kinds."""
    found = []
    for rows in VISIBLE[:2]:
        images, labels = gather(rows, slice(None))
        starts = range(0, len(labels), size)
        each = [
            label_loss(numpy(original().params), images[i : i + size], labels[i : i + size], shift=0.4)[1]
            for i in starts
        ]
        found.append({name: np.mean([g[name] ** 2 for g in each], axis=0) for name in each[0]})
    return found


def forget_gradient(params, batch, alpha, power, mask, clip):
    """Of ``-alpha sum w CE``, ``w ~ CE^-power`` held fixed; masked, then cut to a norm."""
    images, labels = batch
    p, wanted = softmax(forward(params, images)[2]), one_hot(labels)
    losses = -np.log((p * wanted).sum(axis=1))
    weight = np.maximum(losses, 1e-4) ** -power
    gradient = backward(params, images, -alpha * (weight / weight.sum())[:, None] * (p - wanted))
    gradient = {name: g * mask[name] for name, g in gradient.items()}
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    return {name: g * min(1, clip / norm) for name, g in gradient.items()}, norm


@pytest.mark.parametrize(
    "changes, bound", [({}, "some"), ({"loss_power": 1.0, "clip_norm": 0.25}, "all"), ({"saliency_ratio": 0.0}, "some")]
)
def test_steps_are_sgd_on_the_bounded_forget_steps_and_the_remaining_ones(x64, changes, bound):
    settings, method = dataclasses.replace(SETTINGS, **changes), built(**changes)
    of_forget, of_remain = importances(12)
    mask = {name: of_forget[name] > settings.saliency_ratio * of_remain[name] for name in of_forget}
    share = np.mean(np.concatenate([m.ravel() for m in mask.values()]))
    assert 0.1 < share < 0.9 if settings.saliency_ratio else share == 1
    draws, norms = all_draws(method), []

    def gradient(t, draw):
        def of(params):
            if t % 6:
                return label_gradient(params, draw.batch)
            alpha = 25 * (1 + np.cos(np.pi * t / len(draws))) / 2
            found, norm = forget_gradient(params, draw.batch, alpha, settings.loss_power, mask, settings.clip_norm)
            norms.append(norm)
            return found

        return of

    rates = 0.0625 * (1 + np.cos(np.pi * np.arange(len(draws)) / len(draws))) / 2
    gradients = [gradient(t, draw) for t, draw in enumerate(draws)]
    wanted, after = sgd(numpy(original().params), gradients, rates, 0.5, 0.125), run_all(method, VISIBLE)
    for name in wanted:
        np.testing.assert_allclose(after.params[name], wanted[name], rtol=2e-5, atol=1e-7)
    cut = np.array(norms) > settings.clip_norm
    assert len(norms) == 4 and (cut.all() if bound == "all" else 0 < cut.sum() < 4), norms


def test_a_forget_batch_then_five_remaining_ones_or_as_many_as_asked_for():
    for ratio, after_each in ((None, 5), (2.4, 2), (0.1, 1)):
        method = built(remain_per_forget=ratio)
        draws = all_draws(method)
        assert [bool(d.is_forget[0]) for d in draws] == ([True] + [False] * after_each) * 4
        seen = [rows_of(draw.batch.images) for draw in draws]
        for draw, rows in zip(draws, seen, strict=True):
            assert {kind == "forget" for kind, _ in rows} == set(draw.is_forget.tolist())
        forget = [row for rows in seen[:: 1 + after_each] for row in rows]
        assert sorted(forget[:24]) == sorted(forget[24:]) == [("forget", row) for row in range(24)]
        remain = [row for t, rows in enumerate(seen) if t % (1 + after_each) for row in rows]
        assert len(set(remain[:60])) == min(60, len(remain))
        forward_images = 12 * len(draws)
        assert method.cost(VISIBLE).of(len(draws)) == (
            84 + forward_images, 84 + forward_images, 60 + len(remain), 24 + len(forget),
        )  # fmt: skip


def test_a_row_that_has_no_loss_does_not_silence_the_others():
    """Its weight would be infinite, or with a floor of 1e-15 all but one: the others' gradient would be gone."""
    method = built(saliency_ratio=0.0, loss_power=1.0)
    state, context = started(method)
    draw = all_draws(method)[0]
    sure = {"w1": state.params["w1"], "w2": state.params["w2"] * 1e4}
    logits = forward(numpy(sure), draw.batch.images)[2]
    labels = np.asarray(draw.batch.labels).copy()
    labels[0] = logits[0].argmax()
    draw = draw._replace(batch=draw.batch._replace(labels=labels))
    losses = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
    losses -= logits[np.arange(12), labels]
    assert losses[0] == 0 and (losses[1:] > 10).all()
    value = method.loss(sure, state, context, draw)[0]
    weight = 1 / np.maximum(losses, 1e-4)
    np.testing.assert_allclose(value, -25 * (weight * losses).sum() / weight.sum(), rtol=1e-3)
    assert value < -1e-3 and np.isfinite(value)


def test_a_large_power_of_the_loss_leaves_the_row_of_the_smallest_alone():
    method = built(saliency_ratio=0.0, loss_power=100.0)
    state, context = started(method)
    draw, sure = all_draws(method)[0], {"w1": state.params["w1"], "w2": state.params["w2"] * 20}
    logits = forward(numpy(sure), draw.batch.images)[2]
    draw = draw._replace(batch=draw.batch._replace(labels=logits.argmax(axis=1)))
    losses = np.log(np.exp(logits).sum(axis=1)) - logits.max(axis=1)
    weight = (losses / losses.min()) ** -100
    value, grads = jax.value_and_grad(lambda params: method.loss(params, state, context, draw)[0])(sure)
    np.testing.assert_allclose(value, -25 * (weight * losses).sum() / weight.sum(), rtol=1e-3)
    assert losses.min() < 0.4  # its hundredth power is beyond 32 bits
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_weights_that_matter_to_neither_are_not_in_the_mask():
    state = original()
    state = state.replace(params={**state.params, "w1": state.params["w1"] * 0, "w2": state.params["w2"] * 0})
    _, context = built().init(state.rng, state, VISIBLE)
    assert not np.asarray(context.extra[0]["w1"]).any()


def test_importances_are_of_batches_of_one_size(monkeypatch):
    asked = []
    monkeypatch.setattr(sfr_on, "importance", lambda state, rows, size: asked.append(size) or state.params)
    started(built(batch_size=1000))
    assert asked == [24, 24]
