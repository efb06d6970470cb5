"""How a run judges itself without Retrain and without the test set: one measure for every method and every purpose.

A model that never saw the forget rows treats them like held-out rows of the same classes, and knows the rest as well as
the original did. Both can be seen on the forget rows, the rho subset and the validation rows. By this measure a run
keeps its best state (``eval_every``), a request compares its trials (``deletion.calibration``), and both warn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ltu_jax.config import Calibration
from ltu_jax.evaluation.likeness import attack_auc, in_rows, ks_distance, ks_noise
from ltu_jax.evaluation.scores import measure
from ltu_jax.types import Source, Splits, UnlearnState

BEYOND = 10.0
"""Points of distance for each point of accuracy lost beyond the tolerance: utility comes first."""

CLEARLY = 2.0
"""A difference between the distances of two looks that is larger than noise, points."""


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

    source: Source
    rows: Mapping[str, np.ndarray]  # indices of forget, remain (the rho subset), validation, and perhaps unseen
    original: Mapping[str, np.ndarray]  # bool[.], which rows of these, but forget, it knew
    batch_size: int
    tolerance: float = Calibration.tolerance  # points of accuracy
    patience: int | None = None  # looks; None never gives up: what is lost may come back as the rate decays

    def score(self, state: UnlearnState) -> dict[str, float]:
        """Accuracies in percent, ``lost``, ``lost_unseen``, ``ks`` and ``distance`` in points, and ``auc``."""
        measured = measure(state, self.source, self.rows, self.batch_size)
        both = measured["forget"], measured["validation"]
        lost = {name: accuracy_lost(knew, measured[name].correct) for name, knew in self.original.items()}
        lost_unseen, ks = lost.pop("unseen", None), ks_distance(*both)
        most = max(lost.values())
        return {
            **{name: 100 * float(one.correct.mean()) for name, one in measured.items()},
            "lost": most,
            **({} if lost_unseen is None else {"lost_unseen": lost_unseen}),
            "ks": ks,
            "auc": attack_auc(*both),
            "distance": distance(ks, most, self.tolerance, lost_unseen or 0.0),
        }

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """Whether the last ``patience`` looks were all clearly worse than the best one before.

        They must be clearly worse, because a run can stand still before forgetting begins.
        """
        if self.patience is None or len(distances) <= self.patience:
            return False
        return min(distances[-self.patience :]) > min(distances) + CLEARLY

    def warnings(self, state: UnlearnState) -> list[str]:
        """What is visibly wrong with a finished run, and the field to turn; see ``verdict``."""
        forget, validation = (self.source.labels[self.rows[name]] for name in ("forget", "validation"))
        original = {name: 100 * float(knew.mean()) for name, knew in self.original.items()}
        return verdict(self.score(state), original, len(forget), ks_noise(forget, validation), self.tolerance)


def make_monitor(
    original: UnlearnState, source: Source, splits: Splits, batch_size: int, unseen: np.ndarray | None = None
) -> Monitor | None:
    """The monitor of a run that starts from ``original``.

    None where there are no validation rows, and where a class is forgotten whole: nothing but Retrain
    tells how a class that was never seen should score.

    Args:
      original: the model before.
      source: the data.
      splits: whose rows are scored.
      batch_size: images per forward pass.
      unseen: remaining rows that the method does not train on, if it may be scored on these. They lose more than the
        rho subset does: each point counts as one of the distance, without a tolerance.
    """
    if not len(splits.validation) or len(splits.test_forgotten):
        return None
    rows = {"remain": splits.visible, "validation": splits.validation}
    if unseen is not None and len(unseen):
        rows["unseen"] = unseen
    knew = {name: one.correct for name, one in measure(original, source, rows, batch_size).items()}
    return Monitor(source, {"forget": splits.forget, **rows}, knew, batch_size)


def distance(ks: float, lost: float, tolerance: float, lost_unseen: float = 0.0) -> float:
    """How far a state is from looking as if it had never seen the forget rows; zero at the ideal, in points.

    Args:
      ks: ``ks_distance`` of forget and validation rows, points.
      lost: the larger ``accuracy_lost`` of the rho subset and the validation rows, points.
      tolerance: what of it counts for nothing, points.
      lost_unseen: the same of remaining rows that the method does not train on, points.

    Returns:
      Points, >= 0: ``ks``, ``lost_unseen``, and ``BEYOND`` for each point lost beyond the tolerance.
    """
    return ks + lost_unseen + BEYOND * max(0.0, lost - tolerance)


def accuracy_lost(before: np.ndarray, after: np.ndarray) -> float:
    """Accuracy lost beyond noise, in points: the paired difference minus two standard errors, at least 0.

    Args:
      before: which rows the first model classifies correctly, bool[M].
      after: which the second does.
    """
    change = before.astype(float) - after
    return max(0.0, float(100 * (change.mean() - 2 * change.std() / math.sqrt(len(change)))))


def verdict(
    now: Mapping[str, float], original: Mapping[str, float], num_forget: int, noise: float, tolerance: float
) -> list[str]:
    """Says when the forget rows are still better, or by now worse, known than held-out rows, and when too much is lost.

    Args:
      now: what ``Monitor.score`` returned.
      original: accuracy of the original in percent on ``remain`` and ``validation``.
      num_forget: forget rows. No figure is finer than what one of them counts: a receipt hands the lines out.
      noise: what ``ks`` must exceed, points; not told, for it depends on the classes of the forget rows.
      tolerance: what ``lost`` must exceed, points.

    Returns:
      One line a finding, each with the field to turn; empty where nothing stands out.
    """
    found = []
    if now["ks"] > noise:
        much, side, turn = ("little", "better", "raise") if now["auc"] > 0.5 else ("much", "worse", "lower")
        found.append(
            f"forgets too {much}: the forget rows are known {side} than held-out rows of their classes,"
            f" {in_rows(now['ks'], num_forget):.1f} points apart (KS), more than chance alone makes of so many;"
            f" {turn} config.method.epochs or config.method.learning_rate"
        )
    if now["lost"] > tolerance:
        fell = (f"{original[name]:.1f} to {now[name]:.1f} % on {name} rows" for name in ("remain", "validation"))
        found.append(
            f"remembers too little: {now['lost']:.1f} points of accuracy are lost beyond noise, more than"
            f" {tolerance:g} ({', '.join(fell)}); lower config.method.learning_rate or raise"
            " config.data.remain_fraction"
        )
    return found
