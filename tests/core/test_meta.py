"""meta_grad against closed forms, the naive double backward and finite differences (float64)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.core.meta import after, meta_grad

OPTIMIZERS = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.sgd(0.3, momentum=0.9),
    "nesterov": optax.sgd(0.3, momentum=0.9, nesterov=True),
    "weight_decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.3)),
    "clip": optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.3)),
    "adam": optax.adam(0.1, eps_root=1e-6),
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def quadratic(seed, size=6, num_queries=3):
    """``0.5 (p - b)^T A (p - b)``: the task is (A, b), so gradient and Hessian are known."""
    rng = np.random.default_rng(seed)

    def task():
        half = rng.normal(size=(size, size))
        return half @ half.T / size, rng.normal(size=size)

    support, queries = task(), [task() for _ in range(num_queries)]
    stacked = tuple(np.stack(part) for part in zip(*queries, strict=True))
    return rng.normal(size=size), support, queries, stacked


def quadratic_loss(params, task):
    matrix, centre = task
    offset = params - centre
    return 0.5 * offset @ matrix @ offset, {"offset": offset}


def network_loss(params, task):
    """A two-layer network with smooth activations: third derivatives do not vanish."""
    images, labels = task
    hidden = jnp.tanh(images @ params["w1"] + params["b1"][None])
    logits = hidden @ params["w2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), hidden.mean()


def network_problem(seed, num_queries=3):
    rng = np.random.default_rng(seed)
    params = {"w1": rng.normal(size=(5, 7)), "b1": rng.normal(size=7), "w2": rng.normal(size=(7, 4))}
    task = lambda *lead: (rng.normal(size=(*lead, 8, 5)), rng.integers(0, 4, size=(*lead, 8)))  # noqa: E731
    return jax.tree.map(jnp.asarray, (params, task(), task(num_queries)))


def largest_relative_error(tree, reference):
    flat = lambda t: np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])  # noqa: E731
    return np.abs(flat(tree) - flat(reference)).max() / np.abs(flat(reference)).max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", [1.0, 0.03])
def test_quadratic_meta_gradient_is_g_plus_I_minus_alpha_H_times_query_gradients(x64, seed, weight):
    params, (hessian, centre), queries, stacked = quadratic(seed)
    out = meta_grad(quadratic_loss, params, (hessian, centre), stacked, optax.sgd(0.3), tune_weight=weight)
    g = hessian @ (params - centre)
    tuned = params - 0.3 * g
    v = sum(a @ (tuned - b) for a, b in queries)
    np.testing.assert_allclose(out.grad, weight * g + (np.eye(6) - 0.3 * hessian) @ v, rtol=1e-12)
    np.testing.assert_allclose(out.norms.tune, np.linalg.norm(g), rtol=1e-12)
    np.testing.assert_allclose(out.norms.query, np.linalg.norm(v), rtol=1e-12)
    np.testing.assert_allclose(out.tune_loss, 0.5 * (params - centre) @ g, rtol=1e-12)
    losses = [0.5 * (tuned - b) @ a @ (tuned - b) for a, b in queries]
    np.testing.assert_allclose(out.query_losses, losses, rtol=1e-12)
    np.testing.assert_allclose(out.aux.queries["offset"], [tuned - b for _, b in queries], rtol=1e-12)
    np.testing.assert_allclose(out.aux.support["offset"], params - centre, rtol=1e-12)


@pytest.mark.smoke
def test_cheaper_orders_drop_what_the_algebra_says(x64):
    params, (hessian, centre), queries, stacked = quadratic(0)
    g = hessian @ (params - centre)
    decay = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.3))  # u = p - 0.3 (g + 0.1 p)
    tuned = params - 0.3 * (g + 0.1 * params)
    v = sum(a @ (tuned - b) for a, b in queries)
    at_theta = sum(a @ (params - b) for a, b in queries)
    wanted = {"second": g + 0.97 * v - 0.3 * hessian @ v, "first": g + 0.97 * v, "none": g + at_theta}
    task = (quadratic_loss, params, (hessian, centre), stacked, decay)
    for order, grad in wanted.items():
        for save_memory in (False, True):
            out = meta_grad(*task, order=order, save_memory=save_memory)
            np.testing.assert_allclose(out.grad, grad, rtol=1e-12)


@pytest.mark.smoke
def test_after_changes_nothing_but_the_order_of_things():
    tree = {"x": jnp.array([1.5, -2.0, jnp.inf]), "i": jnp.int32(7)}
    for done in (jnp.array([3.0, -4.0]), jnp.array([jnp.nan, 1.0]), jnp.array([jnp.inf, 1.0])):
        chex.assert_trees_all_equal(after(tree, done), tree)
        chex.assert_trees_all_equal_dtypes(jax.jit(after)(tree, done), tree)
    # No pass of the compiler may see that the sum with zero is not needed: the program still asks for `done`.
    text = jax.jit(after).lower(tree["i"], jnp.ones(1000)).compile().as_text()
    assert "f32[1000]" in text
    assert "sqrt" in text


@pytest.mark.parametrize("save_memory", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_second_order_equals_the_naive_double_backward(x64, name, save_memory):
    problem, options = network_problem(1), {"tune_weight": 0.3, "save_memory": save_memory}
    exact = meta_grad(network_loss, *problem, OPTIMIZERS[name], order="second", **options)
    naive = meta_grad(network_loss, *problem, OPTIMIZERS[name], order="naive", tune_weight=0.3)
    assert largest_relative_error(exact.grad, naive.grad) <= 1e-10
    chex.assert_trees_all_close(exact[1:], naive[1:], rtol=1e-10)


@pytest.mark.smoke
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_second_order_equals_finite_differences_of_eq_4(x64, name):
    params, support, queries = network_problem(2)
    tx = OPTIMIZERS[name]

    def objective(params):
        grad = jax.grad(lambda p: network_loss(p, support)[0])(params)
        updates, _ = tx.update(grad, tx.init(params), params)
        tuned = optax.apply_updates(params, updates)
        tests = [network_loss(tuned, jax.tree.map(lambda x, i=i: x[i], queries))[0] for i in range(3)]
        return 0.3 * network_loss(params, support)[0] + sum(tests)

    grad = meta_grad(network_loss, params, support, queries, tx, tune_weight=0.3).grad
    for seed in range(3):
        direction = optax.tree.random_like(jax.random.key(seed), params)
        ahead, behind = (objective(optax.tree.add_scale(params, s * 1e-5, direction)) for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / 2e-5, optax.tree.vdot(grad, direction), rtol=1e-6)


def test_one_query_set_equals_no_vmap(x64):
    params, support, queries = network_problem(3, num_queries=1)
    alone = jax.tree.map(lambda x: x[0], queries)

    def objective(params):
        grad = jax.grad(lambda p: network_loss(p, support)[0])(params)
        tuned = jax.tree.map(lambda p, g: p - 0.3 * g, params, grad)
        return network_loss(params, support)[0] + network_loss(tuned, alone)[0]

    out = meta_grad(network_loss, params, support, queries, optax.sgd(0.3))
    chex.assert_trees_all_close(out.grad, jax.grad(objective)(params), rtol=1e-12)


def test_nothing_is_shared_between_calls_of_a_stateful_inner_optimizer(x64):
    problem = network_problem(4)
    sgd, momentum = (meta_grad(network_loss, *problem, OPTIMIZERS[n]).grad for n in ("sgd", "momentum"))
    chex.assert_trees_all_close(sgd, momentum, rtol=1e-14)


@pytest.mark.parametrize("save_memory", [False, True])
def test_without_a_support_set_it_is_the_gradient_of_the_summed_query_losses(x64, save_memory):
    params, _, queries = network_problem(6)
    tasks = [jax.tree.map(lambda x, i=i: x[i], queries) for i in range(3)]

    def summed(params):
        return sum(network_loss(params, task)[0] for task in tasks)

    options = {"order": "none", "save_memory": save_memory, "tune_weight": 7.0}
    out = meta_grad(network_loss, params, None, queries, optax.sgd(0.3), **options)
    wanted = jax.grad(summed)(params)
    chex.assert_trees_all_close(out.grad, wanted, rtol=1e-12)
    losses, aux = zip(*(network_loss(params, task) for task in tasks), strict=True)
    np.testing.assert_allclose(out.query_losses, losses, rtol=1e-12)
    np.testing.assert_allclose(out.aux.queries, aux, rtol=1e-12)
    norm = np.linalg.norm(np.concatenate([np.ravel(x) for x in jax.tree.leaves(wanted)]))
    np.testing.assert_allclose([out.norms.query, out.norms.grad], [norm, norm], rtol=1e-12)
    assert out.tune_loss is None and out.norms.tune is None and out.aux.support is None


def test_orders_that_take_an_inner_step_refuse_to_do_without_a_support_set():
    params, _, queries = network_problem(6)
    for order in ("second", "naive", "first"):
        with pytest.raises(ValueError, match=f"order: '{order}' .* support set, and there is none; allowed: none"):
            meta_grad(network_loss, params, None, queries, optax.sgd(0.3), order=order)


def test_unknown_order_and_ragged_queries_are_refused():
    params, support, queries = network_problem(5)
    with pytest.raises(ValueError, match="'third' is unknown; allowed: second"):
        meta_grad(network_loss, params, support, queries, optax.sgd(0.1), order="third")
    with pytest.raises(AssertionError):
        meta_grad(network_loss, params, support, (queries[0], queries[1][:2]), optax.sgd(0.1))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda loss, s, q: (loss, None), "queries: None has no arrays; allowed: every leaf of a task with a leading"),
        (lambda loss, s, q: (loss, ()), r"queries: \(\) has no arrays"),
        (lambda loss, s, q: (loss, [s, s]), "queries: a list of tasks; allowed: one task .* jnp.stack"),
        (lambda loss, s, q: (lambda p, t: loss(p, t)[0], q), r"loss_fn: it returned \w+, no pair; allowed: \(scalar"),
        (
            lambda loss, s, q: (lambda p, t: (jnp.ones(3), None), q),
            r"loss_fn: its loss has the shape \(3,\); allowed: a",
        ),
    ],
)
@pytest.mark.parametrize("order", ["second", "none"])
def test_what_is_no_task_and_no_loss_is_told_in_one_line(change, message, order):
    params, support, queries = network_problem(5)
    loss, queries = change(network_loss, support, queries)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        meta_grad(loss, params, support, queries, optax.sgd(0.1), order=order)
    assert "\n" not in str(caught.value)


def test_a_task_may_itself_be_a_list():
    params, support, queries = network_problem(5)
    as_list = lambda p, task: network_loss(p, tuple(task))  # noqa: E731
    found = meta_grad(as_list, params, list(support), list(queries), optax.sgd(0.1))
    wanted = meta_grad(network_loss, params, support, queries, optax.sgd(0.1))
    chex.assert_trees_all_equal(found.grad, wanted.grad)
