"""BatchNorm statistics measured anew on remaining rows: did the forgetting lie in them, or in the weights?

The control of arXiv:2609.08901, averaged as ``torch.optim.swa_utils.update_bn`` does: a mean over batches of the batch
statistics, with equal weights. The variance of the batch means is left out, an error of the order of 1/batch, and a
batch's variance is the model's own: biased in Flax, larger by n/(n-1) in PyTorch, n = B*H*W. What the statistics were
measured on belongs to the result. It does not show that what was removed survives: what comes back is what stale or
spoilt statistics hid, whoever spoilt them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.auditing.intervals import RESAMPLES, Figure, auc_of_weights, bootstrap, figure, paired_difference
from ltu_jax.data.batches import augmented
from ltu_jax.devices import replicate
from ltu_jax.evaluation.likeness import Predictions, comparable, matched_weights
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.predict import gathered
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Progress, Rows, silent


class Refit(NamedTuple):
    """Statistics measured anew, and what they were made of."""

    model_state: ArrayTree
    momentum: dict[str, float]  # of each leaf that was measured, by its name
    kept: tuple[str, ...]  # leaves that training mode leaves alone, and counts: as they were
    num_rows: int
    batch_size: int
    num_batches: int
    augment: str


class Change(NamedTuple):
    """A figure before and after on the same rows."""

    before: float
    after: float
    change: Figure


def recalibrate(
    apply_fn: ApplyFn,
    params: ArrayTree,
    model_state: ArrayTree,
    rows: Rows,
    key: jax.Array,
    *,
    batch_size: int = 128,
    augment: str = "none",
    least_batches: int = 20,
    progress: Progress = silent,
) -> Refit | None:
    """Replaces each running average of a model by the mean of its batch statistics; weights stay, labels are not used.

    Nothing is known of the model but ``apply_fn``. A running average becomes ``m * before + (1 - m) * batch``, so two
    passes in training mode, from statistics of 0 and of 1, tell the momentum ``m`` and the statistic of the batch. The
    momentum is found on the first batch; the others then need one pass, from 0.

    Args:
      apply_fn: the model; in training mode its output must not depend on the averages.
      params: its parameters.
      model_state: its statistics, or ``{}``.
      rows: remaining rows, u8[R,H,W,3] images.
      key: shuffles and augments.
      batch_size: rows a batch, B, at most R; the last incomplete batch of an order is dropped.
      augment: see ``data.augment``.
      least_batches: rows are shuffled anew until there are ``max(ceil(R / B), least_batches)`` batches.
      progress: called with the batches done.

    Returns:
      ``Refit``; None for a model without running averages: there is nothing to measure, which is no change of 0.

    Raises:
      ValueError: for a leaf that is neither kept nor a running average, with its name; for a model whose outputs in
        training mode depend on its averages; without rows.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(model_state)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    given = [np.asarray(leaf) for _, leaf in paths]
    num_rows = len(rows.labels)
    if not num_rows:
        raise ValueError("rows: none; allowed: at least one remaining row to measure statistics on")
    batch_size = min(batch_size, num_rows)
    orders = _batches(num_rows, batch_size, max(math.ceil(num_rows / batch_size), least_batches), key)
    augment_key = jax.random.fold_in(key, 1)
    is_kept = [not jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in given]  # a count is no statistic

    def run(place: int, value: float) -> tuple[np.ndarray, list[np.ndarray]]:
        """Logits and statistics of a batch in training mode, from averages that are all ``value``."""
        start = [leaf if kept else np.full_like(leaf, value) for leaf, kept in zip(given, is_kept, strict=True)]
        batch = gathered(rows, orders[place])
        args = params, treedef.unflatten(start), jax.random.fold_in(augment_key, place), batch
        logits, after = compiled(_in_training, *args, static=(apply_fn, augment))(*args)
        return np.asarray(logits), [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(after)]

    if not all(is_kept):
        # What is frozen is found first, for the averages behind it must be measured with it as it is.
        (_, zeros), (_, ones) = run(0, 0.0), run(0, 1.0)
        frozen = [not np.any(low) and bool(np.all(high == 1)) for low, high in zip(zeros, ones, strict=True)]
        is_kept = [kept or still for kept, still in zip(is_kept, frozen, strict=True)]
    if all(is_kept):
        return None
    (logits, zeros), (others, ones) = run(0, 0.0), run(0, 1.0)
    if not np.allclose(logits, others, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            "model_state: the outputs in training mode depend on it; allowed: models that normalise by the batch there"
        )
    measured = [i for i, kept in enumerate(is_kept) if not kept]
    momentum = {names[i]: _momentum(names[i], zeros[i], ones[i], given[i].dtype) for i in measured}
    totals = {i: np.zeros(given[i].shape) for i in measured}
    with progress("statistics", len(orders)) as advance:
        for place in range(len(orders)):
            after = run(place, 0.0)[1] if place else zeros
            totals = {i: total + after[i] / (1 - momentum[names[i]]) for i, total in totals.items()}
            advance(1)
    fitted = [
        leaf if kept else (totals[i] / len(orders)).astype(leaf.dtype)
        for i, (leaf, kept) in enumerate(zip(given, is_kept, strict=True))
    ]
    kept_names = tuple(name for name, kept in zip(names, is_kept, strict=True) if kept)
    state = treedef.unflatten(jax.device_put(fitted))
    return Refit(state, momentum, kept_names, num_rows, batch_size, len(orders), augment)


def _in_training(
    apply_fn: ApplyFn, augment: str, params: ArrayTree, model_state: ArrayTree, key: jax.Array, batch: Batch
) -> tuple[jax.Array, ArrayTree]:
    return replicate(apply_fn(params, model_state, augmented(key, batch, augment).images, train=True))


def _batches(num_rows: int, batch_size: int, count: int, key: jax.Array) -> list[np.ndarray]:
    """``count`` full batches of row numbers, i64[batch_size] each; within an order no row comes twice."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    per_order = num_rows // batch_size
    orders = [rng.permutation(num_rows)[: per_order * batch_size] for _ in range(math.ceil(count / per_order))]
    return list(np.concatenate(orders).reshape(-1, batch_size)[:count])


def _momentum(name: str, zeros: np.ndarray, ones: np.ndarray, dtype: np.dtype) -> float:
    """The momentum of a leaf that came out as ``zeros`` from 0 and ``ones`` from 1; its most exact entry tells it."""
    found = ones - zeros
    momentum = float(found.flat[np.argmin(np.abs(zeros))])
    rounding = 32 * float(jnp.finfo(dtype).eps) * np.maximum(1, np.abs(zeros))
    if not (0 <= momentum < 1 and np.all(np.abs(found - momentum) <= rounding)):
        raise ValueError(
            f"model_state.{name}: no running average, from 0 to 1 it moves by {found.min():.6g} to {found.max():.6g};"
            " allowed: one momentum in [0, 1) for the whole leaf, or 1 for one that stays as it is"
        )
    return momentum


def accuracy_change(before: np.ndarray, after: np.ndarray) -> Change:
    """The accuracy with the statistics as they were and measured anew, points; the rows are paired.

    Args:
      before: whether each row is right, bool[M].
      after: the same of the same rows afterwards, bool[M].
    """
    return Change(100 * float(np.mean(before)), 100 * float(np.mean(after)), paired_difference(after, before))


def auc_change(
    before: Sequence[Predictions], after: Sequence[Predictions], *, seed: int = 0, resamples: int = RESAMPLES
) -> Change:
    """The AUC of forget against held-out rows before and after; both are resampled with the same rows.

    Args:
      before: predictions on the forget rows and on the held-out rows.
      after: those on the same rows afterwards.
      seed: of the bootstrap.
      resamples: of forget and held-out rows apart, within each class.
    """
    kept = comparable(*before).labels, before[1].labels
    weights = matched_weights(kept[1], kept[0])
    old, new = (auc_of_weights(comparable(*one).margin, one[1].margin) for one in (before, after))
    first, last = (of(np.ones(len(kept[0])), weights) for of in (old, new))
    resampled = bootstrap(lambda *of: new(*of) - old(*of), kept, weights, np.random.default_rng(seed), resamples)
    return Change(first, last, figure(last - first, resampled))
