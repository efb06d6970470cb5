"""Evidence for unlearning without Retrain, measured on rows that neither the method nor its calibration saw.

A figure on n rows is rounded to what one row contributes, 100/n points. Otherwise somebody with the old model could
find out which images they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.evaluation.likeness import Predictions, attack_auc, comparable, in_rows, ks_distance, ks_noise

RESAMPLES = 1000
LEVEL = 95
"""Percent of the bootstrap intervals."""
FEWEST_TOLD = 5
"""The number of forget rows of a class is disclosed from this many on."""

Measured = Mapping[str, Predictions]
"""One model's predictions on the rows ``forget``, ``remain``, ``held_out`` and, if there are any, ``earlier``."""


def evidence(before: Measured | None, after: Measured, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """The evidence for a request, JSON-ready.

    Args:
      before: predictions of the model before; None if it no longer exists.
      after: predictions of the unlearned model.
      class_names: for the table by class; None means numbers.

    Returns:
      ``rows``: the size of each set. ``not_compared``: number of forget rows of classes without held-out rows, which
      the attacker ignores. ``fewest``: see ``FEWEST_TOLD``. ``chance_ks``: the value that the attacker's KS exceeds by
      chance once in twenty, regardless of the classes, which it would disclose. ``before`` and ``after``: figures
      ``[value, low, high]`` with a 95 % bootstrap interval: accuracies and confidences in percent, AUC and KS of an
      attacker who tells forget from held-out rows. ``classes``: the accuracy on remaining and held-out rows of each
      class, before and after.
    """
    models, forget, held_out = {"before": before, "after": after}, after["forget"], after["held_out"]
    return {
        "rows": {name: len(one.labels) for name, one in after.items()},
        "not_compared": len(forget.labels) - len(comparable(forget, held_out).labels),
        "chance_ks": round(min(100.0, ks_noise(np.zeros_like(forget.labels), np.zeros_like(held_out.labels))), 1),
        "level": LEVEL,
        "fewest": FEWEST_TOLD,
        **{name: None if measured is None else figures(measured) for name, measured in models.items()},
        "classes": _by_class(before, after, class_names),
    }


def figures(measured: Measured) -> dict[str, list[float]]:
    """The figures of one model as ``[value, low, high]``; the resampling has a fixed seed."""
    out = {}
    for name, one in measured.items():
        out[f"{name}_accuracy"] = _interval(lambda a: 100 * float(a.correct.mean()), one, unit=100)
        out[f"{name}_confidence"] = _interval(lambda a: 100 * float(a.confidence.mean()), one, unit=100)
    for name in ("forget", "earlier"):
        if name in measured:
            prefix = "" if name == "forget" else "earlier_"
            both = (measured[name], measured["held_out"])
            out[f"{prefix}attack_auc"] = _interval(attack_auc, *both, unit=1)
            out[f"{prefix}attack_ks"] = _interval(ks_distance, *both, unit=100)
    return out


def _interval(statistic: Callable[..., float], *samples: Predictions, unit: float) -> list[float]:
    """A statistic with its percentile bootstrap interval; the samples are resampled independently."""
    rng = np.random.default_rng(0)
    sizes = [len(sample.labels) for sample in samples]
    again = [
        statistic(*(sample.at(rng.integers(0, size, size)) for sample, size in zip(samples, sizes, strict=True)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(again, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return [in_rows(float(value), min(sizes), unit) for value in (statistic(*samples), low, high)]


def _by_class(before: Measured | None, after: Measured, class_names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rounded to whole points: finer values would disclose the number of rows, and so of forgotten rows."""
    sets = ("remain", "held_out")
    labels = np.unique(np.concatenate([after[name].labels for name in sets]))
    forgotten = _disclosed_counts([int(np.sum(after["forget"].labels == label)) for label in labels])
    return [
        {
            "label": label,
            "name": class_names[label] if class_names else str(label),
            "forgotten": count,
            **{name: [_accuracy_on(measured, name, label) for measured in (before, after)] for name in sets},
        }
        for label, count in zip(labels.tolist(), forgotten, strict=True)
    ]


def _disclosed_counts(counts: Sequence[int]) -> list[int | None]:
    """The counts with None for small ones; never only one None, which the total would disclose."""
    disclosed: list[int | None] = [count if count >= FEWEST_TOLD else None for count in counts]
    if disclosed.count(None) == 1 and len(disclosed) > 1:
        smallest = min(count for count in disclosed if count is not None)
        disclosed[disclosed.index(smallest)] = None
    return disclosed


def _accuracy_on(measured: Measured | None, name: str, label: int) -> float | None:
    if measured is None or not (here := measured[name].labels == label).any():
        return None
    return float(round(100 * float(measured[name].correct[here].mean())))
