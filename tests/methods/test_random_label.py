"""RandL: its three switches by what is drawn, its step by SGD in NumPy."""

import dataclasses

import numpy as np
import pytest
from by_hand import VISIBLE, C, check_steps, draw_at, label_gradient, parts, rows_of, started

from ltu_jax.config import RandomLabel, method_config
from ltu_jax.methods import random_label

SETTINGS = RandomLabel(epochs=3, batch_size=12, learning_rate=0.25, momentum=0.5, weight_decay=0.125)
NUM_FORGET = len(VISIBLE.forget.labels)


def built(**changes):
    return random_label.RandomLabel.build(dataclasses.replace(SETTINGS, **changes), parts())


def drawn_rows(method, seed=4):
    """For each image of a run: whether it is a forget row, which row of its set, and the label it came with."""
    _, context = started(method, seed=seed)
    for step in range(method.num_steps(VISIBLE)):
        batch = draw_at(method, context, step)
        for (kind, row), label in zip(rows_of(batch.images), np.asarray(batch.labels), strict=True):
            yield kind == "forget", row, label


def labels_of_forget_rows(method, seed=4):
    """i32[epochs, F], in order of the rows."""
    seen = [[] for _ in range(NUM_FORGET)]
    for is_forget, row, label in drawn_rows(method, seed):
        if is_forget:
            seen[row].append(label)
    return np.array(seen).T


@pytest.mark.parametrize("order", ["sequential", "mixed"])
def test_labels_drawn_once_stay_and_others_change_each_epoch(order):
    once = labels_of_forget_rows(built(order=order, relabel_when="once"))
    assert once.shape == (3, NUM_FORGET)
    assert (once == once[0]).all()
    assert (labels_of_forget_rows(built(order=order, relabel_when="once"), seed=6)[0] != once[0]).any()
    for when in ("epoch", "batch"):
        drawn = labels_of_forget_rows(built(order=order, relabel_when=when))
        for one, other in ((0, 1), (1, 2), (0, 2)):
            assert 0.3 < (drawn[one] != drawn[other]).mean() < 1  # of 4 classes three quarters differ


def test_labels_of_an_epoch_do_not_hang_on_the_batch_and_those_of_a_batch_do():
    whole, halves = ({"epochs": 1, "batch_size": size} for size in (24, 12))
    by_epoch = [labels_of_forget_rows(built(relabel_when="epoch", **size)) for size in (whole, halves)]
    by_batch = [labels_of_forget_rows(built(relabel_when="batch", **size)) for size in (whole, halves)]
    np.testing.assert_array_equal(*by_epoch)
    assert (by_batch[0] != by_batch[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["once", "epoch", "batch"])
@pytest.mark.parametrize("allow_true", [True, False])
def test_a_random_label_is_uniform_over_the_classes_or_over_those_that_are_wrong(when, allow_true):
    true = np.asarray(VISIBLE.forget.labels)
    method = built(relabel_when=when, allow_true=allow_true, batch_size=24)
    drawn = np.concatenate([labels_of_forget_rows(method, seed) for seed in range(8)])
    shift = np.bincount(((drawn - true[None]) % C).ravel(), minlength=C) / drawn.size
    if allow_true:
        np.testing.assert_allclose(shift, 1 / C, atol=0.12)
    else:
        assert shift[0] == 0
        np.testing.assert_allclose(shift[1:], 1 / (C - 1), atol=0.12)


def test_remaining_rows_keep_their_labels():
    remain = np.asarray(VISIBLE.remain.labels)
    for order in ("sequential", "mixed"):
        kept = [label == remain[row] for is_forget, row, label in drawn_rows(built(order=order)) if not is_forget]
        assert len(kept) == 3 * len(remain) and all(kept)


def test_sequential_epochs_begin_with_their_forget_rows_and_mixed_steps_hold_both():
    def kinds(order):
        method = built(order=order)
        kinds = [is_forget for is_forget, *_ in drawn_rows(method)]
        return np.reshape(kinds, (method.num_steps(VISIBLE), 12))

    np.testing.assert_array_equal(kinds("sequential"), np.repeat([[*[True] * 2, *[False] * 5] * 3], 12, 0).T)
    both = kinds("mixed")
    assert (both.any(axis=1) & ~both.all(axis=1)).mean() > 0.9


def test_steps_are_sgd_on_the_labels_drawn(x64):
    check_steps(built(epochs=1), SETTINGS, label_gradient)


def test_the_relabelling_that_other_code_calls_amnesiac_draws_wrong_labels_once_in_one_shuffle():
    preset = dataclasses.replace(method_config("amnesiac_relabel"), batch_size=12)
    drawn = labels_of_forget_rows(random_label.RandomLabel.build(preset, parts()))
    assert (drawn == drawn[0]).all() and (drawn != np.asarray(VISIBLE.forget.labels)[None]).all()
    assert (preset.order, preset.optimizer, preset.learning_rate, preset.epochs) == ("mixed", "adam", 1e-4, 3)
