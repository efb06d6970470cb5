"""Several seeds in one command against one command for each: seconds, and how far the results differ.

python experiments/benchmarks/seeds.py --out runs/seeds
python experiments/benchmarks/seeds.py --out runs/seeds --config experiments/configs/digits_vit.py

``num_seeds`` saves what every command costs: start and compilation. ``at_once`` is the number of models in each
program. Each way runs twice and the second time counts, in which compiled programs are kept and all else is computed
again. Differences are the largest among UA, RA, TA and MI of all seeds, in points.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/configs/digits.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()

    alone = [[f"--config.seed={seed}"] for seed in range(args.seeds)]
    together = f"--config.num_seeds={args.seeds}"
    ways = {
        "one command each": alone,
        "num_seeds, one at a time": [[together, "--config.at_once=1"]],
        f"num_seeds, {args.seeds} at once": [[together, f"--config.at_once={args.seeds}"]],
    }
    print(f"{args.config}, {args.seeds} seeds\n{'':28}{'s':>8}{'x':>8}{'differs, points':>17}")
    first_seconds, first_scores = 0.0, None
    for name, commands in ways.items():
        run(args, name, commands)
        seconds, scores = run(args, name, commands)
        first_seconds, first_scores = first_seconds or seconds, first_scores or scores
        difference = max(abs(x - y) for x, y in zip(scores, first_scores, strict=True))
        print(f"{name:28}{seconds:8.1f}{seconds / first_seconds:8.2f}{difference:17.4f}", flush=True)


def run(args: argparse.Namespace, name: str, commands: list[list[str]]) -> tuple[float, list[float]]:
    """Seconds of all the commands, and the scores of all seeds in order."""
    folder = args.out / name.replace(" ", "-")
    for path in folder.glob("cache/*"):
        if path.name != "compiled":
            path.unlink() if path.is_file() else shutil.rmtree(path)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    module = [sys.executable, "-m", "ltu_jax.unlearn", "--config", args.config, "--cache", str(folder / "cache")]
    start = time.perf_counter()
    for i, words in enumerate(commands):
        where = ["--workdir", str(folder / "runs" / str(i))]
        subprocess.run([*module, *where, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    scores = [json.loads(path.read_text())["scores"] for path in sorted((folder / "runs").rglob("result.json"))]
    assert len(scores) == args.seeds
    return seconds, [score[measure] for score in scores for measure in ("ua", "ra", "ta", "mi")]


if __name__ == "__main__":
    main()
