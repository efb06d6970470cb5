"""The orders of rows by counting: every row equally often, every epoch whole, one kind a step or both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import rows

from ltu_jax.config import Descent
from ltu_jax.methods.streams import alternating_stream, forget_stream, mixed_stream, remain_stream, sequential_stream
from ltu_jax.types import Rows, Visible

F, R = 24, 60
VISIBLE = Visible(rows(0, F), rows(F, F + R))
STREAMS = {
    "remain": remain_stream,
    "forget": forget_stream,
    "sequential": sequential_stream,
    "heals": lambda settings: sequential_stream(settings, 2),
    "mixed": mixed_stream,
    "alternating": alternating_stream,
}
WHOLE = {"epochs": 4, "batch_size": 12}  # 12 divides both sets
UNEVEN = {"epochs": 1.5, "batch_size": 7}


def stream_of(name, settings):
    return STREAMS[name](Descent(**settings))


def draws(name, settings, seed=0):
    """All draws of a run, with a leading axis of steps."""
    return _draws(name, tuple(settings.items()), seed)


@functools.cache
def _draws(name, settings, seed):
    stream, key = stream_of(name, dict(settings)), jax.random.key(seed)
    steps = [stream.draw(key, jnp.int32(step), VISIBLE) for step in range(stream.num_steps(VISIBLE))]
    return jax.tree.map(lambda *x: np.stack(x), *steps)


def counts(drawn, kind):
    """How often each row of a kind was drawn."""
    chosen = drawn.row[drawn.is_forget == (kind == "forget")]
    return np.bincount(chosen, minlength=len(getattr(VISIBLE, kind).labels))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("settings", [WHOLE, UNEVEN])
def test_images_and_labels_are_those_of_the_row_that_is_named(name, settings):
    drawn = draws(name, settings)
    for kind in ("forget", "remain"):
        of_kind, stored = drawn.is_forget == (kind == "forget"), getattr(VISIBLE, kind)
        row = drawn.row[of_kind]
        np.testing.assert_array_equal(drawn.batch.labels[of_kind], np.asarray(stored.labels)[row])
        np.testing.assert_allclose(drawn.batch.images[of_kind], np.asarray(stored.images)[row] / 255, atol=1e-6)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("settings", [WHOLE, UNEVEN])
def test_every_row_of_a_kind_comes_equally_often(name, settings):
    for kind in ("forget", "remain"):
        assert np.ptp(counts(draws(name, settings), kind)) <= 1


@pytest.mark.parametrize("kind, size", [("remain", R), ("forget", F)])
def test_an_epoch_of_one_kind_holds_each_row_once_and_the_next_another_order(kind, size):
    drawn = draws(kind, WHOLE)
    assert (drawn.is_forget == (kind == "forget")).all()
    epochs = drawn.row.reshape(4, size)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(size), (4, 1)))
    np.testing.assert_array_equal(drawn.epoch.reshape(4, size), np.arange(4)[:, None].repeat(size, 1))
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != np.arange(size)).any()
    assert (draws(kind, WHOLE, seed=1).row.reshape(4, size)[0] != epochs[0]).any()


@pytest.mark.parametrize("name, size", [("remain", R), ("forget", F), ("mixed", F + R), ("sequential", F)])
def test_a_batch_is_no_larger_than_what_there_is(name, size):
    assert draws(name, {"epochs": 1.25, "batch_size": 256}).row.shape[1:] == (size,)


@pytest.mark.parametrize("name", ["remain", "sequential", "mixed"])
@pytest.mark.parametrize("ratio", [0.5, 5])
def test_remain_per_forget_repeats_or_cuts_the_subset_evenly(name, ratio):
    settings = {**WHOLE, "remain_per_forget": ratio}
    drawn = draws(name, settings)
    remain = counts(drawn, "remain")
    assert remain.sum() == 4 * ratio * F  # at 5 an epoch is two passes over the subset, at 0.5 a fifth of one
    assert np.ptp(remain) <= 1
    if name != "remain":
        np.testing.assert_array_equal(counts(drawn, "forget"), np.full(F, 4))
        num_forget, num_remain = stream_of(name, settings).images(VISIBLE)
        assert num_remain / num_forget == pytest.approx(ratio)


@pytest.mark.parametrize("name", ["remain", "sequential", "mixed"])
def test_a_subset_that_is_cut_is_cut_at_random(name):
    settings = {"epochs": 1, "batch_size": 12, "remain_per_forget": 0.5}  # rows may be stored class by class
    seen = [np.flatnonzero(counts(draws(name, settings, seed), "remain")) for seed in (0, 1)]
    assert len(seen[0]) == len(seen[1]) == 12
    assert seen[0].max() >= R / 2 > seen[0].min()
    assert (seen[0] != seen[1]).any()


def test_sequential_steps_hold_one_kind_and_each_epoch_begins_with_the_whole_forget_set():
    drawn = draws("sequential", WHOLE)
    np.testing.assert_array_equal(drawn.is_forget, np.repeat(([True] * 2 + [False] * 5) * 4, 12).reshape(28, 12))
    for epoch in drawn.row.reshape(4, F + R):
        np.testing.assert_array_equal(np.sort(epoch[:F]), np.arange(F))
        np.testing.assert_array_equal(np.sort(epoch[F:]), np.arange(R))


def test_sequential_forget_passes_end_and_the_remaining_rows_go_on_where_they_were():
    drawn = draws("heals", WHOLE)
    np.testing.assert_array_equal(drawn.is_forget[:, 0], ([True] * 2 + [False] * 5) * 2 + [False] * 10)
    np.testing.assert_array_equal(counts(drawn, "forget"), np.full(F, 2))
    passes = drawn.row[~drawn.is_forget].reshape(4, R)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(R), (4, 1)))


def test_mixed_forget_rows_can_come_several_times_an_epoch_each_a_pass_of_its_own():
    stream = mixed_stream(Descent(**WHOLE), forget_copies=3)
    drawn = [stream.draw(jax.random.key(0), step, VISIBLE) for step in range(stream.num_steps(VISIBLE))]
    assert len(drawn) == 4 * (3 * F + R) // 12
    passes = [(int(e), int(r)) for d in drawn for e, r, f in zip(d.epoch, d.row, d.is_forget, strict=True) if f]
    assert sorted(passes) == [(epoch, row) for epoch in range(12) for row in range(F)]
    assert {e // 3 for e, _ in passes[: 3 * F]} == {0}
    np.testing.assert_allclose(stream.images(VISIBLE), [12 * 3 * F / (3 * F + R), 12 * R / (3 * F + R)])


def test_alternating_steps_hold_one_kind_and_both_kinds_come_in_whole_passes():
    for ratio, after_each in ((None, 5), (1.6, 2)):
        stream = alternating_stream(Descent(**WHOLE, remain_per_forget=ratio))
        drawn = [stream.draw(jax.random.key(0), step, VISIBLE) for step in range(stream.num_steps(VISIBLE))]
        assert [d.is_forget.tolist() for d in drawn] == ([[True] * 12] + [[False] * 12] * after_each) * (4 * F // 12)
        for kind, size in ((True, F), (False, R)):
            rows = [row for d in drawn if d.is_forget[0] == kind for row in d.row.tolist()]
            for start in range(0, len(rows) - size + 1, size):
                assert sorted(rows[start : start + size]) == list(range(size))


def test_mixed_epochs_hold_both_kinds_in_one_shuffle():
    drawn = draws("mixed", WHOLE)
    for epoch in range(4):
        of_epoch = jax.tree.map(lambda x, e=epoch: x.reshape(4, F + R, *x.shape[2:])[e], drawn)
        np.testing.assert_array_equal(counts(of_epoch, "forget"), np.ones(F))
        np.testing.assert_array_equal(counts(of_epoch, "remain"), np.ones(R))
        assert (of_epoch.epoch == epoch).all()
    share = drawn.is_forget.mean(axis=1)
    assert ((share > 0) & (share < 1)).mean() > 0.9


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("settings", [WHOLE, {**WHOLE, "remain_per_forget": 5}, UNEVEN])
def test_the_images_of_a_step_are_the_counted_mean(name, settings):
    stream, drawn = stream_of(name, settings), draws(name, settings)
    counted = [drawn.is_forget.sum() / len(drawn.row), (~drawn.is_forget).sum() / len(drawn.row)]
    broken_off = name == "mixed" and settings == UNEVEN  # what half a shuffled epoch holds is chance
    np.testing.assert_allclose(stream.images(VISIBLE), counted, atol=0.5 if broken_off else 1e-9)
    cost = stream.cost(VISIBLE, forward=3)
    size = drawn.row.shape[1]
    np.testing.assert_allclose(cost.step, [3 * size, size, *stream.images(VISIBLE)[::-1]])
    assert not any(cost.init)


def test_rows_of_one_axis_are_mixed_as_images_are():
    forget, remain = (Rows(np.full((count, 5), mark, np.float32), np.arange(count)) for count, mark in ((6, 1), (9, 2)))
    stream = mixed_stream(Descent(epochs=1, batch_size=15))
    drawn = stream.draw(jax.random.key(0), jnp.int32(0), Visible(forget, remain))
    np.testing.assert_array_equal(drawn.batch.images, np.where(drawn.is_forget, 1, 2)[:, None] * np.ones(5))
    assert drawn.is_forget.sum() == 6
