"""How a run judges itself without Retrain and without the test set: the same rule for every method.

A model that never saw the forget rows treats them like held-out ones, and knows the rest as well as
the original did. Both can be seen on the forget rows, the rho subset and a validation slice.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ltu_jax.evaluation.scores import accuracy
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import Rows, Source, Splits, UnlearnState, Visible


class Judge(Protocol):
    """What a run scores itself by."""

    def score(self, state: UnlearnState) -> dict[str, float]:
        """Measures of a state, and among them ``distance``: the state of the smallest one is kept."""
        ...

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """Whether a run that scored so until now may stop here."""
        ...

    def warnings(self, state: UnlearnState) -> list[str]:
        """What is visibly wrong with a finished run, one line for each finding."""
        ...


class Monitor(NamedTuple):
    """The rows that a run scores itself on, and how the original did on them."""

    images: dict[str, Any]  # as in Rows
    labels: dict[str, np.ndarray]
    original: dict[str, float]
    batch_size: int

    def score(self, state: UnlearnState) -> dict[str, float]:
        """Accuracy of a state on each set, and its ``distance`` to the ideal, in points."""
        now = _accuracies(state, self.images, self.labels, self.batch_size)
        return {**now, "distance": distance(now, self.original)}

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """Never: accuracy lost in the middle of a run may come back as the rate decays."""
        return False

    def warnings(self, state: UnlearnState) -> list[str]:
        """What is visibly wrong with a finished run, and the field to turn; see ``verdict``."""
        now = self.score(state)
        return verdict(now, self.original, len(self.labels["forget"]), len(self.labels["validation"]))


def make_monitor(
    original: UnlearnState, source: Source, splits: Splits, visible: Visible, batch_size: int
) -> Monitor | None:
    """The monitor of a run that starts from ``original``.

    None where there are no validation rows, and where a class is forgotten whole: nothing but Retrain
    tells how a class that was never seen should score.
    """
    if not len(splits.validation) or len(splits.test_forgotten):
        return None
    held_out = Rows(source.stored(splits.validation), source.labels[splits.validation])
    sets = {"forget": visible.forget, "remain": visible.remain, "validation": held_out}
    images = {name: rows.images for name, rows in sets.items()}
    labels = {name: np.asarray(rows.labels) for name, rows in sets.items()}
    return Monitor(images, labels, _accuracies(original, images, labels, batch_size), batch_size)


def distance(now: dict[str, float], original: dict[str, float]) -> float:
    """How far accuracies are from what Retrain would look like; zero at the ideal, in points.

    The difference of forget and validation accuracy, plus what was lost of the original's accuracy
    on the rho subset and on validation.

    Args:
      now: accuracy in percent on ``forget``, ``remain`` (the rho subset) and ``validation``.
      original: the same of the original model.

    Returns:
      Points, >= 0.
    """
    lost = sum(max(0.0, original[name] - now[name]) for name in ("remain", "validation"))
    return abs(now["forget"] - now["validation"]) + lost


def verdict(now: dict[str, float], original: dict[str, float], num_forget: int, num_validation: int) -> list[str]:
    """Says when the forget rows are still better, or by now worse, known than rows never seen.

    A difference counts when it is larger than two standard errors of two samples of these sizes.

    Args:
      now: accuracy in percent on ``forget`` and ``validation``.
      original: the same of the original model.
      num_forget: forget rows.
      num_validation: validation rows.

    Returns:
      One line a finding, each with the field to turn; empty where nothing stands out.
    """
    forget, held_out = 100 - now["forget"], 100 - now["validation"]
    pooled = (forget * num_forget + held_out * num_validation) / (num_forget + num_validation)
    rate = min(max(pooled / 100, 0.01), 0.99)
    noise = 200 * math.sqrt(rate * (1 - rate) * (1 / num_forget + 1 / num_validation))
    errors = f"error {forget:.1f} % on the forget rows, {held_out:.1f} % on held-out rows (noise {noise:.1f})"
    found = []
    if forget < held_out - noise:
        found.append(f"forgets too little: {errors}; raise config.method.epochs or config.method.learning_rate")
    if forget > held_out + noise:
        found.append(f"forgets too much: {errors}; lower config.method.epochs or config.method.learning_rate")
    if now["validation"] < original["validation"] - noise:
        fell = f"held-out accuracy fell from {original['validation']:.1f} to {now['validation']:.1f} %"
        found.append(f"remembers too little: {fell}; lower config.method.learning_rate")
    return found


def _accuracies(
    state: UnlearnState, images: dict[str, Any], labels: dict[str, np.ndarray], batch_size: int
) -> dict[str, float]:
    forward, found = EvalForward(state.apply_fn), {}
    for name, rows in images.items():
        logits = predict(forward, state.params, state.model_state, rows, batch_size=batch_size)
        found[name] = accuracy(logits, labels[name])
    return found
