"""Fisher forgetting: noise on the weights that the remaining rows do not hold (Golatkar et al. 2020)."""

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.methods.base import MethodCost, OneShot
from ltu_jax.methods.importance import sum_over_batches
from ltu_jax.training.cost import Cost
from ltu_jax.types import ApplyFn, ArrayTree, Batch, UnlearnState, Visible

FLOOR = 1e-8
"""Added to F as the public code does: a weight that no row holds would get infinite noise."""


@flax.struct.dataclass
class Fisher(OneShot):
    """Fisher: ``theta <- theta + (alpha / F)^(1/4) n``, n standard normal; F the diagonal over D_r.

    ``F_p = mean_x sum_y p(y|x) (d log p(y|x) / d p)^2``: the expectation is over the model's own labels, a
    backward pass for each row and class. SalUn's code squares the gradient of a batch's mean instead and
    weighs it by the batch's mean probability (``estimator="batch"``), which decouples p(y|x) from its
    gradient; its alpha is then another one. ``scaling="paper"`` is the optimum of the forgetting
    Lagrangian; ``"code"`` is the authors' notebook: variance ``alpha min(1/F, 1e3)`` (1e2 in the last
    layer), averaged over input channels, ten times as much for biases, normalisations and the last layer, which is
    known by its width.
    SalUn's code also erases the last class's row of the classifier at random 10 % of CIFAR-10: a fault.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, tuple[()]]:
        """Adds the noise."""
        settings, num_rows = self.settings, len(visible.remain.labels)
        squared = {"example": squared_example_gradients, "batch": squared_batch_gradients}[settings.estimator]
        total = sum_over_batches(squared, state, visible.remain, settings.batch_size)
        fisher = jax.tree.map(lambda x: x / num_rows + FLOOR, total)
        if settings.scaling == "paper":
            deviation = jax.tree.map(lambda f: (settings.alpha / f) ** 0.25, fisher)
        else:
            variance = partial(_code_variance, alpha=settings.alpha, num_classes=self.parts.num_classes)
            deviation = jax.tree.map(jnp.sqrt, jax.tree_util.tree_map_with_path(variance, fisher))
        noise = optax.tree.random_like(key, state.params, jax.random.normal)
        params = jax.tree.map(lambda p, d, n: p + d * n, state.params, deviation, noise)
        return state.replace(params=params), ()

    def cost(self, visible: Visible) -> MethodCost:
        """A backward pass for each remaining row and class."""
        num_rows = len(visible.remain.labels)
        return MethodCost(Cost(num_rows, self.parts.num_classes * num_rows, num_rows), Cost())


def squared_example_gradients(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, batch: Batch, weight: jax.Array
) -> ArrayTree:
    """``sum_x w_x sum_y p(y|x) (d log p(y|x) / d p)^2`` of a batch, a ``BatchFn``."""

    def of_row(image):
        def log_p(params):
            logits, _ = apply_fn(params, model_state, image[None], train=False)
            return (jax.nn.log_softmax(logits[0]),) * 2

        jacobian, value = jax.jacrev(log_p, has_aux=True)(params)
        return jax.tree.map(lambda j: jnp.tensordot(jnp.exp(value), j**2, 1), jacobian)

    return jax.tree.map(lambda x: jnp.tensordot(weight, x, 1), jax.vmap(of_row)(batch.images))


def squared_batch_gradients(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, batch: Batch, weight: jax.Array
) -> ArrayTree:
    """SalUn's: ``B sum_y mean_x p(y|x) (d mean_x log p(y|x) / d p)^2`` of a batch of B rows, a ``BatchFn``."""

    def mean_log_p(params):
        logits, _ = apply_fn(params, model_state, batch.images, train=False)
        log_p = jax.nn.log_softmax(logits)
        return weight @ log_p / weight.sum(), weight @ jnp.exp(log_p) / weight.sum()

    jacobian, mean_p = jax.jacrev(mean_log_p, has_aux=True)(params)
    return jax.tree.map(lambda j: weight.sum() * jnp.tensordot(mean_p, j**2, 1), jacobian)


def _code_variance(path: tuple[Any, ...], fisher: jax.Array, alpha: float, num_classes: int) -> jax.Array:
    """The notebook's noise of one tensor, whose axes are PyTorch's there and Flax's here."""
    is_vector, inputs = _pytorch_axes(path, fisher.ndim)
    last = fisher.ndim <= 2 and fisher.shape[-1] == num_classes and is_vector == (fisher.ndim == 1)
    variance = alpha * jnp.minimum(1 / fisher, 1e2 if last else 1e3)
    if not is_vector:
        variance = jnp.broadcast_to(variance.mean(axis=inputs, keepdims=True), fisher.shape)
    return variance * (10 if last or is_vector else 1)


def _pytorch_axes(path: tuple[Any, ...], ndim: int) -> tuple[bool, tuple[int, ...]]:
    """Whether PyTorch has a vector where Flax has this tensor; else the axes here of PyTorch's second one, the inputs.

    Flax splits what attention computes by head: queries, keys and values have kernels [inputs, heads, width] and biases
    [heads, width], and ``out`` has a kernel [heads, width, outputs].
    """
    module, leaf = ["", "", *jax.tree_util.keystr(path, simple=True, separator=".").split(".")][-2:]
    if module in ("query", "key", "value"):
        return leaf == "bias", (0,)
    if module == "out" and ndim == 3:
        return False, (0, 1)
    return ndim == 1, (-2,)
