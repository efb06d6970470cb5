"""Who is caught by which audit: the untouched original, Retrains, LTU, and three fakes; for each, how often.

python experiments/audit_power.py --out runs/audit-power
python experiments/audit_power.py --config experiments/configs/cifar10_jpeg_small.py --seeds 0 --out runs/audit-power-2

The audits that need no second request (levels 0 and 1) with three Retrains as references. Of the four Retrains of a
seed each is a target too, against the other three. Fakes, each as strong as brings the original's forget rows to its
accuracy on validation rows: the head alone was changed, by NegGrad+; the weights are the original's and the BatchNorm
statistics spoilt, by negatives of the forget images that go through the running averages; and, ten points below that,
NegGrad+ on all weights, an over-forgetter. ``rows.jsonl`` has a line for each target and audit; a target that has its
lines is not made again.
"""

import argparse
import functools
import json
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evidence_power import unstopped
from ltu_jax.auditing.audited import Audited
from ltu_jax.auditing.findings import Finding, as_json
from ltu_jax.auditing.intervals import LEVEL, holm
from ltu_jax.auditing.run import AUDIT_OF
from ltu_jax.commands.processes import keep_compiled
from ltu_jax.evaluation.scores import measure
from ltu_jax.files import write_whole
from ltu_jax.reporting.terminal import progress_for
from ltu_jax.sweeping.configuring import configure
from ltu_jax.types import UnlearnState
from ltu_jax.unlearning.problem import Problem, prepare

RETRAINS = 3
"""References; there is one more, which is none."""
OfMethod = Callable[[str, dict[str, Any]], Problem]
"""The problem of a seed for a method and its settings."""
ASCENT = {"method.batch_size": 32, "data.remain_fraction": 1.0}
TESTED = {"recalibration": ("margin", "over_seeds"), "relearning": ("rmia", "auc")}
"""Where the details of an audit have the figure that its p-value is of, if that is not the main one."""


def main() -> None:
    """Parses the arguments, audits what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/configs/digits.py")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keep_compiled(args.out / "cache")
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for seed in map(int, args.seeds.split(",")):
        for found in audited(
            args.config, seed, args.out / "cache", {row["target"] for row in rows if row["seed"] == seed}
        ):
            rows += found
            write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))
    print_table(rows)


def audited(config: str, seed: int, cache: Path, done: set[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each target of a seed that is not ``done``."""

    @functools.cache
    def prepared(method: str, fields: tuple[tuple[str, Any], ...]) -> Problem:
        settings = {"seed": seed, "evaluation.num_retrain": RETRAINS + 1, **dict(fields)}
        return prepare(configure(config, method, settings), cache=cache, progress=progress_for())

    def of_method(method: str, fields: dict[str, Any]) -> Problem:
        return prepared(method, tuple(fields.items()))

    for name in (*TARGETS, *(f"Retrain {k}" for k in range(RETRAINS + 1))):
        if name in done:
            continue
        problem, start = of_method("ltu", {}), time.perf_counter()
        if name in TARGETS:
            target, references = TARGETS[name](of_method), problem.retrains[:RETRAINS]
        else:
            k = int(name.split()[1])
            target, references = problem.retrains[k], problem.retrains[:k] + problem.retrains[k + 1 :]
        run = Audited(problem.config, problem.source, problem.splits, target, problem.original, references)
        rows, made = [], time.perf_counter() - start
        for audit, find in AUDIT_OF.items():
            begun = time.perf_counter()
            rows.append({"seed": seed, "target": name, "audit": audit, **row_of(find(run))})
            rows[-1] |= {"seconds": time.perf_counter() - begun, "seconds_of_target": made}
        print(f"seed {seed}, {name}:", *(f"{row['audit']} {row['p_value']:.3f}" for row in rows), flush=True)
        yield rows


def row_of(finding: Finding) -> dict[str, Any]:
    """A finding without its details; ``tested`` is the value that the p-value is of, ``smallest`` what it finds."""
    figure, ceiling = as_json(finding.unlearned), as_json(finding.original)
    path = TESTED.get(finding.audit)
    tested = functools.reduce(operator.getitem, path, as_json(finding.details)) if path else figure
    return {
        "figure": figure["value"],
        "interval": [figure["low"], figure["high"]],
        "ceiling": ceiling["value"],
        "floor": finding.floor,
        "tested": tested["value"],
        "smallest": tested["smallest"],
        "p_value": finding.p_value,
    }


def original(of_method: OfMethod) -> UnlearnState:
    """Nothing was done."""
    return of_method("ltu", {}).original


def ltu(of_method: OfMethod) -> UnlearnState:
    """LTU at its defaults."""
    return unstopped(of_method("ltu", {}))


def head_only(of_method: OfMethod) -> UnlearnState:
    """NegGrad+ on the head, at rising rates."""
    name = {"method.name": "experiments.evidence_power:head_neggrad_plus"}
    fields = {**ASCENT, **name, "method.epochs": 10.0, "method.remain_weight": 0.7}
    return _first(of_method, _ascended(of_method, fields, "method.learning_rate", (0.01, 0.03, 0.1, 0.3)))


def spoilt_statistics(of_method: OfMethod) -> UnlearnState:
    """The original after more and more batches of negatives of forget images went through its running averages."""
    problem = of_method("ltu", {})
    start, rng = problem.original, np.random.default_rng(problem.config.seed)
    images, size = 255 - np.asarray(problem.source.stored(problem.splits.forget)[:]), problem.config.training.batch_size
    passed = jax.jit(lambda params, model_state, batch: start.apply_fn(params, model_state, batch / 255, train=True)[1])

    def states() -> Iterator[UnlearnState]:
        model_state = start.model_state
        for _ in range(100):
            batch = images[rng.choice(len(images), min(size, len(images)), replace=False)]
            model_state = passed(start.params, model_state, jnp.asarray(batch, jnp.float32))
            yield start.replace(model_state=model_state)

    return _first(of_method, states())


def over_forgetter(of_method: OfMethod) -> UnlearnState:
    """NegGrad+ with more and more weight on the forget rows."""
    fields = {**ASCENT, "method.epochs": 5.0, "method.learning_rate": 0.01}
    weights = (0.95, 0.9, 0.85, 0.8, 0.7)
    return _first(of_method, _ascended(of_method, fields, "method.remain_weight", weights), below=10.0)


TARGETS: dict[str, Callable[[OfMethod], UnlearnState]] = {
    "original": original,
    "LTU": ltu,
    "head only": head_only,
    "BatchNorm only": spoilt_statistics,
    "over-forgetter": over_forgetter,
}


def _ascended(
    of_method: OfMethod, fields: dict[str, Any], name: str, values: Sequence[float]
) -> Iterator[UnlearnState]:
    """What NegGrad+ ends with at each value of a setting, until it diverges."""
    for value in values:
        try:
            yield unstopped(of_method("neggrad_plus", {**fields, name: value}))
        except FloatingPointError:
            return


def _first(of_method: OfMethod, states: Iterator[UnlearnState], below: float = 0.0) -> UnlearnState:
    """The first state, or the last, whose forget accuracy is the original's on validation rows less ``below``."""
    problem = of_method("ltu", {})

    def accuracy(state: UnlearnState, rows: np.ndarray) -> float:
        found = measure(state, problem.source, {"rows": rows}, problem.config.evaluation.batch_size)["rows"]
        return 100 * float(found.correct.mean())

    goal, state = accuracy(problem.original, problem.splits.validation) - below, problem.original
    for state in states:
        if accuracy(state, problem.splits.forget) <= goal:
            break
    return state


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """How often each audit calls each target different, alone and by Holm over all audits; and its figures."""
    p_values: dict[tuple[int, str], dict[str, float]] = {}
    for row in rows:
        p_values.setdefault((row["seed"], row["target"]), {})[row["audit"]] = row["p_value"]
    kinds = dict.fromkeys(_kind(target) for _, target in p_values)
    print("called different, alone / by Holm")
    print("| target | models |", " | ".join(AUDIT_OF), "| any, by Holm |")
    print("|---|---|" + "---|" * (len(AUDIT_OF) + 1))
    for kind in kinds:
        of_kind = [found for (_, target), found in p_values.items() if _kind(target) == kind]
        alone = np.array([[found[audit] <= LEVEL for audit in AUDIT_OF] for found in of_kind])
        adjusted = np.array([holm([found[audit] for audit in AUDIT_OF]) <= LEVEL for found in of_kind])
        cells = [f"{one} / {other}" for one, other in zip(alone.sum(0), adjusted.sum(0), strict=True)]
        print(f"| {kind} | {len(of_kind)} |", " | ".join(cells), f"| {adjusted.any(axis=1).sum()} |")
    for title, name in (("median of the main figure", "figure"), ("median of what is tested", "tested")):
        print(f"\n{title}\n| target |", " | ".join(AUDIT_OF), "|\n|---|" + "---|" * len(AUDIT_OF))
        for kind in kinds:
            print(f"| {kind} |", " | ".join(_median(rows, audit, name, kind) for audit in AUDIT_OF), "|")
    print("| smallest effect found |", " | ".join(_median(rows, audit, "smallest") for audit in AUDIT_OF), "|")


def _kind(target: str) -> str:
    return "Retrain" if target.startswith("Retrain") else target


def _median(rows: Sequence[dict[str, Any]], audit: str, name: str, kind: str | None = None) -> str:
    values = [row[name] for row in rows if row["audit"] == audit and kind in (None, _kind(row["target"]))]
    return f"{np.median(values):.3f}"


if __name__ == "__main__":
    main()
