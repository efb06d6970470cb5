"""The numbers of a result as words."""

import pytest

from ltu_jax.reporting import table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (9.4, "9.4 s"), (41.2, "41 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7530, "2 h 05 min")]
    + [(None, "-"), (float("inf"), "-"), (float("nan"), "-"), (0, "0 s")],
)
def test_a_duration_reads_as_a_person_says_it(seconds, text):
    assert table.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(43.29, "43.29"), (0.0043, "0.0043"), (0.0, "0.00"), (None, "-")])
def test_a_short_unlearning_time_does_not_read_as_zero(value, text):
    assert table.minutes(value) == text


@pytest.mark.parametrize(("auc", "chance"), [(0.5, True), (0.55, True), (0.5501, False), (None, False)])
def test_an_attacker_at_chance_on_shadows_gives_no_guidance(auc, chance):
    assert table.gives_no_guidance({"name": "sorted", "auc_shadow": auc}) is chance


def test_an_attacker_that_is_not_a_number_gives_no_guidance():
    assert table.gives_no_guidance({"name": "sorted", "auc_shadow": float("nan")})


def test_the_ratio_to_retrain_is_told_without_and_with_the_attackers(result):
    # 4 min / 0.5 min = 8; 4 min / (0.5 min + 90 s) = 2.
    assert table.speed(result) == "Retrain takes 8.00 times as long as ltu; 2.00 times with the attackers' fit counted"


def test_a_method_without_attackers_has_one_ratio(result):
    result["time"]["attackers_s"] = None
    assert table.speed(result) == "Retrain takes 8.00 times as long as ltu"


@pytest.mark.parametrize("minutes", [None, 0.0])
def test_there_is_no_ratio_to_an_unknown_time(result, minutes):
    result["scores"]["ut_minutes"] = minutes
    assert table.speed(result) is None


def test_forgotten_classes_are_told_for_each_model_that_was_scored_on_them(result):
    assert table.forgotten_classes(result) is None
    result["original"]["ta_forgotten"], result["scores"]["ta_forgotten"] = 97.5, 1.25
    assert table.forgotten_classes(result).endswith(": Original 97.50, ltu 1.25")


def test_equal_seeds_are_told_once(result):
    assert table.title(result).endswith("train seed 0, split seed 1, unlearn seed 2")
    assert table.title(result | {"seeds": {"train": 3, "split": 3}}).endswith("rho 0.3, seed 3")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1 k"),
        (12345, "12.3 k"),
        (4.56e12, "4.56 T"),
        (3e21, "3e+03 E"),
    ]
    + [(None, "-"), (float("nan"), "-")],
)
def test_a_large_number_has_three_digits_and_a_prefix(value, text):
    assert table.quantity(value) == text


def test_means_are_of_what_is_known():
    assert table.average([1.0, None, 4.0]) == 2.5
    assert table.average([None]) is None
    # Deviations from 2.5 are -1.5 and 1.5: variance 4.5 over n - 1.
    assert table.with_deviation([1.0, None, 4.0]) == "2.50 ± 2.12"
    assert table.with_deviation([1.0, 4.0], digits=3) == "2.500 ± 2.121"
    assert table.with_deviation([1.0, None]) == "1.00"
    assert table.with_deviation([]) == "-"
