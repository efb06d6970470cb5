"""What audits there are, and which of them a command is asked for. Imports neither JAX nor NumPy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ltu_jax.setting import ConfigError, allowed_names


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
        "Anything about single rows.",
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


def chosen_audits(names: Sequence[str] | None, level: int) -> list[str]:
    """The audits of a level and those below it, in their order; or of these the ones that are named.

    Raises:
      ConfigError: a name is no audit, or one of a higher level.
    """
    there = [name for name, audit in AUDITS.items() if audit.level <= level]
    for name in names or ():
        if name not in AUDITS:
            raise ConfigError(f"--audits: {name!r} is no audit; {allowed_names(name, AUDITS)}")
        if name not in there:
            raise ConfigError(
                f"--audits: {name!r} is of level {AUDITS[name].level}; allowed: with --level {AUDITS[name].level}"
            )
    return [name for name in there if not names or name in names]
