"""Fisher: the diagonal by a loop over rows and classes, the noise by the authors' formulas in their own layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import VISIBLE, C, apply_fn, backward, forward, init_params, numpy, one_hot, softmax

from ltu_jax.config import Fisher, method_config
from ltu_jax.data.batches import gather
from ltu_jax.interop.names import pytorch_place
from ltu_jax.methods import fisher
from ltu_jax.models.vit import ViT
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, make_state

ROWS = VISIBLE.remain
IMAGES = np.asarray(gather(ROWS, slice(None)).images)
NUM_ROWS = len(IMAGES)


def by_row_and_class(params, images):
    """``mean_x sum_y p(y|x) (d log p(y|x) / d p)^2``."""
    total = {name: 0.0 for name in params}
    for image in images:
        p = softmax(forward(params, image[None], 0.4)[2])
        for label in range(C):
            grad = backward(params, image[None], one_hot([label]) - p, 0.4)
            total = {name: total[name] + p[0, label] * grad[name] ** 2 for name in total}
    return {name: x / len(images) for name, x in total.items()}


def by_batch_and_class(params, images, size):
    """SalUn's: the batch's mean probability times the squared gradient of its mean loss; the mean over batches."""
    total = {name: 0.0 for name in params}
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        p = softmax(forward(params, batch, 0.4)[2])
        for label in range(C):
            grad = backward(params, batch, (one_hot([label]) - p) / len(batch), 0.4)
            total = {name: total[name] + p[:, label].mean() * grad[name] ** 2 for name in total}
    return {name: x / (len(images) / size) for name, x in total.items()}


def noise(settings, fisher_of, apply=apply_fn, init=init_params, seed=0, scale=lambda f, a: (a / f) ** 0.25):
    """What a run adds to the weights, in units of the deviation that the definition gives them."""
    state = make_state(apply, *init(jax.random.key(1)), SGD, jax.random.key(3))
    after, _ = fisher.Fisher.build(settings, Parts(apply, C)).init(jax.random.key(seed), state, VISIBLE)
    moved = numpy(jax.tree.map(lambda a, b: a - b, after.params, state.params))
    return {n: moved[n] / scale(fisher_of[n] + 1e-8, settings.alpha) for n in moved}


def assert_standard_normal(units):
    flat = np.concatenate([u.ravel() for u in units.values()])
    for moment, wanted, spread in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((flat**moment).mean() - wanted) < 4 * np.sqrt(spread / flat.size)


def test_the_diagonal_is_the_sum_over_rows_and_classes_the_last_batch_short(x64):
    params, model_state = init_params(jax.random.key(1))
    batch = gather(ROWS, jnp.arange(10))
    weight = jnp.asarray([1.0] * 7 + [0.0] * 3)  # rows of weight 0 fill up
    wanted = by_row_and_class(numpy(params), IMAGES[:7])
    for name, value in fisher.squared_example_gradients(apply_fn, params, model_state, batch, weight).items():
        np.testing.assert_allclose(value, 7 * wanted[name], rtol=1e-5, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [32, 7])
def test_the_noise_of_the_paper_has_deviation_alpha_over_fisher_to_a_quarter(x64, batch_size):
    of_rows = by_row_and_class(numpy(init_params(jax.random.key(1))[0]), IMAGES)
    small = noise(Fisher(alpha=1e-10, batch_size=batch_size), of_rows)
    large = noise(Fisher(alpha=1e-4, batch_size=32), of_rows)
    assert_standard_normal(small)
    for name in small:  # one key, one noise: whatever alpha, every weight moves by its own deviation
        np.testing.assert_allclose(small[name], large[name], rtol=1e-4, atol=1e-6)
    other = noise(Fisher(alpha=1e-10), of_rows, seed=1)
    assert all((small[name] != other[name]).all() for name in small)


def test_the_estimator_of_salun_squares_the_gradient_of_the_batchs_mean(x64):
    params = numpy(init_params(jax.random.key(1))[0])
    exact = noise(Fisher(), by_row_and_class(params, IMAGES))
    for size in (20, 60):
        compat = noise(Fisher(estimator="batch", batch_size=size), by_batch_and_class(params, IMAGES, size))
        for name in exact:
            np.testing.assert_allclose(compat[name], exact[name], rtol=1e-4, atol=1e-6)
    assert method_config("fisher_salun_compat").estimator == "batch"


SHAPES = {"conv": (1, 1, 3, 5), "scale": (5,), "kernel": (5, C), "bias": (C,)}
TORCH_AXES = {"conv": (3, 2, 0, 1), "scale": (0,), "kernel": (1, 0), "bias": (0,)}


def layered_init(key):
    return {name: jax.random.normal(jax.random.fold_in(key, i), s) for i, (name, s) in enumerate(SHAPES.items())}, {}


def layered(params, model_state, images, train):
    channels = jnp.einsum("bhwi,hwio->bho", images.mean((1, 2), keepdims=True), params["conv"])[:, 0]
    hidden = jnp.tanh(8 * channels * params["scale"][None])
    return hidden @ params["kernel"] + params["bias"][None], model_state


def layered_fisher(params):
    def one(params, image, label):
        return jax.nn.log_softmax(layered(params, {}, image[None], False)[0])[0, label]

    total, gradient = {name: 0.0 for name in params}, jax.jit(jax.value_and_grad(one))
    for image in IMAGES:
        for label in range(C):
            log_p, grad = numpy(gradient(params, image, label))
            total = {name: total[name] + np.exp(log_p) * grad[name] ** 2 for name in total}
    return {name: x / NUM_ROWS for name, x in total.items()}


def notebook_variance(fisher, alpha, num_classes=C):
    """The authors' lines, on a tensor in PyTorch's layout: the output channels first, then the input channels."""
    variance = alpha * np.minimum(1 / fisher, 1e3)
    if fisher.shape[0] == num_classes:
        variance = alpha * np.minimum(1 / fisher, 1e2)
    if fisher.ndim > 1:
        variance = np.broadcast_to(variance.mean(axis=1, keepdims=True), fisher.shape)
    if fisher.shape[0] == num_classes or fisher.ndim == 1:
        variance = variance * 10
    return variance


def test_the_noise_of_the_code_is_that_of_the_notebook_for_each_kind_of_tensor(x64):
    of_rows = layered_fisher(layered_init(jax.random.key(1))[0])
    inverse = {name: 1 / f for name, f in of_rows.items()}
    assert inverse["conv"].min() < 1e3 < inverse["conv"].max() and inverse["kernel"].min() < 1e2

    exact = noise(Fisher(), of_rows, layered, layered_init)
    moved = noise(Fisher(alpha=1e-6, scaling="code"), of_rows, layered, layered_init, scale=lambda f, a: 1.0)
    for name, axes in TORCH_AXES.items():
        variance = notebook_variance(np.transpose(of_rows[name] + 1e-8, axes), 1e-6)
        deviation = np.sqrt(np.transpose(variance, np.argsort(axes)))
        np.testing.assert_allclose(moved[name] / deviation, exact[name], rtol=1e-4, atol=1e-6)


def test_the_noise_of_the_code_on_a_vit_is_that_of_the_notebook_on_timms_tensors():
    width, heads = 12, 3  # heads as many as classes, so that a bias by head has the width of the last layer
    params = ViT(dim=width, depth=1, num_heads=heads, patch_size=4).init(
        jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False
    )
    leaves = jax.tree_util.tree_leaves_with_path({"backbone": params["params"]})
    places = {where: pytorch_place(("params", *(key.key for key in where))) for where, _ in leaves}
    assert {"query", "out"} <= {where[-2].key for where in places}
    for seed, (where, leaf) in enumerate(leaves):
        ours = 10 ** jax.random.uniform(jax.random.key(seed), leaf.shape, minval=-5, maxval=-1)
        theirs = places[where].to_file_layout(np.asarray(ours))
        wanted = notebook_variance(theirs, 1e-6, num_classes=width // heads)
        variance = fisher._code_variance(where, ours, 1e-6, width // heads)
        np.testing.assert_allclose(
            places[where].to_file_layout(np.asarray(variance)), wanted, rtol=1e-5, err_msg=str(where)
        )


def test_the_cost_is_a_backward_pass_for_each_row_and_class():
    cost = fisher.Fisher.build(Fisher(), Parts(apply_fn, C)).cost(VISIBLE)
    assert cost.init == (NUM_ROWS, C * NUM_ROWS, NUM_ROWS, 0)
