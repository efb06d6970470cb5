"""How much cheaper unlearning is than retraining: one request against a long, a short and the cheapest good Retrain.

export TFDS_DATA_DIR=...
python experiments/benchmarks/end_to_end.py --out runs/end-to-end
python experiments/benchmarks/end_to_end.py --out runs/end-to-end --recipes 182:multistep,12,12x25@0.2 --seeds 0,1

LTU runs by its own command, with the changes of ``--set``. Retrain models are trained on the same remaining rows by the
same trainer, one for each recipe, ``EPOCHS[xBATCH][:SCHEDULE][@RATE]``: the paper's 182 epochs, with the rate divided
by ten after a half and three quarters of them, and shorter ones, with a cosine schedule unless they name another.
Any ratio looks good against a slow Retrain, so the last lines name the cheapest recipe whose test accuracy is within
half a point of the longest one's. Seconds are those of steps, compiled beforehand, with one process at a time; flops
are the package's own count. The attackers' flops are those of training and querying their shadow models; the time to
fit the attackers is in their seconds alone. Start-up is the wall time of commands. A finished model is not trained
again.
"""

import argparse
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DEFAULT = "experiments/configs/cifar10_jpeg_small.py"
RECIPES = "182:multistep,60,30,20,12,8,24x16@0.05,30x25,24x25,20x16@0.05,20x25,20x10@0.02,15x10,12x10"  # results/speed


def main() -> None:
    """Parses the arguments, runs what is missing, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="originals and attackers; unset: in --out")
    parser.add_argument("--recipes", default=RECIPES, help="of the Retrain models, the long one first")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="numbers of the LTU run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.cache or args.out / "cache"

    rows = []
    for seed in map(int, args.seeds.split(",")):
        ltu = run_ltu(args.config, seed, args.out / f"ltu-{seed}", cache, args.set)
        ltu["attackers_flops"] = attackers_flops(args.config, seed, args.set)
        for recipe in args.recipes.split(","):
            retrain = run_retrain(args.config, seed, recipe, args.out / f"retrain-{recipe}-{seed}.json")
            rows.append({"seed": seed, "recipe": recipe, **retrain, **ltu})
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


def attackers_flops(config: str, seed: int, changes: list[str]) -> float:
    """Flops of training the shadow models, and of querying them; 0 where LTU needs no attackers."""
    from ltu_jax.config import needs
    from ltu_jax.training.supervised import num_train_steps

    settings, loaded, image = _loaded(config, seed, changes)
    if "bank" not in needs(settings.method):
        return 0.0
    shadows, draws, rows = settings.attackers.num_shadows, settings.attackers.draws, len(loaded.splits.reserve)
    trained_on = num_train_steps(settings.training, rows // 2) * settings.training.batch_size
    queried = ((shadows - 1) * draws + 1) * rows
    return shadows * trained_on * (image.forward + image.backward) + queried * image.forward


def run_retrain(config: str, seed: int, recipe: str, path: Path) -> dict[str, Any]:
    """A Retrain model of one recipe: its test accuracy, seconds and flops; read from ``path`` if that exists."""
    if path.exists():
        return json.loads(path.read_text())
    import jax

    from ltu_jax.evaluation.scores import evaluate
    from ltu_jax.training.optimizers import SGD
    from ltu_jax.training.supervised import num_train_steps, train
    from ltu_jax.types import make_state

    settings, (source, splits, spec, _), image = _loaded(config, seed, [])
    training = parse_recipe(recipe, settings.training)
    init_key, train_key = jax.random.split(jax.random.key(seed))
    params, model_state = spec.init(init_key)
    rows = source.rows(splits.remain)
    trained = train(spec.apply_fn, params, model_state, rows, training, train_key, augment=settings.data.augment)
    state = make_state(spec.apply_fn, trained.state.params, trained.state.model_state, SGD, train_key)
    scores = evaluate(spec.apply_fn, state, splits, source, batch_size=settings.evaluation.batch_size)
    images = num_train_steps(training, len(splits.remain)) * training.batch_size
    flops = images * (image.forward + image.backward)
    result = {"ta": scores.ta, "retrain_s": trained.seconds, "retrain_flops": flops}
    path.write_text(json.dumps(result))
    return result


def parse_recipe(recipe: str, base: Any) -> Any:
    """``EPOCHS[xBATCH][:SCHEDULE][@RATE]`` as settings; ``multistep`` steps after a half and three quarters."""
    words, _, rate = recipe.partition("@")
    amount, _, schedule = words.partition(":")
    epochs, _, batch_size = amount.partition("x")
    return dataclasses.replace(
        base,
        epochs=int(epochs),
        batch_size=int(batch_size or base.batch_size),
        schedule=schedule or "cosine",
        milestones=(int(epochs) // 2, 3 * int(epochs) // 4),
        learning_rate=float(rate) if rate else base.learning_rate,
    )


def _loaded(config: str, seed: int, changes: list[str]) -> tuple[Any, Any, Any]:
    """The settings with the changes; data, splits and model; the flops of one image."""
    import jax

    from ltu_jax.config import resolve
    from ltu_jax.training.cost import image_flops
    from ltu_jax.unlearning.problem import load_problem

    settings = _config(config)
    for change in changes:
        (*groups, field), value = change.partition("=")[0].split("."), change.partition("=")[2]
        owner = functools.reduce(getattr, groups, settings)
        setattr(owner, field, type(getattr(owner, field) or 0)(float(value)))
    settings = resolve(dataclasses.replace(settings, seed=seed))
    loaded = load_problem(settings)
    params, model_state = loaded.spec.init(jax.random.key(0))
    shape = loaded.source.images.shape[1:]
    return settings, loaded, image_flops(loaded.spec.apply_fn, params, model_state, shape, settings.training.batch_size)


def _config(path: str) -> Any:
    space: dict[str, Any] = {}
    exec(Path(path).read_text(), space)
    return space["get_config"]()


def _print_ratios(rows: list[dict[str, Any]]) -> None:
    head = ("seed", "Retrain", "TA", "s", "LTU, s", "gap", "flops", "seconds", "flops", "seconds")
    print(f"{'':60}{'Retrain / LTU':>20}{'with attackers':>20}")
    print(f"{head[0]:6}{head[1]:>14}" + "".join(f"{word:>10}" for word in head[2:]))
    for row in rows:
        ratios = []
        for of in ("flops", "s"):
            retrain, ltu, attackers = row[f"retrain_{of}"], row[f"ltu_{of}"], row[f"attackers_{of}"]
            ratios.append((retrain / ltu, retrain / (ltu + attackers)))
        figures = [row["ta"], row["retrain_s"], row["ltu_s"], row["gap"]]
        figures += [ratio for pair in zip(*ratios, strict=True) for ratio in pair]
        print(f"{row['seed']:<6}{row['recipe']:>14}" + "".join(f"{figure:10.2f}" for figure in figures))
    for seed in sorted({row["seed"] for row in rows}):
        long, *others = [row for row in rows if row["seed"] == seed]
        good = [row for row in others if row["ta"] >= long["ta"] - 0.5]
        best = min([long, *good], key=lambda row: row["retrain_flops"])
        ratios = [f"{best[f'retrain_{of}'] / best[f'ltu_{of}']:.2f}" for of in ("flops", "s")]
        print(f"seed {seed}: the cheapest good Retrain is {best['recipe']}, LTU's flops x {ratios[0]}, s x {ratios[1]}")
    print(f"LTU at commit {rows[0]['commit']}")


def _print_start_up(config: str, out: Path) -> None:
    """Wall time of commands: with an empty cache, with only compiled programs in it, and with all of it."""
    module = [sys.executable, "-m", "ltu_jax.unlearn"]
    digits = [*module, "--config", "experiments/configs/digits.py"]
    scratch = out / f"start-up-{os.getpid()}"
    in_folders = lambda run, cache: ["--workdir", str(scratch / run), "--cache", str(scratch / cache)]  # noqa: E731
    commands = {
        "--help": [*module, "--help"],
        "--dry_run": [*module, "--config", config, "--dry_run"],
        "digits, all anew": [*digits, *in_folders("anew", "cache")],
        "digits, compiled": [*digits, *in_folders("compiled", "compiled-alone")],
        "digits, prepared": [*digits, *in_folders("prepared", "cache")],
    }
    for name, command in commands.items():
        if name == "digits, compiled":
            shutil.copytree(scratch / "cache" / "compiled", scratch / "compiled-alone" / "compiled")
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"start-up: {name:20}{time.perf_counter() - start:8.1f} s")


if __name__ == "__main__":
    main()
