"""UAM, ROSU and LUR against their definitions, written out in NumPy or with jax.grad alone."""

import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import (
    VISIBLE,
    all_draws,
    apply_fn,
    draw_at,
    is_finite,
    label_gradient,
    numpy,
    original,
    parts,
    rows_of,
    run_all,
    sgd,
    started,
)

from experiments import relatives
from ltu_jax.config import LTU
from ltu_jax.methods import build_method
from ltu_jax.methods.ltu import LTUDraw
from ltu_jax.sweeping.configuring import configure
from ltu_jax.training.cost import image_flops
from ltu_jax.training.dispatch import numbers_as_arrays
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Batch, Parts, make_state
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import prepare

ROOT = pathlib.Path(__file__).parents[2]

RATE, WEIGHT, ALPHA, RADIUS = 0.25, 0.5, 0.125, 2.0
NAMES = ("uam", "rosu", "lur", "lur_by_margins")
SETTINGS = LTU(
    epochs=2.0, batch_size=12, query_size=8, num_queries=2, samplers=("uniform", "nearest_label"), optimizer="sgd",
    learning_rate=RATE, momentum=0.5, forget_weight=WEIGHT, inner_learning_rate=ALPHA, order="second",
)  # fmt: skip


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def built(name, settings=SETTINGS, **changes):
    return build_method(dataclasses.replace(settings, name=f"experiments.relatives:{name}", **changes), parts())


def remaining(params, draw):
    """The gradient of the summed losses of the query sets, in NumPy."""
    sets = [label_gradient(params, Batch(*one)) for one in zip(*draw.queries, strict=True)]
    return {name: sum(one[name] for one in sets) for name in params}


def dot(a, b):
    return sum((a[name] * b[name]).sum() for name in a)


def perturbed(params, draw, radius, name):
    """theta + eps of UAM or ROSU."""
    up, down = label_gradient(params, draw.forget), remaining(params, draw)
    if name == "rosu":
        up = {n: up[n] - dot(up, down) / dot(down, down) * down[n] for n in up}
        assert abs(dot(up, down)) < 1e-12
    return {n: params[n] + radius * up[n] / dot(up, up) ** 0.5 for n in params}


@pytest.mark.parametrize("name", ["uam", "rosu"])
@pytest.mark.parametrize("radius", [0.0, RADIUS])
def test_uam_and_rosu_take_the_remaining_gradient_where_the_forget_rows_fit_worse(x64, name, radius):
    """And both at radius 0 are FT on the query sets. The radius falls as the rate does."""
    method = built(name, inner_learning_rate=radius)
    draws = all_draws(method)
    shares = [0.5 * (1 + np.cos(np.pi * t / 4)) for t in range(4)]

    def gradient(draw, share):
        if radius == 0:
            return lambda params: remaining(params, draw)
        return lambda params: remaining(perturbed(params, draw, radius * share, name), draw)

    gradients = [gradient(*one) for one in zip(draws, shares, strict=True)]
    wanted = sgd(numpy(original().params), gradients, RATE * np.array(shares), momentum=0.5)
    after = run_all(method, VISIBLE)
    for n in wanted:
        np.testing.assert_allclose(after.params[n], wanted[n], rtol=1e-6, atol=1e-7)


def moved(name, state, draw, changes):
    """By how much a step changes the parameters, as the gradient that it took."""
    method = built(name, momentum=0.0, schedule="constant", learning_rate=1.0, **changes)
    context = started(method)[1]
    after, metrics = jax.jit(method.step)(state, context, draw)
    assert all(np.isfinite(x).all() for x in metrics.values()) and is_finite(after)
    return jax.tree.map(lambda old, new: np.asarray(old - new), state.params, after.params)


def linear(params, model_state, images, train):
    return images @ params["w"], model_state


def pixels(forget, remain):
    """A state and a draw of two pixels and four classes, whose probabilities are equal at the start."""
    state = make_state(linear, {"w": jnp.zeros((2, 4))}, {}, SGD, jax.random.key(0))
    batches = [Batch(jnp.asarray(images, jnp.float32), jnp.asarray(labels)) for images, labels in (forget, remain)]
    return state, LTUDraw(batches[0], None, jax.tree.map(lambda x: x[None], batches[1]), None, None)


ONE_QUERY = {"num_queries": 1, "query_size": 2, "inner_learning_rate": RADIUS}
NO_GRADIENT = ([[1, 1]] * 4, [0, 1, 2, 3])
"""One image with every label: the probabilities are right already, and the gradient is 0 without rounding."""
ACROSS = ([[1, 1], [-1, 1]], [0, 0])
"""Rows whose gradient has no part along the first pixel, though each row's loss depends on it."""


@pytest.mark.parametrize("remain", [ACROSS, NO_GRADIENT], ids=["orthogonal", "no remaining gradient"])
def test_rosu_is_uam_where_the_gradients_are_orthogonal(remain):
    state, draw = pixels(([[1, 0]], [1]), remain)
    uam, rosu = (moved(name, state, draw, ONE_QUERY) for name in ("uam", "rosu"))
    np.testing.assert_allclose(rosu["w"], uam["w"], rtol=1e-6)
    at_theta = moved("uam", state, draw, {**ONE_QUERY, "inner_learning_rate": 0.0})
    assert np.abs(uam["w"] - at_theta["w"]).max() > 0.1


def test_rosu_is_not_uam_elsewhere():
    state, draw = pixels(([[1, 0]], [1]), ([[1, 1], [1, -1]], [0, 1]))
    uam, rosu = (moved(name, state, draw, ONE_QUERY) for name in ("uam", "rosu"))
    assert np.abs(uam["w"] - rosu["w"]).max() > 0.01


@pytest.mark.parametrize("conflict", [-1.0, 1.0])
def test_a_step_of_some_length_is_orthogonal_to_what_it_avoids_whatever_the_sign(x64, conflict):
    rng = np.random.default_rng(0)
    avoided, other = ({"a": rng.normal(size=(5, 3)), "b": rng.normal(size=4)} for _ in range(2))
    grad = {n: other[n] + conflict * 3 * avoided[n] for n in other}
    assert dot(grad, avoided) * conflict > 0
    update, _ = relatives.step_of_length(RADIUS, avoided).update(grad, optax.EmptyState(), grad)
    assert abs(dot(update, avoided)) < 1e-12 and dot(update, grad) < 0
    np.testing.assert_allclose(dot(update, update), RADIUS**2, rtol=1e-12)


@pytest.mark.parametrize("name", ["uam", "rosu"])
def test_forget_rows_without_a_gradient_perturb_nothing(name):
    state, draw = pixels(NO_GRADIENT, ACROSS)
    wanted = np.zeros((2, 4))  # mean of x (p - y)
    for x, y in zip(*ACROSS, strict=True):
        wanted += np.outer(x, np.full(4, 1 / 4) - np.eye(4)[y]) / 2
    np.testing.assert_allclose(moved(name, state, draw, ONE_QUERY)["w"], wanted, atol=1e-6)


def test_what_is_left_of_parallel_gradients_is_rounding_and_perturbs_nothing():
    method = built("rosu")
    state, context = started(method)
    draw = draw_at(method, context, 0)
    draw = draw._replace(queries=jax.tree.map(lambda x: jnp.stack([x] * 3), draw.forget))
    found = moved("rosu", state, draw, {"num_queries": 3, "inner_learning_rate": 64.0})
    chex.assert_trees_all_close(found, remaining(numpy(state.params), draw), rtol=1e-4, atol=1e-6)


def cross_entropy(params, batch):
    log_p = jax.nn.log_softmax(apply_fn(params, {}, batch.images, True)[0])
    return -jnp.mean(jnp.take_along_axis(log_p, batch.labels[:, None], 1))


def sum_of_remaining(params, draw):
    return sum(cross_entropy(params, Batch(*one)) for one in zip(*draw.queries, strict=True))


def minus_cross_entropy(params, state, draw):
    return -cross_entropy(params, draw.forget)


def margins(params, batch, train, model_state):
    logits = apply_fn(params, model_state, batch.images, train)[0]
    p = jnp.take_along_axis(jax.nn.softmax(logits), batch.labels[:, None], 1)[:, 0]
    return jnp.log(p) - jnp.log(1 - p)


def along_margins(params, state, draw):
    """Its gradient is that of the Huber loss: how far a row is off as it is served, in the direction of training."""
    forget, targets, held_out, before = draw.compared
    now, held_out = (margins(state.params, batch, False, state.model_state) for batch in (forget, held_out))
    off = now - targets - jnp.mean(held_out - before)
    assert (abs(off) < 0.9).any() and (abs(off) > 1.1).any(), "the draw must exercise both parts of the loss"
    return jnp.mean(jnp.clip(off, -1, 1) * margins(params, draw.forget, True, {}))


VARIANTS = {
    "second": {},
    "naive": {"order": "naive"},
    "save_memory": {"save_memory": True},
    "first": {"order": "first"},
    "none": {"order": "none"},
}


OF_FORGET = {"lur": minus_cross_entropy, "lur_by_margins": along_margins}
QUICK = [("lur", "second"), ("lur", "first"), ("lur_by_margins", "second")]


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow)
        for one in itertools.product(OF_FORGET, VARIANTS)
    ],
)
def test_lur_is_the_gradient_of_its_objective(x64, name, variant):
    changes, of_forget = VARIANTS[variant], OF_FORGET[name]
    method = built(name, **changes)
    state, context = started(method)
    draw = draw_at(method, context, 0)
    state = state.replace(params=jax.tree.map(lambda p: 3 * p, state.params))  # no longer the original

    def objective(params):
        inner = jax.grad(sum_of_remaining)(params, draw)
        if variant == "first":
            inner = jax.lax.stop_gradient(inner)
        alpha = 0 if variant == "none" else ALPHA
        after = jax.tree.map(lambda p, g: p - alpha * g, params, inner)
        return sum_of_remaining(params, draw) + WEIGHT * of_forget(after, state, draw)

    wanted = jax.grad(objective)(state.params)
    chex.assert_trees_all_close(moved(name, state, draw, changes), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("changes", [{"inner_learning_rate": 0.0}, {"order": "none"}], ids=["alpha 0", "order none"])
def test_lur_without_an_inner_step_is_neggrad_plus_with_weights_1_and_lambda(x64, changes):
    method = built("lur", **changes)
    state, context = started(method)
    draw = draw_at(method, context, 0)
    params = numpy(state.params)
    down, up = remaining(params, draw), label_gradient(params, draw.forget)
    wanted = {n: down[n] - WEIGHT * up[n] for n in params}
    chex.assert_trees_all_close(moved("lur", state, draw, changes), wanted, rtol=1e-6, atol=1e-9)


def test_lur_by_margins_without_meta_optimization_is_ltu_that_adds_its_gradients(x64):
    """Of LTU's defaults, whole runs: the draws are the same too."""
    settings = LTU(combine="add", batch_size=12, query_size=8, epochs=3.0, forget_weight=4.0, learning_rate=2**-6)
    ours, ltus = (run_all(one, VISIBLE) for one in (built("lur_by_margins", settings), build_method(settings, parts())))
    chex.assert_trees_all_close((ours.params, ours.model_state), (ltus.params, ltus.model_state), rtol=1e-6)
    assert ours.step == 6
    harmonized = run_all(build_method(dataclasses.replace(settings, combine="harmonize"), parts()), VISIBLE)
    assert np.abs(harmonized.params["w1"] - ours.params["w1"]).max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_the_remaining_rows_and_only_margins_see_held_out_rows(name):
    method = built(name)
    state, context = started(method)
    draw = draw_at(method, context, 0)
    after, _ = method.step(state, context, draw)
    wanted = np.asarray(draw.queries.images, float).mean()
    np.testing.assert_allclose(after.model_state["mean"], wanted, rtol=1e-6)
    assert abs(wanted - np.asarray(draw.forget.images, float).mean()) > 1e-4
    assert method.sees_held_out == (draw.compared is not None) == (name == "lur_by_margins")


WIDTHS = (12, 160, 160, 160, 4)


def deep(params, model_state, images, train):
    x = images.reshape(len(images), -1)
    for kernel in params[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ params[-1], model_state


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in NAMES), ("lur", {"order": "first"}), ("lur", {"order": "none"})]
)
def test_the_account_counts_the_images_drawn_and_is_xlas_count_of_the_passes(name, changes):
    method = built(name, **changes)
    drawn = draw_at(method, started(method)[1], 0)
    kinds = [[kind for kind, _ in rows_of(x.reshape(-1, 4, 4, 3))] for x in (drawn.forget.images, drawn.queries.images)]
    init, step = method.cost(VISIBLE)
    assert (kinds[0], kinds[1]) == (["forget"] * 12, ["remain"] * 16) and (step.forget, step.remain) == (12, 16)
    held_out = 36 + 24 if name == "lur_by_margins" else 0  # the forget rows once more
    assert init == (24 + 60 + held_out, 0, 60, 24)

    method = method.replace(parts=Parts(deep, 4))
    params = [jnp.zeros(shape) for shape in zip(WIDTHS, WIDTHS[1:], strict=False)]
    state = make_state(deep, params, {}, SGD, jax.random.key(0))
    # Small images, ten times as many: what the optimizer adds is little then.
    many = jax.tree.map(lambda x: jnp.repeat(x[..., :2, :2, :], 10, -4) if x.ndim > 3 else jnp.repeat(x, 10, -1), drawn)
    traced = jax.jit(lambda *args: args[0].step(*args[1:])).lower(
        numbers_as_arrays(method), state, started(built(name))[1], many
    )
    account = image_flops(deep, params, {}, (2, 2, 3), 120).of(step)
    np.testing.assert_allclose(traced.cost_analysis()["flops"], 10 * account, rtol=0.06)


SMALL = {
    "data.train_size": 80, "data.forget_fraction": 0.2, "model.name": "mlp:build", "training.epochs": 2,
    "training.batch_size": 20, "evaluation.num_retrain": 0, "method.epochs": 1.0, "method.batch_size": 8,
    "method.query_size": 8, "method.num_queries": 1, "method.samplers": ("uniform",),
}  # fmt: skip


@pytest.mark.parametrize("name", ["uam", "rosu", pytest.param("lur", marks=pytest.mark.slow), "lur_by_margins"])
def test_a_cell_of_a_sweep_runs_it(name):
    given = {**SMALL, "method.name": f"experiments.relatives:{name}", "method.order": "second"}
    problem = prepare(configure("experiments/configs/digits.py", "ltu", given))
    state, history = run_problem(problem)
    assert int(state.step) == 2 and is_finite(state)
    assert all(np.isfinite(row["loss/test"]) for row in history.rows)
    assert np.abs(np.asarray(state.params["w1"]) - np.asarray(problem.original.params["w1"])).max() > 0


@pytest.mark.slow
def test_the_command_runs_it(tmp_path):
    words = [f"--config.{name}={value}" for name, value in SMALL.items() if name != "method.samplers"]
    words += ["--config.method.samplers=uniform", "--config.method.name=experiments.relatives:uam"]
    command = [sys.executable, "-m", "ltu_jax.unlearn", "--config", "experiments/configs/digits.py", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    done = subprocess.run([*command, "--workdir", tmp_path / "run"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["method"] == "experiments.relatives:uam" and result["cost"]["backward_images"] == 2 * (8 + 8)
