"""KLoM against a loop over its definition, its floors, and its error."""

import numpy as np
import pytest

from ltu_jax.auditing.klom import klom


def margins(num_models, num_rows, seed, shift=0.0, common=0.0):
    rng = np.random.default_rng(seed)
    return shift + rng.normal(size=(num_models, num_rows)) + common * rng.normal(size=(num_models, 1))


def by_definition(p_side, q_side):
    """KL(p || q) row by row; NumPy's own histogram closes the last bin."""
    found = []
    for a, b in zip(np.clip(p_side, -100, 100).T, np.clip(q_side, -100, 100).T, strict=True):
        union = np.concatenate([a, b])
        if np.ptp(union) == 0:
            found.append(0.0)
            continue
        edges = np.linspace(union.min(), union.max(), 21)
        p, q = (np.histogram(side, edges)[0] / len(side) for side in (a, b))
        q = np.array([max(q_i, 1e-5) if p_i > 0 else q_i for p_i, q_i in zip(p, q, strict=True)])
        p, q = p / p.sum(), q / q.sum()
        found.append(sum(p_i * np.log(p_i / q_i) for p_i, q_i in zip(p, q, strict=True) if p_i > 0))
    return np.array(found)


def test_it_is_its_definition_in_both_directions():
    unlearned, oracles = margins(12, 40, 0, shift=0.7), margins(9, 40, 1)
    unlearned[:, 0] = oracles[:, 0] = 3.0  # no range
    unlearned[:, 1] *= 90  # clipped, and one far out
    oracles[0, 1] = -1e6
    unlearned[:, 2] = 1.0  # one bin
    found = klom(unlearned, oracles, resamples=2)
    forth, back = by_definition(unlearned, oracles), by_definition(oracles, unlearned)
    np.testing.assert_allclose(found.unlearned_to_oracle.rows, forth, atol=1e-12)
    np.testing.assert_allclose(found.oracle_to_unlearned.rows, back, atol=1e-12)
    for one, rows in ((found.unlearned_to_oracle, forth), (found.oracle_to_unlearned, back)):
        assert one.mean.value == pytest.approx(rows.mean()) and one.p95.value == pytest.approx(np.quantile(rows, 0.95))
    assert found.models == (12, 9) and np.abs(forth - back).max() > 0.1
    assert forth[0] == 0


def test_identical_samples_are_0_and_disjoint_ones_at_the_bound():
    one = margins(10, 5, 0)
    same = klom(one, one[::-1], resamples=2).unlearned_to_oracle
    np.testing.assert_allclose(same.rows, 0, atol=1e-12)
    assert same.mean.low == 0
    apart = klom(one, one + 50, resamples=2).unlearned_to_oracle.rows
    assert np.all((apart > 10) & (apart < 11.6))


@pytest.mark.parametrize(
    "num_models, floor, shifted, noise",
    [(16, 3.8, 4.8, 0.2), (32, 1.7, 2.8, 0.15), (64, 0.64, 1.6, 0.1), (100, 0.35, 1.2, 0.06)],
)
def test_floors(num_models, floor, shifted, noise):
    """Values of the reference's simulation: one law, and one a standard deviation off."""
    oracles = margins(num_models, 400, 0)
    for shift, expected in ((0.0, floor), (1.0, shifted)):
        found = klom(margins(num_models, 400, 1, shift), oracles, resamples=2)
        assert found.unlearned_to_oracle.mean.value == pytest.approx(expected, abs=noise)


def errors_over_seeds(num_models, common, num_seeds=25):
    values, errors = [], []
    for seed in range(num_seeds):
        both = margins(num_models, 60, seed, 1.0, common), margins(num_models, 60, 1000 + seed, 0.0, common)
        one = klom(*both, seed=seed, resamples=50).unlearned_to_oracle
        values.append((one.mean.value, one.p95.value))
        errors.append((one.mean.smallest / 2.8, one.p95.smallest / 2.8))
    return np.mean(errors, axis=0) / np.std(values, axis=0)


@pytest.mark.parametrize("common", [0.0, 0.7])
def test_the_error_is_that_of_repeated_trainings_or_somewhat_more(common):
    """With all rows of a model moving together, its errors are those of models, which rows alone do not show."""
    ratio = errors_over_seeds(30, common)
    assert np.all((ratio > 0.8) & (ratio < 4)), ratio


def test_the_error_knows_that_rows_differ():
    """Half of the rows are alike under both and half apart: leaving a model out changes little, other rows would."""
    one = margins(50, 40, 0)
    found = klom(one, one + 50 * (np.arange(40) % 2), resamples=400).unlearned_to_oracle
    assert found.mean.smallest / 2.8 == pytest.approx(found.rows.std() / np.sqrt(40), rel=0.15)


def test_the_interval_is_of_two_errors_and_above_0():
    found = klom(margins(10, 30, 0, 0.5), margins(10, 30, 1), resamples=100).unlearned_to_oracle
    for one in (found.mean, found.p95):
        assert one.high - one.value == pytest.approx(1.96 / 2.8 * one.smallest)
        assert one.low == pytest.approx(max(0, 2 * one.value - one.high))


@pytest.mark.parametrize(
    "unlearned, oracles, message",
    [
        (np.ones((3, 4)), np.ones((3, 5)), "^oracles: shape"),
        (np.ones((1, 4)), np.ones((3, 4)), "at least two models each"),
        (np.ones(4), np.ones(4), "^oracles: shape"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "^unlearned: .* not finite"),
        (np.ones((3, 4)), np.full((3, 4), np.inf), "^oracles: .* not finite"),
    ],
)
def test_bad_input_is_refused(unlearned, oracles, message):
    with pytest.raises(ValueError, match=message):
        klom(unlearned, oracles)
