"""Ten requests of 1 % each against one request of 10 %: gaps, time, and whether forgotten rows come back.

export TFDS_DATA_DIR=...
python experiments/requests_in_a_row.py --out runs/in-a-row
python experiments/requests_in_a_row.py --config experiments/configs/digits.py --train_size 1000 --held_out 250 --out D

On cifar10_jpeg_small (not cifar10), or another problem. The attackers are fitted on the model itself and each request
is calibrated. After each request the model is compared with a Retrain without all rows forgotten so far: UA and MI on
those rows, RA on the remaining ones. Seconds are those of whole requests, with evidence and report. A seed whose file
exists is not run again, and one that was stopped continues.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS

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
    results = []
    for seed in map(int, args.seeds.split(",")):
        path = args.out / f"seed-{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(args, seed), indent=1) + "\n")
        results.append(json.loads(path.read_text()))
    print_table(results)


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: figures of each of the ten requests, and of the one request for all rows."""
    import numpy as np

    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.training.jobs import Trainer, train_or_find
    from ltu_jax.unlearning.preparation import original_job, retrain_jobs, score
    from ltu_jax.unlearning.problem import cut, load_problem
    from ltu_jax.unlearning.result import now, provenance

    started, progress, out, num_rows = now(), progress_for(), args.out, args.train_size // 100
    sizes = {"data.train_size": args.train_size, "data.reserve_size": args.held_out}
    config = configure(args.config, "ltu", BY_ATTACKERS | {"seed": seed, "attackers.fitted_on": "original"} | sizes)
    loaded, config = load_problem(config), request_config(config)
    config = dataclasses.replace(config, calibration=dataclasses.replace(config.calibration, trials=3))
    order = np.random.default_rng(seed).permutation(loaded.splits.train)[: REQUESTS * num_rows]
    ids = [str(name) for name in loaded.source.ids[order]]
    trainer = Trainer(config, loaded.source, loaded.spec, out / "cache", progress)

    def carry_out(home: Path, to_forget: list[str]) -> dict[str, Any]:
        start, request = time.perf_counter(), Request(config, to_forget, home)
        done = fulfil(request, loaded.source, loaded.spec, cache=out / "cache", progress=progress)
        seconds_file = home / f"seconds-{done.number}.json"
        if done.is_new:
            seconds_file.write_text(json.dumps(time.perf_counter() - start))
        seconds = json.loads(seconds_file.read_text())
        so_far = to_forget if done.number == 1 else ids[: done.number * num_rows]
        return {"seconds": seconds, "unlearn_s": done.result["time"]["unlearn_s"], **compare(done, so_far)}

    def compare(done: Any, so_far: list[str]) -> dict[str, Any]:
        from ltu_jax.evaluation.scores import gap
        from ltu_jax.training.checkpoint import load_tree

        splits = cut(config, loaded.source, so_far)
        with_retrain = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, num_retrain=1))
        jobs = [original_job(splits), *retrain_jobs(with_retrain, splits)]
        models = train_or_find(trainer, jobs)
        state = trainer.state_of(dict(load_tree(done.folder / "model")[0]))
        original, retrain = map(trainer.state_of, models)
        reference, ours, before = (score(config, loaded.source, splits, model) for model in (retrain, state, original))
        evidence = done.receipt["evidence"]["after"]
        return {
            "gap": gap(ours, reference)["mean"],
            "nothing": gap(before, reference)["mean"],
            **{name: getattr(ours, name) for name in ("ua", "ra", "ta", "mi")},
            "retrain_ua": reference.ua,
            "attack_auc": evidence["attack_auc"][0],
            "earlier_attack_auc": evidence.get("earlier_attack_auc", [None])[0],
            "earlier_error": None if "earlier_accuracy" not in evidence else 100 - evidence["earlier_accuracy"][0],
        }

    in_a_row = [carry_out(out / f"row-{seed}", ids[i * num_rows : (i + 1) * num_rows]) for i in range(REQUESTS)]
    at_once = carry_out(out / f"once-{seed}", ids)
    return {"seed": seed, "in_a_row": in_a_row, "at_once": at_once, "provenance": provenance(started)}


def print_table(results: list[dict[str, Any]]) -> None:
    """Means over the seeds, one line per request, then the one request for all rows and the time of the ten."""
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
    print(f"{len(results)} seeds".ljust(12) + "".join(f"{name:>20}" for name in names))
    for number in range(REQUESTS):
        _line(f"request {number + 1}", [result["in_a_row"][number] for result in results], names)
    total = [sum(row["seconds"] for row in result["in_a_row"]) for result in results]
    _line("one of all", [result["at_once"] for result in results], names)
    print(f"all ten took {statistics.mean(total):.0f} s")


def _line(word: str, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    cells = []
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        cells.append(f"{statistics.mean(values):20.3f}" if values else f"{'':>20}")
    print(word.ljust(12) + "".join(cells))


if __name__ == "__main__":
    main()
