"""How far each method is from the best one, seed by seed: the paired difference with its 95 % interval.

python experiments/differences.py margin_forget runs/study/results.jsonl
python experiments/differences.py gap runs/study/results.jsonl
python experiments/differences.py gap runs/study_parts/results.jsonl --to LTU          what each part of it adds

MEASURE is ``gap``, the mean of the four gaps to Retrain, or a closeness to it row by row: ``margin_forget``,
``js_forget``, the same of ``remain`` and ``test``, or ``ks``, forget against test rows. The best is the method with the
lowest mean; one whose interval holds zero is within noise of it. --to names another row to be compared with. The half
width of the interval is the smallest difference that these seeds could have shown. Two lines need no method: the
untouched original, and another Retrain.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping

from ltu_jax.setting import ConfigError, allowed_names
from ltu_jax.tabling import noise
from ltu_jax.tabling.runs import Run, Seeds, check, read

CLOSE = tuple(f"{kind}_{rows}" for kind in ("margin", "js") for rows in ("forget", "remain", "test"))
UNTOUCHED, RETRAIN = "nothing done", "another Retrain"
WHOSE = {UNTOUCHED: ("original_gap", "original"), RETRAIN: ("retrain_spread", "retrain")}

Values = Mapping[Seeds, float]


def main() -> int:
    """Prints the table as Markdown; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=("gap", *CLOSE, "ks"), metavar="MEASURE")
    parser.add_argument("results", nargs="+", help="results.jsonl files, all of one problem")
    parser.add_argument("--to", metavar="LABEL", help="the row that the others are compared with; unset: the best")
    args = parser.parse_args()
    try:
        runs = read(args.results)
        check(runs, 3)
        lines = table(runs, args.measure, args.to)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    header = ("", "seeds", "mean ± s.d.", f"to {args.to or 'the best'} [95 %]", "could be seen", "")
    for cells in (header, ["---"] * len(header), *lines):
        print("|", " | ".join(cells), "|")
    return 0


def table(runs: list[Run], measure: str, to: str | None = None, digits: int = 3) -> list[list[str]]:
    """The lines of the table: what the others are compared with, the others from the best on, what needs no method.

    Args:
      runs: of one problem.
      measure: see ``value``.
      to: label of the row to be compared with; None is the best.
      digits: after the point.

    Raises:
      ConfigError: if a run does not have the measure, or none has that label.
    """
    methods: dict[str, dict[Seeds, float]] = {}
    others: dict[str, dict[Seeds, float]] = {}  # the same in every run of a seed
    for run in runs:
        for rows, label in ((methods, run.label), *((others, label) for label in WHOSE)):
            rows.setdefault(label, {})[run.seeds] = value(run, label, measure)
    if to is not None and to not in methods:
        raise ConfigError(f"--to: {to!r}; {allowed_names(to, methods)}")
    order = sorted(methods, key=lambda label: statistics.fmean(methods[label].values()))
    first = to or order[0]
    order.remove(first)
    base = methods[first]
    compared = [
        line(label, rows[label], base, digits) for rows, names in ((methods, order), (others, WHOSE)) for label in names
    ]
    *cells, _ = line(first, base, None, digits)
    return [[*cells, "" if to else "best"], *compared]


def value(run: Run, label: str, measure: str) -> float:
    """What a run has of a measure: its own, or that of the original or another Retrain.

    Raises:
      ConfigError: if it has none.
    """
    gap, model = WHOSE.get(label, ("gap", "unlearned"))
    found = (run.result.get(gap) or {}).get("mean") if measure == "gap" else run.close(model).get(measure)
    if found is None:
        raise ConfigError(
            f"results: a run of {run.label!r} has no {measure} of {label}; allowed: a measure that all have"
        )
    return found


def line(label: str, ours: Values, base: Values | None, digits: int) -> list[str]:
    """The cells of a row, compared with ``base``; None in the row of the base itself."""
    mean, deviation = noise.spread(list(ours.values()))
    spread = f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")
    apart = None if base is None else noise.difference(ours, base)
    if apart is None:
        return [label, str(len(ours)), spread, "", "", "too few seeds"]
    within = "within noise" if apart.low <= 0 <= apart.high else ""
    interval = f"{apart.mean:+z.{digits}f} [{apart.low:+z.{digits}f}, {apart.high:+z.{digits}f}]"
    return [label, str(len(ours)), spread, interval, f"{(apart.high - apart.low) / 2:.{digits}f}", within]


if __name__ == "__main__":
    sys.exit(main())
