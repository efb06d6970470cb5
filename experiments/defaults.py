"""How near LTU's defaults come to Retrain: a line for each problem and forget fraction of finished sweeps.

python experiments/defaults.py runs/defaults/results.jsonl runs/defaults_cifar10_jpeg/results.jsonl
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

HEADER = (
    "problem",
    "forget",
    "runs",
    "nothing done",
    "LTU",
    "s.d.",
    "two Retrains",
    "LTU / floor",
    "warned",
    "seconds",
)


def line(results: list[dict[str, Any]]) -> list[str]:
    """The cells of a line: mean gaps to Retrain in points, of runs that differ in seeds alone."""
    gaps = np.array([result["gap"]["mean"] for result in results])
    floor = np.mean([result["retrain_spread"]["mean"] for result in results])
    first, warned = results[0], sum(bool(result["warnings"]) for result in results)
    return [
        f"{first['dataset']}, {first['model']}",
        f"{100 * first['forget']['fraction']:.0f} %, {first['forget']['count']} rows",
        str(len(results)),
        f"{np.mean([result['original_gap']['mean'] for result in results]):.2f}",
        f"{gaps.mean():.2f}",
        f"{gaps.std(ddof=1):.2f}" if len(gaps) > 1 else "",
        f"{floor:.2f}",
        f"{gaps.mean() / floor:.2f}",
        f"{warned} of {len(results)}",
        f"{60 * np.median([result['scores']['ut_minutes'] for result in results]):.1f}",
    ]


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="results.jsonl of sweeps")
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for file in parser.parse_args().files:
        for text in file.read_text().splitlines():
            result = json.loads(text)["result"]
            runs.setdefault((result["dataset"], result["model"], result["forget"]["fraction"]), []).append(result)
    for cells in (HEADER, ["---"] * len(HEADER), *map(line, runs.values())):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
