"""What an audit will take and what it can see, said before anything is trained."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltu_jax.auditing.canaries import smallest_epsilon
from ltu_jax.auditing.intervals import LEVEL, effective, smallest_auc
from ltu_jax.evaluation.likeness import matched_weights
from ltu_jax.training.jobs import Trainer, TrainingJob


class PlannedModel(NamedTuple):
    """A model that an audit compares with."""

    name: str
    trained_on: str
    rows: int
    found: bool  # in the cache; else it is trained
    seconds: float  # that its training takes, about; 0 where it is found


def planned(
    trainer: Trainer, jobs: Sequence[tuple[TrainingJob, str]], of_one: float, rows_of_one: int
) -> list[PlannedModel]:
    """The models of training jobs.

    Args:
      trainer: would train them.
      jobs: each with what it is trained on, in words.
      of_one: seconds that a training on ``rows_of_one`` rows took.
      rows_of_one: see there.
    """
    models = []
    for job, trained_on in jobs:
        found, rows = trainer.entry(job).is_there(), len(job.rows)
        models.append(PlannedModel(job.label, trained_on, rows, found, 0.0 if found else of_one * rows / rows_of_one))
    return models


def resolution(audits: Sequence[str], forget: np.ndarray, held_out: np.ndarray, is_random: bool) -> dict[str, str]:
    """The smallest effect that each audit would find with 80 % at two-sided 5 %, in words, where rows alone say it.

    Args:
      audits: names.
      forget: labels of the forget rows, i32[F].
      held_out: labels of the held-out rows, i32[V].
      is_random: whether the forget rows were drawn at random; of others the spread of Retrains says it.
    """
    if not is_random:
        return {}
    apart = smallest_auc(len(forget), effective(matched_weights(held_out, forget)))
    found = f"AUC {0.5 - apart:.3f} or {0.5 + apart:.3f}"
    words = {"held_out": found, "rmia": found, "relearning": f"{found} of RMIA afterwards"}
    return {name: words[name] for name in audits if name in words}


def resolution_of_canaries(count: int) -> str:
    """The epsilon that so many canaries would find, in words."""
    return f"epsilon {smallest_epsilon(count // 4, LEVEL / 2):.1f}"
