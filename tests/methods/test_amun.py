"""AMUN: its copies by the attack in NumPy, what they must be, and the mix that is trained on."""

import dataclasses

import jax
import numpy as np
import pytest
from by_hand import (
    SOURCE,
    VISIBLE,
    check_steps,
    draw_at,
    forward,
    label_gradient,
    numpy,
    one_hot,
    original,
    parts,
    rows_of,
    softmax,
    started,
)

from ltu_jax.config import method_config
from ltu_jax.data.batches import gather
from ltu_jax.methods import amun, build_method
from ltu_jax.types import Splits
from ltu_jax.unlearning.loop import run_unlearning

SETTINGS = dataclasses.replace(
    method_config("amun"), epochs=2.0, batch_size=27, learning_rate=0.25, momentum=0.5, weight_decay=0.125
)


def built(**changes):
    return build_method(dataclasses.replace(SETTINGS, **changes), parts())


def logits_of(params, images):
    return forward(params, images, shift=0.4)[2]


def input_gradient(params, image, label):
    """Of the cross-entropy of one image, in evaluation mode."""
    _, hidden, logits = forward(params, image[None], shift=0.4)
    delta = (softmax(logits) - one_hot([label])) @ params["w2"].T * (1 - hidden**2)
    return (delta @ params["w1"].T).reshape(image.shape)


def attacked(params, image, label):
    """The reference's words, one image at a time: ``(copy, its label, the bound that it was found at)``."""
    copy, epsilon = image, 0.04
    for _ in range(9):
        for _ in range(50):
            predicted = logits_of(params, copy[None])[0].argmax()
            if predicted != label:
                return copy, predicted, epsilon
            gradient = input_gradient(params, copy, label)
            copy = copy + epsilon / 10 * gradient / (np.linalg.norm(gradient) + 1e-10)
            change = copy - image
            change *= min(1, epsilon / np.linalg.norm(change))
            copy = np.clip(image + change, 0, 1)
        epsilon *= 2
    raise AssertionError


@pytest.fixture
def learned():
    """A model that is right on most forget rows, as an original is; those it is wrong on come first."""
    state = original()
    images, labels = gather(VISIBLE.forget, slice(None))
    params = numpy(state.params)
    for _ in range(60):
        _, hidden, logits = forward(params, images, shift=0.4)
        params = {**params, "w2": params["w2"] - 0.1 * hidden.T @ (softmax(logits) - one_hot(labels)) / 2}
    return state.replace(params=jax.tree.map(np.float32, params))


@pytest.mark.parametrize("batch", [24, 7])
def test_copies_are_those_of_a_loop_over_images(learned, monkeypatch, batch):
    monkeypatch.setattr(amun, "ATTACK_BATCH", batch)
    params, (images, labels) = numpy(learned.params), gather(VISIBLE.forget, slice(None))
    copies, passed = amun.adversarial(learned, VISIBLE.forget)
    bounds = []
    for row, (image, label) in enumerate(zip(np.asarray(images, float), np.asarray(labels), strict=True)):
        copy, other, bound = attacked(params, image, label)
        np.testing.assert_allclose(copies.images[row], copy, atol=2e-4)
        assert copies.labels[row] == other != label
        bounds.append(bound)
    was_wrong = logits_of(params, images).argmax(axis=1) != np.asarray(labels)
    assert 0 < was_wrong.sum() < 12 and len(set(bounds)) > 2, "the case must have images of each kind"

    changes = np.asarray(copies.images, float) - np.asarray(images, float)
    norms = np.sqrt((changes**2).sum(axis=(1, 2, 3)))
    assert (norms <= np.array(bounds) * (1 + 1e-5)).all() and not changes[was_wrong].any()
    assert (norms[~was_wrong] > 0).all()
    assert (copies.images.min() >= 0) and (copies.images.max() <= 1)
    np.testing.assert_array_equal(logits_of(params, copies.images).argmax(axis=1), copies.labels)
    assert 24 < passed <= built().cost(VISIBLE).init.forward == 450 * -(-24 // batch) * batch
    assert passed % batch == 0


def test_images_that_no_bound_turns_end_with_the_second_class(learned, monkeypatch):
    monkeypatch.setattr(amun, "DOUBLINGS", 0)
    stuck = learned.replace(params={**learned.params, "w1": 0 * learned.params["w1"]})  # no gradient at all
    copies, passed = amun.adversarial(stuck, VISIBLE.forget)
    images, labels = gather(VISIBLE.forget, slice(None))
    np.testing.assert_allclose(copies.images, images, rtol=1e-6)
    assert (copies.labels != labels).all() and passed == 24 * 50


def test_a_model_that_is_sure_is_attacked_all_the_same(learned):
    """Its loss rounds to 0 and has no gradient: what goes up is what the loss is the softplus of."""
    sure = learned.replace(params={**learned.params, "w2": 200 * learned.params["w2"]})
    images, labels = gather(VISIBLE.forget, slice(None))
    losses = -np.log((softmax(logits_of(numpy(sure.params), images)) * one_hot(labels)).sum(axis=1))
    assert (losses == 0).any()
    copies, passed = amun.adversarial(sure, VISIBLE.forget)
    wanted, passed_before = amun.adversarial(learned, VISIBLE.forget)
    np.testing.assert_array_equal(copies.labels, logits_of(numpy(sure.params), copies.images).argmax(axis=1))
    assert passed < 2 * passed_before


def kinds_of(batch, copies):
    """Which image each of a batch is: ``("copy", row)`` or a visible row."""
    places = {image.tobytes(): ("copy", row) for row, image in enumerate(np.asarray(copies.images))}
    return [places.get(image.tobytes()) or rows_of(image[None])[0] for image in np.asarray(batch.images)]


@pytest.mark.parametrize("keep_true", [True, False])
def test_each_row_comes_once_an_epoch_the_copies_with_their_labels(keep_true):
    method = built(keep_true=keep_true)
    state, context = started(method)
    images, labels = gather(VISIBLE.forget, slice(None))
    moved = np.asarray((context.extra.images != images).any(axis=(1, 2, 3)))
    context = context.replace(extra=context.extra._replace(images=context.extra.images.at[:, 0, 0, 0].set(0.123)))
    size, num_steps = (27, 8) if keep_true else (27, 6)
    assert method.num_steps(VISIBLE) == num_steps
    seen, labels = [], []
    for step in range(num_steps):
        batch = draw_at(method, context, step)
        seen += kinds_of(batch, context.extra)
        labels += batch.labels.tolist()
    copies, forget, remain = ([(k, row) for row in range(n)] for k, n in (("copy", 24), ("forget", 24), ("remain", 60)))
    epoch = copies + remain + forget * keep_true
    assert sorted(seen[: len(epoch)]) == sorted(epoch)
    wanted = {"copy": context.extra.labels, "forget": VISIBLE.forget.labels, "remain": VISIBLE.remain.labels}
    assert [int(wanted[kind][row]) for kind, row in seen] == labels
    assert moved.any()
    cost = method.cost(VISIBLE).step
    share = len(epoch)
    np.testing.assert_allclose(cost, (27, 27, 27 * 60 / share, 27 * (share - 60) / share))


def test_copies_are_not_augmented_and_all_else_is():
    method = build_method(SETTINGS, parts(augment="flip"))
    _, context = started(method)
    context = context.replace(extra=context.extra._replace(images=context.extra.images * 0 + 0.25))
    draw = method.stream.draw(context.order_key, 0, VISIBLE)
    batch = draw_at(method, context, 0)
    is_copy = np.asarray(draw.is_forget & (draw.epoch % 2 == 0))
    assert (np.asarray(batch.images)[is_copy] == 0.25).all() and is_copy.any()
    same = (np.asarray(batch.images) == np.asarray(draw.batch.images)).all(axis=(1, 2, 3))
    assert 0 < same[~is_copy].sum() < (~is_copy).sum()


def test_steps_are_sgd_on_the_mix_and_the_rate_falls_to_a_tenth_after_each_epoch(x64):
    check_steps(built(epochs=1.0), SETTINGS, label_gradient)
    _, context = started(built(epochs=3.0))
    assert context.schedule.kind == "step" and float(context.schedule.epochs) == 3


def test_a_run_counts_the_passes_of_its_attack():
    method, empty = built(), np.arange(0)
    splits = Splits(np.arange(24), np.arange(24, 84), *[empty] * 4)
    _, history = run_unlearning(method, original(), splits, SOURCE, num_steps=3)
    _, passed = amun.adversarial(original(), VISIBLE.forget)
    assert 24 <= passed < method.cost(VISIBLE).init.forward
    assert history.cost["forward"] == history.cost["backward"] == passed + 3 * 27
    np.testing.assert_allclose(history.cost["forget"], 24 + 3 * 27 * 48 / 108)
