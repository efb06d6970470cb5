"""The measure by which a run judges itself, worked out by hand and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numbered import C, knows, numbered_source, numbers, state_of

from ltu_jax.evaluation.likeness import ks_noise
from ltu_jax.types import Splits
from ltu_jax.unlearning.monitor import Monitor, accuracy_lost, distance, make_monitor, verdict

SOURCE = numbered_source(300)
EMPTY = np.arange(0)


def sure(params, model_state, images, train):
    """Row r, of class ``r % C``, has the log-odds ``params["margin"][r]``."""
    row = numbers(images)
    return jax.nn.one_hot(row % C, C) * (params["margin"][row] + jnp.log(C - 1.0))[:, None], model_state


def cut(seed=0):
    """Forget, remain, validation, test and reserve rows, and the rho subset."""
    parts = np.split(np.random.default_rng(seed).permutation(300), [40, 140, 200, 260])
    return Splits(*parts, EMPTY, seen=parts[1][:30])


def told_apart(forget, held_out, margin):
    """KS in points and AUC, where each held-out row counts as much as there are forget rows for one of its class."""
    weight = np.array([np.sum(forget % C == row % C) / np.sum(held_out % C == row % C) for row in held_out])
    weight /= weight.sum()
    apart = [abs(np.mean(margin[forget] <= at) - weight @ (margin[held_out] <= at)) for at in margin]
    pairs = margin[forget][:, None] - margin[held_out]
    return 100 * max(apart), np.mean((pairs > 0) @ weight + (pairs == 0) @ weight / 2)


def test_distance_is_the_ks_distance_and_ten_points_for_each_lost_beyond_the_tolerance():
    assert distance(0.0, 0.0, 2.0) == 0 and distance(0.0, 2.0, 2.0) == 0
    assert distance(7.5, 1.9, 2.0) == 7.5 and distance(7.5, 3.0, 2.0) == 17.5
    assert distance(7.5, 3.0, 0.0) == 37.5


@pytest.mark.parametrize("seed", range(3))
def test_a_state_is_scored_by_the_class_matched_ks_of_forget_and_validation_rows_and_what_it_lost(seed):
    rng, splits = np.random.default_rng(seed), cut(seed)
    before, after = rng.normal(2, 1, 300), rng.normal(0.5, 2, 300)
    score = make_monitor(state_of(sure, margin=before), SOURCE, splits, 16).score(state_of(sure, margin=after))
    ks, auc = told_apart(splits.forget, splits.validation, np.float32(after))
    assert np.isclose(score["ks"], ks) and np.isclose(score["auc"], auc)
    # Known is what has more than the other classes: log-odds above -log(C - 1).
    known = [margin > -np.log(C - 1) for margin in (before, after)]
    for name, rows in (("forget", splits.forget), ("remain", splits.seen), ("validation", splits.validation)):
        assert np.isclose(score[name], 100 * known[1][rows].mean())
    change = [known[0][rows].astype(int) - known[1][rows] for rows in (splits.seen, splits.validation)]
    lost = max(100 * (one.mean() - 2 * one.std() / np.sqrt(len(one))) for one in change)
    assert lost > 0 and np.isclose(score["lost"], lost)
    assert np.isclose(score["distance"], score["ks"] + 10 * max(0, lost - 2))


def test_what_is_lost_on_rows_that_the_method_does_not_see_counts_point_by_point():
    splits = cut()
    unseen = np.setdiff1d(splits.remain, splits.seen)
    right = np.ones(300, int)
    right[unseen[: len(unseen) // 4]] = 0
    before, after = state_of(knows, right=np.ones(300, int)), state_of(knows, right=right)
    without = make_monitor(before, SOURCE, splits, 16).score(after)
    found = make_monitor(before, SOURCE, splits, 16, unseen).score(after)
    share = (len(unseen) // 4) / len(unseen)
    lost = 100 * (share - 2 * np.sqrt(share * (1 - share) / len(unseen)))
    assert lost > 0 and np.isclose(found.pop("lost_unseen"), lost)
    assert np.isclose(found.pop("unseen"), 100 * (1 - share))
    assert np.isclose(found.pop("distance"), without.pop("distance") + lost) and found == without


def test_a_run_is_scored_on_forget_validation_and_visible_rows_and_on_no_others():
    rng, splits = np.random.default_rng(0), cut()
    before, after = rng.integers(0, 2, (2, 300))  # who is known, drawn for each row
    monitor = make_monitor(state_of(knows, right=before), SOURCE, splits, 16)
    rows = {"forget": splits.forget, "remain": splits.seen, "validation": splits.validation}
    for name in ("remain", "validation"):
        np.testing.assert_array_equal(monitor.original[name], before[rows[name]])
    score = monitor.score(state_of(knows, right=after))
    assert {name: score[name] for name in rows} == {name: 100 * after[index].mean() for name, index in rows.items()}
    hidden = np.setdiff1d(np.arange(300), np.concatenate([*rows.values()]))
    after[hidden] = 1 - after[hidden]
    assert monitor.score(state_of(knows, right=after)) == score


def test_a_memorised_set_is_seen_where_accuracy_sees_nothing():
    """All rows are known, the forget rows with more certainty: what a distance of accuracies calls ideal."""
    splits, rng = cut(), np.random.default_rng(1)
    margin = 3 + rng.random(300)
    margin[splits.forget] += 1.5
    untouched = state_of(sure, margin=margin)
    monitor = make_monitor(untouched, SOURCE, splits, 16)
    score = monitor.score(untouched)
    assert score["forget"] == score["validation"] and score["lost"] == 0
    assert np.isclose(score["ks"], 100) and np.isclose(score["distance"], 100) and np.isclose(score["auc"], 1)
    [line] = monitor.warnings(untouched)
    assert line.startswith(
        "forgets too little: the forget rows are known better than held-out rows of their classes, 100.0"
    )
    worse = margin.copy()
    worse[splits.forget] -= 3  # still known
    [line] = monitor.warnings(state_of(sure, margin=worse))
    assert line.startswith(
        "forgets too much: the forget rows are known worse than held-out rows of their classes, 100.0"
    )
    alike = margin.copy()
    alike[splits.forget] -= 1.5
    assert monitor.warnings(state_of(sure, margin=alike)) == []


@pytest.mark.parametrize(
    "forget, validation",
    [
        ([3], [7]),  # one row each
        ([3], [8, 9]),  # of no class in common
        ([0, 4, 8], [12, 16]),  # one class
        ([0, 1, 4], [8]),  # of one of them nothing is held out
    ],
)
def test_few_rows_or_classes_are_scored_and_warned_of_by_no_more_than_they_can_show(forget, validation):
    rows = np.array(forget), np.array(validation)
    splits = Splits(rows[0], np.arange(100, 140), rows[1], np.arange(140, 160), EMPTY, EMPTY)
    state = state_of(sure, margin=np.where(np.isin(np.arange(300), forget), 9.0, 1.0))
    monitor = make_monitor(state, SOURCE, splits, 16)
    score = monitor.score(state)
    assert np.isclose(score["ks"], 100) and np.isclose(score["auc"], 1) and score["lost"] == 0
    assert ks_noise(rows[0] % C, rows[1] % C) > 100 and monitor.warnings(state) == []


def test_the_noise_is_that_of_the_rows_compared():
    """Ten rows of a class against 25 of it: 136 sqrt(1/10 + 1/25) = 50.9 points. The 75 others tell nothing."""
    forget = np.arange(0, 40, 4)
    splits = Splits(forget, np.arange(41, 60), np.arange(100, 200), np.arange(200, 220), EMPTY, EMPTY)

    def told(better):
        margin = np.full(300, 2.0)
        margin[forget[:better]] = 3.0
        state = state_of(sure, margin=margin)
        return make_monitor(state, SOURCE, splits, 16).warnings(state)

    assert told(5) == [] and " 60.0 points" in told(6)[0]


def test_nothing_is_judged_where_no_rows_are_held_out_or_a_class_is_forgotten_whole():
    splits, state = cut(), state_of(knows, right=np.ones(300))
    assert make_monitor(state, SOURCE, Splits(**{**vars(splits), "validation": EMPTY}), 16) is None
    assert make_monitor(state, SOURCE, Splits(**{**vars(splits), "test_forgotten": splits.test[:5]}), 16) is None


def test_too_little_too_much_and_collateral_damage_are_told_with_the_field_to_turn():
    original = {"remain": 100.0, "validation": 80.0}

    def told(ks, auc, lost=0.0, **now):
        return verdict({**original, "ks": ks, "auc": auc, "lost": lost, **now}, original, 300, 12.0, 2.0)

    assert told(12.0, 0.9) == told(12.0, 0.1, 2.0) == []  # as much as noise and tolerance is not told
    [little] = told(12.1, 0.51)
    assert little.startswith("forgets too little: the forget rows are known better")
    assert little.endswith("; raise config.method.epochs or config.method.learning_rate")
    [much] = told(12.1, 0.49)
    assert much.startswith("forgets too much: the forget rows are known worse")
    assert much.endswith("; lower config.method.epochs or config.method.learning_rate")
    much, lost = told(40.0, 0.2, 2.1, remain=90.0, validation=60.5)
    assert much.startswith("forgets too much")
    assert lost.startswith("remembers too little: 2.1 points of accuracy are lost beyond noise, more than 2 ")
    assert "(100.0 to 90.0 % on remain rows, 80.0 to 60.5 % on validation rows)" in lost
    assert "lower config.method.learning_rate" in lost


def test_a_warning_is_no_finer_than_a_row():
    """A receipt hands it out: who has the old model could else try which rows give this very figure."""
    [line] = verdict({"ks": 31.7, "auc": 0.9, "lost": 0.0}, {}, 8, 12.0, 2.0)
    assert " 37.5 points apart" in line and "31" not in line


def test_what_is_lost_is_counted_beyond_two_standard_errors_of_the_paired_difference():
    before, after = np.ones(100, bool), np.ones(100, bool)
    after[:10] = False
    # ten of a hundred: mean 0.1, deviation 0.3, standard error 0.03
    assert np.isclose(accuracy_lost(before, after), 100 * (0.1 - 2 * 0.03))
    assert accuracy_lost(after, before) == 0
    after[3:] = True
    assert accuracy_lost(before, after) == 0  # three of a hundred may be chance


def test_a_run_is_given_up_only_when_it_is_clearly_worse_than_it_was_and_only_with_a_patience():
    judge = Monitor(SOURCE, {}, {}, 16, patience=3)
    assert not judge.is_hopeless([10, 10.1, 10.3, 10.2, 10.4])  # stands still
    assert not judge.is_hopeless([10, 5, 8, 8])  # two are not three
    assert judge.is_hopeless([10, 5, 8, 9, 8])
    assert not judge.is_hopeless([10, 5, 8, 9, 6.9])
    assert not judge.is_hopeless([9, 9, 9])
    assert not judge._replace(patience=None).is_hopeless([1, 50, 50, 50, 50])
