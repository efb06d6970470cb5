"""What can be shown of an unlearned model without Retrain, on rows that neither the method nor its calibration saw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.config import Config
from ltu_jax.data.splits import remain_subset
from ltu_jax.evaluation.likeness import Answers, answers, attack_auc, ks_distance
from ltu_jax.training.predict import eval_forward, predict
from ltu_jax.types import Source, Splits, UnlearnState

RESAMPLES = 1000
LEVEL = 95
"""Percent of the bootstrap intervals."""

Measured = Mapping[str, Answers]
"""What one model says of the rows called ``forget``, ``remain``, ``held_out``, and ``earlier`` where there are any."""


def measure(
    config: Config, source: Source, splits: Splits, state: UnlearnState, earlier: np.ndarray | None = None
) -> dict[str, Answers]:
    """What a model says of the forget rows, of the rho subset, of held-out rows and of those of earlier requests.

    Args:
      config: of the request.
      source: the data.
      splits: held-out rows are its test rows.
      state: the model.
      earlier: rows that earlier requests forgot, indices into the source.

    Returns:
      ``Measured``.
    """
    known = remain_subset(splits, config.data.remain_fraction, config.seeds.split or 0)
    sets = {"forget": splits.forget, "remain": known, "held_out": splits.test}
    if earlier is not None and len(earlier):
        sets["earlier"] = earlier
    forward, size = eval_forward(state.apply_fn), config.evaluation.batch_size
    out = {}
    for name, rows in sets.items():
        logits = predict(forward, state.params, state.model_state, source.stored(rows), batch_size=size)
        out[name] = answers(logits, source.labels[rows])
    return out


def evidence(before: Measured | None, after: Measured, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """The evidence for a request, JSON-ready.

    Args:
      before: of the model before; None where it is no longer there.
      after: of the unlearned model.
      class_names: for the table by class; None numbers them.

    Returns:
      ``rows`` (how many of each set), ``before`` and ``after`` (figures, each ``[value, low, high]`` with a bootstrap
      interval of 95 %: accuracies and confidences in percent, AUC and KS of an attacker who tells forget from held-out
      rows), ``classes`` (accuracy on remaining and held-out rows of each class, before and after).
    """
    models = {"before": before, "after": after}
    return {
        "rows": {name: len(told.labels) for name, told in after.items()},
        "level": LEVEL,
        **{name: None if told is None else figures(told) for name, told in models.items()},
        "classes": _by_class(before, after, class_names),
    }


def figures(told: Measured) -> dict[str, list[float]]:
    """Each figure of one model as ``[value, low, high]``; the resampling is always the same."""
    out = {}
    for name, one in told.items():
        out[f"{name}_accuracy"] = _interval(lambda a: 100 * float(a.correct.mean()), one)
        out[f"{name}_confidence"] = _interval(lambda a: 100 * float(a.confidence.mean()), one)
    for name in ("forget", "earlier"):
        if name in told:
            prefix = "" if name == "forget" else "earlier_"
            both = (told[name], told["held_out"])
            out[f"{prefix}attack_auc"] = _interval(attack_auc, *both)
            out[f"{prefix}attack_ks"] = _interval(ks_distance, *both)
    return out


def _interval(statistic: Callable[..., float], *samples: Answers) -> list[float]:
    """A statistic with its percentile bootstrap interval, each sample resampled by itself."""
    rng = np.random.default_rng(0)
    sizes = [len(sample.labels) for sample in samples]
    again = [
        statistic(*(sample.at(rng.integers(0, size, size)) for sample, size in zip(samples, sizes, strict=True)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(again, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return [round(float(value), 6) for value in (statistic(*samples), low, high)]


def _by_class(before: Measured | None, after: Measured, class_names: Sequence[str] | None) -> list[dict[str, Any]]:
    labels = np.unique(np.concatenate([told.labels for told in after.values()]))
    out = []
    for label in labels.tolist():
        row: dict[str, Any] = {
            "label": label,
            "name": class_names[label] if class_names else str(label),
            "forgotten": int(np.sum(after["forget"].labels == label)),
        }
        for name in ("remain", "held_out"):
            row[name] = [_accuracy_on(told, name, label) for told in (before, after)]
        out.append(row)
    return out


def _accuracy_on(told: Measured | None, name: str, label: int) -> float | None:
    if told is None or not (here := told[name].labels == label).any():
        return None
    return round(100 * float(told[name].correct[here].mean()), 6)
