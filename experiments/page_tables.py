"""The measured tables of README.md and docs/, each made of its result files; ``pages.py`` writes them."""

import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import calibration, defaults, differences, evidence_power, few_images
from ltu_jax.deletion.claim import MARGIN
from ltu_jax.evaluation.likeness import ks_noise
from ltu_jax.reporting import audit_table
from ltu_jax.tabling.runs import read as read_runs

SCORES = ("ua", "ra", "ta", "mi")
EPOCHS_OF_RETRAIN = 20
"""Epochs of the Retrain of ``cifar10_jpeg_small.py``."""


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def read(file: Path) -> Any:
    """The JSON of a file."""
    return json.loads(file.read_text())


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of cells that are text already; an empty cell is a space wide."""
    line = lambda cells: "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"  # noqa: E731
    return [line(header), "|" + "---|" * len(header), *map(line, rows)]


def default_runs(results: Path) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """The results of LTU's defaults by data set and fraction to forget."""
    runs: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for name in ("digits", "cifar10_jpeg"):
        for one in json_lines(results / "defaults" / f"{name}.jsonl"):
            runs.setdefault((name, one["result"]["forget"]["fraction"]), []).append(one["result"])
    return runs


def of_defaults(dataset: str, fraction: float, result: Mapping[str, Any]) -> str:
    """The first cell of a row of LTU's defaults."""
    default = " (the default)" if (dataset, fraction) == ("digits", 0.1) else ""
    return f"{dataset}, {100 * fraction:.0f} %, {result['forget']['count']:,} rows{default}"


def defaults_in_short(results: Path) -> list[str]:
    """The table of README.md."""
    rows = []
    for (dataset, fraction), runs in default_runs(results).items():
        _, _, count, untouched, gap, deviation, floor, _, warned, _ = defaults.line(runs)
        rows.append([of_defaults(dataset, fraction, runs[0]), count, untouched, f"{gap} ({deviation})", floor, warned])
    header = ("to forget", "runs", "gap of the untouched model", "gap of LTU (s.d. over seeds)")
    return markdown((*header, "between two Retrains", "runs with a [warning](docs/measures.md#warnings)"), rows)


def defaults_in_full(results: Path) -> list[str]:
    """LTU's defaults with their cost; of digits the seconds of Retrain too, of cifar10_jpeg the ratio of flops."""
    rows = []
    for (dataset, fraction), runs in default_runs(results).items():
        _, _, *figures, seconds = defaults.line(runs)
        retrain = 60 * statistics.median(run["retrain"]["ut_minutes"] for run in runs)
        is_small = dataset == "digits"
        rows.append(
            [
                of_defaults(dataset, fraction, runs[0]),
                *figures,
                f"{seconds} (Retrain {retrain:.1f})" if is_small else f"{float(seconds):.0f}",
                "" if is_small else f"{retrain_over_ltu(results, runs):.1f}",
            ]
        )
    header = ("to forget", "runs", "nothing done", "LTU", "s.d. over seeds", "between two Retrains", "LTU over that")
    return markdown((*header, "runs with a warning", "LTU, median seconds", "Retrain over LTU, flops"), rows)


def retrain_over_ltu(results: Path, runs: Sequence[Mapping[str, Any]]) -> float:
    """Flops of a Retrain of ``cifar10_jpeg_small.py`` over those of LTU, the mean over runs."""
    # FT passes each image forward and backward, as a Retrain does: one such run says what an image costs.
    costs = [one["result"]["cost"] for one in json_lines(results / "study" / "thirty.jsonl") if one["label"] == "FT"]
    assert costs[0]["forward_images"] == costs[0]["backward_images"]
    of_an_image = costs[0]["flops"] / costs[0]["forward_images"]
    forget = runs[0]["forget"]
    remain = forget["count"] / forget["fraction"] - forget["count"]
    return EPOCHS_OF_RETRAIN * remain * of_an_image / statistics.fmean(run["cost"]["flops"] for run in runs)


def study(results: Path) -> list[str]:
    """Every method, compared with the first."""
    return compared(results / "study" / "thirty.jsonl", None)


def parts(results: Path) -> list[str]:
    """Tables 3 and 4 of the paper: LTU with one part changed, compared with LTU."""
    return compared(results / "study" / "parts_fixed.jsonl", "LTU")


def compared(file: Path, to: str | None) -> list[str]:
    """The rows of a sweep: scores, then paired differences by mean gap and by margin.

    Args:
      file: the runs.
      to: label of the row that the others are compared with; None is the best.
    """
    runs = read_runs([str(file)])
    gap, margin, ks = (
        {line[0]: line for line in differences.table(runs, measure, to, digits=2)}
        for measure in ("gap", "margin_forget", "ks")
    )
    rows = []
    for name in gap:
        scored = {differences.UNTOUCHED: "original", differences.RETRAIN: "retrain"}.get(name)
        of = [run.result for run in runs if scored or run.label == name]
        scores = [one[scored or "scores"] for one in of]
        means = [statistics.fmean(score[measure] for score in scores) for measure in SCORES]
        cost = [
            statistics.fmean(one["cost"][way] for one in of) / 1000 for way in ("forward_images", "backward_images")
        ]
        apart = [row[name][i] or row[name][5] for row in (gap, margin) for i in (2, 3)]
        images = "" if scored else f"{cost[0]:.1f} / {cost[1]:.1f}"
        rows.append([name, *(f"{mean:.1f}" for mean in means), *apart, ks[name][2].split(" ")[0], images])
    whom = f"to {to or 'the first'}"
    header = ("", *(score.upper() for score in SCORES), "mean gap", whom, "margin", whom, "KS", "images")
    return markdown(header, rows)


def whole_classes(results: Path) -> list[str]:
    """A class and a sub-class forgotten, by the LTU of that time."""
    by_kind = []
    for kind in ("class", "subclass"):
        lines = json_lines(results / "cifar10_jpeg" / f"{kind}.jsonl")
        first = lines[0]["result"]
        rows = {"original": (first["original"], first["original_gap"]["mean"]), "Retrain": (first["retrain"], None)}
        rows |= {one["label"]: (one["result"]["scores"], one["result"]["gap"]["mean"]) for one in lines}
        by_kind.append(rows)
    rows = []
    for label in by_kind[0]:
        cells = []
        for scores, gap in (kind[label] for kind in by_kind):
            cells += [*(f"{scores[score]:.2f}" for score in SCORES), "" if gap is None else f"{gap:.2f}"]
        rows.append([label, *cells])
    columns = ("UA", "RA", "TA", "MI", "gap")
    return markdown(("", f"class: {columns[0]}", *columns[1:], f"sub-class: {columns[0]}", *columns[1:]), rows)


def calibrated(results: Path) -> list[str]:
    """Calibration against settings chosen with Retrain known."""
    seeds = [read(results / "calibration" / f"seed-{seed}.json") for seed in range(3)]
    rows = [[f"seed {one['seed']}", *(f"{one[name]['gap']:.2f}" for name in calibration.COLUMNS)] for one in seeds]
    means = [statistics.fmean(one[name]["gap"] for one in seeds) for name in calibration.COLUMNS]
    header = ("calibrated", "chosen with Retrain known", "fixed defaults", "nothing done")
    command = "`python experiments/calibration.py --seeds 0,1,2 --trials 5 --out DIR`"
    return markdown((command, *header), [*rows, ["mean", *(f"{mean:.2f}" for mean in means)]])


def wrong_verdicts(results: Path) -> list[str]:
    """How many models of each kind the claim of a receipt refused, on digits."""
    return evidence_power.table_lines(json_lines(results / "evidence_power" / "digits.jsonl"))


def real_images(results: Path) -> list[str]:
    """The same on cifar10_jpeg, a tenth of 1,600 rows."""
    return evidence_power.table_lines(json_lines(results / "evidence_power" / "cifar10_jpeg_tenth.jsonl"))


def few(results: Path) -> list[str]:
    """Requests on few images."""
    return few_images.table_lines(json_lines(results / "few_images.jsonl"))


def limits(results: Path) -> list[str]:
    """How far apart a claim lets forgotten and held-out images lie, by how many there are; of no result file."""
    del results
    sizes = {"40 held out for the evidence": 40, "250": 250, "very many": 1_000_000}
    of = lambda n, m: MARGIN + ks_noise(np.zeros(n, np.int32), np.zeros(m, np.int32))  # noqa: E731
    rows = [[str(count), *(f"{of(count, size):.0f}" for size in sizes.values())] for count in (20, 40, 100, 400)]
    return markdown(("to forget", *sizes), rows)


def in_a_row(results: Path) -> list[str]:
    """Ten requests, or one."""
    found = read(results / "requests_in_a_row" / "seed-0.json")
    rows = []
    for name, one in [*enumerate(found["in_a_row"], 1), ("one of all 300", found["at_once"])]:
        earlier = one["earlier_error"], one["earlier_attack_auc"]
        rows.append(
            [
                str(name),
                f"{one['gap']:.1f}",
                f"{one['nothing']:.1f}",
                f"{one['ua']:.1f} ({one['retrain_ua']:.1f})",
                f"{one['ra']:.1f}",
                f"{one['ta']:.1f}",
                *("" if x is None else f"{x:.{places}f}" for x, places in zip(earlier, (1, 2), strict=True)),
                f"{one['seconds']:.0f}",
            ]
        )
    header = ("after request", "gap to Retrain", "nothing done", "error on all forgotten (Retrain)")
    earlier = ("earlier rows: error", "earlier rows: AUC")
    return markdown((*header, "accuracy, remaining", "accuracy, test", *earlier, "seconds"), rows)


def audit(results: Path) -> list[str]:
    """The audit of one run."""
    lines = audit_table.lines(read(results / "audits" / "cifar10_jpeg-ltu-seed0.json"))
    rows = [
        [
            audit_table.HEADS[one.audit],
            *(one.value, one.interval, one.original, one.floor, one.smallest or "-", one.p_value, one.verdict),
        ]
        for one in lines
    ]
    return markdown(("", "figure", "95 %", "before", "Retrains", "finds", "p", ""), rows)


def step(results: Path) -> list[str]:
    """The cost of a step in its forms, at two widths."""
    wide, narrow = (figures(results / "speed" / f"step{width}.txt") for width in (64, 16))
    rows = []
    for name, words in STEPS.items():
        one, other = wide[name], narrow[name]
        error = "" if name == "second" else " / ".join(f"{float(form[8]):.2g} %" for form in (one, other))
        memory = f"{float(one[6]):.1f} / {float(other[6]):.1f}"
        rows.append([words, f"{one[0]} ({one[1]} to {one[2]})", other[0], one[5], memory, one[7], error])
    header = ("", "time, width 64 (min to max)", "width 16", "flops", "memory, 64 / 16")
    return markdown((*header, "convolutions", "error, 64 / 16"), rows)


STEPS = {
    "second": "exact (`paper`)",
    "save_memory": "exact, `save_memory`",
    "bfloat16": "`dtype=bfloat16`",
    "first": "`order=first`",
    "naive": "naive, double backward",
}


def peers(results: Path) -> list[str]:
    """Our time over PyTorch's."""
    rows = []
    for width in (16, 64):
        found = figures(results / "speed" / f"peers{width}.txt", words=2)
        ratio = lambda name, found=found: "{3} ({4} to {5})".format(*found[name])  # noqa: E731
        rows += [
            [f"plain step, width {width}", ratio("torch plain"), ratio("compile plain")],
            [f"LTU step, width {width}: `torch.func`", ratio("torch func"), ratio("compile func")],
            [f"LTU step, width {width}: double backward", ratio("torch double"), ""],
        ]
    return markdown(("", "eager", "`torch.compile`"), rows)


def starting(results: Path) -> list[str]:
    """Seconds of whole commands, on two days."""
    days: dict[str, list[float]] = {}
    for line in (results / "speed" / "end_to_end.txt").read_text().splitlines():
        if found := re.fullmatch(r"start-up: (.+?) +([\d.]+) s", line):
            days.setdefault(found[1], []).append(float(found[2]))
    rows = []
    for name, words in STARTS.items():
        first, second = (f"{seconds:{'.1f' if name == '--help' else '.0f'}}" for seconds in days[name])
        rows.append([words, f"{first} ({second})"])
    return markdown(("", "seconds"), rows)


STARTS = {
    "--help": "`--help`",
    "digits, all anew": "everything anew",
    "digits, compiled": "with the compiled programs of an earlier run, copied to another folder; nothing is compiled",
    "digits, prepared": "with original, Retrain and attackers too",
}


def streaming(results: Path) -> list[str]:
    """100,000 images on the device and on the host."""
    found = figures(results / "speed" / "streaming.txt")
    first, each, memory = ([float(found[where][i]) for where in ("device", "host")] for i in (0, 1, 2))
    rows = [
        ["memory of its own", *(f"{mb / 1000:.1f} GB" for mb in memory)],
        ["first step after", *(f"{seconds:.0f} s" for seconds in first)],
        ["a step", *(f"{ms / 1000:.2f} s" for ms in each)],
    ]
    return markdown(("", "images on the device", "images on the host"), rows)


def reproduce(results: Path) -> list[str]:
    """The commands of the sweeps, with the hours that their runs recorded: each of these had one core."""
    rows = []
    for words, section, sweep, file in SWEEPS:
        runs = [one["result"] for one in json_lines(results / f"{file}.jsonl")]
        of_runs = sum(run["time"]["compile_s"] + run["time"]["unlearn_s"] for run in runs)
        shared: dict[Any, float] = {}  # each original, Retrain and set of attackers once, by whoever trained it
        for run in runs:
            seed, forget = run["seeds"]["train"], run["forget"]
            keys = {"original": seed, "attackers": seed, "retrain": (seed, forget["fraction"], forget["kind"])}
            for name, key in keys.items():
                # The seconds of Retrain are those of one, and where their spread is known there are two.
                times = 2 if name == "retrain" and run.get("retrain_spread") else 1
                shared[name, key] = max(shared.get((name, key), 0.0), times * run["time"][f"{name}_s"])
        hours = (of_runs + sum(shared.values())) / 3600
        command = f"`python -m ltu_jax.sweep experiments/sweeps/{sweep}.py --out DIR`"
        rows.append([f"[{words}](results.md#{section})", command, f"{hours:.1f}"])
    return markdown(("table", "command", "core hours"), rows)


SWEEPS = (
    ("LTU's defaults, digits", "ltus-defaults", "defaults", "defaults/digits"),
    ("LTU's defaults, cifar10_jpeg", "ltus-defaults", "defaults_cifar10_jpeg", "defaults/cifar10_jpeg"),
    ("every method", "every-method", "study", "study/thirty"),
    ("the older one, 10 %", "every-method", "cifar10_jpeg", "cifar10_jpeg/table1"),
    ("parts of LTU", "what-each-part-is-good-for", "study_parts_fixed", "study/parts_fixed"),
    ("the older LTU's parts, re-tuned", "what-each-part-is-good-for", "cifar10_jpeg_ablations", "cifar10_jpeg/table3"),
    (
        "the older LTU's parts, fixed",
        "what-each-part-is-good-for",
        "cifar10_jpeg_fixed",
        "cifar10_jpeg/table4",
    ),
    ("a class", "whole-classes", "cifar10_jpeg_class", "cifar10_jpeg/class"),
    ("a sub-class", "whole-classes", "cifar10_jpeg_subclass", "cifar10_jpeg/subclass"),
)
"""Words, section of docs/results.md, sweep file, result file."""


def figures(file: Path, words: int = 1) -> dict[str, list[str]]:
    """The columns of a printed table, by the first ``words`` of each line."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return {" ".join(line[:words]): line[words:] for line in lines if len(line) > words}


TABLES: dict[str, Callable[[Path], list[str]]] = {
    make.__name__: make
    for make in (
        defaults_in_short,
        defaults_in_full,
        study,
        parts,
        whole_classes,
        calibrated,
        wrong_verdicts,
        real_images,
        few,
        limits,
        in_a_row,
        audit,
        step,
        peers,
        starting,
        streaming,
        reproduce,
    )
}
"""What makes the lines of each table from the folder of the result files."""
