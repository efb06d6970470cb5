"""What audits find, in one form: the terminal, ``audit.json`` and the page are made of it.

Each audit has one main figure, chosen before anything is looked at. It stands beside that of the original, on which
the forget rows are known (ceiling), and beside those of Retrains, each measured against the others (floor). The verdict
over several audits is Holm's: the smallest of k p-values has to be at most 5 % / k, the next 5 % / (k - 1), and so on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import LEVEL, Figure, holm

SCHEMA_VERSION = 1


class Finding(NamedTuple):
    """What one audit found of one model."""

    audit: str  # a key of ``AUDITS``
    unlearned: Figure
    original: Figure | None = None  # the same figure of the original: the ceiling
    floor: tuple[float, float] | None = None  # range of the same figure of Retrains, each against the others
    p_value: float | None = None  # two-sided; None where so few models allow none
    tested: float | None = None  # what is tested less what a model that never saw the rows has; its sign is the side
    details: Mapping[str, Any] = {}  # all else, JSON-ready: secondary figures, curves, counts
    not_done: str | None = None  # why an audit that was asked for has no figure


def missing(audit: str, why: str) -> Finding:
    """The finding of an audit that could not be made."""
    nothing = Figure(math.nan, math.nan, math.nan, math.nan)
    return Finding(audit, nothing, not_done=why)


def verdict(findings: Sequence[Finding]) -> dict[str, bool | None]:
    """Whether each audit tells the model from one that never saw the forget rows; None where it has no p-value."""
    tested = {one.audit: one.p_value for one in findings if one.p_value is not None}
    corrected = holm(list(tested.values()))
    return {one.audit: None for one in findings} | {
        name: bool(p <= LEVEL) for name, p in zip(tested, corrected, strict=True)
    }


def as_json(value: Any) -> Any:
    """A result of an audit as JSON holds it: named tuples and arrays as dictionaries and lists, None for no number."""
    if hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_json(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
