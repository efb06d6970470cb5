"""Any number of runs side by side as one page of HTML that needs no network and no script."""

import os.path
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ltu_jax.reporting import comparison_plots, markup, table
from ltu_jax.reporting.comparison_table import CAPTION, MEANINGS, scores_table
from ltu_jax.reporting.runs import Comparison, Group, Run, compare


def render(runs: Sequence[Run], folder: Path) -> str:
    """The whole page, to be written to one file.

    Args:
      runs: what is compared, in any order.
      folder: where the page will lie; links to the runs' own reports are relative to it.

    Returns:
      HTML; all text that came from outside is escaped.
    """
    comparisons = compare(runs)
    datasets = dict.fromkeys(run.result["dataset"] for run in runs)
    title = f"{_count(len(runs), 'unlearning run')} on {' and '.join(datasets)}"
    told = "; ".join([*(_request(comparison) for comparison in comparisons), _seeds(runs)])
    numbers = {run.path: number for number, run in enumerate((r for c in comparisons for r in c.runs), 1)}
    body = [
        "<main>",
        f"<header><h1>{escape(title)}</h1>\n<p class='soft'>{escape(told)}</p></header>",
        markup.warnings(_notes(comparisons)),
    ]
    for comparison in comparisons:
        where = f" ({_request(comparison)})" if len(comparisons) > 1 else ""
        body += [f"<h2 class='request'>{escape(_request(comparison))}</h2>" if where else ""]
        tables = [_summary(comparison), _scores(comparison, numbers, folder)]
        first, *rest = filter(None, tables)  # no page begins with pictures
        body += [first, _pictures(comparison, where), *rest]
    body += [
        markup.section("What the columns mean", markup.definitions("meanings", MEANINGS.items())),
        markup.section(
            "Each run", *(_run(g, r, numbers[r.path], folder) for c in comparisons for g in c.groups for r in g.runs)
        ),
        "</main>",
    ]
    return markup.document(title, body, "wide")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _request(comparison: Comparison) -> str:
    result = comparison.runs[0].result
    forget = result["forget"]
    return f"{result['dataset']}, {result['model']}, {forget['count']} rows to forget ({forget['kind']})"


def _seeds(runs: Sequence[Run]) -> str:
    """``seeds 0, 1, 2``, or ``seed 0``; each kind by its name where they are not the same."""
    given = {name: sorted({run.result["seeds"].get(name) or 0 for run in runs}) for name in runs[0].result["seeds"]}
    told = {name: ", ".join(map(str, seeds)) for name, seeds in given.items()}
    if len(set(told.values())) == 1:
        told = {"": next(iter(told.values()))}
    return "; ".join(f"{name} seed{'s' * (',' in seeds)} {seeds}".strip() for name, seeds in told.items())


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    """What the reader must know before any number is compared with another."""
    groups = [group for comparison in comparisons for group in comparison.groups]
    notes = []
    if len(comparisons) > 1:
        notes.append(
            f"These runs answer requests of {len(comparisons)} kinds (data set, model, kind and size of the forget "
            "set): each has tables and figures of its own, for numbers of one say nothing about another."
        )
    if any(len(problem) < len(c.groups) for c in comparisons for problem in c.problems):
        notes.append(
            "Not every method ran on every seed: where rows are means over other seeds, they differ by more than "
            "the methods."
        )
    for name, comparable in (("device", "times"), ("commit", "runs")):
        values = {str(run.result["provenance"].get(name)) for group in groups for run in group.runs}
        if len(values) > 1:
            notes.append(
                f"The runs are of more than one {name} ({', '.join(sorted(values))}): compare {comparable} with care."
            )
    warned = [(sum(bool(run.result.get("warnings")) for run in group.runs), group) for group in groups]
    if told := [f"{group.label} ({number} of {len(group.runs)})" for number, group in warned if number]:
        notes.append(f"Runs that carry a warning, told with each run below: {', '.join(told)}.")
    return notes


def _summary(comparison: Comparison) -> str:
    """Means over runs; without a second run of anything the scores of each run say it all."""
    if len(comparison.runs) == len(comparison.groups) and len(comparison.problems) == 1:
        return ""
    varied = [
        name
        for name in comparison.runs[0].result["seeds"]
        if any(len({run.result["seeds"].get(name) for run in group.runs}) > 1 for group in comparison.groups)
    ]
    caption = CAPTION
    if varied:
        seeds = escape(", ".join(varied))
        caption += f" ± is the standard deviation over runs that differ in their seeds ({seeds})."
    rows = [(escape(group.label), group.runs) for group in comparison.groups]
    return markup.section("Means over the seeds", scores_table(rows, comparison.models, caption, counted=True))


def _scores(comparison: Comparison, numbers: Mapping[Path, int], folder: Path) -> str:
    """A table for each problem: only its runs share an original and a Retrain."""
    tables = []
    for problem in comparison.problems:
        first = problem[0].runs[0].result
        seeds = ", ".join(f"{name} seed {first['seeds'].get(name)}" for name in ("train", "split"))
        head = f"{seeds}, splits {first['splits_sha256'][:8]}: {_count(sum(len(g.runs) for g in problem), 'run')}"
        rows = [(_name(group, run, numbers, folder), [run]) for group in problem for run in group.runs]
        caption = CAPTION if problem is comparison.problems[-1] else ""
        tables += [f"<h3>{escape(head)}</h3>", scores_table(rows, [first], caption)]
    return markup.section("Scores of each run", *tables)


def _name(group: Group, run: Run, numbers: Mapping[Path, int], folder: Path) -> str:
    told = [escape(f"{run.path.name}, {table.seeds(run.result)}"), _link(run, folder)]
    about = ", ".join(filter(None, told))
    return f"<a href='#run-{numbers[run.path]}'>{escape(group.label)}</a><br><small class='soft'>{about}</small>"


def _link(run: Run, folder: Path) -> str:
    if run.report is None:
        return ""
    return f"<a href='{quote(Path(os.path.relpath(run.report, folder)).as_posix())}'>report</a>"


def _pictures(comparison: Comparison, where: str) -> str:
    groups, spread = comparison.groups, comparison.average("retrain_spread")
    original = comparison.average("original_gap")
    costless = ", ".join(group.label for group in groups if not any(group.costs("flops")))
    undrawn = f" Not drawn, for it states no flops or takes none: {escape(costless)}." if costless else ""
    noise = (
        " Orange: how far two Retrain models lie apart; what is nearer than that is noise." if spread["mean"] else ""
    )
    whiskers = " Whiskers: standard deviation over runs." if any(len(group.runs) > 1 for group in groups) else ""
    scale = " The scales of gaps are linear to 1 and logarithmic beyond."
    pictures = {
        "Gap to Retrain": (
            comparison_plots.gap_ranking(groups, spread, original, f"Mean gap to Retrain{where}"),
            f"The shorter, the better; grey is the model before unlearning.{noise}{whiskers}",
        ),
        "Forgetting against remembering": (
            comparison_plots.tradeoff(groups, spread, original, f"Forgetting against remembering{where}"),
            f"Best is the corner at the lower left.{noise}{whiskers}{scale}",
        ),
        "Gap against cost": (
            comparison_plots.gap_against_cost(groups, spread, f"Gap against cost{where}"),
            "At equal cost lower is better; the dashed line is the smallest gap that any method reached at this cost "
            f"or less.{noise}{whiskers}{scale}{undrawn}",
        ),
    }
    return "\n".join(
        markup.section(head, markup.figure(svg, caption)) for head, (svg, caption) in pictures.items() if svg
    )


def _run(group: Group, run: Run, number: int, folder: Path) -> str:
    """What belongs to one run alone: its warnings, times and where it is from."""
    about = [escape(f"{run.path}, {table.seeds(run.result)}"), _link(run, folder)]
    told = markup.definitions("meanings", [*table.times(run.result), *table.provenance(run.result)])
    return (
        f"<article id='run-{number}'>\n<h3>{escape(group.label)}</h3>\n"
        f"<p class='soft'>{', '.join(filter(None, about))}</p>\n"
        f"{markup.warnings(run.result.get('warnings') or ())}\n"
        f"<details><summary>Time and provenance</summary>\n{told}\n</details>\n</article>"
    )
