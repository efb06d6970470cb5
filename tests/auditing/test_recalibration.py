"""Statistics measured anew: against moments by hand, and refused where they are none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from ltu_jax.auditing.recalibration import accuracy_change, auc_change, recalibrate
from ltu_jax.evaluation.likeness import Predictions, attack_auc
from ltu_jax.types import Rows

EPSILON = 1e-5


class Small(nn.Module):
    """BatchNorm of the channels, then of what a dense layer makes of them; each with a momentum of its own."""

    frozen: bool = False

    @nn.compact
    def __call__(self, images, train):
        still = self.frozen or not train
        x = nn.BatchNorm(use_running_average=still, momentum=0.9, name="first")(images)
        x = nn.relu(nn.Dense(5, name="dense")(x.reshape(len(x), -1)))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.7, name="second")(x)
        return nn.Dense(3, name="head")(x)


def model(frozen=False):
    network = Small(frozen)
    params = network.init(jax.random.key(3), jnp.zeros((1, 2, 2, 3)), False)["params"]

    def apply_fn(params, model_state, images, train):
        return (
            network.apply({"params": params, **model_state}, images, train, mutable=["batch_stats"])
            if train
            else (network.apply({"params": params, **model_state}, images, train), model_state)
        )

    rng = np.random.default_rng(4)
    spoilt = {
        "first": {"mean": rng.normal(size=3), "var": rng.uniform(0.5, 2, 3)},
        "second": {"mean": rng.normal(size=5), "var": rng.uniform(0.5, 2, 5)},
    }
    return apply_fn, params, {"batch_stats": jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), spoilt)}


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return Rows(jnp.asarray(rng.integers(0, 256, (count, 2, 2, 3), np.uint8)), jnp.zeros(count, jnp.int32))


def moments(x):
    """Mean and biased variance over all axes but the last."""
    flat = x.reshape(-1, x.shape[-1])
    return {"mean": flat.mean(0), "var": ((flat - flat.mean(0)) ** 2).mean(0)}


def by_hand(params, images, first=None):
    """The statistics of a batch of the small model, in float64; ``first``: what a frozen first layer normalises by."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = images.astype(np.float64) / 255
    of_first = moments(x) if first is None else first
    x = (x - of_first["mean"]) / np.sqrt(of_first["var"] + EPSILON) * p["first"]["scale"] + p["first"]["bias"]
    x = np.maximum(x.reshape(len(x), -1) @ p["dense"]["kernel"] + p["dense"]["bias"], 0)
    return {"first": of_first, "second": moments(x)}


def assert_close(state, expected, rtol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), state["batch_stats"], expected)


def test_a_training_set_of_one_batch_gives_the_moments_of_that_batch():
    apply_fn, params, spoilt = model()
    refit = recalibrate(apply_fn, params, spoilt, rows(30), jax.random.key(0), batch_size=30)
    assert_close(refit.model_state, by_hand(params, np.asarray(rows(30).images)))
    assert (refit.num_rows, refit.batch_size, refit.num_batches, refit.augment) == (30, 30, 20, "none")
    assert refit.momentum == {
        "batch_stats.first.mean": pytest.approx(0.9, abs=1e-6),
        "batch_stats.first.var": pytest.approx(0.9, abs=1e-6),
        "batch_stats.second.mean": pytest.approx(0.7, abs=1e-6),
        "batch_stats.second.var": pytest.approx(0.7, abs=1e-6),
    }
    assert refit.kept == ()


def test_done_twice_is_done_once():
    apply_fn, params, spoilt = model()
    once = recalibrate(apply_fn, params, spoilt, rows(30), jax.random.key(0), batch_size=8)
    twice = recalibrate(apply_fn, params, once.model_state, rows(30), jax.random.key(0), batch_size=8)
    jax.tree.map(np.testing.assert_array_equal, once.model_state, twice.model_state)


def test_it_is_the_mean_over_batches_of_equal_weight_and_full_size():
    """Every full batch that the model is shown, by hand; an order of 30 rows has three of 8, and none of 6."""
    apply_fn, params, spoilt = model()
    shown = []

    def watched(params, model_state, images, train):
        jax.debug.callback(lambda x: shown.append(np.asarray(x)), images)
        return apply_fn(params, model_state, images, train)

    refit = recalibrate(watched, params, spoilt, rows(30), jax.random.key(1), batch_size=8, least_batches=7)
    jax.effects_barrier()
    batches = shown[3:]  # the first batch is passed twice to find what is frozen, twice for the momentum
    assert len(batches) == refit.num_batches == 7
    assert {len(batch) for batch in batches} == {8}
    for start in (0, 3):
        order = np.concatenate(batches[start : start + 3]).reshape(24, -1)
        assert len(np.unique(order, axis=0)) == 24  # no row twice within an order
    each = [by_hand(params, 255 * batch) for batch in batches]
    assert_close(refit.model_state, jax.tree.map(lambda *x: np.mean(x, axis=0), *each))


@pytest.mark.parametrize("count, size, least, batches", [(30, 8, 20, 20), (100, 3, 20, 34), (5, 128, 20, 20)])
def test_the_number_of_batches(count, size, least, batches):
    apply_fn, params, spoilt = model()
    key = jax.random.key(0)
    refit = recalibrate(apply_fn, params, spoilt, rows(count), key, batch_size=size, least_batches=least)
    assert (refit.num_batches, refit.batch_size) == (batches, min(size, count))


def test_a_model_without_statistics_has_none():
    def apply_fn(params, model_state, images, train):
        raise AssertionError("nothing is to be measured")

    assert recalibrate(apply_fn, {}, {}, rows(4), jax.random.key(0)) is None
    assert recalibrate(apply_fn, {}, {"batch_stats": {}}, rows(4), jax.random.key(0)) is None


def test_a_frozen_layer_is_kept_and_what_lies_behind_is_measured_with_it_as_it_is():
    apply_fn, params, given = model(frozen=True)
    refit = recalibrate(apply_fn, params, given, rows(30), jax.random.key(0), batch_size=30)
    first = jax.tree.map(lambda x: np.asarray(x, np.float64), given["batch_stats"]["first"])
    assert refit.kept == ("batch_stats.first.mean", "batch_stats.first.var")
    jax.tree.map(
        np.testing.assert_array_equal, refit.model_state["batch_stats"]["first"], given["batch_stats"]["first"]
    )
    assert_close(refit.model_state, by_hand(params, np.asarray(rows(30).images), first))


def with_leaf(update):
    """A model with one array that training mode changes by ``update(before, batch mean)``."""

    def apply_fn(params, model_state, images, train):
        return images.mean(axis=(1, 2)), {"x": update(model_state["x"], images.mean(axis=(0, 1, 2)))}

    return apply_fn


@pytest.mark.parametrize(
    "update",
    [
        lambda x, mean: x * jnp.array([0.9, 0.9, 0.5]) + 0.1 * mean,  # no common momentum
        lambda x, mean: x + mean,  # a sum
        lambda x, mean: 1.5 * x - 0.5 * mean,
        lambda x, mean: -0.5 * x + 1.5 * mean,
        lambda x, mean: jnp.maximum(x, mean),  # the largest so far
    ],
)
def test_a_leaf_that_is_no_running_average_is_refused_by_its_name(update):
    with pytest.raises(ValueError, match=r"^model_state\.x: no running average"):
        recalibrate(with_leaf(update), {}, {"x": jnp.ones(3)}, rows(6), jax.random.key(0))


def test_without_momentum_the_statistic_is_that_of_the_batch():
    refit = recalibrate(with_leaf(lambda x, mean: mean), {}, {"x": jnp.ones(3)}, rows(6), jax.random.key(0))
    np.testing.assert_allclose(refit.model_state["x"], np.asarray(rows(6).images).mean((0, 1, 2)) / 255, rtol=1e-6)


def test_averages_of_half_precision_are_measured_too():
    half = lambda x, mean: (0.5 * x + 0.5 * mean).astype(jnp.bfloat16)  # noqa: E731
    refit = recalibrate(with_leaf(half), {}, {"x": jnp.ones(3, jnp.bfloat16)}, rows(6), jax.random.key(0))
    expected = np.asarray(rows(6).images).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(np.asarray(refit.model_state["x"], np.float64), expected, rtol=1e-2)
    assert refit.model_state["x"].dtype == jnp.bfloat16


def test_a_model_of_frozen_leaves_and_counts_alone_has_no_statistics():
    def apply_fn(params, model_state, images, train):
        return images.mean(axis=(1, 2)), {"count": model_state["count"] + 1, "x": model_state["x"]}

    given = {"count": jnp.int32(7), "x": jnp.ones(3)}
    assert recalibrate(apply_fn, {}, given, rows(6), jax.random.key(0)) is None


def test_outputs_that_depend_on_the_averages_are_refused():
    def apply_fn(params, model_state, images, train):
        logits = images.mean(axis=(1, 2)) - model_state["x"][None]
        return logits, {"x": 0.9 * model_state["x"] + 0.1 * images.mean(axis=(0, 1, 2))}

    with pytest.raises(ValueError, match="outputs in training mode depend on it"):
        recalibrate(apply_fn, {}, {"x": jnp.ones(3)}, rows(6), jax.random.key(0))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="^rows: none"):
        recalibrate(with_leaf(lambda x, mean: mean), {}, {"x": jnp.ones(3)}, rows(0), jax.random.key(0))


def test_the_change_of_accuracy_is_paired():
    rng = np.random.default_rng(0)
    before, after = rng.random(200) < 0.6, rng.random(200) < 0.8
    found = accuracy_change(before, after)
    each = 100.0 * (after.astype(float) - before.astype(float))
    assert found.change.value == pytest.approx(each.mean()) == pytest.approx(found.after - found.before)
    error = each.std() / np.sqrt(200)  # the formula of paired rates is this
    assert found.change.low == pytest.approx(each.mean() - 1.96 * error)
    assert found.change.smallest == pytest.approx(2.8 * error)


def predicted(margin, labels):
    return Predictions(labels, margin > 0, 1 / (1 + np.exp(-margin)), margin)


def test_the_change_of_the_auc_and_its_interval():
    rng = np.random.default_rng(0)
    labels, of_held = rng.integers(0, 4, 300), rng.integers(0, 3, 200)  # forget rows of class 3 have no held-out rows
    forget, held = rng.normal(size=300) - 5 * (labels == 3), rng.normal(size=200)
    before = predicted(forget, labels), predicted(held, of_held)
    after = predicted(forget + 1, labels), predicted(held, of_held)
    same = auc_change(before, before, resamples=50)
    assert tuple(same.change) == (0, 0, 0, 0)  # resampled together, rows that did not change give no noise
    found = auc_change(before, after, resamples=400)
    assert found.before == pytest.approx(attack_auc(*before), abs=1e-12)
    assert found.after == pytest.approx(attack_auc(*after), abs=1e-12)
    # Phi(1 / sqrt 2) = .760 of Gaussian margins one apart
    assert found.before == pytest.approx(0.5, abs=0.08) and found.after == pytest.approx(0.760, abs=0.07)
    assert found.change.low < found.change.value == found.after - found.before < found.change.high
    # Paired it is narrower than of the difference of two AUCs of their own rows.
    assert found.change.high - found.change.low < 0.06


@pytest.mark.slow
def test_the_interval_of_a_change_of_the_auc_holds_no_change_in_95_of_100_seeds():
    """Margins of rows that the new statistics move at random, and of which nothing is known beforehand."""
    outside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, 60), rng.integers(0, 3, 80)
        old = [rng.normal(of.astype(float)) for of in labels]
        before, after = (
            [
                predicted(margin + moved * rng.normal(0, 0.5, len(margin)), of)
                for margin, of in zip(old, labels, strict=True)
            ]
            for moved in (1, 1)
        )
        change = auc_change(before, after, seed=seed, resamples=100).change
        outside += not change.low <= 0 <= change.high
    assert binom.ppf(0.0005, 300, 0.05) <= outside <= binom.ppf(0.9995, 300, 0.06)  # a percentile interval of 60 rows
