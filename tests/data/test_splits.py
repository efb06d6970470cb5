"""Index sets: disjoint, seeded, and refused where they would mean nothing."""

import dataclasses

import numpy as np
import pytest

from ltu_jax.config import Data
from ltu_jax.data import hardness
from ltu_jax.data.splits import canaries_of, draw_canaries, make_splits, read_ids, rows_of_ids, see
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source

NUM_TRAIN, NUM_TEST = 300, 60
SMALL = Data(train_size=80, validation_fraction=0.1)


def made_up(num_train=NUM_TRAIN, num_test=NUM_TEST, coarse=True):
    labels = np.random.default_rng(0).integers(0, 6, num_train + num_test).astype(np.int32)
    return Source(
        name="made_up",
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels,
        ids=np.array([f"image{i:03d}" for i in range(len(labels))]),
        num_classes=6,
        num_train=num_train,
        coarse=labels // 2 if coarse else None,
    )


def with_ids(data, path, ids):
    path.write_text("\n".join(ids))
    return dataclasses.replace(data, forget_kind="ids", forget_ids=str(path))


def with_table(data, kind, path, ids, iqr, confidence=None):
    path.write_text(hardness.text_of(list(ids), iqr, -np.asarray(iqr) if confidence is None else confidence))
    return dataclasses.replace(data, forget_kind=kind, difficulty=str(path))


def one_line(error):
    assert "\n" not in str(error.value) and "; allowed: " in str(error.value)
    return str(error.value)


KINDS = ("random", "class", "subclass", "ids", "hard", "easy")


def request_of(kind, data, source, path):
    """The same cut with another kind of request."""
    if kind == "ids":
        return with_ids(data, path / "ids.txt", source.ids[make_splits(source, data, 3).train[5:9]])
    if kind in ("hard", "easy"):
        train = make_splits(source, data, 3).train
        return with_table(data, kind, path / "rows.csv", source.ids[train], np.arange(len(train)))
    return dataclasses.replace(data, forget_kind=kind, forget_class=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train_size", [80, None])
@pytest.mark.parametrize("num_test", [NUM_TEST, 0])
def test_parts_are_disjoint_sorted_and_on_their_side_of_the_source(tmp_path, kind, train_size, num_test):
    source = made_up(NUM_TRAIN + NUM_TEST - num_test, num_test)
    data = request_of(kind, dataclasses.replace(SMALL, train_size=train_size), source, tmp_path)
    splits = make_splits(source, data, 3)
    parts = dataclasses.asdict(splits)
    assert np.isin(parts.pop("seen"), splits.remain).all()
    for part in parts.values():
        assert part.dtype == np.int64
        np.testing.assert_array_equal(part, np.sort(part))
    rows = np.concatenate(list(parts.values()))
    assert len(np.unique(rows)) == len(rows) and rows.min() >= 0 and rows.max() < len(source.labels)
    assert min(len(splits.forget), len(splits.remain), len(splits.test), len(splits.reserve)) > 0
    if num_test:
        held_out = np.sort(np.concatenate([splits.test, splits.test_forgotten]))
        np.testing.assert_array_equal(held_out, np.arange(NUM_TRAIN, NUM_TRAIN + NUM_TEST))
    if train_size is None:
        assert len(rows) == len(source.labels)


def test_splits_are_a_function_of_the_seed():
    first, again = (make_splits(made_up(), SMALL, 3) for _ in range(2))
    assert first.sha256() == again.sha256()
    cuts = [make_splits(made_up(), SMALL, seed) for seed in range(10)]
    for name in ("forget", "train", "validation", "reserve"):
        assert len({getattr(splits, name).tobytes() for splits in cuts}) == 10
    assert len({np.searchsorted(splits.train, splits.forget).tobytes() for splits in cuts}) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_cut_does_not_depend_on_what_is_forgotten(tmp_path, kind):
    base = make_splits(made_up(), dataclasses.replace(SMALL, forget_fraction=0.5), 3)
    other = make_splits(made_up(), request_of(kind, SMALL, made_up(), tmp_path), 3)
    assert not np.array_equal(other.forget, base.forget)
    for name in ("train", "validation", "reserve"):
        np.testing.assert_array_equal(getattr(other, name), getattr(base, name))
    np.testing.assert_array_equal(np.union1d(other.test, other.test_forgotten), base.test)


@pytest.mark.parametrize("fraction, count", [(0.1, 8), (0.33, 26), (0.001, 1)])
def test_random_forgets_this_fraction_of_the_training_rows(fraction, count):
    splits = make_splits(made_up(), dataclasses.replace(SMALL, forget_fraction=fraction), 0)
    assert len(splits.forget) == count and len(splits.train) == 80
    assert not len(splits.test_forgotten)


@pytest.mark.parametrize("kind", ["class", "subclass"])
def test_class_forgets_every_training_row_of_the_label_and_sets_its_test_rows_apart(kind):
    source = made_up()
    splits = make_splits(source, dataclasses.replace(SMALL, forget_kind=kind, forget_class=4), 0)
    for part, gone in ((splits.forget, True), (splits.test_forgotten, True), (splits.remain, False)):
        assert len(part) and np.all((source.labels[part] == 4) == gone)
    assert not np.any(source.labels[splits.test] == 4)
    assert len(splits.test) + len(splits.test_forgotten) == NUM_TEST


def test_ids_forget_exactly_the_rows_they_name_and_a_repeated_one_once(tmp_path):
    source = made_up()
    train = make_splits(source, SMALL, 0).train
    ids = source.ids[train[[7, 2, 7, 40]]]
    splits = make_splits(source, with_ids(SMALL, tmp_path / "ids.txt", ids), 0)
    np.testing.assert_array_equal(splits.forget, train[[2, 7, 40]])


def test_reserve_is_twice_the_training_rows_or_all_that_is_spare():
    # 300 rows, 30 of them for validation
    for train_size, reserve in ((80, 160), (90, 180), (100, 170)):
        splits = make_splits(made_up(), dataclasses.replace(SMALL, train_size=train_size), 0)
        sizes = len(splits.train), len(splits.validation), len(splits.reserve)
        assert sizes == (train_size, 30, reserve)


def test_reserve_is_a_tenth_of_the_training_part_where_the_original_takes_all_the_rest():
    splits = make_splits(made_up(), dataclasses.replace(SMALL, train_size=None), 0)
    assert (len(splits.train), len(splits.validation), len(splits.reserve)) == (240, 30, 30)


@pytest.mark.parametrize("train_size, train", [(80, 80), (None, 247)])
def test_reserve_size_is_taken_as_given(train_size, train):
    splits = make_splits(made_up(), dataclasses.replace(SMALL, train_size=train_size, reserve_size=23), 0)
    assert (len(splits.train), len(splits.reserve)) == (train, 23)


def test_a_test_part_is_cut_where_there_is_none_and_shortened_on_request():
    cut = make_splits(made_up(300, 0), dataclasses.replace(SMALL, test_fraction=0.2), 0)
    assert len(cut.test) == 60 and len(cut.validation) == 24
    short = make_splits(made_up(), dataclasses.replace(SMALL, test_size=20), 0)
    assert len(short.test) == 20 and short.test.min() >= NUM_TRAIN
    assert np.any(np.diff(short.test) > 1)  # drawn, not the first ones


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.75, 1.0])
def test_the_rho_subset_is_this_fraction_of_the_remaining_rows(fraction):
    splits = make_splits(made_up(), SMALL, 0)
    subset = see(splits, fraction, 5).visible
    assert len(subset) == max(1, round(fraction * 72)) and np.all(np.diff(subset) > 0)
    assert np.isin(subset, splits.remain).all()
    cut = make_splits(made_up(), dataclasses.replace(SMALL, remain_fraction=fraction), 5)
    np.testing.assert_array_equal(cut.visible, see(cut, fraction, 5).visible)  # cut once, with the other sets
    assert cut.sha256() == see(cut, 0.5, 0).sha256() and cut.sizes == splits.sizes
    np.testing.assert_array_equal(subset, see(splits, fraction, 5).visible)
    assert fraction == 1 or any(not np.array_equal(subset, see(splits, fraction, s).visible) for s in range(5))


def test_a_subset_of_other_rows_than_remain_is_refused():
    splits = make_splits(made_up(), SMALL, 0)
    with pytest.raises(ValueError, match="seen: rows that do not remain"):
        dataclasses.replace(splits, remain=splits.remain[:10])
    assert len(dataclasses.replace(splits, remain=splits.remain[:10], seen=None).visible) == 10


def test_ids_that_were_not_trained_on_are_refused_and_the_first_five_named(tmp_path):
    source = made_up()
    splits = make_splits(source, SMALL, 0)
    held_out = source.ids[[splits.test[0], splits.reserve[0], splits.validation[0]]].tolist()
    ids = [source.ids[splits.train[0]], *held_out, "a", "b", "c", "a"]
    with pytest.raises(ConfigError) as error:
        make_splits(source, with_ids(SMALL, tmp_path / "ids.txt", ids), 0)
    named = ", ".join([*(f"{i!r} (held out)" for i in held_out), "'a' (unknown)", "'b' (unknown)"])
    assert one_line(error) == (
        f"config.data.forget_ids: 6 of 7 ids are not in the training set: {named};"
        f" allowed: ids of the 80 rows that the model was trained on, such as {str(source.ids[splits.train[0]])!r}"
    )
    with pytest.raises(ConfigError, match=r"1 of 1 ids are not in the training set: 'image001' \(held out\);"):
        rows_of_ids(source, np.array([0, 2]), ["image001"])


def test_an_unreadable_image_is_told_from_an_unknown_id():
    source = dataclasses.replace(made_up(), unreadable=("broken", "image999"))
    with pytest.raises(ConfigError) as error:
        rows_of_ids(source, np.array([0, 2]), ["image000", "image001", "broken", "other"])
    assert "3 of 4 ids" in one_line(error)
    assert "'image001' (held out), 'broken' (unreadable), 'other' (unknown);" in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train\\cat\\caf\u00e9.png", "known is 'train/cat/caf\u00e9.png'"),
        ("cat/caf\u00e9.png", "known is 'train/cat/caf\u00e9.png'"),
        ("caf\u00e9.png", "known is 'train/cat/caf\u00e9.png'"),
        ("/srv/photos/train/cat/caf\u00e9.png", "known is 'train/cat/caf\u00e9.png'"),
        ("CAF\u00c9", "known is 'train/cat/caf\u00e9.png'"),
        (
            "train/cat/cafe\u0301.png",
            r"known in another Unicode form, as 'train/cat/caf\xe9.png' and not 'train/cat/cafe\u0301.png'",
        ),
        ("at/caf\u00e8.png", "unknown);"),
    ],
)
def test_an_unknown_id_is_told_with_the_one_that_it_may_mean(name, says):
    source = made_up()
    ids = source.ids.astype("<U40")
    ids[2] = "train/cat/caf\u00e9.png"
    source = dataclasses.replace(source, ids=ids)
    with pytest.raises(ConfigError) as error:
        rows_of_ids(source, np.array([0, 2]), [name])
    assert says in one_line(error) and one_line(error).endswith("that the model was trained on, such as 'image000'")


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    (tmp_path / "ids").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")  # as Notepad saves it
    assert read_ids(str(tmp_path / "ids")) == ["one", "two"]


def test_a_file_of_ids_is_read_line_by_line(tmp_path):
    (tmp_path / "ids").write_text("one\n\n  two \r\nthree four\n", encoding="utf-8")
    assert read_ids(str(tmp_path / "ids")) == ["one", "two", "three four"]


@pytest.mark.parametrize("name", [" image000", "image000\t", "\u2003image000"])
def test_an_id_that_begins_or_ends_with_a_blank_is_told_and_never_taken_for_another(name):
    """A line of a file is stripped, so it would have been the row of ``image000``."""
    source = made_up()
    ids = source.ids.astype("<U12")
    ids[2] = name
    source = dataclasses.replace(source, ids=ids)
    with pytest.raises(ConfigError) as error:
        rows_of_ids(source, np.array([0, 2, 4]), ["image000"])
    assert "begins or ends with a blank" in one_line(error) and repr(name) in str(error.value).replace("\\\\", "\\")
    assert rows_of_ids(source, np.array([0, 2, 4]), ["image004"]).tolist() == [4]
    assert rows_of_ids(source, np.array([0, 2, 4]), [name]).tolist() == [2]  # a list of them can say it


@pytest.mark.parametrize(
    "content, reason", [(None, "cannot be read"), (b"\n \n", "holds no id"), (b"\xff\xfe", "UTF-8")]
)
def test_a_file_without_readable_ids_is_refused(tmp_path, content, reason):
    path = tmp_path / "ids"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as error:
        read_ids(str(path))
    assert one_line(error).startswith(f"config.data.forget_ids: {str(path)!r} ")


@pytest.mark.parametrize(
    "changes, field, allowed",
    [
        ({"train_size": 267}, "train_size: 267", "<= 266"),
        ({"reserve_size": 191}, "reserve_size: 191", "<= 190"),
        ({"train_size": None, "reserve_size": 269}, "reserve_size: 269", "<= 268"),
        ({"test_size": 61}, "test_size: 61", "<= 60"),
        ({"forget_kind": "class", "forget_class": 6}, "forget_class: 6", "0..5"),
    ],
)
def test_more_than_there_is_is_refused(changes, field, allowed):
    with pytest.raises(ConfigError) as error:
        make_splits(made_up(), dataclasses.replace(SMALL, **changes), 0)
    assert one_line(error).startswith(f"config.data.{field} ") and str(error.value).endswith(f"allowed: {allowed}")


def test_the_largest_sizes_allowed_are_cut():
    assert len(make_splits(made_up(), dataclasses.replace(SMALL, train_size=266), 0).reserve) == 4
    assert len(make_splits(made_up(), dataclasses.replace(SMALL, train_size=None, reserve_size=268), 0).train) == 2


def test_a_subclass_without_coarse_labels_is_refused():
    with pytest.raises(ConfigError, match="config.data.forget_kind: 'subclass' needs coarse labels") as error:
        make_splits(made_up(coarse=False), dataclasses.replace(SMALL, forget_kind="subclass"), 0)
    one_line(error)


def test_forgetting_every_training_row_is_refused(tmp_path):
    train = make_splits(made_up(), SMALL, 0).train
    with pytest.raises(ConfigError, match="config.data: all training rows") as error:
        make_splits(made_up(), with_ids(SMALL, tmp_path / "ids.txt", made_up().ids[train]), 0)
    one_line(error)


HELD_OUT = Data(held_out="test")


def test_a_model_from_outside_was_trained_on_the_whole_training_part():
    """So nothing of that may count as held out: validation, test and reserve are a third of the test part each."""
    source = made_up()
    splits = make_splits(source, HELD_OUT, 0)
    np.testing.assert_array_equal(splits.train, np.arange(NUM_TRAIN))
    held_out = [splits.validation, splits.test, splits.reserve]
    assert [len(part) for part in held_out] == [20, 20, 20]
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(NUM_TRAIN, NUM_TRAIN + NUM_TEST))
    other = make_splits(source, HELD_OUT, 1)
    assert not np.array_equal(splits.test, other.test)


def test_sizes_of_held_out_parts_are_kept():
    splits = make_splits(made_up(), dataclasses.replace(HELD_OUT, reserve_size=10, test_size=40, train_size=200), 0)
    assert [len(p) for p in (splits.reserve, splits.test, splits.validation, splits.train)] == [10, 40, 10, 200]


@pytest.mark.parametrize(
    ("data", "source", "message"),
    [
        (HELD_OUT, made_up(num_test=0), "config.data.held_out: 'test', but 'made_up' has 0 rows in its test part"),
        (dataclasses.replace(HELD_OUT, reserve_size=59), made_up(), "config.data.reserve_size: 59 is more than the 58"),
        (dataclasses.replace(HELD_OUT, test_size=40, reserve_size=20), made_up(), "config.data.test_size: 40 is more"),
        (dataclasses.replace(HELD_OUT, train_size=301), made_up(), "config.data.train_size: 301 is more"),
        (HELD_OUT, made_up(num_test=9), "config.data.reserve_size: 3 rows are left to guide it"),
    ],
)
def test_too_few_held_out_rows_are_refused(data, source, message):
    with pytest.raises(ConfigError) as error:
        make_splits(source, data, 0)
    assert message in one_line(error)


def test_ids_may_be_given_as_they_are_and_then_the_command_is_named():
    source = made_up()
    splits = make_splits(source, HELD_OUT, 0, ["image007", "image003", "image007"])
    np.testing.assert_array_equal(splits.forget, [3, 7])
    with pytest.raises(ConfigError, match="--forget: 1 of 1 ids are not in the training set: 'image300'"):
        make_splits(source, HELD_OUT, 0, ["image300"])


@pytest.mark.parametrize(("kind", "fraction"), [("hard", 0.1), ("easy", 0.1), ("hard", 0.33), ("easy", 0.001)])
def test_the_hardest_have_the_largest_spread_and_the_easiest_the_largest_confidence(tmp_path, kind, fraction):
    source, data = made_up(), dataclasses.replace(SMALL, forget_fraction=fraction)
    train, (iqr, confidence) = make_splits(source, data, 0).train, np.random.default_rng(4).random((2, 80))
    order = np.random.default_rng(5).permutation(80)  # lines come in any order
    given = source.ids[train[order]], iqr[order], confidence[order]
    splits = make_splits(source, with_table(data, kind, tmp_path / "rows.csv", *given), 0)
    measured = dict(zip(train, iqr if kind == "hard" else confidence, strict=True))
    by_hand = sorted(train, key=lambda row: -measured[row])[: max(1, round(fraction * 80))]
    np.testing.assert_array_equal(splits.forget, sorted(by_hand))
    other = make_splits(source, with_table(data, kind, tmp_path / "rows.csv", given[0], given[1][::-1]), 0)
    assert other.sha256() != splits.sha256()  # the file says which rows, not its name


def test_of_equally_hard_rows_the_first_come_first(tmp_path):
    source = made_up()
    train = make_splits(source, SMALL, 0).train
    splits = make_splits(source, with_table(SMALL, "hard", tmp_path / "rows.csv", source.ids[train], np.ones(80)), 0)
    np.testing.assert_array_equal(splits.forget, train[:8])


def test_a_table_of_other_rows_than_those_of_training_is_refused(tmp_path):
    source = made_up()
    splits = make_splits(source, SMALL, 0)
    ids, path = source.ids[splits.train], tmp_path / "rows.csv"
    with pytest.raises(ConfigError) as error:
        make_splits(source, with_table(SMALL, "easy", path, [*ids, source.ids[splits.test[0]], "a"], np.ones(82)), 0)
    assert one_line(error).startswith("config.data.difficulty: 2 of 82 ids are not in the training set: ")
    assert "(held out), 'a' (unknown); allowed: ids of the 80 rows" in str(error.value)
    with pytest.raises(ConfigError) as error:
        make_splits(source, with_table(SMALL, "hard", path, ids[2:], np.ones(78)), 0)
    lacks = (
        f"config.data.difficulty: {str(path)!r} lacks 2 of 80 training rows: {str(ids[0])!r}, {str(ids[1])!r}; allowed"
    )
    assert one_line(error).startswith(lacks)


CANARIES = dataclasses.replace(SMALL, forget_kind="canaries", canaries=30)


def test_canaries_that_are_in_are_forgotten_and_the_others_are_in_no_set():
    source = made_up()
    plain, splits, drawn = (
        make_splits(source, SMALL, 0),
        make_splits(source, CANARIES, 0),
        draw_canaries(source, CANARIES, 0),
    )
    assert np.isin(drawn.rows, plain.train).all() and len(set(drawn.rows)) == 30 and np.all(np.diff(drawn.rows) > 0)
    np.testing.assert_array_equal(splits.forget, drawn.rows[drawn.is_in])
    np.testing.assert_array_equal(splits.remain, np.setdiff1d(plain.train, drawn.rows))
    for name in ("validation", "test", "reserve"):
        np.testing.assert_array_equal(getattr(splits, name), getattr(plain, name))
    everywhere = np.concatenate([splits.train, splits.validation, splits.test, splits.reserve])
    assert not np.isin(drawn.rows[~drawn.is_in], everywhere).any() and 0 < drawn.is_in.sum() < 30


def test_canaries_have_any_wrong_label_and_a_fair_coin_and_follow_the_seed():
    labels, train = np.repeat(np.arange(5, dtype=np.int32), 40), np.arange(20, 200)
    drawn = [canaries_of(labels, train, 5, 100, seed) for seed in range(200)]
    again = canaries_of(labels, train, 5, 100, 7)
    for name in ("rows", "labels", "is_in"):
        np.testing.assert_array_equal(getattr(again, name), getattr(drawn[7], name))
        assert len({getattr(one, name).tobytes() for one in drawn}) == 200
    shift = np.concatenate([(one.labels - labels[one.rows]) % 5 for one in drawn])
    share = np.bincount(shift, minlength=5) / 20_000
    assert share[0] == 0 and np.abs(share[1:] - 1 / 4).max() < 4 * np.sqrt(3 / 16 / 20_000)
    assert drawn[0].labels.dtype == np.int32 and drawn[0].labels.min() >= 0 and drawn[0].labels.max() < 5
    coins = np.stack([one.is_in for one in drawn])
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)
    assert abs(coins.sum(axis=1).var() / 25 - 1) < 4 * np.sqrt(2 / 200)  # independent: binomial, no fixed number is in
    rows = np.bincount(np.concatenate([one.rows for one in drawn]), minlength=200) / 200
    assert np.abs(rows[20:] - 100 / 180).max() < 5 * np.sqrt(20 / 81 / 200) and not rows[:20].any()


def test_unset_there_are_200_canaries_and_no_more_than_training_rows():
    source = made_up()
    unset = dataclasses.replace(CANARIES, canaries=None, train_size=250)
    assert len(draw_canaries(source, unset, 0).rows) == 200
    with pytest.raises(ConfigError) as error:
        make_splits(source, dataclasses.replace(CANARIES, canaries=None), 0)
    assert one_line(error) == "config.data.canaries: 200 is more than the 80 rows there are; allowed: <= 80"
    with pytest.raises(ConfigError, match="config.data: all training rows are to be forgotten"):
        make_splits(source, dataclasses.replace(CANARIES, canaries=80), 0)
