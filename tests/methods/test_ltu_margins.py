"""Forgetting by margins: what forget rows are compared with and brought to. The step itself stands in ``test_ltu``."""

import chex
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from test_ltu import MARGINS, SETTINGS, SHARPER, SPEC, C, margins, problem, rows_of

from ltu_jax.evaluation import likeness
from ltu_jax.methods import ltu
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, Rows, StoredImages, Visible, make_state


def test_forgetting_by_margins_needs_held_out_rows():
    source = mlp.toy_source()
    for held_out in (None, source.rows(np.arange(0))):
        method = ltu.LTU.build(MARGINS, Parts(SPEC.apply_fn, C))
        state = make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(1)), SGD, jax.random.key(3))
        visible = Visible(source.rows(np.arange(24)), source.rows(np.arange(24, 90)), held_out)
        with pytest.raises(ValueError, match="ltu: visible.held_out has no rows; allowed: one or more, or forget_by"):
            method.init(jax.random.key(4), state, visible)


def in_numpy(params, rows):
    """The margin of each row in evaluation mode, which the toy model has alone, by the evaluation's own measure."""
    images = np.asarray(rows.images, np.float64) / 255 - 0.5
    hidden = np.tanh(images.reshape(len(images), -1) @ np.asarray(params["w1"], np.float64))
    return likeness.predictions(hidden @ np.asarray(params["w2"], np.float64), np.asarray(rows.labels)).margin


def test_the_targets_are_the_originals_margins_of_class_matched_held_out_rows_by_rank():
    _, state, context, visible, _ = problem(MARGINS)
    forget, held_out = in_numpy(state.params, visible.forget), in_numpy(state.params, visible.held_out)
    np.testing.assert_allclose(context.matching.held_out, held_out, rtol=1e-3, atol=1e-4)
    weights = likeness.matched_weights(*(np.asarray(rows.labels) for rows in (visible.held_out, visible.forget)))
    order = np.argsort(held_out)
    middles = np.cumsum(weights[order]) - weights[order] / 2
    wanted = np.interp((np.argsort(np.argsort(forget)) + 0.5) / 24, middles, held_out[order])
    np.testing.assert_allclose(context.matching.targets, wanted, rtol=1e-3, atol=1e-4)
    assert np.std(weights) > 0 and np.abs(wanted - forget).max() > 0.1
    assert problem(SETTINGS)[2].matching is None


def surer_in_training(params, model_state, images, train):
    """Margins are three times as large in training mode."""
    logits, _ = SPEC.apply_fn(params, {}, images, train)
    return (3 if train else 1) * logits, model_state


def test_the_originals_margins_are_those_that_it_is_served_with():
    _, state, context, visible, _ = problem(MARGINS, augment="flip")
    state, method = state.replace(apply_fn=surer_in_training), ltu.LTU.build(MARGINS, Parts(surer_in_training, C))
    matching = method.init(jax.random.key(4), state, visible)[1].matching
    np.testing.assert_allclose(matching.held_out, in_numpy(state.params, visible.held_out), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(matching.targets, context.matching.targets)


def test_how_far_a_row_is_off_is_seen_as_served_and_the_direction_is_that_of_training():
    method, state, context, visible, _ = problem(MARGINS)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    params = jax.tree.map(lambda p: SHARPER * p, state.params)
    state, trained = state.replace(params=params, apply_fn=surer_in_training), ltu.LTU.build(MARGINS, Parts(None, C))
    found = trained.match(state, draw)
    forget, targets, held_out, before = draw.compared
    off = margins(params, forget) - targets - jnp.mean(margins(params, held_out) - before)
    assert (abs(off) < 0.9).any() and (abs(off) > 1.1).any(), "the draw must exercise both parts of the loss"

    def along(params):  # the derivative of the Huber loss is clip(off, -1, 1)
        log_p = jax.nn.log_softmax(surer_in_training(params, {}, draw.forget.images, True)[0])
        own = log_p[jnp.arange(len(off)), draw.forget.labels]
        return jnp.mean(jnp.clip(off, -1, 1) * (own - jnp.log1p(-jnp.exp(own))))

    for ours, wanted in zip(jax.tree.leaves(found.grad), jax.tree.leaves(jax.grad(along)(params)), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=1e-4)
    huber = jnp.where(abs(off) <= 1, off**2 / 2, abs(off) - 1 / 2)
    np.testing.assert_allclose(found.query_losses, [huber.mean()], rtol=1e-4)


def test_what_a_batch_is_compared_with_belongs_to_its_rows():
    method, state, context, visible, _ = problem(MARGINS)
    targets, before = (np.asarray(x) for x in (context.matching.targets, context.matching.held_out))
    drawn = set()
    for step in range(12):
        draw = method.sample(jax.random.fold_in(jax.random.key(5), step), jnp.int32(step), context, visible)
        np.testing.assert_array_equal(draw.compared.targets, targets[rows_of(draw.forget.images, visible.forget)])
        rows = rows_of(draw.compared.held_out.images, visible.held_out)
        np.testing.assert_array_equal(draw.compared.before, before[rows])
        np.testing.assert_array_equal(draw.compared.held_out.labels, np.asarray(visible.held_out.labels)[rows])
        assert len(set(rows)) == 10, "a row is drawn once a step"
        drawn |= set(rows)
        assert draw.attackers is None and draw.support is None
    assert drawn == set(range(30))
    few = visible._replace(held_out=Rows(visible.held_out.images[:4], visible.held_out.labels[:4]))
    draw = method.sample(jax.random.key(5), jnp.int32(0), context, few)
    assert sorted(rows_of(draw.compared.held_out.images, few.held_out)) == [0, 1, 2, 3]


def test_images_on_the_host_are_compared_alike():
    method, _, context, visible, _ = problem(MARGINS, augment="flip")
    source, params = mlp.toy_source(), SPEC.init(jax.random.key(1))[0]
    places = (np.arange(*ends) for ends in ((0, 24), (24, 90), (90, 120)))
    on_host = Visible(*(Rows(StoredImages(source.images, at), jnp.asarray(source.labels[at])) for at in places))
    state = make_state(SPEC.apply_fn, params, {}, SGD, jax.random.key(3))
    built = ltu.LTU.build(MARGINS, Parts(SPEC.apply_fn, C, features=SPEC.features, augment="flip"))
    state, again = built.init(jax.random.key(4), state, on_host)
    chex.assert_trees_all_equal(again.matching, context.matching)
    draws = [
        built.sample(jax.random.key(5), jnp.int32(1), again, on_host),
        method.sample(jax.random.key(5), jnp.int32(1), context, visible),
    ]
    chex.assert_trees_all_close(*draws, rtol=1e-6)


def centred(params, model_state, images, train):
    """Logits that in training mode are centred by the batch, as BatchNorm centres."""
    logits, _ = SPEC.apply_fn(params, {}, images, train)
    return (logits - logits.mean(axis=0, keepdims=True) if train else logits), model_state


def test_few_forget_rows_are_normalised_with_remaining_ones():
    """One row alone, centred by itself, has equal logits whatever the weights: its gradient would be none."""
    source = mlp.toy_source()
    visible = Visible(*(source.rows(np.arange(*ends)) for ends in ((0, 1), (24, 90), (90, 120))))
    method = ltu.LTU.build(MARGINS, Parts(centred, C, features=SPEC.features))
    state = make_state(centred, *SPEC.init(jax.random.key(1)), SGD, jax.random.key(3))
    state, context = method.init(jax.random.key(4), state, visible)
    draw = method.sample(jax.random.key(5), state.step, context, visible)
    np.testing.assert_array_equal(draw.along, draw.queries.images[-1])
    loss, task = method.distance(state, draw)

    def margin(params):
        logits = SPEC.apply_fn(params, {}, jnp.concatenate([draw.forget.images, draw.along]), True)[0]
        p = jax.nn.softmax(logits[0] - logits.mean(axis=0))[draw.forget.labels[0]]
        return jnp.log(p) - jnp.log(1 - p)

    _, targets, now = task
    slope = np.clip(now[0] - targets[0], -1, 1)  # of the Huber loss
    assert abs(slope) > 0.01
    wanted = jax.tree.map(lambda g: slope * g, jax.grad(margin)(state.params))
    found = jax.grad(lambda params: loss(params, task)[0])(state.params)
    chex.assert_trees_all_close(found, wanted, rtol=1e-3, atol=1e-5)
    assert np.abs(found["w1"]).max() > 1e-4

    many = problem(MARGINS)
    assert many[0].sample(jax.random.key(5), many[1].step, many[2], many[3]).along is None
