"""Looks at model and data before a request: is it the model of these data, are there copies, are the images too few?

What is found is a warning where the request can still be right, for the claim is judged at its end.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.deletion import few
from ltu_jax.deletion.copies import Copies, copies_in
from ltu_jax.deletion.given_model import measure_given
from ltu_jax.deletion.measures import FEWEST_TOLD
from ltu_jax.deletion.models import last_model
from ltu_jax.deletion.plan import Plan, Request
from ltu_jax.models.build import ModelSpec
from ltu_jax.types import ArrayTree, Source, Splits


class SetUp(NamedTuple):
    """What was found before anything was trained or written."""

    given_model: dict[str, Any] | None  # figures of ``measure_given``; None where the request trains the model itself
    copies: dict[str, Copies]  # see ``copies_in``
    warnings: list[str]  # they name no rows: a receipt hands them out

    def in_receipt(self) -> dict[str, Any]:
        """What the receipt says of it; a count below ``FEWEST_TOLD`` would narrow down which rows were forgotten."""
        copies = {n: one.counts() if len(one.rows) >= FEWEST_TOLD else None for n, one in self.copies.items()}
        return {"given_model": self.given_model, "copies": copies, "warnings": self.warnings}

    def as_json(self, ids: np.ndarray) -> dict[str, Any]:
        """The same for the operator, with the first copies by their ``ids``, and the warnings."""
        copies = {name: one.as_json(ids) for name, one in self.copies.items()}
        return {"given_model": self.given_model, "copies": copies, "warnings": self.warnings}


def check_set_up(request: Request, todo: Plan, source: Source, spec: ModelSpec, given: ArrayTree | None) -> SetUp:
    """Measures the model that a request starts from, and looks for copies.

    Args:
      request: the request.
      todo: its plan.
      source: the data.
      spec: the model.
      given: its weights, if any.

    Raises:
      ConfigError: as ``measure_given``.
      LedgerError, CheckpointError: as ``last_model``.
    """
    config, figures, warnings = todo.config, None, few.warnings(len(todo.ids))
    where = "params: the model" if config.weights is None else f"config.weights: the model {config.weights!r}"
    if todo.previous is not None:
        given, where = last_model(request.home, todo.entries), f"--workdir: the model of {str(todo.previous)!r}"
    if given is None:
        warnings.append(
            "config.weights is unset: the request trains a model of its own and makes that one forget; no model of"
            " yours is changed"
        )
    else:
        figures, found = measure_given(
            spec,
            given,
            source,
            todo.splits,
            where=where,
            batch_size=config.evaluation.batch_size,
            seed=config.seed_for("split"),
            is_first=todo.previous is None,
        )
        warnings += found
    warnings += _classes_missing(source.labels, todo.splits)
    copies = copies_in(source, todo.splits)
    if len(copies["remain"].rows):
        warnings.append(_warning(copies["remain"], "that stay", "those to forget") + _STAY)
    if len(copies["held_out"].rows):
        warnings.append(_warning(copies["held_out"], "held out", "those trained on") + _HELD_OUT)
    return SetUp(figures, copies, warnings)


def _classes_missing(labels: np.ndarray, splits: Splits) -> Iterator[str]:
    """Where rows to forget have nothing to be compared with, or the method nothing to remember by."""
    forget, remain, test = (labels[rows] for rows in (splits.forget, splits.remain, splits.test))
    if alone := int((~np.isin(forget, test)).sum()):
        yield (
            f"nothing can be shown of {alone} of {len(forget)} rows to forget: no row held out for the evidence is of"
            " their class"
        )
    if gone := len(np.setdiff1d(test, remain)):
        yield (
            f"no row that stays is of {gone} of the {len(np.unique(test))} classes that are held out: that is right"
            " only where all rows of these classes are to be forgotten; else give a sample of every class"
        )


_STAY = "; forgetting these while copies stay teaches them anew: forget the copies as well"
_HELD_OUT = "; what is held out must be images that the model never saw: take them out"


def _warning(copies: Copies, which: str, of: str) -> str:
    if (count := len(copies.rows)) < FEWEST_TOLD:
        return f"a few images {which}, fewer than {FEWEST_TOLD}, are copies of {of}"
    return f"{count} images {which} are copies of {of} ({copies.counts()['identical']} of them to the byte)"
