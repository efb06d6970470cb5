"""How often ``verify --evidence`` is wrong: genuine unlearning that it refuses, and fakes that it accepts.

python experiments/evidence_power.py --out runs/evidence-power

On the embedded digits (300 training rows, 90 to forget), ten seeds. Ten genuine models per seed: two Retrain models,
and the methods below, calibrated as for a request, at several settings. Eleven fakes per seed: nothing done (or the
weights changed by too little to matter), only the head changed, noise added, other rows forgotten, forgotten so much
that the model is ruined, and the held-out rows of the evidence trained on, so that all rows look alike although
nothing was forgotten. The limits of ``ltu_jax.deletion.claim`` were chosen on seeds 100 to 103, never on those of the
table. Each model has a folder; a model whose folder exists is not made again.
"""

import argparse
import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS
from ltu_jax.methods import METHODS
from ltu_jax.methods.base import Method

DEFAULT = "experiments/configs/digits.py"
SMALL = {"method.batch_size": 32, "method.epochs": 10.0}
LTU = BY_ATTACKERS | {"method.learning_rate": 0.003, "method.epochs": 26.0}
CALIBRATED: dict[str, tuple[str, dict[str, Any]]] = {  # name in the table: method, settings
    "LTU": ("ltu", LTU),
    "LTU, other randomness": ("ltu", LTU | {"seeds.unlearn": 1000}),
    "LTU, rho 0.6": ("ltu", LTU | {"data.remain_fraction": 0.6}),
    "LTU, no reserve": ("ltu", LTU | {"attackers.fitted_on": "original", "data.reserve_size": 100}),
    "RandL": ("random_label", SMALL | {"data.remain_fraction": 1.0}),
    "NegGrad+": ("neggrad_plus", SMALL | {"data.remain_fraction": 1.0}),
    "SCRUB": ("scrub", SMALL | {"data.remain_fraction": 1.0}),
    "BadT": ("bad_teacher", SMALL | {"data.remain_fraction": 1.0, "method.learning_rate": 1e-3}),
}


def main() -> None:
    """Parses the arguments, makes what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9")
    args = parser.parse_args()

    import jax

    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    print_table([row for seed in args.seeds.split(",") for row in judged(int(seed), args.out)])


def judged(seed: int, out: Path) -> list[dict[str, Any]]:
    """A row for each model of a seed: its kind, whether it is genuine, and the verdict with its numbers."""
    from ltu_jax.deletion.claim import judge, moved_share
    from ltu_jax.deletion.rows import rows_to_measure
    from ltu_jax.evaluation.scores import measure
    from ltu_jax.training.checkpoint import load_tree, save_tree

    base = problem_of(seed, out, "ltu", {"evaluation.num_retrain": 2})
    index = rows_to_measure(base.splits, base.splits.forget[:0], seed)
    measured = functools.partial(measure, source=base.source, rows=index, batch_size=base.config.evaluation.batch_size)
    before, rows = measured(base.original), []
    for genuine, kind, make in itertools.chain(genuine_models(seed, out, base), fakes(seed, out, base)):
        path = out / "models" / f"{seed}-{kind.replace(' ', '_').replace(',', '')}"
        if not path.exists():
            state = make()
            save_tree(path, {"params": state.params, "model_state": state.model_state}, {})
        tree, _ = load_tree(path)
        state = base.original.replace(params=tree["params"], model_state=tree["model_state"])
        verdict = judge(before, measured(state), moved_share(base.original.params, state.params))
        accepted = not verdict.findings
        rows.append({"seed": seed, "kind": kind, "genuine": genuine, "accepted": accepted, **verdict.numbers})
        print(json.dumps(rows[-1] | {"findings": verdict.findings}), flush=True)
    return rows


def problem_of(seed: int, out: Path, method: str, fields: dict[str, Any]) -> Any:
    """The digits problem at a seed, with some fields changed."""
    from experiments.sweeping.configuring import configure
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.unlearning.problem import prepare

    settings = {"seed": seed, "evaluation.num_retrain": 0} | fields
    config = configure(DEFAULT, method, settings)
    return prepare(config, cache=out / "cache", progress=progress_for())


def genuine_models(seed: int, out: Path, base: Any) -> Iterator[tuple[bool, str, Callable[[], Any]]]:
    """Models that should be accepted: (True, kind, how to make it)."""
    for i, retrain in enumerate(base.retrains):
        yield True, f"Retrain {i + 1}", lambda: retrain  # noqa: B023, made at once
    for kind, (method, fields) in CALIBRATED.items():
        yield True, kind, lambda: calibrated(problem_of(seed, out, method, fields))  # noqa: B023


def fakes(seed: int, out: Path, base: Any) -> Iterator[tuple[bool, str, Callable[[], Any]]]:
    """Models that should be refused: (False, kind, how to make it)."""
    yield False, "nothing done", lambda: base.original
    yield False, "nothing done, last digits", lambda: noisy(base.original, 1e-4, seed)
    for method in ("random_label", "neggrad_plus"):
        fields = SMALL | {"method.name": f"experiments.evidence_power:head_{method}", "data.remain_fraction": 1.0}
        yield False, f"head only, {method}", lambda: calibrated(problem_of(seed, out, method, fields))  # noqa: B023
    for scale in (0.1, 0.3):
        yield False, f"noise {scale:g}", lambda: noisy(base.original, scale, seed)  # noqa: B023
    for kind, method, fields in (("LTU", "ltu", LTU), ("RandL", "random_label", CALIBRATED["RandL"][1])):
        yield (
            False,
            f"wrong ids, {kind}",
            lambda: calibrated(others_instead(problem_of(seed, out, method, fields))),  # noqa: B023
        )
    yield False, "held-out rows trained on", lambda: strangers_made_members(base)
    too_much = LTU | {"method.learning_rate": 0.03}
    yield False, "over-forgotten, LTU", lambda: unstopped(problem_of(seed, out, "ltu", too_much))
    ascent = {"method.learning_rate": 0.01, "method.batch_size": 32, "method.epochs": 10.0}
    yield False, "ruined, GA", lambda: unstopped(problem_of(seed, out, "gradient_ascent", ascent))


def calibrated(problem: Any) -> Any:
    """The state that a problem's method reaches when it is calibrated as for a request."""
    from ltu_jax.deletion.calibration import calibrate

    settings = dataclasses.replace(problem.config.calibration, trials=4)
    return calibrate(
        dataclasses.replace(problem, config=dataclasses.replace(problem.config, calibration=settings))
    ).state


def unstopped(problem: Any) -> Any:
    """The state after all steps, even if the model gets worse on the way."""
    from ltu_jax.unlearning.loop import run_problem

    return run_problem(problem, eval_every=0)[0]


def noisy(state: Any, scale: float, seed: int) -> Any:
    """Adds normal noise to every weight; ``scale`` is in standard deviations of the weight's tensor."""
    import jax
    import jax.numpy as jnp

    leaves, treedef = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + scale * (jnp.std(x) + 1e-3) * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return state.replace(params=treedef.unflatten(moved))


def strangers_made_members(problem: Any) -> Any:
    """The original, trained further on its training rows and on the held-out rows of the evidence."""
    import jax
    import numpy as np

    from ltu_jax.training.supervised import train

    rows = problem.source.rows(np.concatenate([problem.splits.train, problem.splits.test]))
    recipe = dataclasses.replace(problem.config.training, epochs=20)
    start, key = problem.original, jax.random.key(problem.config.seed)
    return train(start.apply_fn, start.params, start.model_state, rows, recipe, key).state


def others_instead(problem: Any) -> Any:
    """The same problem, with the same number of other training rows to forget."""
    import numpy as np

    from ltu_jax.data.splits import see

    splits = problem.splits
    others = np.random.default_rng(problem.config.seed).choice(splits.remain, len(splits.forget), replace=False)
    remain, config = np.setdiff1d(splits.train, others), problem.config
    splits = dataclasses.replace(splits, forget=np.sort(others), remain=remain, seen=None)
    splits = see(splits, config.data.remain_fraction, config.seed_for("split"))
    return dataclasses.replace(problem, splits=splits)


def _head_only(settings: Any, parts: Any) -> Any:
    """A method that changes only the head."""
    method = METHODS[settings.name.partition(":head_")[2]](settings, parts)

    def step(state, context, draw):
        after, metrics = method.step(state, context, draw)
        kept = {name: after.params[name] if name == "head" else part for name, part in state.params.items()}
        return after.replace(params=kept, model_state=state.model_state), metrics

    return Method(method.init, method.sample, step, method.num_steps)


head_random_label = head_neggrad_plus = _head_only


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints how many models were refused: of the genuine ones and of the fakes, in total and by kind."""
    kinds = dict.fromkeys((row["genuine"], row["kind"]) for row in rows)
    total, refused = Counter(), Counter()
    for row in rows:
        for group in ((row["genuine"], row["kind"]), row["genuine"]):
            total[group] += 1
            refused[group] += not row["accepted"]
    for genuine in (True, False):
        word = "genuine" if genuine else "fakes"
        print(f"\n{word + ', refused of all':40} {refused[genuine]:4} of {total[genuine]}")
        for group in kinds:
            if group[0] == genuine:
                print(f"  {group[1]:38} {refused[group]:4} of {total[group]}")


if __name__ == "__main__":
    main()
