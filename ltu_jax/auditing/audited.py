"""A finished run under audit: its model, what that is compared with, and what all of them answer."""

import functools
from dataclasses import dataclass

import numpy as np

from ltu_jax.auditing.answers import Outputs
from ltu_jax.auditing.by_answers import Models
from ltu_jax.config import Config
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.evaluation.scores import ask
from ltu_jax.training.checkpoint import tree_sha256
from ltu_jax.types import Progress, Source, Splits, UnlearnState, silent

SETS = ("forget", "remain", "test")
UNLEARNED, ORIGINAL = "unlearned", "original"
SEED = 23
"""Of the resampling of rows; which numbers come of it does not depend on the run's own seeds."""


class RuleError(ValueError):
    """A comparison that would not be fair."""


def scored(splits: Splits) -> dict[str, np.ndarray]:
    """The rows that audits score, by ``SETS``: indices into the source; held-out rows are ``test``.

    Raises:
      RuleError: one of them guides a run or a calibration.
    """
    test = np.concatenate([splits.test, splits.test_forgotten])
    rows = {"forget": splits.forget, "remain": splits.remain, "test": test}
    guiding = np.concatenate([splits.reserve, splits.validation])
    for name, index in rows.items():
        if met := int(np.isin(index, guiding).sum()):
            raise RuleError(f"{met} {name} rows are in reserve or validation, by which runs are guided")
    return rows


@dataclass(frozen=True)
class Audited:
    """A run's model beside the original it began from and Retrains; none of these is the model itself."""

    config: Config
    source: Source
    splits: Splits
    unlearned: UnlearnState
    original: UnlearnState
    retrains: tuple[UnlearnState, ...]
    progress: Progress = silent

    def __post_init__(self) -> None:
        """Refuses a target among its references, and rows that guide runs among those that are scored."""
        names = [_sha256(state) for state in (self.unlearned, *self.retrains)]
        if len(set(names)) < len(names):
            raise RuleError("the model is one of the Retrains that it is compared with, or two Retrains are the same")
        scored(self.splits)

    @property
    def is_random(self) -> bool:
        """Whether the forget rows were drawn at random: only then are held-out rows as hard to answer as they are."""
        return self.config.data.forget_kind == "random"

    @functools.cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """See ``scored``."""
        return scored(self.splits)

    @property
    def models(self) -> dict[str, UnlearnState]:
        """All models by name: ``unlearned``, ``original``, and Retrains by ``retrain 0``."""
        retrains = {f"retrain {k}": state for k, state in enumerate(self.retrains)}
        return {UNLEARNED: self.unlearned, ORIGINAL: self.original, **retrains}

    @property
    def of_retrains(self) -> list[str]:
        """The names of the Retrains."""
        return [name for name in self.models if name not in (UNLEARNED, ORIGINAL)]

    @functools.cached_property
    def outputs(self) -> dict[str, Outputs]:
        """What each model answers on each set of rows, by its name; ``held_out`` are the rows of ``test``."""
        found: dict[str, Outputs] = {}
        with self.progress("answers of all models", len(self.models)) as advance:
            for name, state in self.models.items():
                logits = ask(state, self.source, self.rows, self.config.evaluation.batch_size)
                rows = {of: predictions(logits[of], self.labels(of)) for of in SETS}
                found[name] = Outputs(name, {**rows, "held_out": rows["test"]}, {**logits, "held_out": logits["test"]})
                advance(1)
        return found

    @property
    def answered(self) -> Models:
        """The same for the audits that need no more."""
        of_retrains = [self.outputs[name] for name in self.of_retrains]
        return Models(self.outputs[UNLEARNED], of_retrains, self.outputs[ORIGINAL], self.is_random, SEED)

    def labels(self, of: str) -> np.ndarray:
        """Labels of a set of rows, i32[M]."""
        return self.source.labels[self.rows[of]]


def _sha256(state: UnlearnState) -> str:
    return tree_sha256([state.params, state.model_state])
