"""Few rows: what is said beforehand, and ranges that are honest for any number of them."""

import numpy as np
import pytest
from scipy.stats import binom

from ltu_jax.deletion import few
from ltu_jax.deletion.few import FEWEST_TO_CLAIM


def shown(**figures):
    return {"rows": {"forget": 1, "remain": 500, "held_out": 300, "earlier": 30}, "after": figures}


def test_a_request_that_the_claim_cannot_judge_is_told_and_no_other():
    (line,) = few.warnings(1)
    assert line.startswith("1 row is too few to show anything of: chance alone sets so many up to 100 points apart")
    assert few.warnings(FEWEST_TO_CLAIM - 1)[0].startswith("19 rows are too few")
    assert few.warnings(FEWEST_TO_CLAIM) == []


@pytest.mark.parametrize("right", [0, 1])
def test_of_one_row_no_range_is_a_point(right):
    """One of one: a rate of 2.5 % gives that in 2.5 of 100 cases, which is where the exact range ends."""
    value, low, high = few.ranged(shown(forget_accuracy=[100.0 * right] * 3), "forget_accuracy")
    assert value == 100 * right
    assert (low, high) == pytest.approx((2.5, 100) if right else (0, 97.5))


def test_the_range_of_a_figure_that_never_varied_is_the_exact_one():
    value, low, high = few.ranged(
        shown(remain_accuracy=[100.0] * 3, earlier_accuracy=[90.0, 90.0, 90.0]), "remain_accuracy"
    )
    assert (value, high) == (100, 100) and binom.pmf(500, 500, low / 100) == pytest.approx(0.025)
    value, low, high = few.ranged(shown(earlier_accuracy=[90.0, 90.0, 90.0]), "earlier_accuracy")
    assert binom.sf(26, 30, low / 100) == pytest.approx(0.025) and binom.cdf(27, 30, high / 100) == pytest.approx(0.025)


def test_what_is_no_rate_has_no_range_of_few_rows_and_many_rows_keep_theirs():
    for name in ("attack_auc", "attack_ks", "forget_confidence"):
        assert few.ranged(shown(**{name: [0.7, 0.6, 0.8]}), name) == (0.7, None, None)
    for name in ("held_out_confidence", "held_out_accuracy", "remain_accuracy", "earlier_attack_auc"):
        assert few.ranged(shown(**{name: [70.0, 60.0, 80.0]}), name) == (70.0, 60.0, 80.0)


def test_a_point_is_a_range_only_of_many_rows():
    """An attacker who tells all 20 apart does so in every resample; of 19 that says nothing."""
    for count, ends in ((20, (1.0, 1.0)), (19, (None, None))):
        evidence = shown(attack_auc=[1.0, 1.0, 1.0])
        evidence["rows"]["forget"] = count
        assert few.ranged(evidence, "attack_auc") == (1.0, *ends)


def test_the_chance_that_is_told_is_that_of_the_test():
    from ltu_jax.evaluation.likeness import ks_noise

    told = float(few.warnings(9)[0].partition("up to ")[2].split()[0])
    assert told == pytest.approx(ks_noise(np.zeros(9, int), np.zeros(100_000, int)), abs=0.6)
