"""BadT: its loss against a written-out KL, the teacher chosen by row, its steps by SGD in NumPy."""

import dataclasses

import jax
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    all_draws,
    apply_fn,
    backward,
    check_steps,
    forward,
    numpy,
    original,
    parts,
    rows_of,
    softmax,
    started,
)

from ltu_jax.config import BadTeacher
from ltu_jax.methods import bad_teacher
from ltu_jax.types import Parts

SETTINGS = BadTeacher(epochs=1, batch_size=21, learning_rate=0.25, momentum=0.5, weight_decay=0.125, temperature=2.0)


def untrained():
    """A model that is unmistakable: its weights are none that a test draws by chance."""
    params = jax.tree.map(lambda p: -2 * p[::-1], original().params)
    return params, {"mean": np.float32(0.25)}


def built(**changes):
    made = dataclasses.replace(parts(), init_params=lambda key: untrained())
    return bad_teacher.BadTeacher.build(dataclasses.replace(SETTINGS, **changes), made)


def kl_and_gradient(params, draw, temperature):
    """``mean KL(teacher || student)``, both at the temperature; its gradient by hand."""
    images, forget = draw.batch.images, np.asarray(draw.is_forget)
    good = forward(numpy(original().params), images, shift=0.4)[2]  # teachers: stored statistics
    bad = forward(numpy(untrained()[0]), images, shift=0.25)[2]
    target = softmax(np.where(forget[:, None], bad, good) / temperature)
    answer = softmax(forward(params, images)[2] / temperature)
    value = np.mean([sum(p * np.log(p / q)) for p, q in zip(target, answer, strict=True)])
    return value, backward(params, images, (answer - target) / temperature / len(images))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_steps_are_sgd_on_the_kl_to_the_teacher_of_each_row(x64, temperature):
    method = built(temperature=temperature)
    draws = check_steps(method, SETTINGS, lambda params, draw: kl_and_gradient(params, draw, temperature)[1])
    assert len(draws) == 4 and all(0 < d.is_forget.sum() < 21 for d in draws), "each step asks both teachers"
    state, context = started(method)
    after, metrics = method.step(state, context, draws[0])
    value, _ = kl_and_gradient(numpy(state.params), draws[0], temperature)
    np.testing.assert_allclose(metrics["loss/train"], value, rtol=1e-6)
    np.testing.assert_allclose(after.model_state["mean"], draws[0].batch.images.mean(), rtol=1e-6)


def test_the_marks_are_those_of_the_rows_and_each_row_comes_once_an_epoch():
    seen = []
    for draw in all_draws(built()):
        rows = rows_of(draw.batch.images)
        assert [kind == "forget" for kind, _ in rows] == draw.is_forget.tolist()
        seen += rows
    assert len(seen) == len(set(seen)) == 84


def test_the_incompetent_teacher_is_drawn_from_the_runs_key():
    method = bad_teacher.BadTeacher.build(SETTINGS, parts())
    teachers = [started(method, seed=seed)[1].extra for seed in (4, 4, 5)]
    for good, bad in teachers:
        np.testing.assert_array_equal(good.params["w1"], original().params["w1"])
        assert (bad.params["w1"] != good.params["w1"]).all()
    np.testing.assert_array_equal(teachers[0][1].params["w1"], teachers[1][1].params["w1"])
    assert (teachers[0][1].params["w1"] != teachers[2][1].params["w1"]).all()


def test_the_cost_is_three_passes_forward_and_one_back():
    cost = built().cost(VISIBLE)
    np.testing.assert_allclose(cost.step, (63, 21, 15, 6))
    assert not any(cost.init)


def test_a_model_that_cannot_be_made_untrained_is_named():
    with pytest.raises(ValueError, match="BadTeacher: parts.init_params is missing"):
        bad_teacher.BadTeacher.build(SETTINGS, Parts(apply_fn, 4))
