"""How close calibration, which does not see Retrain, comes to settings that are chosen by their gap to Retrain.

export TFDS_DATA_DIR=...
python experiments/calibration.py --seeds 0,1,2 --out runs/calibration

The problem is the one a deployer has: the attackers are fitted on the original itself and on ``--held_out`` rows that
it never saw, and the method sees rho of the remaining rows. ``ltu_jax.deletion.calibration`` searches as it does for a
request. At each look the gap to Retrain is recorded too, which the search does not see. Four columns, mean gaps to
Retrain in points: the calibrated point, the best point among all looks, the configured settings, and the original.
Each seed has a file of its own; a seed whose file exists is not run again.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS
from ltu_jax.files import write_whole

DEFAULT = "experiments/configs/cifar10_jpeg_small.py"
COLUMNS = ("calibrated", "Retrain known", "defaults", "nothing")


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held_out", type=int, default=1000, help="rows for the attackers")
    parser.add_argument("--trials", type=int, default=6)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in map(int, args.seeds.split(",")):
        path = args.out / f"seed-{seed}.json"
        if not path.exists():
            result = run(args.config, seed, args.held_out, args.trials, args.out)
            write_whole(path, json.dumps(result, indent=1) + "\n")
        results.append(json.loads(path.read_text()))
    print_table(results)


class GapRecorder:
    """A calibrator that also records the gap to Retrain; this does not change the search."""

    def __init__(self, calibrator: Any, problem: Any) -> None:
        self._calibrator, self._problem = calibrator, problem

    def score(self, state: Any) -> dict[str, float]:
        """See ``monitor.Judge``."""
        against_retrain = gap_of(self._problem, state)
        return self._calibrator.score(state) | {f"retrain_{name}": value for name, value in against_retrain.items()}

    def is_hopeless(self, distances: Sequence[float]) -> bool:
        """See ``monitor.Judge``."""
        return self._calibrator.is_hopeless(distances)

    def warnings(self, state: Any) -> list[str]:
        """See ``monitor.Judge``."""
        return self._calibrator.warnings(state)


def gap_of(problem: Any, state: Any) -> dict[str, float]:
    """UA, RA, TA and MI of a state, and its mean ``gap`` to Retrain."""
    from ltu_jax.evaluation.scores import gap, mean_scores

    scores = problem.score(state)
    mean = gap(scores, mean_scores(problem.retrain_scores))["mean"]
    return {name: getattr(scores, name) for name in ("ua", "ra", "ta", "mi")} | {"gap": mean}


def run(file: str, seed: int, held_out: int, trials: int, out: Path) -> dict[str, Any]:
    """One seed: the scores of the four columns, and every look of the search."""
    import jax

    from ltu_jax.deletion.calibration import calibrate, make_calibrator
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.unlearning.loop import run_problem
    from ltu_jax.unlearning.problem import prepare
    from ltu_jax.unlearning.result import now, provenance

    started, progress = now(), progress_for()
    jax.config.update("jax_compilation_cache_dir", str((out / "compiled").absolute()))
    changes = {"seed": seed, "attackers.fitted_on": "original", "data.reserve_size": held_out}
    config = configure(file, "ltu", BY_ATTACKERS | changes)
    config = dataclasses.replace(config, calibration=dataclasses.replace(config.calibration, trials=trials))
    problem = prepare(config, cache=out / "cache", progress=progress)
    recorder = GapRecorder(make_calibrator(problem), problem)
    calibrated = calibrate(problem, out / f"search-{seed}", progress, judge=recorder)
    defaults, _ = run_problem(problem, progress=progress)
    looks = [(trial.learning_rate, look) for trial in calibrated.trials for look in trial.looks]
    best_rate, best_look = min(looks, key=lambda pair: pair[1]["retrain_gap"])
    names = ("ua", "ra", "ta", "mi", "gap")
    return {
        "seed": seed,
        "calibrated": gap_of(problem, calibrated.state),
        "Retrain known": {name: best_look[f"retrain_{name}"] for name in names}
        | {"learning_rate": best_rate, "step": best_look["step"]},
        "defaults": gap_of(problem, defaults),
        "nothing": gap_of(problem, problem.original),
        "retrain": [dataclasses.asdict(scores) for scores in problem.retrain_scores],
        "calibration": calibrated.as_json(),
        "attackers": problem.attackers,
        "provenance": provenance(started),
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """The four columns, one line per seed, then the mean and the standard deviation."""
    print(f"{'mean gap to Retrain':24}" + "".join(f"{name:>15}" for name in COLUMNS))
    for result in results:
        print(f"{'seed ' + str(result['seed']):24}" + "".join(f"{result[name]['gap']:15.2f}" for name in COLUMNS))
    for word, statistic in (("mean", statistics.mean), ("deviation", statistics.stdev)):
        if len(results) > 1:
            values = (statistic([result[name]["gap"] for result in results]) for name in COLUMNS)
            print(f"{word:24}" + "".join(f"{value:15.2f}" for value in values))


if __name__ == "__main__":
    main()
