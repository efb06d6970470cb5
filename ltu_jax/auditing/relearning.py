"""Relearning: does what was forgotten come back by training on remaining rows alone?

After arXiv:2505.22310, whose protocol tunes Retrain and the others differently and mixes forget rows in; here every
model goes through the same: the original's optimizer anew, a constant rate, the visible remaining rows only, augmented
as in training, with BatchNorm in training mode, batches in one order. Only the excess over Retrain counts, for
Retrain's own rise is generalisation. What does not return need not be gone: another optimizer may bring it back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.auditing.intervals import LEVEL, POWER, RESAMPLES, Figure, resampled_weights
from ltu_jax.config import Training
from ltu_jax.evaluation.scores import measure
from ltu_jax.training.steps import run_steps
from ltu_jax.training.supervised import num_train_steps, training_run
from ltu_jax.types import Progress, Source, UnlearnState, silent

SETS = ("forget", "remain", "test")


class Curve(NamedTuple):
    """A model while it is trained on; accuracies in percent."""

    steps: np.ndarray  # i64[T], the first is 0
    forget_correct: np.ndarray  # bool[T, F]
    forget_margin: np.ndarray  # f64[T], mean, nats
    remain: np.ndarray  # f64[T], accuracy
    test: np.ndarray  # f64[T]
    at_end: Mapping[str, np.ndarray]  # margins at the last step by ``forget`` and ``test``, f64[F] and f64[V]

    @property
    def forget(self) -> np.ndarray:
        """Accuracy on the forget rows, f64[T]."""
        return 100 * self.forget_correct.mean(axis=1)


class Relearned(NamedTuple):
    """How far a model rises above Retrain on the forget rows, points; intervals over these rows, given the models."""

    excess: np.ndarray  # f64[T], E(t) = forget accuracy - its mean over the Retrains
    band: float  # E(t) lies within so much of it, at all steps at once
    largest: Figure  # of E over the steps, within the band, so that many steps do not make it significant
    largest_step: int
    at_start: float  # below 0 and then rising to 0 is over-forgetting that was repaired, not relearning
    at_end: float
    recovered: float | None  # share of what the original had above Retrain; None if that is below 3 standard errors


def relearning_recipe(training: Training, *, rate: float = 0.1, epochs: int = 10) -> Training:
    """The original's recipe at a constant rate, ``rate`` of its peak, for ``epochs`` passes over the visible rows."""
    return dataclasses.replace(
        training,
        learning_rate=rate * training.learning_rate,
        schedule="constant",
        warmup_epochs=0.0,
        milestones=(),
        epochs=epochs,
    )


def looks(num_steps: int) -> list[int]:
    """Steps at which a curve is measured: 0, 1, 2, 5, 10, 20, 50, ... and the last."""
    steps = [0] + [digit * 10**power for power in range(len(str(num_steps))) for digit in (1, 2, 5)]
    return [step for step in steps if step < num_steps] + [num_steps]


def relearn(
    state: UnlearnState,
    source: Source,
    visible: np.ndarray,
    scored: Mapping[str, np.ndarray],
    recipe: Training,
    key: jax.Array,
    *,
    attacked: Mapping[str, np.ndarray] | None = None,
    augment: str = "none",
    steps: Sequence[int] | None = None,
    progress: Progress = silent,
    label: str = "relearning",
) -> Curve:
    """Trains a model on the visible remaining rows and looks at it on the way.

    Args:
      state: the model: original, unlearned or Retrain; it is not consumed.
      source: the data.
      visible: rows to train on, indices into the source, i64[R]: the rho subset.
      scored: rows to look at, by ``forget``, ``remain`` and ``test``.
      recipe: see ``relearning_recipe``; the same for every model.
      key: order and augmentation of the batches; the same for every model.
      attacked: rows whose margins at the end are kept, by ``forget`` and ``test``; those of ``scored`` if None.
      augment: see ``data.augment``.
      steps: when to look, rising; ``looks`` of the recipe's steps if None.
      progress: called with the steps taken.
      label: what is being trained, for ``progress``.

    Returns:
      ``Curve``.

    Raises:
      ValueError: if a forget row would be shown.
      FloatingPointError: if the loss is not finite; the steps are named.
    """
    if shown := int(np.isin(visible, scored["forget"]).sum()):
        raise ValueError(f"visible: {shown} of its rows are scored as forget rows; allowed: remaining rows alone")
    run = training_run(
        state.apply_fn, state.params, state.model_state, source.rows(visible), recipe, key, augment=augment
    )
    steps, found = looks(num_train_steps(recipe, len(visible))) if steps is None else list(steps), []
    with progress(label, steps[-1]) as advance:
        for step in steps:
            run.num_steps = step
            before = run.step
            run_steps([run], label=label, remedy="rate of relearning")
            found.append(measure(run.state, source, {name: scored[name] for name in SETS}, recipe.batch_size))
            advance(step - before)
    at_end = found[-1] if attacked is None else measure(run.state, source, attacked, recipe.batch_size)
    remain, test = (np.array([100 * one[name].correct.mean() for one in found]) for name in SETS[1:])
    return Curve(
        np.array(steps),
        np.stack([one["forget"].correct for one in found]),
        np.array([one["forget"].margin.mean() for one in found]),
        remain,
        test,
        {name: at_end[name].margin for name in ("forget", "test")},
    )


def relearned(
    model: Curve,
    retrains: Sequence[Curve],
    original: Curve | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Relearned:
    """The excess of a model over Retrains on the same forget rows at the same steps; its floor: a Retrain as the model.

    The largest excess is a maximum over steps: of noise alone it is above 0. So its interval comes from the largest
    deviation over all steps in the bootstrap, a band that holds the whole of E with 95 %.

    Args:
      model: the unlearned model's curve.
      retrains: those of Retrains, at least one; not of the model itself.
      original: that of the original, for the recovered share.
      seed: of the bootstrap.
      resamples: of the forget rows, the same ones in all models.

    Returns:
      ``Relearned``.

    Raises:
      ValueError: for curves of other steps or rows, or without Retrains.
    """
    wrong = [one for one in (*retrains, *([original] if original else [])) if not _match(model, one)]
    if wrong or not retrains:
        raise ValueError("retrains: none, or curves of other steps or rows; allowed: those of the model's own")
    of_retrain = np.mean([one.forget_correct for one in retrains], axis=0)
    each = 100 * (model.forget_correct - of_retrain)
    num_rows, excess = each.shape[1], each.mean(axis=1)
    rng, rows = np.random.default_rng(seed), np.zeros(each.shape[1], int)
    drawn = np.stack(list(resampled_weights(rows, rng, resamples))) @ each.T / num_rows - excess
    band, at = float(np.quantile(np.abs(drawn).max(axis=1), 1 - LEVEL)), int(np.argmax(excess))
    highest, spread = float(excess[at]), POWER * float(np.std(drawn[:, at], ddof=1))
    recovered = None
    if original is not None:
        had = 100 * (original.forget_correct[0] - of_retrain[0])
        if had.mean() > max(0.0, 3 * had.std(ddof=1) / np.sqrt(num_rows)):
            recovered = highest / float(had.mean())
    largest = Figure(highest, highest - band, highest + band, spread)
    return Relearned(excess, band, largest, int(model.steps[at]), float(excess[0]), float(excess[-1]), recovered)


def _match(one: Curve, other: Curve) -> bool:
    return np.array_equal(one.steps, other.steps) and one.forget_correct.shape == other.forget_correct.shape
