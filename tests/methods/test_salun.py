"""SalUn: the mask by ranking in NumPy, masked weights bit-equal, the others by RandL's steps."""

import dataclasses

import jax
import numpy as np
import pytest
from by_hand import (
    VISIBLE,
    check_steps,
    label_gradient,
    label_loss,
    numpy,
    original,
    parts,
    rows_of,
    run_all,
    started,
)

from ltu_jax.config import SalUn
from ltu_jax.data.batches import gather
from ltu_jax.methods import salun

SETTINGS = SalUn(epochs=1, batch_size=12, learning_rate=0.25, momentum=0.5, weight_decay=0.125)
NUM_WEIGHTS = 48 * 16 + 16 * 4


def built(**changes):
    return salun.SalUn.build(dataclasses.replace(SETTINGS, **changes), parts())


def saliency():
    """The size of the gradient of the forget rows' loss at the original, in evaluation mode."""
    _, grad = label_loss(numpy(original().params), *gather(VISIBLE.forget, slice(None)), shift=0.4)
    return {name: abs(g) for name, g in grad.items()}


def expected_mask(fraction):
    values = np.sort(np.concatenate([s.ravel() for s in saliency().values()]))[::-1]
    return {name: s >= values[round(fraction * NUM_WEIGHTS) - 1] for name, s in saliency().items()}


def mask_of(state):
    return jax.tree.map(np.asarray, state.opt_state[1].mask)


@pytest.mark.parametrize("fraction", [0.5, 0.001, 1.0])
def test_the_mask_keeps_exactly_the_stated_fraction_the_largest_of_all_tensors_together(x64, fraction):
    mask, wanted = mask_of(started(built(keep_fraction=fraction))[0]), expected_mask(fraction)
    assert sum(m.sum() for m in mask.values()) == round(fraction * NUM_WEIGHTS)
    for name in wanted:
        np.testing.assert_array_equal(mask[name], wanted[name])
    shares = {name: m.mean() for name, m in mask.items()}
    assert fraction == 1.0 or shares["w1"] != shares["w2"], "one ranking, not one a tensor"


def test_equal_entries_are_still_cut_at_the_fraction():
    mask = salun.largest({"a": np.ones(7, np.float32), "b": np.zeros((2, 2), np.float32)}, 0.5)
    assert mask["a"].sum() == round(0.5 * 11) and not mask["b"].any()
    assert salun.largest({"a": np.float32([-3, 1, 2])}, 1 / 3)["a"].tolist() == [True, False, False]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_masked_weights_stay_bit_equal_and_all_others_move(optimizer):
    method = built(optimizer=optimizer, epochs=2)
    assert method.num_steps(VISIBLE) == 14
    state, _ = started(method)
    mask, after = mask_of(state), run_all(method, VISIBLE)
    for name, before in original().params.items():
        same = np.asarray(before).view(np.uint32) == np.asarray(after.params[name]).view(np.uint32)
        np.testing.assert_array_equal(same, ~mask[name])
    assert after.model_state["mean"] != original().model_state["mean"]  # statistics are never masked


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_the_others_take_the_steps_of_random_label(x64, fraction):
    draws = check_steps(built(keep_fraction=fraction), SETTINGS, label_gradient, mask=expected_mask(fraction))
    for draw, kind in zip(draws, ["forget"] * 2 + ["remain"] * 5, strict=True):
        kinds, rows = zip(*rows_of(draw.images), strict=True)
        assert set(kinds) == {kind}
        kept = draw.labels == np.asarray(getattr(VISIBLE, kind).labels)[np.array(rows)]
        assert kept.all() == (kind == "remain"), "forget rows are relabelled, remaining ones are not"


def test_the_cost_of_the_mask_is_one_pass_over_the_forget_rows():
    cost = built().cost(VISIBLE)
    assert cost.init == (24, 24, 0, 24)
    assert cost.step.forward == cost.step.backward == 12
