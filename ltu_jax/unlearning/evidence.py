"""What the report shows of the forget rows: confidence in their true labels, and where it changed most."""

import numpy as np

from ltu_jax.evaluation.svc_mia import confidence
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import UnlearnState
from ltu_jax.unlearning.problem import Problem


def forget_confidence(problem: Problem, state: UnlearnState) -> dict[str, np.ndarray]:
    """Probability of the true label on the forget rows, f64[F]: before, after, and under the first Retrain.

    Args:
      problem: what the run started from.
      state: the unlearned model.

    Returns:
      By name: ``before``, ``after`` and, where there is one, ``Retrain``.
    """
    models = {"before": problem.original, "after": state} | dict(zip(["Retrain"], problem.retrains, strict=False))
    rows = problem.splits.forget
    images, labels = problem.source.stored(rows), problem.source.labels[rows]
    forward, batch_size = EvalForward(problem.spec.apply_fn), problem.config.evaluation.batch_size
    return {
        name: confidence(predict(forward, s.params, s.model_state, images, batch_size=batch_size), labels)
        for name, s in models.items()
    }


def changed_most(
    problem: Problem, confidence: dict[str, np.ndarray], num: int = 12
) -> list[tuple[str, np.ndarray, int, float, float]]:
    """The forget images whose confidence changed most: ``(id, image u8[H,W,3], label, before, after)``."""
    before, after = confidence["before"], confidence["after"]
    rows = problem.splits.forget
    return [
        (str(problem.source.ids[rows[i]]), problem.source.images[rows[i]], int(problem.source.labels[rows[i]]), *pair)
        for i in np.argsort(-abs(after - before), kind="stable")[:num]
        for pair in [(float(before[i]), float(after[i]))]
    ]
