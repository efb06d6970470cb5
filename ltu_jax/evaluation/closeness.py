"""How close a model comes to Retrain row by row, and how its forget rows compare with rows that nobody saw.

Two models can agree in all four scores and in no row. Only for evaluation: it needs Retrain.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ltu_jax.evaluation.likeness import attack_auc, ks_distance, predictions

Answers = Callable[[str], np.ndarray]
"""A model's logits f32[M, C] on the rows of a set: forget, remain or test."""
Figures = dict[str, float | None]

BOUND = 30.0
"""Margins count up to this many nats on either side: beyond, probabilities are 1e-13 from 0 or 1."""
AT_ONCE = 8192
"""Rows whose probabilities are held in 64 bits at one time."""


def divergence(logits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of two models' probabilities on each row, in bits: 0 for the same, 1 for disjoint ones.

    Args:
      logits: of one model, f32[M, C].
      others: of the other, f32[M, C].

    Returns:
      f64[M]; 1 where logits are not finite.
    """
    starts = range(0, len(logits), AT_ONCE)
    return np.concatenate([_divergence(logits[i : i + AT_ONCE], others[i : i + AT_ONCE]) for i in starts])


def _divergence(logits: np.ndarray, others: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr, softmax

    with np.errstate(invalid="ignore"):  # what is not finite comes out as NaN
        p, q = (softmax(z.astype(np.float64), axis=1) for z in (logits, others))
    middle = (p + q) / 2
    bits = (rel_entr(p, middle).sum(axis=1) + rel_entr(q, middle).sum(axis=1)) / (2 * np.log(2))
    return np.clip(np.nan_to_num(bits, nan=1.0), 0, 1)


def margin_difference(margins: np.ndarray, others: np.ndarray) -> np.ndarray:
    """|difference| of two models' margins f64[M] on each row, each clipped at ``BOUND``; the largest for NaN."""
    apart = np.abs(np.clip(margins, -BOUND, BOUND) - np.clip(others, -BOUND, BOUND))
    return np.nan_to_num(apart, nan=2 * BOUND)


def compare(models: Sequence[Answers], retrains: Sequence[Answers], labels: Mapping[str, np.ndarray]) -> list[Figures]:
    """How close models come to Retrain; a Retrain among them is compared with the others. It goes set by set.

    Args:
      models: what to compare; each model is asked once for each set.
      retrains: the Retrain models.
      labels: of the rows of each set, i32[M] by ``forget``, ``remain`` and ``test``.

    Returns:
      For each model, of each set the means over its rows and the Retrains: ``js_forget``, see ``divergence``, and
      ``margin_forget``, see ``margin_difference``, None if there is nothing to compare with. And ``ks`` and ``auc`` of
      the margins of forget against test rows, see ``likeness``.
    """
    found: list[Figures] = [{} for _ in models]
    kept = [{} for _ in models]
    for rows, truth in labels.items():
        logits = {one: one(rows) for one in dict.fromkeys((*retrains, *models))}
        predicted = {one: predictions(z, truth) for one, z in logits.items()}
        for model, figures, predicted_of in zip(models, found, kept, strict=True):
            others, predicted_of[rows] = [one for one in retrains if one is not model], predicted[model]
            js = [divergence(logits[model], logits[one]) for one in others]
            apart = [margin_difference(predicted[model].margin, predicted[one].margin) for one in others]
            figures[f"js_{rows}"] = float(np.mean(js)) if js else None
            figures[f"margin_{rows}"] = float(np.mean(apart)) if apart else None
    for figures, predicted_of in zip(found, kept, strict=True):
        both = predicted_of["forget"], predicted_of["test"]
        figures |= {"ks": ks_distance(*both), "auc": attack_auc(*both)}
    return found
