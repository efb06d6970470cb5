"""UA, RA, TA, MI (sec. 4.1) and gaps to Retrain. Only for evaluation: methods must not use it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ltu_jax.evaluation.likeness import Predictions, predictions
from ltu_jax.evaluation.svc_mia import confidence, svc_mia
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import ApplyFn, Scores, Source, Splits, UnlearnState

MEASURES = ("ua", "ra", "ta", "mi")


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percentage of rows whose largest logit is that of the label; logits f32[M, C], labels i32[M]."""
    return float(100 * np.mean(logits.argmax(axis=1) == labels))


def evaluate(apply_fn: ApplyFn, state: UnlearnState, splits: Splits, source: Source, *, batch_size: int) -> Scores:
    """The paper's measures of one model, on unaugmented images in evaluation mode.

    Args:
      apply_fn: the model.
      state: its parameters and statistics.
      splits: forget, remain and test rows.
      source: the data.
      batch_size: images per forward pass.

    Returns:
      Percentages; ``ut_minutes`` is None. If a whole class is forgotten, TA is of the remaining classes and
      ``ta_forgotten`` of the forgotten one.
    """
    forward = EvalForward(apply_fn)

    def outputs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = source.stored(rows)
        return predict(forward, state.params, state.model_state, images, batch_size=batch_size), source.labels[rows]

    forget, remain, test = (outputs(rows) for rows in (splits.forget, splits.remain, splits.test))
    forgotten = splits.test_forgotten
    return Scores(
        ua=100 - accuracy(*forget),
        ra=accuracy(*remain),
        ta=accuracy(*test),
        mi=svc_mia(confidence(*remain), confidence(*test), confidence(*forget)),
        ta_forgotten=accuracy(*outputs(forgotten)) if len(forgotten) else None,
    )


def ask(state: UnlearnState, source: Source, rows: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """A model's logits f32[M, C] on several sets of rows, given as indices into the source by name."""
    forward = EvalForward(state.apply_fn)
    return {
        name: predict(forward, state.params, state.model_state, source.stored(index), batch_size=batch_size)
        for name, index in rows.items()
    }


def measure(
    state: UnlearnState, source: Source, rows: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, Predictions]:
    """A model's predictions on the same."""
    logits = ask(state, source, rows, batch_size)
    return {name: predictions(logits[name], source.labels[index]) for name, index in rows.items()}


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean of each measure over several models; None if one of them lacks it."""
    return Scores(**means([asdict(one) for one in scores]))


def means(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over several models; None if one of them lacks it."""
    columns = {name: [one[name] for one in models] for name in models[0]}
    return {name: None if None in column else float(np.mean(column)) for name, column in columns.items()}


def gap(scores: Scores, reference: Scores) -> dict[str, float]:
    """``|difference|`` to Retrain in points, for each of UA, RA, TA, MI, and their mean."""
    gaps = {name: abs(getattr(scores, name) - getattr(reference, name)) for name in MEASURES}
    return {**gaps, "mean": float(np.mean(list(gaps.values())))}


def spread(scores: Sequence[Scores]) -> dict[str, float] | None:
    """The mean gap over all pairs of models: how much Retrain varies. None for fewer than two models."""
    pairs = [gap(a, b) for a, b in itertools.combinations(scores, 2)]
    return {name: float(np.mean([p[name] for p in pairs])) for name in pairs[0]} if pairs else None
