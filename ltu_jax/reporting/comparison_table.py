"""The scores of many runs as a table; each row is one run or the mean of several."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table, table
from ltu_jax.reporting.runs import Run

COSTS = ("forward_images", "backward_images", "flops")
HEADS = {
    **{measure: measure.upper() for measure in table.MEASURES},
    "ta_forgotten": "TA\nforgotten",
    "forward_images": "images\nforward",
    "backward_images": "images\nbackward",
}
MEANINGS = {
    **{name.upper(): meaning for name, meaning in table.MEANINGS.items()},
    "TA forgotten": "accuracy on the test rows of a class that is forgotten whole; TA is then of the others",
    "gap": "mean of the absolute differences to Retrain in UA, RA, TA and MI, in points",
    "rho": "fraction of the remaining rows that the method may see",
    "ratio": "remaining images drawn for each forget image drawn, repeats counted",
    "images": "passed forward and backward through a network over the whole run; flops are what that takes",
}
Result = Mapping[str, Any]


class Name(NamedTuple):
    """The name of a row; that of a single run links to its section of the page."""

    label: str
    number: int = 0  # number of the run on the page, from 1
    about: str = ""
    report: str = ""  # address of the run's own report


class Cell(NamedTuple):
    """A number as text, and small text after it."""

    value: str
    small: str = ""


class Line(NamedTuple):
    """One row."""

    name: Name
    cells: list[Cell]
    kind: str = ""  # CSS class


class Scores(NamedTuple):
    """The values of ``templates/scores.html.jinja``."""

    heads: list[str]  # may have line breaks
    lines: list[Line]


def scores_table(rows: Sequence[tuple[Name, Sequence[Run]]], models: Sequence[Result], counted: bool = False) -> Scores:
    """Original, Retrain, then ``rows``, then the difference between two Retrain models.

    Args:
      rows: names, and the runs that are averaged in each row.
      models: one result of each problem; their originals and Retrain models are averaged.
      counted: whether to show the number of runs of each row.
    """
    known = any(run.result.get("cost") for _, runs in rows for run in runs)
    about = ["runs"] * counted + ["rho"] + ["ratio", *COSTS] * known
    every = [run for _, runs in rows for run in runs]
    audits = audited(every)
    gone = any("ta_forgotten" in model["original"] for model in models)
    measures = [*table.MEASURES, "ta_forgotten"] if gone else [*table.MEASURES]
    heads = ["", *(HEADS.get(name, name) for name in (*measures, "gap", "UT (min)", *about))]
    heads += [audit_table.HEADS[name].replace(" ", "\n", 1) for name in audits]
    own = list(dict.fromkeys(name for run in every for name in table.own_figures(run.result, "unlearned")))
    heads += own
    with_own = _each_problem(every)
    nothing = [Cell("")] * len(about)
    lines = [Line(Name("Original"), [*_measured(models, measures, "original", "original_gap"), *nothing])]
    lines[0].cells.extend(_cell(_main(every, name, "original"), digits=audit_table.digits(name)) for name in audits)
    lines[0].cells.extend(_own(with_own, own, "original"))
    if retrained := [model for model in models if model.get("retrain")]:
        floors = [Cell("", _range(every, name)) for name in audits]
        lines.append(Line(Name("Retrain"), [*_measured(retrained, measures, "retrain", ""), *nothing, *floors]))
        lines[-1].cells.extend(_own(with_own, own, "retrain"))
    for name, runs in rows:
        results = [run.result for run in runs]
        values = _about(results)
        cells = [*_measured(results, measures, "scores", "gap"), *(Cell(values[name]) for name in about)]
        cells += [_cell(_main(runs, name, "unlearned"), digits=audit_table.digits(name)) for name in audits]
        lines.append(Line(name, [*cells, *_own(results, own, "unlearned")], "method"))
    if any(model.get("retrain_spread") for model in models):
        spread = [table.average(_part(models, "retrain_spread", name)) for name in (*measures, "mean")]
        cells = [Cell("", f"({table.number(off)})" if off is not None else "") for off in spread[:-1]]
        cells += [Cell(table.number(spread[-1])), Cell(""), *nothing]
        lines.append(Line(Name(table.SPREAD), [*cells, *(Cell("") for _ in (*audits, *own))], "spread"))
    return Scores(heads, lines)


def audited(runs: Sequence[Run]) -> list[str]:
    """The audits that any of the runs has, in their order."""
    return [name for name in AUDITS if any(name in run.audits for run in runs)]


def _each_problem(runs: Sequence[Run]) -> list[Result]:
    """A result of each problem, of those with figures of the user's own."""
    known = [run.result for run in runs if table.own_figures(run.result, "original")]
    return list({(result["splits_sha256"], result["seeds"]["train"]): result for result in known}.values())


def _own(results: Sequence[Result], names: Sequence[str], model: str) -> list[Cell]:
    """The figures of the user's own of a model, averaged over the runs."""
    return [_cell([table.own_figures(result, model).get(name) for result in results], digits=3) for name in names]


def _main(runs: Sequence[Run], audit: str, model: str) -> list[float | None]:
    return [getattr(run.audits[audit], model) for run in runs if audit in run.audits]


def _range(runs: Sequence[Run], audit: str) -> str:
    """The range of Retrains, its ends averaged over the runs."""
    floors = [floor for run in runs if audit in run.audits and (floor := run.audits[audit].floor)]
    ends = [table.average(ends) for ends in zip(*floors, strict=True)]
    return audit_table.between(ends, audit_table.digits(audit))


def _about(results: Sequence[Result]) -> dict[str, str]:
    """Number, settings and costs of the runs of a row."""
    ratio = table.number(table.average(result.get("ratio") for result in results))
    costs = {name: table.quantity(table.average(_part(results, "cost", name))) for name in COSTS}
    return {"runs": str(len(results)), "rho": f"{results[0]['rho']:g}", "ratio": ratio, **costs}


def _measured(results: Sequence[Result], measures: Sequence[str], scores: str, gap: str) -> list[Cell]:
    cells = []
    for measure in measures:
        off = table.average(_part(results, gap, measure))
        cells.append(_cell(_part(results, scores, measure), f" ({table.number(off)})" if off is not None else ""))
    minutes = _part(results, scores, "ut_minutes")
    short = (table.average(minutes) or 1) < 0.1  # two decimals would say 0.00
    return [*cells, _cell(_part(results, gap, "mean")), _cell(minutes, digits=4 if short else 2)]


def _cell(values: Sequence[float | None], after: str = "", digits: int = 2) -> Cell:
    value, *deviation = table.with_deviation(values, digits).split(" ", 1)
    return Cell(value, "".join([*deviation, after]).strip())


def _part(results: Sequence[Result], part: str, name: str) -> list[float | None]:
    return [(result.get(part) or {}).get(name) if part else None for result in results]
