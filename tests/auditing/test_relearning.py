"""Relearning: the trainer's own steps on remaining rows, and the statistics of its curves against NumPy."""

import dataclasses

import chex
import jax
import mlp
import numpy as np
import pytest
from progress_recorder import recording

from ltu_jax.auditing import relearning
from ltu_jax.auditing.relearning import Curve, looks, relearn, relearned, relearning_recipe
from ltu_jax.config import Training
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import train
from ltu_jax.types import make_state

SOURCE = mlp.toy_source()
SPEC = mlp.build(None, 4, (4, 4, 3))
FORGET, VISIBLE, REST, TEST = np.arange(20), np.arange(20, 60), np.arange(20, 120), np.arange(120, 160)
SCORED = {"forget": FORGET, "remain": REST, "test": TEST}
RECIPE = relearning_recipe(Training(batch_size=20, learning_rate=0.5), epochs=3)  # two steps an epoch


def state(seed=0):
    return make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(seed)), SGD, jax.random.key(9))


def test_the_recipe_is_the_originals_at_a_tenth_of_its_rate_held_constant():
    training = Training(epochs=200, batch_size=64, learning_rate=0.4, schedule="multistep", weight_decay=0.01)
    recipe = relearning_recipe(training)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.epochs) == ("constant", 0, 10)
    assert recipe.learning_rate == pytest.approx(0.04)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (64, 0.9, 0.01)
    assert relearning_recipe(training, rate=1, epochs=4).learning_rate == 0.4


@pytest.mark.parametrize(
    "num_steps, expected",
    [(1, [0, 1]), (3, [0, 1, 2, 3]), (10, [0, 1, 2, 5, 10]), (230, [0, 1, 2, 5, 10, 20, 50, 100, 200, 230])],
)
def test_looks(num_steps, expected):
    assert looks(num_steps) == expected


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_the_state_at_a_look_is_that_of_the_trainer_after_so_many_steps(monkeypatch, augment):
    seen, real = [], relearning.measure
    monkeypatch.setattr(
        relearning, "measure", lambda one, *rest: seen.append(jax.tree.map(np.asarray, one.params)) or real(one, *rest)
    )
    key, before = jax.random.key(5), jax.tree.map(np.asarray, state().params)
    curve = relearn(state(), SOURCE, VISIBLE, SCORED, RECIPE, key, augment=augment)
    assert curve.steps.tolist() == [0, 1, 2, 5, 6]
    chex.assert_trees_all_equal(seen[0], before)
    for place, epochs in ((2, 1), (4, 3)):
        recipe = dataclasses.replace(RECIPE, epochs=epochs)
        args = SPEC.apply_fn, state().params, {}, SOURCE.rows(VISIBLE), recipe, key
        chex.assert_trees_all_equal(seen[place], jax.tree.map(np.asarray, train(*args, augment=augment).state.params))


def test_the_curve_is_what_the_model_answers():
    curve = relearn(state(), SOURCE, VISIBLE, SCORED, RECIPE, jax.random.key(5), steps=[0, 6])
    trained = train(SPEC.apply_fn, state().params, {}, SOURCE.rows(VISIBLE), RECIPE, jax.random.key(5)).state
    for place, params in ((0, state().params), (1, trained.params)):
        z = np.asarray(SPEC.apply_fn(params, {}, SOURCE.images / np.float32(255), train=False)[0], np.float64)
        right = z.argmax(axis=1) == SOURCE.labels
        np.testing.assert_array_equal(curve.forget_correct[place], right[FORGET])
        found = [curve.forget[place], curve.remain[place], curve.test[place]]
        np.testing.assert_allclose(found, [100 * right[rows].mean() for rows in (FORGET, REST, TEST)])
        own = np.eye(4, dtype=bool)[SOURCE.labels]
        margins = z[own] - np.log(np.where(own, 0, np.exp(z)).sum(axis=1))
        np.testing.assert_allclose(curve.forget_margin[place], margins[FORGET].mean(), rtol=1e-4)
    for name, rows in (("forget", FORGET), ("test", TEST)):
        np.testing.assert_allclose(curve.at_end[name], margins[rows], rtol=1e-4)
    assert curve.remain[1] > curve.remain[0]


def test_the_model_is_not_consumed_and_progress_counts_the_steps():
    one, counts = state(), []
    relearn(one, SOURCE, VISIBLE, SCORED, RECIPE, jax.random.key(0), progress=recording(counts))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(one)) and sum(counts) == 6


def test_a_forget_row_is_never_shown():
    with pytest.raises(ValueError, match="^visible: 2 of its rows are scored as forget rows"):
        relearn(state(), SOURCE, np.arange(18, 60), SCORED, RECIPE, jax.random.key(0))


def made(correct, steps=None):
    correct = np.asarray(correct, bool)
    steps, zero = np.arange(len(correct)) if steps is None else steps, np.zeros(len(correct))
    return Curve(steps, correct, zero, zero, zero, {})


def drawn(rng, probability, num_rows=200):
    return rng.random((len(probability), num_rows)) < np.asarray(probability)[:, None]


def test_a_retrain_against_itself_has_no_excess():
    curve = relearn(state(), SOURCE, VISIBLE, SCORED, RECIPE, jax.random.key(0))
    found = relearned(curve, [curve])
    assert not found.excess.any() and found.largest[:3] == (0, 0, 0) and (found.at_start, found.at_end) == (0, 0)


def test_the_excess_is_over_the_mean_of_the_retrains():
    rng = np.random.default_rng(0)
    model, *retrains, original = (made(drawn(rng, p)) for p in ([0.2, 0.9, 0.7], [0.5] * 3, [0.6] * 3, [1.0] * 3))
    found = relearned(model, retrains, original)
    each = [one.forget_correct.mean(axis=1) for one in (model, *retrains)]
    expected = 100 * (each[0] - (each[1] + each[2]) / 2)
    np.testing.assert_allclose(found.excess, expected)
    assert (found.at_start, found.at_end) == (pytest.approx(expected[0]), pytest.approx(expected[2]))
    assert (found.largest.value, found.largest_step) == (pytest.approx(expected[1]), 1)
    assert found.recovered == pytest.approx(expected[1] / (100 - np.mean([c.forget[0] for c in retrains])))
    assert relearned(model, retrains).recovered is None


@pytest.mark.parametrize("right_of_retrain, is_defined", [(99, False), (92, False), (91, True), (110, False)])
def test_the_recovered_share_needs_three_standard_errors_of_what_was_there(right_of_retrain, is_defined):
    """Of 110 rows the original has 100 right, and Retrain some of these: b rows less, error sqrt(b - b^2/n) or so."""
    rows = np.arange(110)
    original, retrain = made([rows < 100]), made([rows < right_of_retrain])
    lost = 100 - right_of_retrain
    each = np.concatenate([np.full(abs(lost), np.sign(lost)), np.zeros(110 - abs(lost))])
    assert (each.mean() > 3 * each.std(ddof=1) / np.sqrt(110)) == is_defined
    assert (relearned(original, [retrain], original).recovered is not None) == is_defined


def curves(rng, num_steps, num_rows):
    """A model and two Retrains of one law."""
    model, *retrains = (latent(rng, num_steps, num_rows) for _ in range(3))
    return model, retrains


def latent(rng, num_steps, num_rows):
    """Whether rows are right, of which some are easier, with steps that resemble their neighbours."""
    noise = np.cumsum(rng.normal(size=(num_steps, num_rows)), axis=0) / np.sqrt(np.arange(1, num_steps + 1))[:, None]
    return made(noise + np.linspace(-1, 2, num_rows) > 0)


def test_the_band_holds_all_of_no_excess_where_a_maximum_of_noise_lies_above_0():
    held, above = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = relearned(*curves(rng, 12, 80), resamples=100)
        held.append(found.largest.low <= 0 <= found.largest.high)
        above.append(found.largest.value)
    assert np.mean(held) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(above) > 3


def test_the_band_is_of_the_rows_errors_at_a_single_step():
    rng = np.random.default_rng(0)
    model, retrain = made(drawn(rng, [0.7])), made(drawn(rng, [0.5]))
    found = relearned(model, [retrain], resamples=4000)
    each = 100.0 * model.forget_correct[0] - 100 * retrain.forget_correct[0]
    error = each.std(ddof=1) / np.sqrt(200)
    assert (found.largest.high - found.largest.low) / 3.92 == pytest.approx(error, rel=0.06)
    assert found.largest.smallest == pytest.approx(2.8 * error, rel=0.06)


@pytest.mark.parametrize(
    "retrains", [[], [made(np.ones((3, 9)))], [made(np.ones((3, 10)), np.array([0, 1, 5]))], [made(np.ones((2, 10)))]]
)
def test_curves_of_other_steps_or_rows_are_refused(retrains):
    with pytest.raises(ValueError, match="^retrains: none, or curves of other steps or rows"):
        relearned(made(np.ones((3, 10))), retrains)
