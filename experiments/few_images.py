"""Requests on 1, 3, 10, 30 and 100 images: what is forgotten, what that costs, and what can be shown.

export TFDS_DATA_DIR=...
python experiments/few_images.py --seeds 0 --train_size 1600 --out runs/few-images

On cifar10_jpeg_small (not cifar10), or another problem. Each request starts from the original, and those on few
images are made several times, on other ones. All images are of the tenth that the configuration forgets, and Retrain is
without that tenth: what it answers on an image is what a model answers that never saw it. A request whose file exists
is not made again, and one that was stopped continues.
"""

import argparse
import dataclasses
import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REQUESTS = {1: 8, 3: 4, 10: 2, 30: 1, 100: 1}
"""Images of a request to how many such requests are made, on images of their own."""
DEFAULT = "experiments/configs/cifar10_jpeg_small.py"
COLUMNS = {
    "before": "sure of the label, before",
    "after": "after",
    "retrain": "Retrain",
    "apart_before": "apart from Retrain, before",
    "apart": "after",
    "remain": "accuracy, remaining",
    "held_out": "held out",
    "seconds": "seconds",
    "shown": "shown",
}


def main() -> None:
    """Parses the arguments, makes what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of original and Retrain; unset: a folder in --out")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--method", default="ltu")
    parser.add_argument("--counts", default="1,3,10,30,100")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--train_size", type=int, help="training rows; unset: those of the configuration")
    args = parser.parse_args()

    import jax

    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    results = []
    for seed in map(int, args.seeds.split(",")):
        results += run(args, seed, [int(count) for count in args.counts.split(",")])
        print("\n".join(table_lines(results)))


def run(args: argparse.Namespace, seed: int, counts: list[int]) -> list[dict[str, Any]]:
    """The requests of one seed."""
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.ledger import read_ledger
    from ltu_jax.deletion.models import last_model, weights_of
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.deletion.rows import rows_to_measure
    from ltu_jax.evaluation.scores import measure
    from ltu_jax.files import write_whole
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.training.jobs import Trainer, train_or_find
    from ltu_jax.unlearning.preparation import original_job, retrain_jobs
    from ltu_jax.unlearning.problem import cut, load_problem

    settings = {"seed": seed, "calibration.trials": args.trials}
    if args.train_size is not None:
        settings["data.train_size"] = args.train_size
    config = configure(args.config, args.method, settings)
    loaded = load_problem(config)
    trainer = Trainer(config, loaded.source, loaded.spec, args.cache or args.out / "cache", progress_for())
    models = train_or_find(trainer, [original_job(loaded.splits), *retrain_jobs(config, loaded.splits)])
    original, retrain, *_ = models
    given, results = weights_of(original), []
    config = request_config(dataclasses.replace(config, data=dataclasses.replace(config.data, held_out="train")))

    def of(model: Any, rows: Any) -> Any:
        return measure(trainer.state_of(model), loaded.source, rows, config.evaluation.batch_size)

    for count in counts:
        for number in range(REQUESTS[count]):
            path = args.out / f"seed-{seed}-{count}-{number}.json"
            if not path.exists():
                ids = loaded.source.ids[loaded.splits.forget[number * count : (number + 1) * count]].tolist()
                home = args.out / f"seed-{seed}-{count}-{number}"
                done = fulfil(Request(config, ids, home), loaded.source, loaded.spec, given, progress=trainer.progress)
                rest = dict(done.weights or last_model(home, read_ledger(home)))
                after = {"params": rest.pop("params"), "model_state": rest}
                splits = cut(config, loaded.source, ids)
                rows = rows_to_measure(splits, splits.forget[:0], config.seed_for("split"))
                result = compare(*(of(model, rows) for model in (original, after, retrain)))
                findings = done.receipt["claim"]["findings"]
                times = [datetime.datetime.fromisoformat(done.receipt["time"][at]) for at in ("started", "finished")]
                result |= {"seed": seed, "count": count, "findings": findings, "shown": float(not findings)}
                result |= {"seconds": (times[1] - times[0]).total_seconds(), "why": done.receipt["calibration"]}
                write_whole(path, json.dumps(result, indent=1) + "\n")
            results.append(json.loads(path.read_text()))
    return results


def compare(before: Any, after: Any, retrain: Any) -> dict[str, float]:
    """Figures of one request, from the predictions of three models on its rows.

    Returns:
      ``before``, ``after``, ``retrain``: mean probability of the true label on the forget rows, percent. ``apart`` and
      ``apart_before``: mean distance of that to Retrain's, row by row, points. ``remain``, ``held_out``: points of
      accuracy gained (lost, if negative).
    """

    def gained(name: str) -> float:
        return 100 * float(after[name].correct.mean() - before[name].correct.mean())

    sure = {name: 100 * one["forget"].confidence for name, one in zip(COLUMNS, (before, after, retrain), strict=False)}
    return {
        **{name: float(of.mean()) for name, of in sure.items()},
        "apart": float(abs(sure["after"] - sure["retrain"]).mean()),
        "apart_before": float(abs(sure["before"] - sure["retrain"]).mean()),
        "remain": gained("remain"),
        "held_out": gained("held_out"),
    }


def table_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table: means over the requests of each number of images, with the worst accuracy and all times."""
    lines = [f"| images | requests | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for count in sorted({result["count"] for result in results}):
        of = [result for result in results if result["count"] == count]
        values = {name: [result[name] for result in of] for name in COLUMNS}
        cells = {name: f"{statistics.mean(found):.1f}" for name, found in values.items()}
        cells |= {name: f"{cells[name]} ({min(values[name]):.1f})" for name in ("remain", "held_out")}
        cells |= {"seconds": f"{statistics.median(values['seconds']):.0f}", "shown": f"{sum(values['shown']):.0f}"}
        lines.append(f"| {count} | {len(of)} | {' | '.join(cells.values())} |")
    return lines


if __name__ == "__main__":
    main()
