"""The rule by which a run judges itself, worked out by hand."""

import numpy as np
from numbered import knows, numbered_source, state_of

from ltu_jax.types import Splits, Visible
from ltu_jax.unlearning.monitor import distance, make_monitor, verdict

ORIGINAL = {"forget": 100.0, "remain": 100.0, "validation": 80.0}


def test_distance_is_zero_at_the_ideal_and_adds_what_is_lost():
    assert distance({"forget": 80.0, "remain": 100.0, "validation": 80.0}, ORIGINAL) == 0
    assert distance(ORIGINAL, ORIGINAL) == 20
    # 5 too well known, 3 lost on remain, 10 on validation; gains count for nothing
    assert distance({"forget": 75.0, "remain": 97.0, "validation": 70.0}, ORIGINAL) == 5 + 3 + 10
    assert distance({"forget": 90.0, "remain": 100.0, "validation": 90.0}, ORIGINAL) == 0


def test_too_little_too_much_and_collateral_damage_are_told_with_the_field_to_turn():
    now = lambda forget, validation: {"forget": forget, "remain": 100.0, "validation": validation}  # noqa: E731
    assert verdict(now(80.0, 80.0), ORIGINAL, 400, 400) == []
    [little] = verdict(now(100.0, 80.0), ORIGINAL, 400, 400)
    assert little.startswith("forgets too little: error 0.0 % on the forget rows, 20.0 % on held-out")
    assert "raise config.method.epochs" in little
    [much] = verdict(now(55.0, 80.0), ORIGINAL, 400, 400)
    assert much.startswith("forgets too much") and "lower config.method.epochs" in much
    much, lost = verdict(now(40.0, 60.0), ORIGINAL, 400, 400)
    assert lost.startswith("remembers too little: held-out accuracy fell from 80.0 to 60.0 %")


def test_the_noise_is_two_standard_errors_of_the_pooled_error_which_is_never_taken_for_nothing_or_all():
    def noise(forget, validation, *sizes):
        now = {"forget": 100 - forget, "validation": 100 - validation}  # from errors
        return verdict(now, now, *sizes)[0].partition("(noise ")[2].partition(")")[0]

    # 200 sqrt(p (1 - p) (1 / m + 1 / n))
    assert noise(0, 30, 100, 400) == "9.5"  # p = 24 %
    assert noise(30, 0, 100, 400) == "5.3"  # p = 6 %
    assert noise(0, 100, 4, 4) == "70.7"  # p = 50 %
    assert noise(0, 0.9, 10_000, 10_000) == noise(100, 99.1, 10_000, 10_000) == "0.3"  # p = 1 % and 99 %, for 0.45


def test_a_difference_as_large_as_the_noise_is_not_told():
    at = lambda forget, validation: {"forget": forget, "validation": validation}  # noqa: E731
    # 200 sqrt(1/4 (1 / 8 + 1 / 8)) = 50 points, exactly
    assert verdict(at(75.0, 25.0), at(75.0, 25.0), 8, 8) == []
    assert verdict(at(25.0, 75.0), at(25.0, 75.0), 8, 8) == []
    assert verdict(at(50.0, 50.0), at(50.0, 100.0), 8, 8) == []


def test_a_difference_counts_when_it_exceeds_two_standard_errors():
    # pooled error 15 %: two standard errors of 100 and 100 rows are 10.1 points, of 400 and 400 5.05
    now = {"forget": 89.5, "remain": 100.0, "validation": 80.5}
    assert verdict(now, {**ORIGINAL, "validation": 80.5}, 100, 100) == []
    assert len(verdict(now, {**ORIGINAL, "validation": 80.5}, 400, 400)) == 1


def test_a_run_is_scored_on_forget_validation_and_visible_rows_and_on_no_others():
    rng, source = np.random.default_rng(0), numbered_source(300)
    parts = np.split(rng.permutation(300), [40, 140, 200, 260])  # forget, remain, validation, test, reserve
    splits = Splits(*parts, np.arange(0), seen=parts[1][:30])
    visible = Visible(source.rows(splits.forget), source.rows(splits.visible))
    before, after = rng.integers(0, 2, (2, 300))  # who is known, drawn for each row
    monitor = make_monitor(state_of(knows, right=before), source, splits, visible, batch_size=16)
    rows = {"forget": parts[0], "remain": parts[1][:30], "validation": parts[2]}
    assert monitor.original == {name: 100 * before[index].mean() for name, index in rows.items()}
    wanted = {name: 100 * after[index].mean() for name, index in rows.items()}
    lost = sum(max(0, 100 * (before[index].mean() - after[index].mean())) for index in list(rows.values())[1:])
    score = monitor.score(state_of(knows, right=after))
    assert np.isclose(score.pop("distance"), abs(wanted["forget"] - wanted["validation"]) + lost)
    assert score == wanted
