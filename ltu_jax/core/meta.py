"""The meta-optimization scheme: meta-tune, meta-test, meta-update. Eqs. 1-5."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax

Tree = TypeVar("Tree")
ORDERS = ("second", "naive", "first", "none")

LossFn = Callable[[chex.ArrayTree, Any], tuple[jax.Array, Any]]
"""``loss_fn(params, task) -> (scalar, aux)``; a task is any tree of arrays."""


class Norms(NamedTuple):
    """Who drowns whom: the norms of the parts of a meta-gradient, each f32[]."""

    tune: jax.Array  # |grad L_tune(theta)|, unweighted
    query: jax.Array  # |v|, v the gradient of the summed L_test at theta^tau
    grad: jax.Array  # |the meta-gradient|


class Aux(NamedTuple):
    """What ``loss_fn`` returned beside the loss, in each pass."""

    support: Any
    queries: Any  # every leaf with a leading axis N


class MetaGrad(NamedTuple):
    """The meta-gradient and what it was made of."""

    grad: chex.ArrayTree  # like params
    tune_loss: jax.Array  # f32[], L_tune(theta), Eq. 1
    query_losses: jax.Array  # f32[N], L_test^i(theta^tau), Eq. 3
    norms: Norms
    aux: Aux


def after(tree: Tree, done: chex.ArrayTree) -> Tree:
    """``tree``, to be had only once ``done`` is computed, so that two parts of a program are not in memory at once.

    Adds a zero that depends on ``done``. ``jax.lax.optimization_barrier`` says the same, but XLA's CPU
    backend drops it before it decides what runs when.

    Args:
      tree: arrays of numbers.
      done: arrays of floats.

    Returns:
      ``tree``, also where ``done`` is not finite.
    """
    norm = optax.tree.norm(done)
    zero = jnp.where(norm < 0, norm, 0)  # no norm is negative, but no compiler knows that
    return jax.tree.map(lambda x: x + zero.astype(x.dtype), tree)


def meta_grad(
    loss_fn: LossFn,
    params: chex.ArrayTree,
    support: Any,
    queries: Any,
    inner_tx: optax.GradientTransformation,
    *,
    order: str = "second",
    tune_weight: float | jax.Array = 1.0,
    save_memory: bool = False,
) -> MetaGrad:
    """Gradient of ``tune_weight L_tune(theta) + sum_i L_test^i(theta^tau)``. Eq. 4; descend it for Eq. 5.

    theta^tau is one step of ``inner_tx``, with a fresh optimizer state, on the gradient of L_tune
    (Eq. 2). With g that gradient, u(theta, g) the step and v the gradient of the summed test loss
    at theta^tau, the chain rule gives

        tune_weight g + (du/dtheta)^T v + H (du/dg)^T v

    which for plain SGD is ``g + (I - alpha H) v``. H is symmetric, so its product is the forward
    derivative of g along a vector: no backward pass of a backward pass, whose convolutions are slow.
    That is ``order="second"``; ``"naive"`` is ``jax.grad`` of Eq. 4 as it reads, the reference it
    is tested against.

    An optimizer whose update is not differentiable at g = 0 (Adam with ``eps_root=0``) gives NaN there.

    Args:
      loss_fn: ``(params, task) -> (scalar, aux)``, differentiable twice in ``params``.
      params: theta.
      support: the task of meta-tune, S.
      queries: the tasks of meta-test, Q^1..Q^N: every leaf with a leading axis N.
      inner_tx: the inner optimizer; ``optax.sgd(alpha)`` is Eq. 2.
      order: ``"second"`` exact; ``"naive"`` the same by double backward; ``"first"`` drops the term
        in H; ``"none"`` tests at theta itself (Table 3, without meta-optimization).
      tune_weight: weight of L_tune in the outer sum, f32[]; 1 is the paper's.
      save_memory: takes the query sets one after another instead of by ``vmap``, and passes the support
        again for the product with H instead of keeping its passes: the peak is that of a Hessian
        product, for one more gradient. The sets' BatchNorm statistics are separate in both. Orders without
        that product pass the query sets one after another, no more; ``"naive"`` ignores it.

    Returns:
      ``MetaGrad``.

    Raises:
      ValueError: for an unknown ``order``.
      AssertionError: at trace time, if the query leaves do not share a leading axis.
    """
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is unknown; allowed: {', '.join(ORDERS)}")
    chex.assert_equal_shape_prefix(jax.tree.leaves(queries), 1)

    def tune(params):
        (loss, aux), grad = jax.value_and_grad(loss_fn, has_aux=True)(params, support)
        return grad, (loss, aux)

    def inner_step(params, grad):
        updates, _ = inner_tx.update(grad, inner_tx.init(params), params)
        return optax.apply_updates(params, updates)

    def test(tuned):
        # The gradient of the sum, never vmap(grad): that would make N copies of the gradient.
        losses, aux = jax.vmap(loss_fn, in_axes=(None, 0))(tuned, queries)
        return losses.sum(), (losses, aux)

    def along_anew(vector):
        return jax.jvp(lambda params: tune(params)[0], (after(params, vector),), (vector,))[1]

    def objective(params):  # Eq. 4 as it reads
        (loss, _), grad = jax.value_and_grad(loss_fn, has_aux=True)(params, support)
        return tune_weight * loss + test(inner_step(params, grad))[0]

    if order == "second" and not save_memory:
        g, along, (tune_loss, support_aux) = jax.linearize(tune, params, has_aux=True)
    else:
        (g, (tune_loss, support_aux)), along = tune(params), along_anew
    if order == "none":
        tuned, pull = params, lambda v: (v, None)
    else:
        tuned, pull = jax.vjp(inner_step, params, g)
    v, (query_losses, query_aux) = (
        _test_in_turn(loss_fn, tuned, queries) if save_memory else jax.grad(test, has_aux=True)(tuned)
    )

    if order == "naive":
        grad = jax.grad(objective)(params)
    else:
        direct, through_g = pull(v)
        grad = optax.tree.add_scale(direct, tune_weight, g)
        if order == "second":
            grad = optax.tree.add(grad, along(through_g))
    norms = Norms(optax.tree.norm(g), optax.tree.norm(v), optax.tree.norm(grad))
    return MetaGrad(grad, tune_loss, query_losses, norms, Aux(support_aux, query_aux))


def _test_in_turn(loss_fn: LossFn, tuned: chex.ArrayTree, queries: Any) -> tuple[chex.ArrayTree, Any]:
    """The gradient of the summed test loss, one query set after another, and ``(losses, aux)`` of all."""
    total, sets = optax.tree.zeros_like(tuned), []
    for i in range(len(jax.tree.leaves(queries)[0])):
        query = jax.tree.map(lambda x, i=i: x[i], queries)
        found, grad = jax.value_and_grad(loss_fn, has_aux=True)(after(tuned, total), query)
        total = optax.tree.add(total, grad)
        sets.append(found)
    return total, jax.tree.map(lambda *x: jnp.stack(x), *sets)
