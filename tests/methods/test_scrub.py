"""SCRUB: its loss in both phases against formulas, its order of phases, its steps by SGD in NumPy."""

import dataclasses

import jax
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    all_draws,
    backward,
    check_steps,
    forward,
    numpy,
    one_hot,
    original,
    parts,
    rows_of,
    softmax,
    started,
)

from ltu_jax.config import Scrub
from ltu_jax.methods import scrub

SETTINGS = Scrub(
    epochs=2,
    max_epochs=1,
    batch_size=12,
    learning_rate=0.0625,  # up an unbounded loss: small
    momentum=0.5,
    weight_decay=0.125,
    temperature=2.0,
    distil_weight=0.375,
    label_weight=0.75,
)


def built(**changes):
    return scrub.Scrub.build(dataclasses.replace(SETTINGS, **changes), parts())


def loss_and_gradient(params, draw, s):
    """Forget step: ``-T^2 KL``; remain step: ``alpha T^2 KL + gamma CE``; KL(original || student) at T."""
    (images, labels), temperature = draw.batch, s.temperature
    target = softmax(forward(numpy(original().params), images, shift=0.4)[2] / temperature)
    logits = forward(params, images)[2]
    answer, wanted = softmax(logits / temperature), one_hot(labels)
    kl = temperature**2 * np.mean([sum(p * np.log(p / q)) for p, q in zip(target, answer, strict=True)])
    d_kl = temperature * (answer - target) / len(labels)
    if draw.is_forget[0]:
        return -kl, backward(params, images, -d_kl)
    entropy = -np.log((softmax(logits) * wanted).sum(axis=1)).mean()
    delta = s.distil_weight * d_kl + s.label_weight * (softmax(logits) - wanted) / len(labels)
    return s.distil_weight * kl + s.label_weight * entropy, backward(params, images, delta)


@pytest.mark.parametrize("changes", [{}, {"temperature": 4.0, "distil_weight": 0.0}, {"label_weight": 0.0}])
def test_steps_are_sgd_on_the_loss_of_their_phase(x64, changes):
    settings, method = dataclasses.replace(SETTINGS, **changes), built(**changes)
    draws = check_steps(method, settings, lambda params, draw: loss_and_gradient(params, draw, settings)[1])
    state, context = started(method)
    step = jax.jit(method.step)
    for draw in draws[:4]:  # two of each phase
        value, _ = loss_and_gradient(numpy(state.params), draw, settings)
        state, metrics = step(state, context, draw)
        np.testing.assert_allclose(metrics["loss/train"], value, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(state.model_state["mean"], draw.batch.images.mean(), rtol=1e-6)


@pytest.mark.parametrize("max_epochs, forget_passes", [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_the_first_max_epochs_begin_with_the_forget_rows_and_the_rest_heal(max_epochs, forget_passes):
    draws = all_draws(built(epochs=3, max_epochs=max_epochs))
    phases = [bool(d.is_forget[0]) for d in draws]
    assert phases == ([True] * 2 + [False] * 5) * forget_passes + [False] * 5 * (3 - forget_passes)
    for draw in draws:
        kinds = {kind == "forget" for kind, _ in rows_of(draw.batch.images)}
        assert kinds == set(draw.is_forget.tolist()) and len(kinds) == 1


def test_the_cost_counts_the_teachers_pass():
    cost = built().cost(VISIBLE)  # 2 forget steps and 10 remain steps of 12
    np.testing.assert_allclose(cost.step, (24, 12, 10, 2))
