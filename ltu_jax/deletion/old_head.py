"""The original's head put back on the unlearned model, and the features below a head: what a new head can hide.

A head that is fitted anew makes forgotten rows look like held-out rows, while the features below it still know them.
So the rows are compared through heads that the operator did not choose: the original's, and one that is fitted here to
the features of remaining rows, which a mere permutation or rotation of the features does not mislead.

The head is found by what it does, and not by its name: in any model, the parameters of one class change the logit of
that class and no other.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.deletion.measures import Measured
from ltu_jax.evaluation.likeness import Predictions, predictions
from ltu_jax.evaluation.scores import measure
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import ApplyFn, ArrayTree, Source, StoredImages, UnlearnState

RIDGE = 0.01
"""Weight of the squared norm in the fit of a head, beside features of unit mean square."""
FITTED = 2000
"""Most remaining rows that a head is fitted to."""
HEADS = {
    "": "",
    "old_head_": ", with the original's head put back",
    "new_head_": ", with a new head fitted to the features of the rows that stay",
}
"""The heads that the rows are compared through: the prefix of their numbers, and how they are told; first its own."""


class HeadLeaf(NamedTuple):
    """A tensor of the head."""

    leaf: int  # its place among ``jax.tree.leaves(params)``
    axis: int  # the axis that counts the classes


def find_head(state: UnlearnState, images: StoredImages | np.ndarray, num_classes: int) -> list[HeadLeaf]:
    """The tensors of a model whose parameters belong to one class each.

    Args:
      state: the model.
      images: u8[N,H,W,3], a batch on which it is tried.
      num_classes: C.

    Returns:
      Kernel and bias of the last dense layer, as a rule; empty where no tensor is of that kind.
    """
    leaves, treedef = jax.tree.flatten(state.params)
    forward = EvalForward(state.apply_fn)

    def logits_of(changed: list) -> np.ndarray:
        return predict(forward, treedef.unflatten(changed), state.model_state, images, batch_size=len(images))

    candidates = [
        HeadLeaf(i, axis)
        for i, leaf in enumerate(leaves)
        for axis, size in enumerate(np.shape(leaf))
        if size == num_classes
    ]
    was = logits_of(leaves) if candidates else np.zeros(0)
    found = []
    for one in candidates:
        leaf = np.asarray(leaves[one.leaf], np.float32)
        step = np.random.default_rng(0).normal(size=np.take(leaf, 0, one.axis).shape) * (np.std(leaf) + 1e-3)
        moved = np.moveaxis(leaf.copy(), one.axis, 0)
        moved[0] += step
        changed = list(leaves)
        changed[one.leaf] = jnp.asarray(np.moveaxis(moved, 0, one.axis), leaves[one.leaf].dtype)
        change = np.abs(logits_of(changed) - was).max(axis=0)
        if change[0] > 0 and change[1:].max() <= 1e-5 * change[0]:
            found.append(one)
    return found


def with_head_of(params: ArrayTree, old: ArrayTree, head: list[HeadLeaf]) -> ArrayTree:
    """``params`` with the head of ``old``."""
    leaves, treedef = jax.tree.flatten(params)
    before = jax.tree.leaves(old)
    for one in head:
        leaves[one.leaf] = before[one.leaf]
    return treedef.unflatten(leaves)


@dataclasses.dataclass(frozen=True)
class Features:
    """What a head multiplies, as a ``ForwardFn``: the slope of a logit in the parameters of its class."""

    apply_fn: ApplyFn
    kernel: HeadLeaf

    def __call__(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        """f32[B, D]."""
        leaves, treedef = jax.tree.flatten(params)
        leaf = jnp.moveaxis(leaves[self.kernel.leaf], self.kernel.axis, 0)

        def logit(of_class: jax.Array, image: jax.Array) -> jax.Array:
            changed = list(leaves)
            changed[self.kernel.leaf] = jnp.moveaxis(leaf.at[0].set(of_class), 0, self.kernel.axis)
            return self.apply_fn(treedef.unflatten(changed), model_state, image[None], train=False)[0][0, 0]

        slopes = jax.vmap(jax.grad(logit), (None, 0))(leaf[0], images)
        return slopes.reshape(len(images), -1).astype(jnp.float32)


def measure_features(
    state: UnlearnState, source: Source, rows: Mapping[str, np.ndarray], head: list[HeadLeaf], batch_size: int
) -> dict[str, np.ndarray]:
    """The features f32[M, D] below the head on several sets of rows, given as indices into the source by name."""
    leaves = jax.tree.leaves(state.params)
    forward = Features(state.apply_fn, max(head, key=lambda one: np.size(leaves[one.leaf])))
    return {
        name: predict(forward, state.params, state.model_state, source.stored(index), batch_size=batch_size)
        for name, index in rows.items()
    }


def probed(features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], size: int) -> dict[str, Predictions]:
    """Predictions of a head that is fitted to the remaining rows by ridge regression.

    Args:
      features: f32[M, D] by set of rows; ``remain`` are fitted to.
      labels: i32[M] by set.
      size: number of classes.
    """
    fitted = features["remain"].astype(np.float64)
    mean = fitted.mean(axis=0)
    scale = np.sqrt(np.mean((fitted - mean) ** 2)) + 1e-12  # one for all: the fit stays the same under rotations
    x = (fitted - mean) / scale
    targets = np.eye(size)[labels["remain"]] - 1 / size
    weights = np.linalg.solve(x.T @ x / len(x) + RIDGE * np.eye(x.shape[1]), x.T @ targets / len(x))
    return {
        name: predictions(((one - mean) / scale @ weights).astype(np.float32), labels[name])
        for name, one in features.items()
    }


def through_heads(
    before: UnlearnState,
    after: UnlearnState,
    measured: Measured,
    source: Source,
    rows: Mapping[str, np.ndarray],
    batch_size: int,
) -> dict[str, tuple[Measured, Measured]]:
    """Predictions of both models through the heads that the operator did not choose.

    Args:
      before: the model before.
      after: the unlearned model, of the same shapes.
      measured: predictions of the model before.
      source: the data.
      rows: the rows to measure, indices into the source by name.
      batch_size: images per forward pass.

    Returns:
      By prefix of ``HEADS``: the original, and the unlearned model with the original's head; both with heads that are
      fitted to their features of remaining rows. Empty where no head is found.
    """
    head = find_head(before, source.stored(rows["forget"][:batch_size]), source.num_classes)
    if not head:
        return {}
    compared = {name: rows[name] for name in ("forget", "held_out")}
    with_old = after.replace(params=with_head_of(after.params, before.params, head))
    remain = rows["remain"]
    if len(remain) > FITTED:
        remain = np.sort(np.random.default_rng(0).choice(remain, FITTED, replace=False))
    used = {**compared, "remain": remain}
    labels = {name: source.labels[index] for name, index in used.items()}
    fitted = [
        probed(measure_features(state, source, used, head, batch_size), labels, source.num_classes)
        for state in (before, after)
    ]
    return {
        "old_head_": (measured, measure(with_old, source, compared, batch_size)),
        "new_head_": (fitted[0], fitted[1]),
    }
