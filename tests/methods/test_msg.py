"""MSG: which weights are drawn anew, from what, and FT with scaled gradients after that."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import VISIBLE, convolved, draw_at, is_finite, numpy, parts, poisoned, rows_of, run_all, sgd, started

from ltu_jax.config import Model, method_config
from ltu_jax.data.batches import gather
from ltu_jax.methods import build_method, msg
from ltu_jax.models.build import build_model
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Rows, Visible, make_state

SETTINGS = dataclasses.replace(
    method_config("msg"), epochs=1.0, batch_size=20, learning_rate=0.25, momentum=0.5, weight_decay=0.125
)


def built(**changes):
    return build_method(dataclasses.replace(SETTINGS, **changes), parts())


def mean_gradient(state, rows):
    """Of all rows at once, in evaluation mode."""

    def loss(params):
        logits, _ = state.apply_fn(params, state.model_state, gather(rows, slice(None)).images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, rows.labels).mean()

    return numpy(jax.grad(loss)(state.params))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_entries_of_smallest_difference_are_drawn_anew_and_no_other_moves(x64, fraction):
    some = Rows(VISIBLE.remain.images[:20], VISIBLE.remain.labels[:20])  # fewer than to forget: all are compared
    start = convolved()
    state, context = started(built(fraction=fraction), Visible(VISIBLE.forget, some), start=start)
    difference = abs(mean_gradient(start, some)["kernel"] - mean_gradient(start, VISIBLE.forget)["kernel"])
    wanted = difference <= np.sort(difference, axis=None)[round(fraction * 81) - 1] if fraction else difference < 0
    assert wanted.sum() == round(fraction * 81)
    np.testing.assert_array_equal(np.asarray(state.params["kernel"] != start.params["kernel"]), wanted)
    for name in ("w1", "w2"):
        np.testing.assert_array_equal(state.params[name], start.params[name])
        np.testing.assert_array_equal(context.extra[name], np.ones(start.params[name].shape))
    np.testing.assert_allclose(context.extra["kernel"], np.where(wanted, 1, 0.1), rtol=1e-6)


def test_as_many_remaining_rows_are_compared_as_there_are_to_forget_and_each_once(monkeypatch):
    seen = []
    spied = lambda fn, state, rows, size, index=None: seen.append(index) or state.params  # noqa: E731
    monkeypatch.setattr(msg, "sum_over_batches", spied)
    for seed in (0, 1):
        started(built(), start=convolved(), seed=seed)
    (_, first, _, second), num_forget = seen, len(VISIBLE.forget.labels)
    assert len(set(first.tolist())) == len(first) == num_forget and max(first.tolist()) >= num_forget
    assert set(first.tolist()) != set(second.tolist())
    assert built().cost(VISIBLE).init == (2 * num_forget, 2 * num_forget, num_forget, num_forget)


def test_of_a_resnet_exactly_k_entries_of_each_kernel_differ_and_they_are_kaimings():
    spec = build_model(Model("resnet8", width=16), 4, (4, 4, 3))
    start = make_state(spec.apply_fn, *spec.init(jax.random.key(0)), SGD, jax.random.key(1))
    state, _ = started(built(), start=start)
    new = jax.tree_util.tree_map_with_path(lambda path, a, b: (path, np.asarray(a), a != b), state.params, start.params)
    kernels = 0
    for path, values, changed in jax.tree.leaves(new, is_leaf=lambda x: isinstance(x, tuple)):
        is_kernel = values.ndim == 4
        kernels += is_kernel
        assert changed.sum() == (round(0.3 * values.size) if is_kernel else 0), path
        if values.size > 9000:
            deviation = np.sqrt(2 / (values.shape[0] * values.shape[1] * values.shape[3]))
            drawn = values[np.asarray(changed)]
            np.testing.assert_allclose(
                [drawn.mean(), drawn.std()], [0, deviation], atol=4 * deviation / len(drawn) ** 0.5
            )
    assert kernels == 9
    chex.assert_trees_all_equal(state.model_state, start.model_state)


def test_then_it_is_fine_tuning_with_scaled_gradients_and_unscaled_decay(x64):
    method = built(epochs=2.0, schedule="constant")
    state, context = started(method, start=convolved())
    draws = [draw_at(method, context, step) for step in range(6)]
    assert {kind for draw in draws for kind, _ in rows_of(draw.images)} == {"remain"}

    def gradient(params, draw):
        def loss(params):
            logits, _ = state.apply_fn(params, {}, draw.images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, draw.labels).mean()

        grads = jax.grad(loss)(jax.tree.map(jnp.asarray, params))
        return {name: np.asarray(g) * np.asarray(context.extra[name]) for name, g in grads.items()}

    gradients = [functools.partial(gradient, draw=draw) for draw in draws]
    wanted, after = sgd(numpy(state.params), gradients, 0.25, 0.5, 0.125), run_all(method, VISIBLE, convolved())
    for name in wanted:
        np.testing.assert_allclose(after.params[name], wanted[name], rtol=1e-5, atol=1e-8)


def test_with_nothing_redrawn_and_nothing_scaled_it_is_fine_tuning_bit_for_bit():
    tuned = build_method(dataclasses.replace(method_config("finetune"), **COMMON), parts())
    method = build_method(dataclasses.replace(method_config("msg"), fraction=0.0, kept_scale=1.0, **COMMON), parts())
    state, context = started(method, start=convolved())
    chex.assert_trees_all_equal(state.params, convolved().params)
    other, other_context = started(tuned, start=convolved())
    step, tuned_step = (jax.jit(lambda s, c, d, m=m: m.step(s, c, d)[0]) for m in (method, tuned))
    for t in range(3):
        draw = draw_at(tuned, other_context, t)
        state, other = step(state, context, draw), tuned_step(other, other_context, draw)
    chex.assert_trees_all_equal((state.params, state.model_state), (other.params, other.model_state))


COMMON = {"epochs": 1.0, "batch_size": 20, "learning_rate": 0.25, "schedule": "constant"}


def test_the_forget_rows_are_read_in_the_first_step_alone():
    method = built()
    _, context = started(method, start=convolved())
    state, _ = started(method, start=convolved())
    for t in range(3):
        state, _ = method.step(state, context, draw_at(method, context, t, poisoned("forget")))
    assert is_finite(state)


def test_its_settings_are_the_published_ones():
    found = method_config("msg")
    assert (found.epochs, found.batch_size, found.learning_rate, found.schedule) == (5.0, 64, 1e-3, "triangular")
    assert (found.fraction, found.kept_scale, found.augment, found.weight_decay) == (0.3, 0.1, False, 5e-4)
