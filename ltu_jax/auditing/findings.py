"""What audits find, in one form: the terminal, ``audit.json`` and the page are made of it.

Each audit has one main figure, chosen before anything is looked at. It stands beside that of the original, on which
the forget rows are known (ceiling), and beside those of Retrains, each measured against the others (floor). The verdict
over several audits is Holm's: the smallest of k p-values has to be at most 5 % / k, the next 5 % / (k - 1), and so on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing.intervals import LEVEL, Figure

SCHEMA_VERSION = 1


class Audit(NamedTuple):
    """What an audit is, for plans, tables and pages."""

    title: str
    measure: str  # its main figure, with its unit
    neutral: float | None  # of the main figure where nothing is left of the forget rows; None: the floor alone tells
    level: int  # 0: no training; 1: a few models; 2: a population
    claims: str  # one sentence
    does_not: str  # one sentence


AUDITS: Mapping[str, Audit] = {
    "held_out": Audit(
        "Forget rows beside rows never seen",
        "AUC of the margin, forget against held-out rows",
        0.5,
        0,
        "No threshold on the margin tells forget rows from held-out rows of their classes better than this.",
        "Anything about single rows, whose gains and losses may cancel.",
    ),
    "retrain": Audit(
        "Answers beside those of Retrain",
        "mean margin less Retrain's on forget rows, nats",
        0.0,
        0,
        "On the forget rows the model answers as a Retrain does, within the spread of Retrains.",
        "That the distributions over seeds are equal, or that another recipe of Retrain is as near.",
    ),
    "recalibration": Audit(
        "BatchNorm statistics measured anew",
        "change of accuracy on forget rows, points",
        0.0,
        0,
        "So much of the forgetting lies in the running averages and not in the weights.",
        "That what comes back are the forgotten rows themselves: other stale statistics heal as well.",
    ),
    "relearning": Audit(
        "Training on with remaining rows alone",
        "largest accuracy on forget rows above Retrain's, points",
        0.0,
        1,
        "So much of what was forgotten comes back without being shown.",
        "That what does not come back was removed: another optimizer, or a few forget rows, may bring it back.",
    ),
    "rmia": Audit(
        "RMIA, an attack with a few Retrains as references",
        "AUC of forget against held-out rows",
        0.5,
        1,
        "An attacker with these references tells forget from unseen rows no better than this, on average.",
        "Anything per row.",
    ),
    "iam": Audit(
        "IAM, each row between never seen and trained on",
        "AUC of the rows' confidence against Retrain's",
        0.5,
        1,
        "The forget rows lie no nearer to the original's answers than a Retrain's do.",
        "A probability that a row was trained on.",
    ),
    "canaries": Audit(
        "Canaries in one run",
        "lower bound on epsilon (95 %)",
        0.0,
        1,
        "No smaller epsilon holds for this recipe, worst-case rows and this run.",
        "An upper bound, or anything about ordinary rows.",
    ),
    "strata": Audit(
        "Hard, random and easy rows",
        "accuracy on the hard forget rows less Retrain's, points",
        0.0,
        1,
        "The result holds on rows of this difficulty.",
        "That these rows are those of the largest true memorisation.",
    ),
    "lira": Audit(
        "U-LiRA, an attack on each row with many shadows",
        "AUC of unlearned against never seen, row by row",
        0.5,
        2,
        "The best simple attacker on single rows, with so many shadows, gains this on average.",
        "Closeness to Retrain (privacy variant), or a bound on attackers who hold the original too.",
    ),
    "klom": Audit(
        "KLoM, margins over many models",
        "mean KL of the margins on forget rows, nats",
        None,
        2,
        "Over originals and seeds the margins are distributed as oracles' are, row by row.",
        "Anything about several rows together.",
    ),
    "forgetting_quality": Audit(
        "Forgetting quality F of the NeurIPS 2023 challenge",
        "F, from 0 to 1; 1 is out of reach",
        None,
        2,
        "Over seeds of one original the margins are distributed as Retrain's are, row by row.",
        "An epsilon with confidence: the largest over many thresholds is not corrected.",
    ),
}


class Finding(NamedTuple):
    """What one audit found of one model."""

    audit: str  # a key of ``AUDITS``
    unlearned: Figure
    original: Figure | None = None  # the same figure of the original: the ceiling
    floor: tuple[float, float] | None = None  # range of the same figure of Retrains, each against the others
    p_value: float | None = None  # two-sided; None where so few models allow none
    details: Mapping[str, Any] = {}  # all else, JSON-ready: secondary figures, curves, counts
    not_done: str | None = None  # why an audit that was asked for has no figure


def missing(audit: str, why: str) -> Finding:
    """The finding of an audit that could not be made."""
    nothing = Figure(math.nan, math.nan, math.nan, math.nan)
    return Finding(audit, nothing, not_done=why)


def holm(p_values: Mapping[str, float], level: float = LEVEL) -> dict[str, bool]:
    """Which of several hypotheses are rejected when no true one may be, but with probability ``level`` (Holm 1979)."""
    rejected, still = dict.fromkeys(p_values, False), True
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        still = still and p_values[name] <= level / (len(p_values) - place)
        rejected[name] = still
    return rejected


def verdict(findings: Sequence[Finding]) -> dict[str, bool | None]:
    """Whether each audit tells the model from one that never saw the forget rows; None where it has no p-value."""
    tested = {one.audit: one.p_value for one in findings if one.p_value is not None}
    return {one.audit: None for one in findings} | holm(tested)


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
