"""What can be shown of an unlearned model without Retrain, on rows that neither the method nor its calibration saw.

A figure on n rows is told no finer than one row counts, 100/n points: who has the old model could else try out which
images they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.evaluation.likeness import Predictions, attack_auc, comparable, ks_distance, ks_noise, predictions
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import Source, UnlearnState

RESAMPLES = 1000
LEVEL = 95
"""Percent of the bootstrap intervals."""
FEWEST = 5
"""Rows to be forgotten of one class below which their number is not told."""

Measured = Mapping[str, Predictions]
"""What one model says of the rows called ``forget``, ``remain``, ``held_out``, and ``earlier`` where there are any."""


def measure(
    state: UnlearnState, source: Source, rows: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, Predictions]:
    """What a model says of rows.

    Args:
      state: the model.
      source: the data.
      rows: indices into the source by name, see ``rows.to_measure``.
      batch_size: images a forward pass.

    Returns:
      ``Measured``.
    """
    forward, out = EvalForward(state.apply_fn), {}
    for name, index in rows.items():
        logits = predict(forward, state.params, state.model_state, source.stored(index), batch_size=batch_size)
        out[name] = predictions(logits, source.labels[index])
    return out


def evidence(before: Measured | None, after: Measured, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """The evidence for a request, JSON-ready.

    Args:
      before: of the model before; None where it is no longer there.
      after: of the unlearned model.
      class_names: for the table by class; None numbers them.

    Returns:
      ``rows`` (how many of each set), ``not_compared`` (forget rows of classes without a held-out row: an attacker is
      not asked about them), ``fewest`` (see ``FEWEST``), ``chance_ks`` (what the attacker's KS exceeds once in twenty
      by chance alone, whatever the classes, which it would tell of), ``before`` and ``after`` (figures, each ``[value,
      low, high]`` with a bootstrap interval of 95 %: accuracies and confidences in percent, AUC and KS of an attacker
      who tells forget from held-out rows), ``classes`` (of each class of remaining or held-out rows the accuracy on
      these, before and after).
    """
    models, forget, held_out = {"before": before, "after": after}, after["forget"], after["held_out"]
    return {
        "rows": {name: len(told.labels) for name, told in after.items()},
        "not_compared": len(forget.labels) - len(comparable(forget, held_out).labels),
        "chance_ks": round(min(100.0, ks_noise(np.zeros_like(forget.labels), np.zeros_like(held_out.labels))), 1),
        "level": LEVEL,
        "fewest": FEWEST,
        **{name: None if told is None else figures(told) for name, told in models.items()},
        "classes": _by_class(before, after, class_names),
    }


def figures(told: Measured) -> dict[str, list[float]]:
    """Each figure of one model as ``[value, low, high]``; the resampling is always the same."""
    out = {}
    for name, one in told.items():
        out[f"{name}_accuracy"] = _interval(lambda a: 100 * float(a.correct.mean()), one, unit=100)
        out[f"{name}_confidence"] = _interval(lambda a: 100 * float(a.confidence.mean()), one, unit=100)
    for name in ("forget", "earlier"):
        if name in told:
            prefix = "" if name == "forget" else "earlier_"
            both = (told[name], told["held_out"])
            out[f"{prefix}attack_auc"] = _interval(attack_auc, *both, unit=1)
            out[f"{prefix}attack_ks"] = _interval(ks_distance, *both, unit=100)
    return out


def _interval(statistic: Callable[..., float], *samples: Predictions, unit: float) -> list[float]:
    """A statistic with its percentile bootstrap interval, each sample resampled by itself."""
    rng = np.random.default_rng(0)
    sizes = [len(sample.labels) for sample in samples]
    again = [
        statistic(*(sample.at(rng.integers(0, size, size)) for sample, size in zip(samples, sizes, strict=True)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(again, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return [in_rows(float(value), min(sizes), unit) for value in (statistic(*samples), low, high)]


def in_rows(value: float, num_rows: int, unit: float = 100.0) -> float:
    """A figure as finely as one row of so many counts; ``unit`` is what all of them count."""
    return round(round(value * num_rows / unit) * unit / num_rows, 6) if np.isfinite(value) else value


def _by_class(before: Measured | None, after: Measured, class_names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Told in whole points: finer, they would say of how many rows they are, and so how many are forgotten."""
    sets = ("remain", "held_out")
    labels = np.unique(np.concatenate([after[name].labels for name in sets]))
    forgotten = _told_counts([int(np.sum(after["forget"].labels == label)) for label in labels])
    return [
        {
            "label": label,
            "name": class_names[label] if class_names else str(label),
            "forgotten": count,
            **{name: [_accuracy_on(told, name, label) for told in (before, after)] for name in sets},
        }
        for label, count in zip(labels.tolist(), forgotten, strict=True)
    ]


def _told_counts(counts: Sequence[int]) -> list[int | None]:
    """Counts of which small ones are left out; never one alone, which the total would tell."""
    told: list[int | None] = [count if count >= FEWEST else None for count in counts]
    if told.count(None) == 1 and len(told) > 1:
        smallest = min(count for count in told if count is not None)
        told[told.index(smallest)] = None
    return told


def _accuracy_on(told: Measured | None, name: str, label: int) -> float | None:
    if told is None or not (here := told[name].labels == label).any():
        return None
    return float(round(100 * float(told[name].correct[here].mean())))
