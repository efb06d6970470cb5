"""A comparison of any number of runs: one HTML page without scripts and external files."""

import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table, comparison_plots, rendering, table
from ltu_jax.reporting.comparison_table import MEANINGS, Name, Scores, audited, scores_table
from ltu_jax.reporting.runs import Comparison, Group, Run, compare


def render_comparison(runs: Sequence[Run], folder: Path) -> str:
    """The page as HTML, with all external text escaped.

    Args:
      runs: the runs to compare, in any order.
      folder: the folder of the page; links to the reports of the runs are relative to it.
    """
    comparisons = compare(runs)
    groups = [group for comparison in comparisons for group in comparison.groups]
    datasets = dict.fromkeys(run.result["dataset"] for run in runs)
    numbers = {run.path: number for number, run in enumerate((r for c in comparisons for r in c.runs), 1)}
    warned = [(sum(bool(run.result.get("warnings")) for run in group.runs), group) for group in groups]
    return rendering.render_page(
        "comparison",
        title=f"{_count(len(runs), 'unlearning run')} on {' and '.join(datasets)}",
        about="; ".join([*(_request(comparison) for comparison in comparisons), _seeds(runs)]),
        uneven=any(len(problem) < len(c.groups) for c in comparisons for problem in c.problems),
        devices=_several(runs, "device"),
        commits=_several(runs, "commit"),
        warned=", ".join(f"{group.label} ({number} of {len(group.runs)})" for number, group in warned if number),
        comparisons=[
            {
                "request": _request(comparison),
                **_tables(comparison, numbers, folder),
                **_pictures(comparison, f" ({_request(comparison)})" if len(comparisons) > 1 else ""),
            }
            for comparison in comparisons
        ],
        meanings=[*MEANINGS.items(), *((audit_table.HEADS[name], _meaning(name)) for name in audited(runs))],
        runs=[_run(group, run, numbers[run.path], folder) for group in groups for run in group.runs],
    )


def _meaning(audit: str) -> str:
    about = AUDITS[audit]
    return f"{about.title}: {about.measure}; of Retrains their range, each against the others"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _request(comparison: Comparison) -> str:
    result = comparison.runs[0].result
    forget = result["forget"]
    return f"{result['dataset']}, {result['model']}, {forget['count']} rows to forget ({forget['kind']})"


def _seeds(runs: Sequence[Run]) -> str:
    """``seeds 0, 1, 2``, or ``seed 0``; by kind if the kinds differ."""
    values = {name: sorted({run.result["seeds"].get(name) or 0 for run in runs}) for name in runs[0].result["seeds"]}
    texts = {name: ", ".join(map(str, seeds)) for name, seeds in values.items()}
    if len(set(texts.values())) == 1:
        texts = {"": next(iter(texts.values()))}
    return "; ".join(f"{name} seed{'s' * (',' in seeds)} {seeds}".strip() for name, seeds in texts.items())


def _several(runs: Sequence[Run], name: str) -> str:
    """The values of a provenance field, if the runs differ in it."""
    values = {str(run.result["provenance"].get(name)) for run in runs}
    return ", ".join(sorted(values)) if len(values) > 1 else ""


def _tables(comparison: Comparison, numbers: Mapping[Path, int], folder: Path) -> dict[str, Any]:
    """The scores of each run, and means over the seeds if any method has several runs."""
    is_single = len(comparison.runs) == len(comparison.groups) and len(comparison.problems) == 1
    varied = [
        name
        for name in comparison.runs[0].result["seeds"]
        if any(len({run.result["seeds"].get(name) for run in group.runs}) > 1 for group in comparison.groups)
    ]
    rows = [(Name(group.label), group.runs) for group in comparison.groups]
    return {
        "means": None if is_single else scores_table(rows, comparison.models, counted=True),
        "varied": ", ".join(varied),
        "problems": [_problem(problem, numbers, folder) for problem in comparison.problems],
    }


def _problem(problem: Sequence[Group], numbers: Mapping[Path, int], folder: Path) -> tuple[str, Scores]:
    first = problem[0].runs[0].result
    seeds = ", ".join(f"{name} seed {first['seeds'].get(name)}" for name in ("train", "split"))
    head = f"{seeds}, splits {first['splits_sha256'][:8]}: {_count(sum(len(g.runs) for g in problem), 'run')}"
    rows = [(_name(group, run, numbers[run.path], folder), [run]) for group in problem for run in group.runs]
    return head, scores_table(rows, [first])


def _name(group: Group, run: Run, number: int, folder: Path) -> Name:
    return Name(group.label, number, f"{run.path.name}, {table.seeds(run.result)}", _link(run, folder))


def _link(run: Run, folder: Path) -> str:
    return "" if run.report is None else quote(Path(os.path.relpath(run.report, folder)).as_posix())


def _pictures(comparison: Comparison, where: str) -> dict[str, Any]:
    """The figures, None if there is nothing to draw, and values for their captions."""
    groups, spread = comparison.groups, comparison.average("retrain_spread")
    original = comparison.average("original_gap")
    return {
        "ranking": comparison_plots.gap_ranking(groups, spread, original, f"Mean gap to Retrain{where}"),
        "tradeoff": comparison_plots.tradeoff(groups, spread, original, f"Forgetting against remembering{where}"),
        "costs": comparison_plots.gap_against_cost(groups, spread, f"Gap against cost{where}"),
        "spread": bool(spread["mean"]),
        "deviations": any(len(group.runs) > 1 for group in groups),
        "undrawn": ", ".join(group.label for group in groups if not any(group.costs("flops"))),
    }


def _run(group: Group, run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Template values of a single run."""
    return {
        "number": number,
        "label": group.label,
        "path": f"{run.path}, {table.seeds(run.result)}",
        "report": _link(run, folder),
        "warnings": run.result.get("warnings"),
        "facts": [*table.times(run.result), *table.provenance(run.result)],
    }
