"""Eq. 12 against linear algebra, at its edges too."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.core.harmonize import COMBINERS, add, alternate, harmonize

pytestmark = pytest.mark.smoke


def random_tree(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "a": jax.random.normal(keys[0], (3, 4)),
        "b": [jax.random.normal(keys[1], (5,)), jax.random.normal(keys[2], ())],
    }


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(np.float64)


@pytest.mark.parametrize("seed", range(5))
def test_projection_is_orthogonal_when_gradients_conflict(seed):
    g_r = random_tree(seed)
    g_f = optax.tree.add_scale(random_tree(seed + 100), -3.0, g_r)  # forces cos < 0
    out, r, f = harmonize(g_r, g_f), flat(g_r), flat(g_f)
    np.testing.assert_allclose((flat(out.grad) - r) @ r, 0, atol=1e-4)
    np.testing.assert_allclose(flat(out.grad), r + f - (f @ r) / (r @ r) * r, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.cosine, f @ r / np.linalg.norm(r) / np.linalg.norm(f), rtol=1e-5)
    assert out.conflict


@pytest.mark.parametrize("seed", range(5))
def test_agreeing_gradients_only_add(seed):
    g_r = random_tree(seed)
    g_f = optax.tree.add_scale(random_tree(seed + 100), 3.0, g_r)  # forces cos > 0
    out = harmonize(g_r, g_f)
    chex.assert_trees_all_close(out.grad, optax.tree.add(g_r, g_f), rtol=1e-6)
    assert not out.conflict


def test_exactly_opposite_gradients_leave_remembering_alone():
    g_r = random_tree(0)
    out = harmonize(g_r, optax.tree.scale(-2.0, g_r))
    chex.assert_trees_all_close(out.grad, g_r, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.cosine, -1, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30])  # 1e-30 squared underflows
def test_vanishing_remember_gradient_leaves_forget_alone(scale):
    g_f = random_tree(1)
    out = harmonize(optax.tree.scale(-scale, g_f), g_f)
    chex.assert_trees_all_close(out.grad, g_f, rtol=1e-6)
    assert np.isfinite(out.cosine) and not out.conflict


def test_cosine_survives_where_the_product_of_squares_underflows():
    g_r, g_f = (optax.tree.scale(1e-15, random_tree(seed)) for seed in (1, 2))
    r, f = flat(random_tree(1)), flat(random_tree(2))
    np.testing.assert_allclose(harmonize(g_r, g_f).cosine, f @ r / np.linalg.norm(r) / np.linalg.norm(f), rtol=1e-4)


@pytest.mark.parametrize("dtype, error", [(jnp.float16, 1e-3), (jnp.bfloat16, 1e-2)])
def test_many_entries_of_16_bits_are_summed_in_32(dtype, error):
    """In float16 their squared norm is infinite; in bfloat16 a sum stands still at addends below its last digit."""
    g_r, g_f = (jax.random.normal(jax.random.key(seed), (200_000,)).astype(dtype) for seed in (1, 2))
    g_f -= g_r  # forces cos < 0
    out, r, f = harmonize(g_r, g_f), flat(g_r), flat(g_f)
    assert out.conflict and out.grad.dtype == dtype
    np.testing.assert_allclose(out.cosine, f @ r / np.linalg.norm(r) / np.linalg.norm(f), rtol=1e-4)
    apart = np.linalg.norm(flat(out.grad) - (r + f - (f @ r) / (r @ r) * r))
    assert apart < error * np.linalg.norm(r)


def test_mismatched_trees_are_refused():
    with pytest.raises(AssertionError):
        harmonize({"a": jnp.ones(3)}, {"a": jnp.ones(4)})
    with pytest.raises(AssertionError):
        add({"a": jnp.ones(3)}, {"b": jnp.ones(3)})


def test_alternation_forgets_at_odd_iterations_and_remembers_at_even_ones():
    g_r, g_f = random_tree(1), random_tree(2)
    chex.assert_trees_all_equal(alternate(g_r, g_f, jnp.int32(0)).grad, g_f)
    chex.assert_trees_all_equal(alternate(g_r, g_f, jnp.int32(1)).grad, g_r)


def test_every_combiner_adds_or_chooses_as_table_4_names_it():
    g_r = random_tree(3)
    g_f = optax.tree.add_scale(random_tree(4), -3.0, g_r)
    out = {name: flat(combine(g_r, g_f, jnp.int32(0)).grad) for name, combine in COMBINERS.items()}
    np.testing.assert_allclose(out["add"], flat(g_r) + flat(g_f), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out["alternate"], flat(g_f))
    np.testing.assert_allclose((out["harmonize"] - flat(g_r)) @ flat(g_r), 0, atol=1e-4)
