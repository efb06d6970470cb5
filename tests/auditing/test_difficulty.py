"""Difficulty against SciPy and loops; strata by their definition, and the random one by its frequencies."""

import numpy as np
import pytest
from scipy.stats import iqr

from ltu_jax.auditing.difficulty import Difficulty, difficulty, strata


def test_the_spread_and_the_confidence_are_those_of_each_row_over_its_epochs():
    losses = np.random.default_rng(0).exponential(1.0, (30, 12))
    losses[-1, [2, 5]] = np.nan  # the last epoch was not finished
    found = difficulty(losses.astype(np.float16))
    for row in range(12):
        own = losses[:, row].astype(np.float16).astype(float)
        own = own[np.isfinite(own)]
        assert len(own) == (29 if row in (2, 5) else 30)
        np.testing.assert_allclose(found.iqr[row], iqr(own), rtol=1e-12)
        np.testing.assert_allclose(found.confidence[row], np.mean([np.exp(-loss) for loss in own]), rtol=1e-12)


def test_a_row_that_is_learned_late_is_harder_than_one_that_is_known_and_one_that_never_is():
    known, late, never = np.full(8, 0.1), np.repeat([3.0, 0.1], 4), np.full(8, 3.0)
    found = difficulty(np.stack([known, late, never], axis=1))
    assert found.iqr[1] > 2 and np.all(found.iqr[[0, 2]] == 0)
    assert np.all(np.diff(found.confidence) < 0)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_losses_that_say_nothing_are_refused(bad):
    losses = np.ones((2, 3))
    losses[0, 1] = bad
    with pytest.raises(ValueError, match="losses: a row with fewer than two, or an infinite one; allowed: "):
        difficulty(losses)


def test_the_hardest_come_first_then_the_easiest_of_the_others_and_no_row_is_in_two():
    rng = np.random.default_rng(1)
    rows, found = rng.permutation(1000)[:60], Difficulty(rng.random(60), rng.random(60))
    measured = {row: (found.iqr[i], found.confidence[i]) for i, row in enumerate(rows)}
    parts = strata(rows, found, 15, rng)
    for part in parts:
        assert part.dtype == rows.dtype and np.all(np.diff(part) > 0) and len(part) == 15
    assert len(set(np.concatenate(parts))) == 45 and set(np.concatenate(parts)) <= set(rows)
    by_iqr = sorted(rows, key=lambda row: -measured[row][0])
    assert set(parts.hard) == set(by_iqr[:15])
    others = sorted(by_iqr[15:], key=lambda row: -measured[row][1])
    assert set(parts.easy) == set(others[:15]) and set(parts.random) <= set(others[15:])


def test_a_row_that_is_hard_and_of_high_confidence_is_hard():
    parts = strata(
        np.array([7, 8, 9]), Difficulty(np.array([0, 2, 1]), np.array([0.1, 0.9, 0.5])), 1, np.random.default_rng()
    )
    assert parts.hard.tolist() == [8] and parts.easy.tolist() == [9] and parts.random.tolist() == [7]


def test_the_random_rows_are_equally_likely_ones_of_all_others():
    rng, counts = np.random.default_rng(2), np.zeros(20)
    found = Difficulty(np.arange(20.0), -np.arange(20.0))
    for _ in range(3000):
        counts[strata(np.arange(20), found, 4, rng).random] += 1
    assert counts[:4].sum() == counts[16:].sum() == 0
    assert np.abs(counts[4:16] / 3000 - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 3000)


@pytest.mark.parametrize("size", [0, 2])
def test_more_rows_than_there_are_is_refused(size):
    found = Difficulty(np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match=f"size: three strata of {size} of 5 rows; allowed: 1 to a third of them"):
        strata(np.arange(5), found, size, np.random.default_rng())
