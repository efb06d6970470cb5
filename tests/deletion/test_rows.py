"""Which rows: those measured, and that a held-out row keeps its part."""

import dataclasses
import json

import numpy as np
import pytest

from ltu_jax.data.splits import see
from ltu_jax.deletion import rows
from ltu_jax.deletion.ledger import LedgerError, salted
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source, Splits

SALT = b"s" * 32


def made_source(count):
    ids = np.array([f"id{i}" for i in range(count)])
    return Source("made", np.zeros((count, 1, 1, 3), np.uint8), np.zeros(count, np.int32), ids, 2, count)


def made_splits(forget=5, remain=300, held_out=30):
    edges = np.cumsum([0, forget, remain, held_out, held_out, held_out])
    parts = [np.arange(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    return Splits(*parts, test_forgotten=np.zeros(0, np.int64))


def test_remaining_rows_are_those_that_the_method_did_not_see_where_there_are_enough():
    splits, nobody = see(made_splits(), 0.5, 3), np.zeros(0, np.int64)
    found = rows.rows_to_measure(splits, nobody, 3)
    np.testing.assert_array_equal(found["remain"], np.setdiff1d(splits.remain, splits.visible))
    assert not len(rows.rows_to_calibrate_by(splits, 3))  # 150 are too few to halve
    most = see(splits, 0.9, 3)
    np.testing.assert_array_equal(rows.rows_to_measure(most, nobody, 3)["remain"], most.visible)
    assert not len(rows.rows_to_calibrate_by(most, 3))
    np.testing.assert_array_equal(found["held_out"], splits.test)
    assert set(found) == {"forget", "remain", "held_out"}
    np.testing.assert_array_equal(rows.rows_to_measure(splits, np.array([400]), 3)["earlier"], [400])


@pytest.mark.parametrize("remain, halves", [(400, (100, 100)), (5_000, (1_000, 1_500))])
def test_half_of_the_remaining_rows_that_the_method_did_not_see_calibrate_and_the_others_are_measured(remain, halves):
    splits = see(made_splits(remain=remain), 0.5, 3)
    looked_at = rows.rows_to_calibrate_by(splits, 3)
    measured = rows.rows_to_measure(splits, np.zeros(0, np.int64), 3)["remain"]
    assert (len(looked_at), len(measured)) == halves
    unseen = np.setdiff1d(splits.remain, splits.visible)
    np.testing.assert_array_equal(np.sort(np.concatenate([looked_at, measured])), unseen)
    by_hand = rows.rows_to_measure(splits, np.zeros(0, np.int64), 3, calibrated=False)["remain"]
    np.testing.assert_array_equal(by_hand, unseen)  # where nothing calibrates, all of them are evidence
    assert abs(looked_at.mean() - unseen.mean()) < 0.1 * remain  # from everywhere, not the first ones
    assert not np.array_equal(looked_at, rows.rows_to_calibrate_by(splits, 4))


@pytest.mark.parametrize("asked, num, seen", [(1.0, 1000, 0.8), (0.9, 500, 0.8), (1.0, 499, 1.0), (0.3, 10_000, 0.3)])
def test_rows_are_held_back_to_measure_on_where_there_are_enough(asked, num, seen):
    assert rows.fraction_seen(asked, num) == seen


def test_of_very_many_remaining_rows_some_are_measured():
    splits = see(made_splits(remain=30_000), 0.1, 0)
    found = rows.rows_to_measure(splits, np.zeros(0, np.int64), 0)["remain"]
    assert len(np.unique(found)) == 10_000 and not np.isin(found, splits.visible).any()
    assert not np.isin(found, rows.rows_to_calibrate_by(splits, 0)).any()
    assert np.isin(found, splits.remain).all()
    assert abs(found.mean() - splits.remain.mean()) < 300  # from everywhere
    again, other = (rows.rows_to_measure(splits, np.zeros(0, np.int64), seed)["remain"] for seed in (0, 1))
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, other)


def recorded_of(splits, source, last=None):
    return rows.record_rows(splits, {"remain": splits.remain[:7], "held_out": splits.test}, source, SALT, last)


def test_what_is_written_is_read_and_names_nobody(tmp_path):
    source, splits = made_source(395), made_splits()
    recorded = recorded_of(splits, source)
    (tmp_path / "rows.json").write_text(json.dumps(recorded._asdict()))
    assert rows.read_rows(tmp_path) == recorded and set(recorded.held_out) == {"validation", "test", "reserve"}
    assert recorded.held_out["test"] == sorted(salted(SALT, [f"id{i}" for i in splits.test]))
    assert recorded.measured["remain"] == sorted(salted(SALT, [f"id{i}" for i in splits.remain[:7]]))
    assert "id3" not in str(recorded)
    for content in ("{}", "[]", "\xff", '{"held_out": 3}'):
        (tmp_path / "rows.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(LedgerError, match="rows.json cannot be read"):
            rows.read_rows(tmp_path)


def test_a_held_out_row_keeps_its_part_and_one_that_came_later_has_none():
    source, then = made_source(395), made_splits()
    last = recorded_of(then, source)
    order = np.random.default_rng(0).permutation(np.arange(305, 395))
    gone = order[5:]  # five held-out rows are no longer there, and all others were cut otherwise
    now = dataclasses.replace(then, validation=gone[:30], test=gone[30:60], reserve=gone[60:])
    kept = rows.keep_held_out(now, source, SALT, last, {}, "test")
    for part in rows.HELD_OUT:
        np.testing.assert_array_equal(getattr(kept, part), np.setdiff1d(getattr(then, part), order[:5]))
    # what was held out once is so when it is back, whatever was there in between
    assert recorded_of(kept, source, last).held_out == last.held_out
    # a row that the model was trained on, moved to the test part
    moved = dataclasses.replace(then, remain=then.remain[1:], test=np.r_[then.test, then.remain[0]])
    np.testing.assert_array_equal(rows.keep_held_out(moved, source, SALT, last, {}, "test").test, then.test)
    with pytest.raises(ConfigError, match="config.data: 1 rows that were trained on count as held out now"):
        rows.keep_held_out(moved, source, SALT, last, {}, "train")


def test_rows_that_change_sides_are_refused():
    source, then = made_source(395), made_splits()
    last = recorded_of(then, source)
    trained = dataclasses.replace(then, remain=np.r_[then.remain, then.test[:3]], test=then.test[3:])
    with pytest.raises(ConfigError, match="config.data: 3 rows that were held out count as trained on now"):
        rows.keep_held_out(trained, source, SALT, last, {}, "test")
    back = dataclasses.replace(then, forget=then.forget[1:], test=np.r_[then.test, 0])
    with pytest.raises(ConfigError, match="1 rows that earlier requests forgot count as held out now"):
        rows.keep_held_out(back, source, SALT, last, set(salted(SALT, ["id0"])), "test")
    none = dataclasses.replace(then, test=then.test[:0])
    with pytest.raises(ConfigError, match="none of the test rows is left"):
        rows.keep_held_out(none, source, SALT, last, {}, "test")
