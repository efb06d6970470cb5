"""Runs every method briefly and writes hashes of the results, to see whether a change of the code changes numbers.

python experiments/reliability/same_bits.py --out runs/before                     at the commit before
python experiments/reliability/same_bits.py --out runs/after --against runs/before/bits.json      at the commit after

Each run is a process of its own, `python -m ltu_jax.unlearn` of the checkout that this file is in (or of --checkout).
Compared bit for bit: the model; the original, Retrain and attackers in the cache; every line of metrics.jsonl; and
result.json except for times, hashes of settings and provenance. On digits every method runs with its own settings; with
--data_dir, LTU, SalUn and BadT run on cifar10_jpeg_small too, for five steps.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOT_COMPARED = ("time", "provenance", "ut_minutes", "compile_s", "run_s", "request_sha256")
ON_DIGITS = ("config.evaluation.num_retrain=1", "config.training.epochs=5")
ON_CIFAR = ("config.evaluation.num_retrain=0", "config.training.epochs=1", "config.attackers.num_shadows=2")
FIVE_STEPS = {  # with 500 forget rows and 1350 visible remaining rows
    "ltu": ("config.method.epochs=0.5",),
    "salun": ("config.method.epochs=0.7",),
    "bad_teacher": ("config.method.epochs=0.7",),
}
MORE = {  # code that a method's defaults do not reach
    "ltu": {
        "adaptive": ("config.eval_every=5",),
        "first": ("config.method.order=first", "config.method.combine=alternate", "config.method.relabel=once"),
        "vit": ("config.model.name=vit_micro", "config.model.patch_size=2"),
        "seeds": ("config.num_seeds=2", "config.at_once=2"),
        "host": ("config.data.stream=host",),
    },
    "paper": {"original": ("config.attackers.fitted_on=original", "config.method.save_memory=true")},
    "fisher": {"small": ("config.method.alpha=1e-7",)},
    "partial_retrain": {"small": ("config.method.flops=1e10",)},
    "finetune": {"milestones": ("config.training.schedule=multistep", "config.training.milestones=2,4")},
}


def main() -> int:
    """Runs the program; returns 1 if anything differs from ``--against``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--against", type=Path, help="bits.json of another checkout")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose code is run")
    parser.add_argument("--data_dir", help="where cifar10_jpeg lies; unset: digits alone")
    args = parser.parse_args()
    out, checkout = args.out.absolute(), args.checkout.absolute()
    out.mkdir(parents=True, exist_ok=True)
    bits_file = out / "bits.json"
    bits = json.loads(bits_file.read_text()) if bits_file.exists() else {}
    for name, words in jobs(args.data_dir, checkout).items():
        if name not in bits:
            run(name, words, out, checkout)
            bits[name] = {str(p.relative_to(out / name)): of_run(p) for p in sorted((out / name).rglob("result.json"))}
            bits_file.write_text(json.dumps(bits, indent=1) + "\n")
            print(name, flush=True)
    bits["cache"] = of_cache(out / "cache")
    bits_file.write_text(json.dumps(bits, indent=1) + "\n")
    if args.against is None:
        return 0
    differs = differences(json.loads(args.against.read_text()), bits)
    for line in differs:
        print(line)
    print(f"{len(bits) - 1} runs compared, {len(differs)} differences")
    return 1 if differs else 0


def jobs(data_dir: str | None, checkout: Path) -> dict[str, list[str]]:
    """The arguments of each run by its name."""
    methods = subprocess.run(
        [sys.executable, "-c", "from ltu_jax.config import METHOD_CONFIGS; print(*METHOD_CONFIGS)"],
        cwd=checkout, capture_output=True, text=True, check=True, env=environment(checkout),
    ).stdout.split()  # fmt: skip
    arguments = {}
    for method in methods:
        config = ["--config", f"experiments/configs/digits.py:{method}", *(f"--{word}" for word in ON_DIGITS)]
        arguments[f"digits-{method}"] = config
        for variant, words in MORE.get(method, {}).items():
            arguments[f"digits-{method}-{variant}"] = [*config, *(f"--{word}" for word in words)]
    for method, words in FIVE_STEPS.items() if data_dir else ():
        config = [
            "--config",
            f"experiments/configs/cifar10_jpeg_small.py:{method}",
            f"--config.data.data_dir={data_dir}",
        ]
        arguments[f"cifar10_jpeg_small-{method}"] = [*config, *(f"--{word}" for word in (*ON_CIFAR, *words))]
    return arguments


def environment(checkout: Path) -> dict[str, str]:
    """Environment variables of a run: the code of the checkout, on the CPU."""
    return os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}


def run(name: str, words: list[str], out: Path, checkout: Path) -> None:
    """Runs one job to its end; what it prints goes to a file beside its folder."""
    command = [
        sys.executable,
        "-m",
        "ltu_jax.unlearn",
        *words,
        "--workdir",
        str(out / name),
        "--cache",
        str(out / "cache"),
    ]
    with (out / f"{name}.txt").open("w") as log:
        subprocess.run(command, cwd=checkout, env=environment(checkout), stdout=log, stderr=log, check=True)


def of_run(result: Path) -> dict[str, Any]:
    """The results of a run: its figures, and hashes of its model and of its metrics."""
    folder = result.parent
    return {
        "result": without_times(json.loads(result.read_text())),
        "model": tree_hash(folder / "model"),
        "metrics": hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest(),
    }


def of_cache(cache: Path) -> dict[str, list[str]]:
    """Hashes of the trained models by kind; entries' names are left out, because they hash settings that may change."""
    hashes_of: dict[str, list[str]] = {}
    for path in sorted(cache.iterdir()):
        if path.is_dir() and path.name != "compiled":
            hashes_of.setdefault(path.name.partition("-")[0], []).append(tree_hash(path, without="seconds"))
    return {kind: sorted(hashes) for kind, hashes in hashes_of.items()}


def tree_hash(path: Path, without: str = "") -> str:
    """Hash of all arrays of a saved tree."""
    import jax
    import numpy as np
    from orbax.checkpoint import v1 as ocp

    tree = ocp.load(str(path))
    digest = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(place)
        if not without or without not in name:
            digest.update(name.encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def without_times(value: Any) -> Any:
    """The same JSON without the fields that differ between any two runs."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in NOT_COMPARED}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """A line for each value that is not the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(new for new in now if new not in before)]
        return [line for key in names for line in differences(before.get(key), now.get(key), f"{name}/{key}")]
    return [] if before == now else [f"{name}: was {before!r}, is {now!r}"]


if __name__ == "__main__":
    sys.exit(main())
