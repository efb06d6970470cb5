"""The scores of many runs as a table of HTML, each row one run or the mean over several."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltu_jax.reporting import markup, table
from ltu_jax.reporting.runs import Run

COSTS = ("forward_images", "backward_images", "flops")
HEADS = {
    **{measure: measure.upper() for measure in table.MEASURES},
    "ta_forgotten": "TA<br>forgotten",
    "forward_images": "images<br>forward",
    "backward_images": "images<br>backward",
}
MEANINGS = {
    **{name.upper(): meaning for name, meaning in table.MEANINGS.items()},
    "TA forgotten": "accuracy on the test rows of a class that is forgotten whole; TA is then of the others",
    "gap": "mean of the absolute differences to Retrain in UA, RA, TA and MI, in points",
    "rho": "fraction of the remaining rows that the method may see",
    "ratio": "remaining images drawn for each forget image drawn, repeats counted",
    "images": "passed forward and backward through a network over the whole run; flops are what that takes",
}
CAPTION = (
    "Smallest mean gap first. Percent. In parentheses, and averaged in the column gap: absolute difference to Retrain, "
    "in points, taken run by run."
)
Result = Mapping[str, Any]


def scores_table(
    rows: Sequence[tuple[str, Sequence[Run]]], models: Sequence[Result], caption: str, counted: bool = False
) -> str:
    """Original, Retrain, then ``rows``, then how far two Retrain models lie apart.

    Args:
      rows: names (HTML) and the runs that each row is the mean of.
      models: results whose originals and Retrain models are averaged: one of each problem.
      caption: HTML.
      counted: whether to say how many runs a row is of.
    """
    known = any(run.result.get("cost") for _, runs in rows for run in runs)
    about = ["runs"] * counted + ["rho"] + ["ratio", *COSTS] * known
    gone = any("ta_forgotten" in model["original"] for model in models)
    measures = [*table.MEASURES, "ta_forgotten"] if gone else [*table.MEASURES]
    heads = ["", *(HEADS.get(name, name) for name in (*measures, "gap", "UT (min)", *about))]
    nothing = [""] * len(about)
    lines = [markup.row("Original", [*_measured(models, measures, "original", "original_gap"), *nothing])]
    if retrained := [model for model in models if model.get("retrain")]:
        lines.append(markup.row("Retrain", [*_measured(retrained, measures, "retrain", ""), *nothing]))
    for name, runs in rows:
        results = [run.result for run in runs]
        told = _about(results)
        cells = [*_measured(results, measures, "scores", "gap"), *(told[name] for name in about)]
        lines.append(markup.row(name, cells, "method"))
    if any(model.get("retrain_spread") for model in models):
        spread = [table.average(_part(models, "retrain_spread", name)) for name in (*measures, "mean")]
        cells = [f"<small>({table.number(off)})</small>" if off is not None else "" for off in spread[:-1]]
        cells += [table.number(spread[-1]), "", *nothing]
        lines.append(markup.row(table.SPREAD, cells, "spread"))
    return markup.table(heads, lines, caption)


def _about(results: Sequence[Result]) -> dict[str, str]:
    """What the runs of a row were given and what they cost."""
    ratio = table.number(table.average(result.get("ratio") for result in results))
    costs = {name: table.quantity(table.average(_part(results, "cost", name))) for name in COSTS}
    return {"runs": str(len(results)), "rho": f"{results[0]['rho']:g}", "ratio": ratio, **costs}


def _measured(results: Sequence[Result], measures: Sequence[str], scores: str, gap: str) -> list[str]:
    cells = []
    for measure in measures:
        off = table.average(_part(results, gap, measure))
        cells.append(_cell(_part(results, scores, measure), f" ({table.number(off)})" if off is not None else ""))
    minutes = _part(results, scores, "ut_minutes")
    short = (table.average(minutes) or 1) < 0.1  # two decimals would say 0.00
    return [*cells, _cell(_part(results, gap, "mean")), _cell(minutes, digits=4 if short else 2)]


def _cell(values: Sequence[float | None], after: str = "", digits: int = 2) -> str:
    value, *deviation = table.with_deviation(values, digits).split(" ", 1)
    small = "".join([*deviation, after]).strip()
    return f"{value} <small>{small}</small>" if small else value


def _part(results: Sequence[Result], part: str, name: str) -> list[float | None]:
    return [(result.get(part) or {}).get(name) for result in results]
