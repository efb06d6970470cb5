"""The one trainer: its step against NumPy, its bookkeeping by models that record what they are shown."""

import contextlib
import dataclasses
import itertools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from progress_recorder import Killed, recording

from ltu_jax.config import Training
from ltu_jax.training import dispatch, saving, steps
from ltu_jax.training.recording import recording_run, tracing_run
from ltu_jax.training.saving import Saving
from ltu_jax.training.supervised import (
    finish_trainings,
    init_training,
    num_train_steps,
    train,
    train_step,
    training_run,
)
from ltu_jax.types import Batch, Rows


def linear(params, model_state, images, train):
    assert train is True
    return images.reshape(len(images), -1) @ params["w"] + params["b"][None], model_state


def linear_params(num_classes=2, size=12):
    return {"w": jnp.zeros((size, num_classes)), "b": jnp.zeros(num_classes)}


def separable(num_rows):
    """Bright in the upper half or in the lower half, of 2x2 pixels, and the label says which."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, num_rows).astype(np.int32)
    images = rng.integers(0, 100, (num_rows, 2, 2, 3), np.uint8)
    images[np.arange(num_rows), labels] += 100
    return Rows(jnp.asarray(images), jnp.asarray(labels))


@pytest.mark.parametrize(
    "num_rows, epochs, batch_size, steps", [(300, 60, 50, 360), (90, 2, 50, 4), (30, 7, 50, 7), (95, 1, 50, 2)]
)
def test_the_number_of_steps_is_the_epochs_over_full_batches(num_rows, epochs, batch_size, steps):
    assert num_train_steps(Training(epochs=epochs, batch_size=batch_size), num_rows) == steps


def test_a_step_is_the_gradient_of_the_cross_entropy_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 2, 2, 3)), np.array([0, 2, 2, 2, 1])
    w, b = rng.normal(size=(12, 3)), rng.normal(size=3)
    training = Training(
        learning_rate=0.4,
        momentum=0.9,
        weight_decay=0.03,
        batch_size=5,
        epochs=10,
        warmup_epochs=2,
        schedule="constant",
    )
    params = {"w": jnp.float32(w), "b": jnp.float32(b)}
    state, context = init_training(linear, params, {}, training, 10, jax.random.key(0))
    buffers = {"w": 0.0, "b": 0.0}
    for rate in (0.1, 0.2, 0.3, 0.4, 0.4, 0.4):  # two epochs of warm-up are four steps
        logits = x.reshape(5, 12) @ w + b
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        loss, accuracy = -np.log(p[np.arange(5), y]).mean(), (logits.argmax(1) == y).mean()
        delta = (p - np.eye(3)[y]) / 5
        buffers["w"] = 0.9 * buffers["w"] + x.reshape(5, 12).T @ delta + 0.03 * w
        buffers["b"] = 0.9 * buffers["b"] + delta.sum(0) + 0.03 * b
        w, b = w - rate * buffers["w"], b - rate * buffers["b"]
        state, metrics = train_step(state, context, Batch(jnp.float32(x), jnp.int32(y)))
        np.testing.assert_allclose(metrics["loss/train"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["accuracy/train"], accuracy, rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.params["b"], b, rtol=1e-5, atol=1e-6)
    assert state.step == 6


def test_milestones_and_warm_up_are_counted_in_epochs():
    training = Training(batch_size=20, epochs=10, warmup_epochs=1.5, milestones=(3, 7), schedule="multistep")
    schedule = init_training(linear, linear_params(), {}, training, 90, jax.random.key(0))[1].schedule
    assert (schedule.num_steps, schedule.warmup_steps, schedule.milestones.tolist()) == (45, 6.75, [13.5, 31.5])


def test_a_separable_toy_is_learned_and_the_callers_parameters_are_not_consumed():
    rows, params, model_state = separable(64), linear_params(), {"mean": jnp.zeros(2)}
    state = train(linear, params, model_state, rows, Training(epochs=30, batch_size=16), jax.random.key(0)).state
    logits = linear(state.params, {}, rows.images / 255, train=True)[0]
    assert (logits.argmax(1) == rows.labels).all()
    chex.assert_trees_all_equal(params, linear_params())
    assert not any(x.is_deleted() for x in jax.tree.leaves((params, model_state, rows)))


def test_a_run_is_a_function_of_its_key():
    run = lambda seed: train(  # noqa: E731
        linear, linear_params(), {}, separable(40), Training(epochs=2, batch_size=16), jax.random.key(seed)
    )
    first, again, other = run(0), run(0), run(1)
    chex.assert_trees_all_equal(first.state.params, again.state.params)
    assert not np.array_equal(first.state.params["w"], other.state.params["w"])


def test_another_number_of_rows_compiles_the_step_no_second_time():
    counted = chex.assert_max_traces(linear, n=1)
    for num_rows in (90, 100):
        train(counted, linear_params(), {}, separable(num_rows), Training(epochs=2), jax.random.key(0))


def breaks_at(step):
    def apply_fn(params, model_state, images, train):
        logits, count = linear(params, model_state, images, train)[0], model_state["count"]
        return jnp.where(count == step, jnp.nan, logits), {"count": count + 1}

    return apply_fn


@pytest.mark.parametrize("broken, named", [(0, r"1\.\.4"), (5, r"5\.\.8"), (9, r"9\.\.10")])
def test_a_loss_that_is_not_finite_is_an_error_that_names_the_steps(monkeypatch, broken, named):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    args = linear_params(), {"count": jnp.int32(0)}, separable(20), Training(epochs=5, batch_size=10)
    with pytest.raises(FloatingPointError, match=rf"toy: loss/train not finite in steps {named};"):
        train(breaks_at(broken), *args, jax.random.key(0), label="toy")


def test_every_step_carries_the_model_state_on_and_is_reported(monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    reports = []

    @contextlib.contextmanager
    def progress(label, total):
        reports.append((label, total))
        yield reports.append

    args = linear_params(), {"count": jnp.int32(0)}, separable(20), Training(epochs=5, batch_size=10)
    state = train(breaks_at(-1), *args, jax.random.key(0), progress=progress, label="toy").state
    assert state.model_state["count"] == state.step == 10
    assert reports == [("toy", 10), 0, 4, 4, 2]


@jax.custom_vjp
def explodes(x, now):
    """The identity, whose gradient is not finite when ``now``: the loss of that step still is."""
    return x


explodes.defvjp(lambda x, now: (x, now), lambda now, g: (jnp.where(now, jnp.inf, g), None))


def test_a_gradient_that_is_not_finite_in_the_very_last_step_is_an_error_too():
    def apply_fn(params, model_state, images, train):
        logits, count = linear(params, model_state, images, train)[0], model_state["count"]
        return explodes(logits, count == 9), {"count": count + 1}

    args = linear_params(), {"count": jnp.int32(0)}, separable(20), Training(epochs=5, batch_size=10)
    with pytest.raises(FloatingPointError, match="not finite in steps"):
        train(apply_fn, *args, jax.random.key(0))


def toy_run(seed=0, kept=None, **more):
    run = training_run(linear, linear_params(), {}, separable(20), SHORT, jax.random.key(seed), saving=kept)
    return recording_run(run, **more) if more else run


def traced_run(kept):
    return tracing_run(toy_run(kept=kept), epochs=SHORT.epochs)


TRAININGS = {
    "alone": lambda kept: [toy_run(kept=kept)],
    "recorded": lambda kept: [toy_run(kept=kept, marked=np.arange(20) < 3, part=0.4)],
    "traced": lambda kept: [traced_run(kept)],
    "together": lambda kept: [toy_run(seed, kept=kept and inner(kept, seed)) for seed in range(2)],
}


def inner(kept, seed):
    return dataclasses.replace(kept, directory=kept.directory / str(seed))


def finished(kind, kept=None, **more):
    return [trained.state for trained in finish_trainings(TRAININGS[kind](kept), **more)]


SHORT = Training(epochs=10, batch_size=10, learning_rate=0.5)  # 20 steps


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_training_that_was_stopped_goes_on_where_it_was_and_ends_bit_equal(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    kept, whole, counts = Saving(tmp_path, "a", every_s=1e9, at_end=False), finished(kind), []
    count = len(whole)
    with pytest.raises(Killed):
        finished(kind, kept, progress=recording([], until=8 * count))
    resumed = finished(kind, kept, progress=recording(counts))
    assert counts == [8 * count, 4 * count, 4 * count, 4 * count]
    chex.assert_trees_all_equal(plain_tree(whole), plain_tree(resumed))


@pytest.mark.parametrize("every_s, kept, expected", [(0.0, {"12", "16"}, [16, 4]), (1e9, set(), [0, 4, 4, 4, 4, 4])])
def test_a_training_is_saved_by_the_clock_for_kills_that_ask_nobody(every_s, kept, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    where, counts = Saving(tmp_path, "a", every_s=every_s, at_end=False), []
    whole = finished("alone", where)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()} == kept
    resumed = finished("alone", where, progress=recording(counts))
    assert counts == expected
    chex.assert_trees_all_equal(plain_tree(whole), plain_tree(resumed))


def test_the_seconds_of_a_training_add_up_over_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    clock = itertools.count()
    monkeypatch.setattr(dispatch, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(saving, "time", types.SimpleNamespace(monotonic=lambda: 0))
    kept = Saving(tmp_path, "a", every_s=1e9, at_end=False)
    with pytest.raises(Killed):
        finish_trainings([toy_run(kept=kept)], progress=recording([], until=8))
    (trained,) = finish_trainings([toy_run(kept=kept)])
    assert trained.seconds == 2 + 3  # calls, each a second by that clock


def plain_tree(tree):
    return jax.tree.map(plain, tree)


def plain(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@pytest.mark.parametrize("kind", ["none", "flip"])
def test_batches_are_rows_of_the_data_with_their_labels_augmented_as_asked(kind):
    def recorder(params, model_state, images, train):
        return linear(params, model_state, images, train)[0], {"seen": images}

    rows = separable(64)
    training, state = Training(epochs=1, batch_size=64), {"seen": jnp.zeros((64, 2, 2, 3))}
    state = train(recorder, linear_params(), state, rows, training, jax.random.key(0), augment=kind).state
    before, seen = np.asarray(rows.images), np.rint(np.asarray(state.model_state["seen"]) * 255)
    same, mirrored = ((seen[:, None] == x[None]).all((2, 3, 4)).sum(0) for x in (before, before[:, :, ::-1]))
    assert np.all(same + mirrored == 1)  # each row once
    assert (mirrored.sum() > 0) == (kind == "flip")


def test_models_trained_together_are_those_trained_alone():
    rows, training = [separable(40), separable(40)], Training(epochs=3, batch_size=8, learning_rate=0.5)
    rows[1] = Rows(rows[1].images[::-1], rows[1].labels[::-1])
    starts = [(linear_params(), {}), (jax.tree.map(lambda x: x + 0.1, linear_params()), {})]
    keys, counts = list(jax.random.split(jax.random.key(0))), []
    runs = [
        training_run(linear, *start, r, training, key, augment="flip")
        for start, r, key in zip(starts, rows, keys, strict=True)
    ]
    together = finish_trainings(runs, progress=counted(counts))
    assert counts == [2 * 15]
    for (params, model_state), r, key, one in zip(starts, rows, keys, together, strict=True):
        alone = train(linear, params, model_state, r, training, key, augment="flip")
        chex.assert_trees_all_close(one.state.params, alone.state.params, rtol=1e-5)
        assert int(one.state.step) == 15 and one.seconds > 0
    assert together[0].state.params["b"][0] != together[1].state.params["b"][0]


def counted(counts):
    """A progress that appends the number of steps of each piece of work."""

    @contextlib.contextmanager
    def progress(label, total):
        counts.append(0)

        def advance(count):
            counts[-1] += count

        yield advance

    return progress
