"""The meta-optimization scheme: meta-tune, meta-test, meta-update. Eqs. 1-5."""

import functools
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
    """The norms of the parts of a meta-gradient, each f32[]: shows which part dominates."""

    tune: jax.Array | None  # |grad L_tune(theta)|, unweighted; None without a support set
    query: jax.Array  # |v|, v the gradient of the summed L_test at theta^tau
    grad: jax.Array  # |the meta-gradient|


class Aux(NamedTuple):
    """The auxiliary outputs of ``loss_fn``."""

    support: Any
    queries: Any  # every leaf with a leading axis N


class MetaGrad(NamedTuple):
    """The meta-gradient and its parts."""

    grad: chex.ArrayTree  # like params
    tune_loss: jax.Array | None  # f32[], L_tune(theta), Eq. 1; None without a support set
    query_losses: jax.Array  # f32[N], L_test^i(theta^tau), Eq. 3
    norms: Norms
    aux: Aux


def after(tree: Tree, done: chex.ArrayTree) -> Tree:
    """``tree``, but available only after ``done`` is computed: keeps two parts of a program from using memory at once.

    Adds a zero that depends on ``done``. ``jax.lax.optimization_barrier`` is meant for this, but XLA's CPU
    backend drops it before scheduling.

    Args:
      tree: numeric arrays.
      done: float arrays; they need not be finite.
    """
    norm = optax.tree.norm(done)
    zero = jnp.where(norm < 0, norm, 0)  # a norm is never negative, but the compiler does not know
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

    which for plain SGD and ``tune_weight=1`` is ``g + (I - alpha H) v``. H is symmetric, so its product with
    a vector is the forward derivative of g along it. This avoids differentiating a backward pass, whose
    convolutions are slow. It is ``order="second"``; ``"naive"`` is ``jax.grad`` of Eq. 4, the reference in tests.

    The result is NaN where the update of the optimizer is not differentiable, such as Adam with
    ``eps_root=0`` at g = 0.

    Args:
      loss_fn: ``(params, task) -> (scalar, aux)``, differentiable twice in ``params``.
      params: theta.
      support: the task of meta-tune, S; with ``order="none"`` it may be None, and L_tune drops out.
      queries: the tasks of meta-test, Q^1..Q^N: every leaf with a leading axis N.
      inner_tx: the inner optimizer; ``optax.sgd(alpha)`` is Eq. 2.
      order: ``"second"`` is exact; ``"naive"`` is the same by double backward; ``"first"`` drops the term
        in H; ``"none"`` computes L_test at theta itself (Table 3, without meta-optimization).
      tune_weight: weight of L_tune in the outer sum, f32[]; 1 in the paper.
      save_memory: computes the query sets one after another instead of by ``vmap``, and the gradient of the
        support set twice instead of keeping its intermediate values for the product with H. The peak memory
        becomes that of one Hessian product. BatchNorm statistics are separate per query set in both cases.
        Orders without the product only take the query sets one after another; ``"naive"`` ignores this.

    Raises:
      ValueError: for an unknown ``order``, or one that needs a support set and has none; if ``queries`` are a list of
        tasks or none; if ``loss_fn`` returns anything but ``(scalar, aux)``.
      AssertionError: at trace time, if the query leaves do not share a leading axis.
    """
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is unknown; allowed: {', '.join(ORDERS)}")
    if support is None and order != "none":
        raise ValueError(f"order: {order!r} takes its inner step on a support set, and there is none; allowed: none")
    _check_queries(support, queries)
    loss_fn = functools.partial(_loss_and_aux, loss_fn)

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

    def test_gradient(tuned):
        return _test_one_by_one(loss_fn, tuned, queries) if save_memory else jax.grad(test, has_aux=True)(tuned)

    def hessian_product(vector):
        return jax.jvp(lambda params: tune(params)[0], (after(params, vector),), (vector,))[1]

    def objective(params):  # Eq. 4
        (loss, _), grad = jax.value_and_grad(loss_fn, has_aux=True)(params, support)
        return tune_weight * loss + test(inner_step(params, grad))[0]

    if support is None:
        v, (query_losses, query_aux) = test_gradient(params)
        norm = optax.tree.norm(v)
        return MetaGrad(v, None, query_losses, Norms(None, norm, norm), Aux(None, query_aux))
    if order == "second" and not save_memory:
        g, hessian_product, (tune_loss, support_aux) = jax.linearize(tune, params, has_aux=True)
    else:
        g, (tune_loss, support_aux) = tune(params)
    if order == "none":
        tuned, pull = params, lambda v: (v, None)
    else:
        tuned, pull = jax.vjp(inner_step, params, g)
    v, (query_losses, query_aux) = test_gradient(tuned)

    if order == "naive":
        grad = jax.grad(objective)(params)
    else:
        direct, through_g = pull(v)
        grad = optax.tree.add_scale(direct, tune_weight, g)
        if order == "second":
            grad = optax.tree.add(grad, hessian_product(through_g))
    norms = Norms(optax.tree.norm(g), optax.tree.norm(v), optax.tree.norm(grad))
    return MetaGrad(grad, tune_loss, query_losses, norms, Aux(support_aux, query_aux))


def _check_queries(support: Any, queries: Any) -> None:
    """Refuses queries that are no tasks with a leading axis; of no leaves, or a list of what ``support`` is one of."""
    structure = jax.tree.structure(queries)
    if not structure.num_leaves:
        raise ValueError(f"queries: {queries!r} has no arrays; allowed: every leaf of a task with a leading axis N")
    is_list = isinstance(queries, list) and structure != jax.tree.structure(support)
    if is_list and all(jax.tree.structure(one) == jax.tree.structure(support) for one in queries):
        raise ValueError(
            "queries: a list of tasks; allowed: one task whose leaves have a leading axis N, which"
            " jax.tree.map(lambda *leaves: jnp.stack(leaves), *queries) makes of it"
        )
    chex.assert_equal_shape_prefix(jax.tree.leaves(queries), 1)


def _loss_and_aux(loss_fn: LossFn, params: chex.ArrayTree, task: Any) -> tuple[jax.Array, Any]:
    """What ``loss_fn`` returns, if it is what it should be: JAX's own message names an inner function of ours."""
    returned = loss_fn(params, task)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(
            f"loss_fn: it returned {type(returned).__name__}, no pair; allowed: (scalar, aux); aux may be None"
        )
    if jnp.shape(returned[0]):
        raise ValueError(
            f"loss_fn: its loss has the shape {jnp.shape(returned[0])}; allowed: a scalar, such as the mean"
        )
    return returned


def _test_one_by_one(loss_fn: LossFn, tuned: chex.ArrayTree, queries: Any) -> tuple[chex.ArrayTree, Any]:
    """The gradient of the summed test loss and ``(losses, aux)``, computed one query set after another."""
    total, sets = optax.tree.zeros_like(tuned), []
    for i in range(len(jax.tree.leaves(queries)[0])):
        query = jax.tree.map(lambda x, i=i: x[i], queries)
        loss_and_aux, grad = jax.value_and_grad(loss_fn, has_aux=True)(after(tuned, total), query)
        total = optax.tree.add(total, grad)
        sets.append(loss_and_aux)
    return total, jax.tree.map(lambda *x: jnp.stack(x), *sets)
