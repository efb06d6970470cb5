"""How much cheaper unlearning is than retraining: one request, against a long, a short and the cheapest good Retrain.

export TFDS_DATA_DIR=...
python experiments/benchmarks/end_to_end.py --out runs/end-to-end
python experiments/benchmarks/end_to_end.py --out runs/end-to-end --recipes 20,12,8 --seeds 0,1

LTU runs by its own command, with what ``--set`` changes; Retrain models are trained on the same remaining
rows by the same trainer, one for each recipe: the paper's 182 epochs with steps at 91 and 136, and cosine runs of
fewer epochs, each with warm-up. A slow Retrain makes any ratio look good, so the last lines name the cheapest
recipe whose test accuracy is within half a point of the long one's. Seconds are those of steps, compiled beforehand,
one process at a time; flops are the package's own account. Start-up is the wall time of commands. A finished
model is not trained again.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LONG = 182
DEFAULT = "experiments/configs/cifar10_jpeg_small.py"


def main() -> None:
    """Parses the arguments, runs what is missing, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="originals and attackers; unset: in --out")
    parser.add_argument("--recipes", default=f"{LONG},40,20,15,12,10,8", help="epochs of each Retrain")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the LTU run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.cache or args.out / "cache"

    rows = []
    for seed in map(int, args.seeds.split(",")):
        ltu = run_ltu(args.config, seed, args.out / f"ltu-{seed}", cache, args.set)
        for epochs in map(int, args.recipes.split(",")):
            retrain = run_retrain(args.config, seed, epochs, args.out / f"retrain-{epochs}-{seed}.json")
            rows.append({"seed": seed, "epochs": epochs, **retrain, **ltu})
    _print_ratios(rows)
    _print_start_up(args.config, args.out)


def run_ltu(config: str, seed: int, workdir: Path, cache: Path, changes: list[str]) -> dict[str, Any]:
    """LTU by its command; seconds, flops and gap from its ``result.json``."""
    words = [f"--config.{word}" for word in [f"seed={seed}", *changes]]
    command = [sys.executable, "-m", "ltu_jax.unlearn", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*command, "--cache", str(cache), *words], check=True, stdout=subprocess.DEVNULL)
    result = json.loads((workdir / "result.json").read_text())
    return {
        "ltu_s": result["time"]["unlearn_s"],
        "ltu_flops": result["cost"]["flops"],
        "attackers_s": result["time"]["attackers_s"],
        "gap": result["gap"]["mean"],
        "commit": result["provenance"]["commit"],
    }


def run_retrain(config: str, seed: int, epochs: int, path: Path) -> dict[str, Any]:
    """A Retrain model of so many epochs: its test accuracy, seconds and flops; read from ``path`` where it was made."""
    if path.exists():
        return json.loads(path.read_text())
    import jax

    from ltu_jax.config import Training, resolve
    from ltu_jax.evaluation.scores import evaluate
    from ltu_jax.training.cost import image_flops
    from ltu_jax.training.optimizers import SGD
    from ltu_jax.training.supervised import num_train_steps, train
    from ltu_jax.types import make_state
    from ltu_jax.unlearning.problem import load

    settings = resolve(dataclasses.replace(_config(config), seed=seed))
    source, splits, spec = load(settings)
    recipe: Training = dataclasses.replace(settings.training, epochs=epochs)
    if epochs == LONG:
        recipe = dataclasses.replace(recipe, schedule="multistep", milestones=(91, 136))
    init_key, train_key = jax.random.split(jax.random.key(seed))
    params, model_state = spec.init(init_key)
    rows = source.rows(splits.remain)
    trained = train(spec.apply_fn, params, model_state, rows, recipe, train_key, augment=settings.data.augment)
    state = make_state(spec.apply_fn, trained.state.params, trained.state.model_state, SGD, train_key)
    scores = evaluate(spec.apply_fn, state, splits, source, batch_size=settings.evaluation.batch_size)
    image = image_flops(spec.apply_fn, params, model_state, source.images.shape[1:], recipe.batch_size)
    images = num_train_steps(recipe, len(splits.remain)) * recipe.batch_size
    found = {"ta": scores.ta, "retrain_s": trained.seconds, "retrain_flops": images * (image.forward + image.backward)}
    path.write_text(json.dumps(found))
    return found


def _config(path: str) -> Any:
    space: dict[str, Any] = {}
    exec(Path(path).read_text(), space)
    return space["get_config"]()


def _print_ratios(rows: list[dict[str, Any]]) -> None:
    print(f"{'':6}{'':8}{'':8}{'Retrain':>10}{'LTU':>9}{'Retrain / LTU':>22}{'with':>11}{'mean':>8}")
    print(f"{'seed':6}{'epochs':>8}{'TA':>8}{'s':>10}{'s':>9}{'flops':>11}{'seconds':>11}{'attackers':>11}{'gap':>8}")
    for row in rows:
        flops, seconds = row["retrain_flops"] / row["ltu_flops"], row["retrain_s"] / row["ltu_s"]
        attacked = row["retrain_s"] / (row["ltu_s"] + row["attackers_s"])
        head = f"{row['seed']:<6}{row['epochs']:>8}{row['ta']:8.2f}{row['retrain_s']:10.1f}{row['ltu_s']:9.1f}"
        print(f"{head}{flops:11.2f}{seconds:11.2f}{attacked:11.2f}{row['gap']:8.2f}")
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        long = [row["ta"] for row in mine if row["epochs"] == LONG]
        good = [row for row in mine if long and row["ta"] >= long[0] - 0.5]
        if good:
            best = min(good, key=lambda row: row["retrain_flops"])
            ratio = best["retrain_flops"] / best["ltu_flops"]
            print(f"seed {seed}: the cheapest good Retrain has {best['epochs']} epochs; {ratio:.2f} x LTU's flops")
    print(f"LTU at commit {rows[0]['commit']}")


def _print_start_up(config: str, out: Path) -> None:
    """Wall time of commands, the second and third with an empty and a filled compilation cache."""
    module = [sys.executable, "-m", "ltu_jax.unlearn"]
    digits = [*module, "--config", "experiments/configs/digits.py", "--cache", str(out / f"start-up-{os.getpid()}")]
    commands = {
        "--help": [*module, "--help"],
        "--dry_run": [*module, "--config", config, "--dry_run"],
        "digits, all anew": [*digits, "--workdir", str(out / f"first-{os.getpid()}")],
        "digits, again": [*digits, "--workdir", str(out / f"second-{os.getpid()}")],
    }
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"start-up: {name:20}{time.perf_counter() - start:8.1f} s")


if __name__ == "__main__":
    main()
