"""Ten requests of 1 % one after another against one of 10 %: gaps, time, and whether what was forgotten comes back.

export TFDS_DATA_DIR=...
python experiments/requests_in_a_row.py --out runs/in-a-row
python experiments/requests_in_a_row.py --config experiments/configs/digits.py --train_size 1000 --held_out 250 --out D

On cifar10_jpeg_small (not cifar10), or another; attackers fitted on the model itself, each request calibrated.
After each request a Retrain without all rows forgotten so far is what the model is compared with: UA and MI on all of
those, RA on what remains. Seconds are those of whole requests, evidence and report included. A seed that is there is
not made again, and one that was stopped goes on.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

REQUESTS = 10
DEFAULT = "experiments/configs/cifar10_jpeg_small.py"


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--train_size", type=int, default=5000)
    parser.add_argument("--held_out", type=int, default=1000, help="rows for the attackers")
    args = parser.parse_args()

    import jax

    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    found = []
    for seed in map(int, args.seeds.split(",")):
        path = args.out / f"seed-{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(args, seed), indent=1) + "\n")
        found.append(json.loads(path.read_text()))
    print_table(found)


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: a row for each request in a row, and the one request of all."""
    import numpy as np

    from experiments.sweeping.configuring import configure
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.training.jobs import Trainer, train_or_find
    from ltu_jax.unlearning.preparation import original_job, retrain_jobs, score
    from ltu_jax.unlearning.problem import cut, load
    from ltu_jax.unlearning.result import now, provenance

    started, progress, out, num_rows = now(), progress_for(), args.out, args.train_size // 100
    sizes = {"data.train_size": args.train_size, "data.reserve_size": args.held_out}
    config = configure(args.config, "ltu", {"seed": seed, "attackers.fitted_on": "original", **sizes})
    loaded, config = load(config), request_config(config)
    config = dataclasses.replace(config, calibration=dataclasses.replace(config.calibration, trials=3))
    order = np.random.default_rng(seed).permutation(loaded.splits.train)[: REQUESTS * num_rows]
    ids = [str(name) for name in loaded.source.ids[order]]
    trainer = Trainer(config, loaded.source, loaded.spec, out / "cache", progress)

    def carry_out(home: Path, asked: list[str]) -> dict[str, Any]:
        begun = time.perf_counter()
        done = fulfil(Request(config, asked, home), loaded.source, loaded.spec, cache=out / "cache", progress=progress)
        timed = home / f"seconds-{done.number}.json"
        if done.is_new:
            timed.write_text(json.dumps(time.perf_counter() - begun))
        seconds = json.loads(timed.read_text())
        so_far = asked if done.number == 1 else ids[: done.number * num_rows]
        return {"seconds": seconds, "unlearn_s": done.result["time"]["unlearn_s"], **compared(done, so_far)}

    def compared(done: Any, so_far: list[str]) -> dict[str, Any]:
        from ltu_jax.evaluation.scores import gap
        from ltu_jax.training.checkpoint import load as load_tree

        splits = cut(config, loaded.source, so_far)
        with_retrain = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, num_retrain=1))
        jobs = [original_job(splits), *retrain_jobs(with_retrain, splits)]
        models = train_or_find([(trainer, job) for job in jobs])
        state = trainer.state(dict(load_tree(done.folder / "model")[0]))
        original, retrain = map(trainer.state, models)
        wanted, got, before = (score(config, loaded.source, splits, one) for one in (retrain, state, original))
        after = done.receipt["evidence"]["after"]
        return {
            "gap": gap(got, wanted)["mean"],
            "nothing": gap(before, wanted)["mean"],
            **{name: getattr(got, name) for name in ("ua", "ra", "ta", "mi")},
            "retrain_ua": wanted.ua,
            "attack_auc": after["attack_auc"][0],
            "earlier_attack_auc": after.get("earlier_attack_auc", [None])[0],
            "earlier_error": None if "earlier_accuracy" not in after else 100 - after["earlier_accuracy"][0],
        }

    in_a_row = [carry_out(out / f"row-{seed}", ids[i * num_rows : (i + 1) * num_rows]) for i in range(REQUESTS)]
    at_once = carry_out(out / f"once-{seed}", ids)
    return {"seed": seed, "in_a_row": in_a_row, "at_once": at_once, "provenance": provenance(started)}


def print_table(found: list[dict[str, Any]]) -> None:
    """Means over the seeds; the last line is the one request of all."""
    names = (
        "gap",
        "nothing",
        "ua",
        "retrain_ua",
        "ra",
        "ta",
        "attack_auc",
        "earlier_attack_auc",
        "earlier_error",
        "seconds",
    )
    print(f"{len(found)} seeds".ljust(12) + "".join(f"{name:>20}" for name in names))
    for number in range(REQUESTS):
        _line(f"request {number + 1}", [told["in_a_row"][number] for told in found], names)
    total = [sum(row["seconds"] for row in told["in_a_row"]) for told in found]
    _line("one of all", [told["at_once"] for told in found], names)
    print(f"all ten took {statistics.mean(total):.0f} s")


def _line(word: str, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    cells = []
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        cells.append(f"{statistics.mean(values):20.3f}" if values else f"{'':>20}")
    print(word.ljust(12) + "".join(cells))


if __name__ == "__main__":
    main()
