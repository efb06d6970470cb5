"""Mean and standard deviation over several runs of one configuration, as a Markdown table.

python experiments/summary.py runs/d-0 runs/d-1 runs/d-2 runs/d-3 runs/d-4
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

MEASURES = ("ua", "ra", "ta", "mi")


def main(folders: list[str]) -> None:
    """Prints the table of the runs in ``folders``."""
    results = [json.loads((Path(folder) / "result.json").read_text()) for folder in folders]
    settings = [json.loads((Path(folder) / "config.json").read_text()) for folder in folders]
    if len({json.dumps({**s, "seed": 0, "seeds": 0}, sort_keys=True) for s in settings}) != 1:
        raise SystemExit("error: the runs differ in more than their seeds; allowed: runs of one configuration")
    print("| | UA | RA | TA | MI | mean gap | UT, minutes |\n|---|---|---|---|---|---|---|")
    row("original", results, "original", "original_gap")
    if all(r["retrain"] for r in results):
        row("Retrain", results, "retrain", None)
    row(results[0]["method"], results, "scores", "gap")
    if all(r["retrain_spread"] for r in results):
        cells = [spread([r["retrain_spread"][m] for r in results]) for m in (*MEASURES, "mean")]
        print(f"| between two Retrains | {' | '.join(cells)} | |")
    for name in ("dataset", "model"):
        print(f"\n{name}: {', '.join(sorted({str(r[name]) for r in results}))}", end="")
    print(f"\nseeds: {len(results)}")
    for name in ("commit", "device"):
        print(f"{name}: {', '.join(sorted({str(r['provenance'][name]) for r in results}))}")


def row(name: str, results: list[dict[str, Any]], scores: str, gap: str | None) -> None:
    """Prints one model's row."""
    cells = [spread([r[scores][m] for r in results]) for m in MEASURES]
    gaps = [r[gap]["mean"] for r in results if gap and r[gap]]
    minutes = [r[scores]["ut_minutes"] for r in results if "ut_minutes" in r[scores]]
    print(f"| {name} | {' | '.join(cells)} | {spread(gaps)} | {spread(minutes, 3)} |")


def spread(values: list[float], digits: int = 2) -> str:
    """``mean ± standard deviation``, or nothing of no values."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


if __name__ == "__main__":
    main(sys.argv[1:])
