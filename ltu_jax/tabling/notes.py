"""The notes under a table: how to read it, which seeds varied, and how much of the noise they explain."""

import math
from collections.abc import Mapping, Sequence

from ltu_jax.tabling import noise
from ltu_jax.tabling.runs import SEEDS, Run

READING = (
    "UA, RA, TA, MI: mean ± standard deviation (n - 1) over the seeds, in percent. In parentheses the gap: absolute "
    "difference to Retrain in points, computed per seed and then averaged (the paper's own gap is the difference of "
    "the means). mean gap: of the four. UT: minutes, without compilation, data loading and evaluation."
)
BOLD = (
    "Bold: a gap that is smaller than every other method's beyond the seeds' noise: for each of them the paired "
    f"two-sided {100 * noise.CONFIDENCE:g} % t interval of the difference over the common seeds excludes zero. Unlearn "
    "seeds of one original count as one, and one alone decides nothing. Original and Retrain do not compete."
)
FLOOR = "Between two Retrains: the mean gap of two Retrain models to each other; a gap within it is noise."
CLOSE = (
    "JS and margin: how far the answers on the forget rows are from Retrain's, row by row: the mean Jensen-Shannon "
    "divergence of the probabilities in bits (0 to 1), and the mean absolute difference of the log-odds of the true "
    "label; over the Retrains, of two Retrains each to the other. Bold as gaps are."
)
AUDITED = (
    "Audits: the main figure of each, mean ± standard deviation over the seeds, from the audit.json of every run. "
    "Between two Retrains: the range of the same figure of Retrains, each against the others. None is bold: what "
    "counts is to lie in that range."
)
OWN = (
    "In columns of other names: figures by config.evaluation.measure, mean ± standard deviation over the seeds, in "
    "units of their own; in the row of Retrain, of these models."
)
COST = (
    "images, k: thousands passed forward / backward, by the method's own account. remain per forget: remaining images "
    "drawn for each forget image drawn over the run, repeats counted. rho: the fraction of the remaining rows that the "
    "method could see."
)


def notes(blocks: Mapping[str, Sequence[Run]]) -> tuple[str, ...]:
    """The paragraphs under a table.

    Args:
      blocks: the runs of each block of columns.
    """
    runs = [run for part in blocks.values() for run in part]
    paragraphs = [READING, seeds_note(runs), variance_note(blocks)]
    if len({run.label for run in runs}) > 1:
        paragraphs.append(BOLD)
    if any(run.result.get("retrain_spread") for run in runs):
        paragraphs.append(FLOOR)
    if any(run.close("unlearned") for run in runs):
        paragraphs.append(CLOSE)
    if any(run.audits for run in runs):
        paragraphs.append(AUDITED)
    if any(run.own("unlearned") for run in runs):
        paragraphs.append(OWN)
    if any(run.result.get("cost") or run.result.get("ratio") is not None for run in runs):
        paragraphs.append(COST)
    return tuple(filter(None, paragraphs))


def seeds_note(runs: Sequence[Run]) -> str:
    """How many seeds there are, and which of the three varied."""
    seeds = sorted({run.seeds for run in runs})
    if all(len(set(triple)) == 1 for triple in seeds):
        which = "training, split and unlearning seed are one number"
        if len(seeds) > 1:
            which += ", so all three varied together"
        return f"Seeds: {len(seeds)} ({_listed([triple.train for triple in seeds])}); {which}."
    varied = []
    for place, name in enumerate(SEEDS):
        values = sorted({triple[place] for triple in seeds})
        varied.append(f"{name} {'varied' if len(values) > 1 else 'fixed'} ({_listed(values)})")
    return f"Seeds: {len(seeds)} triples; {', '.join(varied)}."


def _listed(values: Sequence[int]) -> str:
    if len(values) > 3 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def variance_note(blocks: Mapping[str, Sequence[Run]]) -> str:
    """The mean gap's deviation between and within (train, split) pairs; empty if no pair has two unlearn seeds."""
    lines = []
    for block, runs in blocks.items():
        parts = {}
        for label in dict.fromkeys(run.label for run in runs):
            split = noise.split_variance({run.seeds: run.result["gap"]["mean"] for run in runs if run.label == label})
            if split:
                parts[label] = f"{label} {math.sqrt(split.between):.2f} and {math.sqrt(split.within):.2f}"
        if parts:
            lines.append((f"at {block}: " if len(blocks) > 1 else "") + ", ".join(parts.values()))
    if not lines:
        return ""
    return (
        "Standard deviation of the mean gap between (train, split) pairs and within them, between unlearn seeds "
        f"(one-way random-effects analysis of variance): {'; '.join(lines)}."
    )
