"""One step of LTU against the equations, written out here with jax.grad alone; and what a step draws."""

import dataclasses
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest

from ltu_jax.attackers.bank import init_bank
from ltu_jax.attackers.networks import NETWORKS
from ltu_jax.config import LTU, METHOD_CONFIGS
from ltu_jax.methods import build_method, ltu
from ltu_jax.methods.base import Method
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Batch, Parts, Rows, Visible, make_state

C, RATE, INNER = 4, 0.05, 0.1
SPEC = mlp.build(None, C, (4, 4, 3))  # one model for all tests: what is compiled for it is compiled once
SIZES = {"batch_size": 10, "query_size": 6, "learning_rate": RATE, "inner_learning_rate": INNER}
PLAIN = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}
SETTINGS = LTU(
    **SIZES, **PLAIN, forget_by="attackers", forget_weight=1.0, relabel="step", order="second", tune_weight=0.03
)
MARGINS = dataclasses.replace(SETTINGS, forget_by="margins", relabel="never", order="none", forget_weight=0.5)


SAMPLE = jax.jit(lambda method, *args: method.sample(*args))  # equal structures share what is compiled
STEP = jax.jit(lambda method, *args: method.step(*args))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def problem(settings, apply_fn=None, model_state=None, features=True, augment="none"):
    source = mlp.toy_source()
    visible = Visible(*(source.rows(np.arange(*ends)) for ends in ((0, 24), (24, 90), (90, 120))))
    params, _ = SPEC.init(jax.random.key(1))
    bank = init_bank(jax.random.key(2), ("sorted", "metrics"), C)
    parts = Parts(
        apply_fn or SPEC.apply_fn, C, features=SPEC.features if features else None, bank=bank, augment=augment
    )
    state = make_state(parts.apply_fn, params, model_state or {}, SGD, jax.random.key(3))
    method = build_method(settings, parts)
    state, context = method.init(jax.random.key(4), state, visible)
    sample, step = functools.partial(SAMPLE, method), functools.partial(STEP, method)
    method = Method(method.init, sample, step, method.num_steps)  # one program, not hundreds
    return method, state, context, visible, bank


def in_float64(tree):
    cast = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return jax.tree.map(cast, tree)


def cross_entropy(params, bank, name, batch):
    log_p = jax.nn.log_softmax(SPEC.apply_fn(params, {}, batch.images, True)[0])
    return -log_p[jnp.arange(len(batch.labels)), batch.labels].mean()


def margins(params, batch):
    p = jax.nn.softmax(SPEC.apply_fn(params, {}, batch.images, True)[0])[jnp.arange(len(batch.labels)), batch.labels]
    return jnp.log(p) - jnp.log(1 - p)


class Task(NamedTuple):
    """What an attacker is asked about; which one it is, ``bce`` is told by name."""

    batch: Batch


def bce(params, bank, name, task):
    logits = SPEC.apply_fn(params, {}, task.batch.images, True)[0]
    says = jax.nn.sigmoid(NETWORKS[name].apply(bank.params[name], logits, task.batch.labels))
    return -jnp.log(1 - says).mean()


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))  # many variants differ in what comes after it
def meta_gradient(loss, names, order, weight, params, bank, support, queries):
    """Of Eq. 4, the attackers by name: of the support set, and of each query set."""

    def objective(params):
        tuned = params
        if order != "none":
            grad = jax.grad(loss)(params, bank, names[0], support)
            if order == "first":
                grad = jax.lax.stop_gradient(grad)
            tuned = jax.tree.map(lambda p, g: p - INNER * g, params, grad)
        total = weight * loss(params, bank, names[0], support)
        for i, name in enumerate(names[1:]):
            total += loss(tuned, bank, name, jax.tree.map(lambda x, i=i: x[i], queries))
        return total

    return jax.grad(objective)(params)


def forgetting(settings, params, bank, draw, order):
    """Eq. 11: the attackers i and j of the draw, asked about the forget rows."""
    i, j = map(int, draw.attackers)
    support, query = Task(draw.forget), jax.tree.map(lambda x: x[None], Task(draw.forget))
    return meta_gradient(bce, (bank.names[i], bank.names[j]), order, 1.0, params, bank, support, query)


def matching(settings, params, bank, draw, order):
    """The Huber loss of the forget rows' margins, to targets that moved as the held-out rows did on average."""
    forget, targets, held_out, before = draw.compared
    np.testing.assert_array_equal(forget.images, draw.forget.images)  # this problem augments nothing
    moved = np.mean([now - then for now, then in zip(margins(params, held_out), before, strict=True)])
    assert abs(moved) > 0.1, "the held-out rows must have moved"
    targets = targets + moved

    def huber(params):
        off = jnp.abs(margins(params, draw.forget) - targets)
        return jnp.mean(jnp.where(off <= 1, off**2 / 2, off - 1 / 2))

    off = np.abs(margins(params, draw.forget) - targets)
    assert (off < 0.9).any() and (off > 1.1).any(), "the draw must exercise both parts of the loss"
    return jax.grad(huber)(params)


def expected_gradient(settings, params, bank, draw):
    """Eqs. 1-6, 11, 12 as they read."""
    order = {"naive": "exact"}.get(settings.order, settings.order)
    support, weight = draw.support, settings.tune_weight
    if support is None:
        support, weight = draw.forget, 0.0
    rest = order, weight, params, bank, support, draw.queries
    r = meta_gradient(cross_entropy, (None,) * (1 + settings.num_queries), *rest)
    f = (matching if draw.compared else forgetting)(settings, params, bank, draw, order)
    flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]  # noqa: E731
    r, f = flat(r) * settings.remember, flat(f) * settings.forget_weight * settings.forget
    if settings.combine == "harmonize" and r @ f < 0:
        f = f - (f @ r) / (r @ r) * r
    return f if settings.combine == "alternate" else r + f  # the first iteration is odd: it forgets


VARIANTS = {
    "default": {},
    "naive": {"order": "naive"},
    "first": {"order": "first"},
    "without MetaOpt": {"order": "none"},
    "without ForFeed": {"forget": False},
    "without RemFeed": {"remember": False},
    "GradAdd": {"combine": "add"},
    "Iterative Grad": {"combine": "alternate"},
    "five query sets": {"num_queries": 5},
    "one query set": {"num_queries": 1},
    "save_memory, weights": {"save_memory": True, "tune_weight": 0.5, "forget_weight": 7.0},
}
BY_MARGINS = {
    "margins": {},
    "margins, save_memory": {"save_memory": True, "forget_weight": 7.0},
    "margins, GradAdd": {"combine": "add"},
    "margins, without RemFeed": {"remember": False},
    "margins, random labels": {"relabel": "step", "tune_weight": 0.05},
    "margins, second order": {"relabel": "step", "order": "second", "tune_weight": 0.05},
}


SLOW = (
    *("naive", "five query sets", "one query set", "GradAdd", "Iterative Grad"),
    *("margins, save_memory", "margins, GradAdd", "margins, without RemFeed", "margins, second order"),
)
"""Each is a program of its own, and what it adds has tests in core/."""


SHARPER = 6  # than the original: some margins are further off than the Huber loss is quadratic


def check_step(settings, read_as=None):
    """Holds a step, of a model that is no longer the original, against the equations; ``read_as`` has their numbers."""
    method, state, context, visible, bank = problem(settings)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    if settings.forget_by == "margins":
        state = state.replace(params=jax.tree.map(lambda p: SHARPER * p, state.params))
    state, context, bank, draw = in_float64((state, context, bank, draw))
    after, metrics = method.step(state, context, draw)
    wanted = expected_gradient(read_as or settings, state.params, bank, draw)
    assert metrics["conflict"] == (settings.remember and settings.forget), "the draw must exercise the projection"
    moved = jax.flatten_util.ravel_pytree(jax.tree.map(lambda a, b: (b - a) / RATE, after.params, state.params))[0]
    np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-7)  # rates and weights are held in float32
    np.testing.assert_allclose(metrics["norm/update"], np.linalg.norm(wanted), rtol=1e-5)
    assert after.step == 1
    return draw


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in VARIANTS | BY_MARGINS]
)
def test_a_step_descends_the_gradient_of_the_equations(x64, name):
    start, changes = (MARGINS, BY_MARGINS) if name in BY_MARGINS else (SETTINGS, VARIANTS)
    check_step(dataclasses.replace(start, **changes[name]))


def test_paper_is_equations_4_5_and_11_with_sgd(x64):
    settings = dataclasses.replace(METHOD_CONFIGS["paper"](), **SIZES)
    ones = {"tune_weight": 1.0, "forget_weight": 1.0, "order": "second", "combine": "harmonize"}
    draw = check_step(settings, dataclasses.replace(SETTINGS, **ones))
    assert draw.compared is None and draw.support is not None
    assert (settings.schedule, settings.momentum, settings.epochs, settings.num_queries) == ("constant", 0.0, 7.0, 3)


def test_both_halves_share_the_forget_batch_and_differ_in_their_labels():
    method, state, context, visible, _ = problem(SETTINGS)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    rows = rows_of(draw.forget.images, visible.forget)
    np.testing.assert_array_equal(np.asarray(visible.forget.labels)[rows], draw.forget.labels)
    np.testing.assert_array_equal(draw.support.images, draw.forget.images)
    assert (draw.support.labels != draw.forget.labels).any()
    assert draw.attackers[0] != draw.attackers[1]


def rows_of(images, rows):
    """Which row each image is."""
    stored = np.asarray(rows.images).reshape(len(rows.labels), -1) / np.float32(255)
    flat = np.asarray(images).reshape(-1, stored.shape[1])
    distance = np.abs(flat[:, None] - stored[None]).max(axis=2)
    assert (distance.min(axis=1) < 1e-6).all(), "an image that is no row"
    return distance.argmin(axis=1)


def test_support_comes_from_the_forget_set_and_queries_from_the_rho_subset():
    method, state, context, visible, _ = problem(SETTINGS)
    seen = []
    for step in range(12):  # 12 steps of 10 are five epochs of 24
        draw = method.sample(jax.random.fold_in(jax.random.key(5), step), jnp.int32(step), context, visible)
        rows = rows_of(draw.forget.images, visible.forget)
        np.testing.assert_array_equal(np.asarray(visible.forget.labels)[rows], draw.forget.labels)
        seen += list(rows)
        rows = rows_of(draw.queries.images, visible.remain)
        np.testing.assert_array_equal(np.asarray(visible.remain.labels)[rows], np.ravel(draw.queries.labels))
        assert draw.queries.images.shape == (3, 6, 4, 4, 3)
    np.testing.assert_array_equal(np.bincount(seen, minlength=24), np.full(24, 5))


def test_each_query_set_is_drawn_by_its_own_function_around_the_forget_rows_of_the_step():
    """Eqs. 8-10 in NumPy, with F computed anew: z1 a nearest row, z2 one of the nearest label, z3 any row."""
    method, state, context, visible, _ = problem(dataclasses.replace(SETTINGS, num_neighbours=3))
    forget, remain = (
        np.asarray(SPEC.features(state.params, {}, rows.images.astype(jnp.float32) / 255)) for rows in visible[:2]
    )
    nearest = np.argsort(np.linalg.norm(forget[:, None] - remain[None], axis=2), axis=1)[:, :3]
    labels, of_rest, _ = (np.asarray(rows.labels) for rows in visible)
    assert set(labels) <= set(of_rest)  # so the nearest label is the anchor's own
    near, alike, drawn = [], [], []
    for step in range(12):
        draw = method.sample(jax.random.fold_in(jax.random.key(5), step), jnp.int32(step), context, visible)
        anchors = rows_of(draw.forget.images, visible.forget)[:6]
        rows = [rows_of(images, visible.remain) for images in draw.queries.images]
        near.append([[row in nearest[a] for a, row in zip(anchors, one, strict=True)] for one in rows])
        alike.append([labels[anchors] == of_rest[one] for one in rows])
        drawn += rows
    near, alike = (np.mean(x, axis=(0, 2)) for x in (near, alike))
    assert near[0] == 1 and near[1] < 0.5 and near[2] < 0.5
    assert alike[1] == 1 and alike[2] < 0.7
    assert len({tuple(rows) for rows in drawn}) == 36  # other rows at every step


@pytest.mark.parametrize("augment", ["flip", "none"])
def test_every_image_is_augmented_as_in_training(augment):
    method, state, context, visible, _ = problem(MARGINS, augment=augment)
    mirrored = [[] for _ in range(4)]  # forget, and three query sets
    both = [
        Rows(np.concatenate([x.images, x.images[:, :, ::-1]]), np.resize(x.labels, 2 * len(x.labels))) for x in visible
    ]
    for step in range(12):
        draw = method.sample(jax.random.fold_in(jax.random.key(5), step), jnp.int32(step), context, visible)
        mirrored[0] += list(rows_of(draw.forget.images, both[0]) >= len(visible.forget.labels))
        for i, images in enumerate(draw.queries.images):
            mirrored[1 + i] += list(rows_of(images, both[1]) >= len(visible.remain.labels))
        rows = rows_of(draw.forget.images, both[0]) % len(visible.forget.labels)
        np.testing.assert_array_equal(rows_of(draw.compared.forget.images, both[0]), rows)  # as they are served
        assert max(rows_of(draw.compared.held_out.images, both[2])) < len(visible.held_out.labels)
    for one in mirrored:  # 72 images or more: one in two within four standard deviations
        assert abs(np.mean(one) - 0.5) < 0.24 if augment == "flip" else not any(one)


def test_the_attackers_of_support_and_query_are_drawn_anew_each_step():
    method, state, context, visible, _ = problem(SETTINGS)
    draws = [
        method.sample(jax.random.fold_in(jax.random.key(5), step), state.step, context, visible) for step in range(20)
    ]
    assert {tuple(map(int, draw.attackers)) for draw in draws} == {(0, 1), (1, 0)}


def test_random_labels_are_drawn_at_each_step_or_once():
    for relabel, changes in (("step", True), ("once", False)):
        method, state, context, visible, _ = problem(dataclasses.replace(SETTINGS, batch_size=24, relabel=relabel))
        labels = []
        for step in range(2):
            draw = method.sample(jax.random.key(step), jnp.int32(step), context, visible)
            order = np.argsort(rows_of(draw.support.images, visible.forget))
            labels.append(np.asarray(draw.support.labels)[order])
        assert (labels[0] != labels[1]).any() == changes


def test_statistics_of_the_query_passes_are_kept_and_never_those_of_the_random_label_pass():
    def with_statistics(params, model_state, images, train):
        logits, _ = SPEC.apply_fn(params, {}, images, train)
        return logits, {"mean": jnp.mean(images)} if train else model_state

    for settings, wanted in (
        (SETTINGS, lambda draw: draw.queries.images.mean()),
        (dataclasses.replace(SETTINGS, remember=False), lambda draw: draw.forget.images.mean()),
        (MARGINS, lambda draw: draw.queries.images.mean()),
        (dataclasses.replace(MARGINS, remember=False), lambda draw: draw.forget.images.mean()),
    ):
        method, state, context, visible, _ = problem(settings, with_statistics, {"mean": jnp.zeros(())})
        draw = method.sample(jax.random.key(5), state.step, context, visible)
        after, _ = method.step(state, context, draw)
        np.testing.assert_allclose(after.model_state["mean"], wanted(draw), rtol=1e-6)
        assert abs(wanted(draw) - draw.forget.images.mean()) > 1e-4 or not settings.remember
        assert draw.compared is None or abs(wanted(draw) - draw.compared.held_out.images.mean()) > 1e-4


def test_features_default_to_the_logits():
    _, state, with_features, visible, _ = problem(SETTINGS)
    _, _, with_logits, _, _ = problem(SETTINGS, features=False)
    logits = [
        np.asarray(state.apply_fn(state.params, {}, rows.images.astype(jnp.float32) / 255, False)[0])
        for rows in visible[:2]
    ]
    distance = np.linalg.norm(logits[0][:, None] - logits[1][None], axis=2)
    np.testing.assert_array_equal(with_logits.pool.neighbours, np.argsort(distance, axis=1)[:, :10])
    assert (with_features.pool.neighbours != with_logits.pool.neighbours).any()


def test_the_metrics_show_the_norm_of_each_part_and_each_query_sets_loss():
    method, state, context, visible, _ = problem(SETTINGS)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    _, metrics = method.step(state, context, draw)
    for name in ("norm/remember_tune", "norm/remember_query", "norm/remember_grad", "norm/forget_grad", "cosine"):
        assert np.isfinite(metrics[name])
    log_p = jax.nn.log_softmax(state.apply_fn(state.params, {}, draw.support.images, True)[0])
    np.testing.assert_allclose(
        metrics["loss/remember_tune"], -np.mean(log_p[np.arange(10), draw.support.labels]), rtol=1e-5
    )
    assert {f"loss/remember_query_{i}" for i in range(3)} <= set(metrics)


def test_epochs_over_the_forget_set_count_the_steps():
    method, *_, visible, _ = problem(dataclasses.replace(SETTINGS, epochs=5.0))
    assert method.num_steps(visible) == 12
    small = Visible(Rows(visible.forget.images[:4], visible.forget.labels[:4]), visible.remain)
    assert method.num_steps(small) == 5  # the batch is as large as the set


def test_momentum_is_the_optimizers_and_the_rate_follows_the_schedule():
    settings = dataclasses.replace(SETTINGS, momentum=0.9, schedule="cosine", epochs=1.0)  # 2 steps
    method, state, context, visible, _ = problem(settings)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    step = jax.jit(method.step)
    once, first = step(state, context, draw)
    twice, second = step(once, context, draw)
    np.testing.assert_allclose([first["rate/outer"], second["rate/outer"]], [RATE, RATE / 2], rtol=1e-6)
    plain_state = once.replace(opt_state=state.opt_state)  # the velocity forgotten: what the gradient alone does
    alone, _ = step(plain_state, context, draw)
    moved = lambda a, b: jax.tree.map(lambda x, y: y - x, a.params, b.params)  # noqa: E731
    wanted = jax.tree.map(lambda v, g: 0.9 * v / 2 + g, moved(state, once), moved(once, alone))
    chex.assert_trees_all_close(moved(once, twice), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_outer_optimizer_is_the_one_of_the_settings(optimizer):
    """Adam in NumPy on the gradients that plain SGD took, of which the first beta is ``momentum``."""
    numbers = lambda state: np.asarray(jax.flatten_util.ravel_pytree(state.params)[0], np.float64)  # noqa: E731
    method, state, context, visible, _ = problem(dataclasses.replace(MARGINS, optimizer=optimizer, momentum=0.5))
    plain, start, *_ = problem(MARGINS)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    mean = square = 0
    for t in (1, 2):
        descended, _ = plain.step(start.replace(params=state.params), context, draw)
        grad = (numbers(state) - numbers(descended)) / RATE
        mean, square = 0.5 * mean + 0.5 * grad, 0.999 * square + 0.001 * grad**2
        wanted = numbers(state) - RATE * (mean / (1 - 0.5**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        state, _ = method.step(state, context, draw)
        np.testing.assert_allclose(numbers(state), wanted, atol=1e-3 * RATE)


def test_attackers_are_a_part_where_they_say_what_is_forgotten_and_only_there():
    without = Parts(lambda *a, **k: None, C)
    with pytest.raises(ValueError, match="parts.bank is missing"):
        ltu.LTU.build(SETTINGS, without)
    assert not ltu.LTU.build(SETTINGS, without.replace(bank=0)).sees_held_out
    assert ltu.LTU.build(MARGINS, without).sees_held_out


@pytest.mark.parametrize("settings", [SETTINGS, MARGINS], ids=["attackers", "margins"])
def test_the_account_of_init_is_what_it_passes_through_the_model(settings):
    passed = []

    def counted(params, model_state, images, train):
        jax.debug.callback(lambda: passed.append(len(images)))
        return SPEC.apply_fn(params, {}, images, train)

    source = mlp.toy_source()
    visible = Visible(*(source.rows(np.arange(*ends)) for ends in ((0, 24), (24, 90), (90, 120))))
    state = make_state(counted, *SPEC.init(jax.random.key(1)), SGD, jax.random.key(3))
    bank = init_bank(jax.random.key(2), ("sorted", "metrics"), C)
    method = ltu.LTU.build(dataclasses.replace(settings, batch_size=6), Parts(counted, C, bank=bank))
    jax.block_until_ready(method.init(jax.random.key(4), state, visible))
    jax.effects_barrier()
    assert sum(passed) == method.cost(visible).init.forward >= 24 + 66
    assert method.cost(visible).init.backward == 0


def test_without_a_support_set_there_is_no_metric_of_it():
    method, state, context, visible, _ = problem(MARGINS)
    _, metrics = method.step(state, context, method.sample(jax.random.key(5), state.step, context, visible))
    assert {name for name in metrics if "remember" in name or "forget" in name} == {
        *(f"loss/remember_query_{i}" for i in range(3)), "norm/remember_query", "norm/remember_grad",
        "loss/forget_query_0", "norm/forget_query", "norm/forget_grad",
    }  # fmt: skip
