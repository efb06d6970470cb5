"""Gradient harmonization (Eq. 12), and the alternatives of Table 4."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax


class Harmonized(NamedTuple):
    """A combined gradient to descend, and the angle between its two parts."""

    grad: chex.ArrayTree
    cosine: jax.Array  # f32[] in [-1, 1]; 0 if a part is zero
    conflict: jax.Array  # bool[]: cosine < 0


def _wide(grad: chex.ArrayTree) -> chex.ArrayTree:
    """In 32 bits or more: in 16 a squared norm overflows, and small addends are lost."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), grad)


def _inner(g_remember: chex.ArrayTree, g_forget: chex.ArrayTree) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``(g_f . g_r, |g_r|^2, cosine)``, with each tree as one vector."""
    chex.assert_trees_all_equal_shapes(g_remember, g_forget)
    g_remember, g_forget = (_wide(grad) for grad in (g_remember, g_forget))
    pairs = ((g_remember, g_forget), (g_remember, g_remember), (g_forget, g_forget))
    dot, square_r, square_f = (jnp.asarray(optax.tree.vdot(a, b)) for a, b in pairs)
    # The roots come first, because the product of two small squared norms underflows.
    norms = jnp.sqrt(square_r) * jnp.sqrt(square_f)
    return dot, square_r, dot / jnp.maximum(norms, jnp.finfo(dot.dtype).tiny)


@jax.jit
def harmonize(g_remember: chex.ArrayTree, g_forget: chex.ArrayTree) -> Harmonized:
    """Projects ``g_forget`` off ``g_remember`` when they conflict, and adds the two. Eq. 12.

    The whole tree is one vector: there is one inner product, not one per layer. A ``g_remember`` whose
    squared norm is zero or underflows never conflicts.

    Args:
      g_remember: descent gradient for remembering; any float tree.
      g_forget: descent gradient for forgetting; same structure and shapes.

    Raises:
      AssertionError: at trace time, if structures or shapes differ.
    """
    dot, square_r, cosine = _inner(g_remember, g_forget)
    conflict = (dot < 0) & (square_r > 0)
    # `where` evaluates both branches, so the divisor must be safe in each.
    scale = jnp.where(conflict, dot / jnp.where(square_r > 0, square_r, 1), 0)
    projected = optax.tree.add_scale(_wide(g_forget), -scale, _wide(g_remember))
    grad = optax.tree.add(_wide(g_remember), projected)
    return Harmonized(optax.tree.cast_like(grad, g_remember), cosine, conflict)


def add(g_remember: chex.ArrayTree, g_forget: chex.ArrayTree) -> Harmonized:
    """Plain addition of the two gradients: Table 4, *w/ GradAdd*. Arguments as for ``harmonize``."""
    dot, _, cosine = _inner(g_remember, g_forget)
    return Harmonized(optax.tree.add(g_remember, g_forget), cosine, dot < 0)


def alternate(g_remember: chex.ArrayTree, g_forget: chex.ArrayTree, step: jax.Array) -> Harmonized:
    """Forgetting at odd iterations, remembering at even ones: Table 4, *w/ Iterative Grad*.

    It makes half as many updates of each kind as the others; compare it at an equal number. Both gradients are made
    at every step all the same, so its cost is that of the others, not half.

    Args:
      g_remember: as for ``harmonize``.
      g_forget: as for ``harmonize``.
      step: the number of steps before this one, i32[]; the first iteration (step 0) is odd and forgets.
    """
    dot, _, cosine = _inner(g_remember, g_forget)
    grad = jax.tree.map(lambda r, f: jnp.where(step % 2 == 0, f, r), g_remember, g_forget)
    return Harmonized(grad, cosine, dot < 0)


COMBINERS: dict[str, Callable[[chex.ArrayTree, chex.ArrayTree, jax.Array], Harmonized]] = {
    "harmonize": lambda g_remember, g_forget, step: harmonize(g_remember, g_forget),
    "add": lambda g_remember, g_forget, step: add(g_remember, g_forget),
    "alternate": alternate,
}
