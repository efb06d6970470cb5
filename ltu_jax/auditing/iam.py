"""Audit: IAM, how far each row lies on the way from never seen (0) to trained on (1) (arXiv:2506.06112).

For each of 100 steps from what models without the row answer to what the original answers, a distribution of answers
is assumed; the confidence that a row is still in the model is a mean of where the unlearned model's answer lies in
them. It orders rows. It is no probability: a Retrain's rows have a spread of values, so it is compared with Retrains'.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import (
    RESAMPLES,
    Figure,
    auc_of_weights,
    figure,
    finite,
    ks_of_weights,
    resampled_weights,
)

STEPS = 100
EULER = 0.5772  # as published


class Iam(NamedTuple):
    """How much a model's answers on forget rows lie nearer to the original's than a Retrain's do."""

    auc: Figure | None  # the main figure: P[a row's confidence > one under a Retrain]; None with a single Retrain
    ks: Figure | None  # Kolmogorov-Smirnov distance of the same, points
    confidence: Figure  # mean over the rows; compare with the original's (ceiling) and each Retrain's (floor)
    of_rows: np.ndarray  # confidence with all references, f64[M]; 1 - confidence is the unlearning score
    rows: int
    references: int


def signal(margins: np.ndarray) -> np.ndarray:
    """-log(.01 - log(p + 1e-5)) of margins, any shape, scaled so that p = 0 gives 0 and p = 1 gives 1."""
    p = np.exp(-np.logaddexp(0.0, -np.asarray(margins, np.float64)))
    low, of_p, high = (-np.log(0.01 - np.log(x + 1e-5)) for x in (0.0, p, 1.0))
    return (of_p - low) / (high - low)


def confidence(unlearned: np.ndarray, original: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """How far each row lies between models without it and the original, f64[M] in [0, 1].

    As published, the weight of a step stands beside the distribution of the step before it, and the spread of a step
    is that over all rows and models, the only choice where there is one model.

    Args:
      unlearned: margins of the model under audit, f64[M].
      original: of the model that was trained on the rows, f64[M]; None takes the largest signal in its place.
      out: of models that were not, f64[K, M].
    """
    s_out = signal(out)
    s_original = np.ones(s_out.shape[1]) if original is None else signal(original)
    alphas = np.linspace(0, 1, STEPS)
    steps = s_out + alphas[:-1, None, None] * (s_original - s_out)  # [STEPS - 1, K, M]
    scale = np.sqrt(6) / np.pi * np.maximum(steps.std(axis=(1, 2)), 1e-10)[:, None]
    location = steps.mean(axis=1) - EULER * scale
    with np.errstate(over="ignore"):
        below = np.exp(-np.exp((location - signal(unlearned)) / scale))  # Gumbel
    return alphas[1:] @ below / alphas[1:].sum()


def iam(
    unlearned: np.ndarray,
    original: np.ndarray | None,
    retrains: Sequence[np.ndarray] | np.ndarray,
    classes: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Iam:
    """Compares a model with K Retrains by IAM: each Retrain in turn is what it is compared with, the others references.

    Args:
      unlearned: margins on the forget rows of the model under audit, f64[M]; it is none of the Retrains.
      original: of the original, f64[M], or None, see ``confidence``.
      retrains: of Retrains, f64[K, M].
      classes: of the rows, i32[M].
      rng: for the resamples of the rows, classes kept and both models paired.
      resamples: their number.

    Raises:
      ValueError: a margin is not finite, or there is no row or no Retrain.
    """
    unlearned, retrains = finite("margins", unlearned), finite("margins of Retrains", np.asarray(retrains))
    original = None if original is None else finite("margins of the original", original)
    of_rows, count = confidence(unlearned, original, retrains), len(retrains)
    pairs = []
    for k in range(count if count > 1 else 0):
        others = np.delete(retrains, k, axis=0)
        pairs.append((confidence(unlearned, original, others), confidence(retrains[k], original, others)))
    aucs, distances = [auc_of_weights(*pair) for pair in pairs], [ks_of_weights(*pair) for pair in pairs]

    def found(w: np.ndarray) -> list[float]:
        compared = [np.mean([one(w, w) for one in aucs]), np.mean([one(w) for one in distances])] if pairs else []
        return [float(x) for x in (np.average(of_rows, weights=w), *compared)]

    drawn = np.array([found(w) for w in resampled_weights(classes, rng, resamples)])
    mean, *compared = (figure(value, drawn[:, i]) for i, value in enumerate(found(np.ones(len(of_rows)))))
    auc, ks = compared or (None, None)
    return Iam(auc, ks, mean, of_rows, len(of_rows), count)
