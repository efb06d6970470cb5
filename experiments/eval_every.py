r"""Which step ``eval_every`` keeps, by the distance of today and by that of accuracies alone, which it had before.

python experiments/eval_every.py --seeds 20,21,22,23,24,25 --out runs/eval_every

Digits; LTU as shipped and for 40 epochs, BadT and SCRUB as tuned (``sweeps/digits.py``), two Retrains. A run takes the
same steps whatever scores it, so one run answers for both: each look records both distances, the gap to Retrain, and
KS and AUC of the margins against test rows, which no distance sees. Each run has a file of its own; one whose file
exists is not run again. Prints the table.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltu_jax.files import write_whole

CONFIG = "experiments/configs/digits.py"
TUNED = {"data.remain_fraction": 1.0, "method.batch_size": 50, "method.schedule": "cosine"}
ROWS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "LTU, as shipped": ("ltu", 4, {}),
    "LTU, 40 epochs": ("ltu", 4, {"method.epochs": 40.0}),
    "BadT": ("bad_teacher", 2, {**TUNED, "method.learning_rate": 0.00126, "method.epochs": 3.0}),
    "SCRUB": ("scrub", 2, {**TUNED, "method.learning_rate": 0.00627, "method.max_epochs": 2.0}),
}
"""Method, ``eval_every`` and settings of each row."""


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="20,21,22,23,24,25")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for label in ROWS:
        for seed in map(int, args.seeds.split(",")):
            path = args.out / f"{label.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            if not path.exists():
                write_whole(path, json.dumps(run(label, seed, args.out / "cache"), indent=1) + "\n")
            results.append(json.loads(path.read_text()))
    print_table(results)


class Recorder:
    """The judge of every run, which also records what it does not go by."""

    def __init__(self, monitor: Any, problem: Any) -> None:
        self._monitor, self._problem = monitor, problem

    def score(self, state: Any) -> dict[str, float]:
        """See ``monitor.Judge``."""
        from experiments.calibration import gap_of
        from ltu_jax.evaluation.likeness import attack_auc, ks_distance
        from ltu_jax.evaluation.scores import measure

        problem, now = self._problem, self._monitor.score(state)
        rows = {"forget": problem.splits.forget, "test": problem.splits.test}
        both = measure(state, problem.source, rows, problem.config.evaluation.batch_size).values()
        return {**now, **gap_of(problem, state), "test_ks": ks_distance(*both), "test_auc": attack_auc(*both)}

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """See ``monitor.Judge``."""
        return False

    def warnings(self, state: Any) -> list[str]:
        """See ``monitor.Judge``."""
        return self._monitor.warnings(state)


def run(label: str, seed: int, cache: Path) -> dict[str, Any]:
    """The looks of one run; the first is of the original, which no run can keep."""
    import dataclasses

    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.unlearning.loop import run_problem
    from ltu_jax.unlearning.monitor import make_monitor
    from ltu_jax.unlearning.problem import prepare
    from ltu_jax.unlearning.result import now, provenance

    started, (method, every, settings) = now(), ROWS[label]
    problem = prepare(configure(CONFIG, method, {"seed": seed, **settings}), cache=cache)
    batch_size = problem.config.evaluation.batch_size
    recorder = Recorder(make_monitor(problem.original, problem.source, problem.splits, batch_size), problem)
    looks = [{"step": 0, **recorder.score(problem.original)}]
    _, history = run_problem(problem, eval_every=every, judge=recorder)
    looks += [
        {"step": row["step"]} | {name.removeprefix("eval/"): x for name, x in row.items() if name.startswith("eval/")}
        for row in history.rows
        if "eval/distance" in row
    ]
    return {
        "row": label,
        "seed": seed,
        "looks": looks,
        "kept": history.best_step,
        "warnings": history.warnings,
        "retrain": [dataclasses.asdict(scores) for scores in problem.retrain_scores],
        "provenance": provenance(started),
    }


def by_accuracy(look: dict[str, float], original: dict[str, float]) -> float:
    """The distance that ``eval_every`` had before: of accuracies alone."""
    lost = sum(max(0.0, original[name] - look[name]) for name in ("remain", "validation"))
    return abs(look["forget"] - look["validation"]) + lost


def print_table(results: list[dict[str, Any]]) -> None:
    """A line for each run: what was kept before and is now, beside the original and the last step; then their means."""
    print("| | seed | original | kept by accuracy, before | kept now | last step |")
    print("|---|---|---|---|---|---|")
    for label in ROWS:
        runs = [(result["seed"], _shown(result)) for result in results if result["row"] == label]
        for seed, looks in runs:
            print(f"| {label} | {seed} | " + " | ".join(_words(look) for look in looks) + " |")
        cells: list[str] = []
        for looks in zip(*(looks for _, looks in runs), strict=True):
            gaps, ks = [look["gap"] for look in looks], [look["test_ks"] for look in looks]
            spread = f" ± {statistics.stdev(gaps):.1f}" if len(gaps) > 1 else ""
            cells.append(f"**gap {statistics.mean(gaps):.1f}{spread}, KS {statistics.mean(ks):.0f}**")
        print(f"| **{label}** | mean | " + " | ".join(cells) + " |")


def _shown(result: dict[str, Any]) -> list[dict[str, float]]:
    """The looks at the original, at what was kept before and is now, and at the last step."""
    original, *looks = result["looks"]
    before = min(looks, key=lambda look: by_accuracy(look, original))
    kept = next(look for look in looks if look["step"] == result["kept"])
    return [original, before, kept, looks[-1]]


def _words(look: dict[str, float]) -> str:
    ks = f"KS {look['test_ks']:.0f}, AUC {look['test_auc']:.2f}"
    return f"step {look['step']:.0f}: UA {look['ua']:.1f}, gap {look['gap']:.1f}, {ks}"


if __name__ == "__main__":
    main()
