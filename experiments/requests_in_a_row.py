"""Ten requests of 1 % one after another against one of 10 %: gaps, time, and whether what was forgotten comes back.

export TFDS_DATA_DIR=...
python experiments/requests_in_a_row.py --out runs/in-a-row

On cifar10_jpeg_small (not cifar10), 5,000 training rows, attackers fitted on the model itself, each request calibrated.
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

REQUESTS, ROWS = 10, 50
DEFAULT = "experiments/configs/cifar10_jpeg_small.py"


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()

    import jax

    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    found = []
    for seed in map(int, args.seeds.split(",")):
        path = args.out / f"seed-{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(seed, args.out), indent=1) + "\n")
        found.append(json.loads(path.read_text()))
    print_table(found)


def run(seed: int, out: Path) -> dict[str, Any]:
    """One seed: a row for each request in a row, and the one request of all."""
    import numpy as np
    from sweeping.configuring import configure

    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.requests.fulfil import Request, fulfil, request_config
    from ltu_jax.unlearning.making import Maker
    from ltu_jax.unlearning.problem import cut, load
    from ltu_jax.unlearning.result import now, provenance

    started, progress = now(), progress_for()
    fields = {"seed": seed, "data.reserve_size": 1000, "attackers.fitted_on": "original"}
    loaded = load(configure(DEFAULT, "ltu", fields))
    config = request_config(configure(DEFAULT, "ltu", fields))
    config = dataclasses.replace(config, calibration=dataclasses.replace(config.calibration, trials=3))
    order = np.random.default_rng(seed).permutation(loaded.splits.train)[: REQUESTS * ROWS]
    ids = [str(name) for name in loaded.source.ids[order]]
    make = Maker(config, loaded.source, loaded.spec, out / "cache", progress)

    def carry_out(home: Path, asked: list[str]) -> dict[str, Any]:
        begun = time.perf_counter()
        done = fulfil(Request(config, asked, home), loaded.source, loaded.spec, cache=out / "cache", progress=progress)
        timed = home / f"seconds-{done.number}.json"
        if done.is_new:
            timed.write_text(json.dumps(time.perf_counter() - begun))
        seconds = json.loads(timed.read_text())
        so_far = asked if done.number == 1 else ids[: done.number * ROWS]
        return {"seconds": seconds, "unlearn_s": done.result["time"]["unlearn_s"], **compared(done, so_far)}

    def compared(done: Any, so_far: list[str]) -> dict[str, Any]:
        from ltu_jax.evaluation.scores import gap
        from ltu_jax.training.checkpoint import load as load_tree
        from ltu_jax.unlearning.making import RETRAIN, Wanted, score

        splits = cut(config, loaded.source, so_far)
        retrain = make.state(make.model(Wanted("retrain 0", splits.remain, RETRAIN, 0)))
        state, original = make.state_of(dict(load_tree(done.folder / "model")[0])), make.state(make.original(splits))
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

    in_a_row = [carry_out(out / f"row-{seed}", ids[i * ROWS : (i + 1) * ROWS]) for i in range(REQUESTS)]
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
