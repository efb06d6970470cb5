"""How near calibration without Retrain comes to the settings that one would choose knowing it.

export TFDS_DATA_DIR=...
python experiments/calibration.py --seeds 0,1,2 --out runs/calibration

Every problem is a deployer's: the attackers are fitted on the original itself and on ``--held_out`` rows that it never
saw, and the method sees rho of the remaining rows. ``requests.calibration`` searches as for a request; at each look the
gap to Retrain is written down beside, which the search does not see. Four columns, mean gaps to Retrain in points: the
calibrated point, the point of the smallest gap among all that were looked at, the configured settings, the original.
A file a seed; what is there is not run again.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    found = []
    for seed in map(int, args.seeds.split(",")):
        path = args.out / f"seed-{seed}.json"
        if not path.exists():
            told = run(args.config, seed, args.held_out, args.trials, args.out)
            write_whole(path, json.dumps(told, indent=1) + "\n")
        found.append(json.loads(path.read_text()))
    print_table(found)


class Witness:
    """A calibrator that also writes down the gap to Retrain; the search goes as it would without."""

    def __init__(self, calibrator: Any, problem: Any) -> None:
        self._calibrator, self._problem = calibrator, problem

    def score(self, state: Any) -> dict[str, float]:
        """See ``monitor.Judge``."""
        told = gap_of(self._problem, state)
        return self._calibrator.score(state) | {f"retrain_{name}": value for name, value in told.items()}

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
    """One seed: the four scores, and all looks."""
    import jax

    from experiments.sweeping.configuring import configure
    from ltu_jax.deletion.calibration import calibrate, make_calibrator
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.unlearning.loop import run_problem
    from ltu_jax.unlearning.problem import prepare
    from ltu_jax.unlearning.result import now, provenance

    started, progress = now(), progress_for()
    jax.config.update("jax_compilation_cache_dir", str((out / "compiled").absolute()))
    config = configure(file, "ltu", {"seed": seed, "attackers.fitted_on": "original", "data.reserve_size": held_out})
    config = dataclasses.replace(config, calibration=dataclasses.replace(config.calibration, trials=trials))
    problem = prepare(config, cache=out / "cache", progress=progress)
    witness = Witness(make_calibrator(problem), problem)
    calibrated = calibrate(problem, out / f"search-{seed}", progress, judge=witness)
    defaults, _ = run_problem(problem, progress=progress)
    looks = [(trial.learning_rate, look) for trial in calibrated.trials for look in trial.looks]
    known = min(looks, key=lambda pair: pair[1]["retrain_gap"])
    names = ("ua", "ra", "ta", "mi", "gap")
    return {
        "seed": seed,
        "calibrated": gap_of(problem, calibrated.state),
        "Retrain known": {name: known[1][f"retrain_{name}"] for name in names}
        | {"learning_rate": known[0], "step": known[1]["step"]},
        "defaults": gap_of(problem, defaults),
        "nothing": gap_of(problem, problem.original),
        "retrain": [dataclasses.asdict(scores) for scores in problem.retrain_scores],
        "calibration": calibrated.as_json(),
        "attackers": problem.attackers,
        "provenance": provenance(started),
    }


def print_table(found: list[dict[str, Any]]) -> None:
    """The four columns, a line a seed, and mean and deviation under them."""
    print(f"{'mean gap to Retrain':24}" + "".join(f"{name:>15}" for name in COLUMNS))
    for told in found:
        print(f"{'seed ' + str(told['seed']):24}" + "".join(f"{told[name]['gap']:15.2f}" for name in COLUMNS))
    for word, statistic in (("mean", statistics.mean), ("deviation", statistics.stdev)):
        if len(found) > 1:
            values = (statistic([told[name]["gap"] for told in found]) for name in COLUMNS)
            print(f"{word:24}" + "".join(f"{value:15.2f}" for value in values))


if __name__ == "__main__":
    main()
