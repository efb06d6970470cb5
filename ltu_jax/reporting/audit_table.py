"""The findings of audits as rows and sentences, for the terminal, the page and comparisons of runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import table

HEADS = {
    "held_out": "held-out AUC",
    "retrain": "margin, nats",
    "recalibration": "BN refit, points",
    "relearning": "relearned, points",
    "rmia": "RMIA AUC",
    "iam": "IAM AUC",
    "canaries": "canaries, epsilon",
    "strata": "hard rows, points",
    "lira": "U-LiRA AUC",
    "klom": "KLoM, nats",
    "forgetting_quality": "F",
}
"""Of columns, and of rows on a terminal."""
ABOVE = {
    "held_out": "the model is surer of the forget rows than of rows never seen",
    "retrain": "the model is surer of the forget rows than a Retrain is",
    "recalibration": "forget rows are answered right again once BatchNorm's statistics are measured anew",
    "relearning": "after training on remaining rows alone, an attacker takes the forget rows for rows trained on",
    "rmia": "an attacker with a few Retrains takes the forget rows for rows that were trained on",
    "iam": "the forget rows lie nearer to the original's answers than under a Retrain",
    "canaries": "the model gives away which canaries it had seen",
    "strata": "hard forget rows are answered right more often than by a Retrain",
    "lira": "an attacker with many shadows tells unlearned rows from rows never seen",
    "klom": "over many models, the margins are not those of Retrains",
    "forgetting_quality": "over many models, the margins are nearer to those of Retrains than Retrains are",
}
BELOW = {
    **ABOVE,
    "held_out": "the model is less sure of the forget rows than of rows never seen: too far is a leak too",
    "retrain": "the model is less sure of the forget rows than a Retrain is: too far is a leak too",
    "recalibration": "accuracy on the forget rows falls once BatchNorm's statistics are measured anew",
    "relearning": "after training on remaining rows alone the forget rows are answered too unsure: a leak too",
    "rmia": "an attacker with a few Retrains knows the forget rows by answers too unsure: too far is a leak too",
    "iam": "the forget rows lie farther from the original's answers than under a Retrain: too far is a leak too",
    "strata": "hard forget rows are answered right less often than by a Retrain: too far is a leak too",
    "klom": "over many models, the margins are nearer to those of Retrains than Retrains are",
    "forgetting_quality": "over many models, the margins are not those of Retrains",
}
"""What a finding says where what is tested lies above, and below, what a model that never saw the rows would have."""
VERDICTS = {True: "found", False: "not found", None: "no test"}


class Line(NamedTuple):
    """One audit as text; empty where there is nothing."""

    audit: str
    title: str
    measure: str
    value: str
    interval: str
    original: str
    floor: str
    smallest: str
    p_value: str
    verdict: str  # found, not found, no test or not done
    sentence: str


def lines(audit: Mapping[str, Any]) -> list[Line]:
    """The findings of an ``audit.json``, those of this package's audits, in its order."""
    verdicts = audit["verdict"]
    return [_line(one, verdicts.get(one["audit"])) for one in audit["findings"] if one["audit"] in AUDITS]


def title(run: Mapping[str, Any]) -> str:
    """Of whose model an audit is."""
    return f"{run['method']} on {run['dataset']}" if run.get("dataset") else str(run["method"])


def about(run: Mapping[str, Any]) -> str:
    """Model, request and seeds in one line, as far as they are known."""
    forget = run["forget"]
    kind = f" ({forget['kind']})" if forget.get("kind") else ""
    seeds = table.seeds(run) if run.get("seeds") else None
    return ", ".join(str(part) for part in (run.get("model"), f"{forget['count']} rows to forget{kind}", seeds) if part)


def tests(audit: Mapping[str, Any]) -> tuple[int, int]:
    """How many tests tell the model from one that never saw the forget rows, and of how many."""
    made = [found for found in audit["verdict"].values() if found is not None]
    return sum(made), len(made)


def digits(audit: str) -> int:
    """Decimals of an audit's main figure."""
    return 3 if AUDITS[audit].neutral == 0.5 or audit == "forgetting_quality" else 2


def between(ends: Sequence[float | None] | None, places: int) -> str:
    """``low to high``; of a bound without an upper end ``from low``."""
    low, high = ends or (None, None)
    if low is None:
        return ""
    return f"from {low:.{places}f}" if high is None else f"{low:.{places}f} to {high:.{places}f}"


def p_value(value: float | None) -> str:
    """Three decimals."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _line(finding: Mapping[str, Any], found: bool | None) -> Line:
    name, figure, places = finding["audit"], finding["unlearned"], digits(finding["audit"])
    original = (finding["original"] or {}).get("value")

    def number(value: float | None) -> str:
        return "" if value is None else table.number(value, places)

    cells = (
        number(figure["value"]),
        between((figure["low"], figure["high"]), places),
        number(original),
        between(finding["floor"], places),
        number(figure["smallest"]),
        p_value(finding["p_value"]),
    )
    verdict = "not done" if finding["not_done"] else VERDICTS[found]
    return Line(name, AUDITS[name].title, AUDITS[name].measure, *cells, verdict, _sentence(finding, found))


def _sentence(finding: Mapping[str, Any], found: bool | None) -> str:
    """What was found, in plain words."""
    name, figure, floor = finding["audit"], finding["unlearned"], finding["floor"]
    if finding["not_done"]:
        return f"Not done: {finding['not_done']}."
    value, neutral = figure["value"], AUDITS[name].neutral
    if found:
        side = value - neutral if finding.get("tested") is None else finding["tested"]
        return f"Found: {(ABOVE if side > 0 else BELOW)[name]}."
    outcome = "No test" if found is None else "Not found"
    if floor is None:
        return f"{outcome}." if found is False else f"{outcome}: there are too few Retrains, and no range of theirs."
    if floor[0] <= value <= floor[1]:
        return f"{outcome}; within the range of these Retrains."
    words = (ABOVE if value > floor[1] else BELOW)[name]
    return f"{outcome}. It lies outside the range of these Retrains, as one more may by chance; it would say: {words}."
