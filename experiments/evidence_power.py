"""How often the claim of a receipt is wrong: genuine unlearning that it refuses, and fakes that it accepts.

python experiments/evidence_power.py --out runs/evidence-power
python experiments/evidence_power.py --config experiments/configs/cifar10_jpeg_small.py --seeds 0,1,2 --out D

Ten genuine models per seed: two Retrain models, and the methods below, calibrated as for a request, LTU at several
settings. The fakes: nothing done (or the weights changed by too little to matter), only the head changed, also with
noise on all other weights and with the features in another order, noise added, other rows forgotten, forgotten so much
that the model is ruined, the held-out rows trained on, so that all rows look alike although nothing was forgotten.
Further set-ups that cannot forget what was asked for: labels in another order than the model's, images normalised
otherwise than in training, copies of the rows among those that stay. The limits of ``ltu_jax.deletion.claim`` were
chosen on seeds 0, 100 and 101, never on those of the table. Each model has a folder; a model whose folder exists is not
made again, so a run that was stopped goes on.
"""

import argparse
import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltu_jax.auditing.intervals import clopper_pearson
from ltu_jax.methods import METHODS
from ltu_jax.methods.base import Method

DEFAULT = "experiments/configs/digits.py"
SMALL = "experiments/configs/cifar10_jpeg_small.py"
ALL_SEEN = {"data.remain_fraction": 1.0}
PROBLEM = {
    DEFAULT: {"data.train_size": 300, "data.forget_fraction": 0.3},
    SMALL: {"data.train_size": 1600},
}
"""What is changed in a configuration file: of so few images a model knows each by heart, or nearly."""
SHORT = {
    DEFAULT: {"method.batch_size": 32, "method.epochs": 10.0},
    SMALL: {"method.batch_size": 100, "method.schedule": "cosine", "method.epochs": 5.0},
}
"""Settings of the methods that go through the remaining rows."""
Kind = tuple[bool, str, str, Callable[[Any], Any]]
"""Whether it is genuine, its name, the set-up of ``setups``, and what makes the model from that problem."""


def main() -> None:
    """Parses the arguments, makes what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default=DEFAULT)
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8,9,10")
    args = parser.parse_args()

    import jax

    jax.config.update("jax_compilation_cache_dir", str((args.out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    rows = [row for seed in args.seeds.split(",") for row in judged(args.config, int(seed), args.out)]
    print("\n".join(table_lines(rows)))


def judged(config: str, seed: int, out: Path) -> list[dict[str, Any]]:
    """A row for each model of a seed: its kind, whether it is genuine, and the verdict with its numbers."""
    from ltu_jax.deletion.claim import judge_models
    from ltu_jax.deletion.copies import copies_in
    from ltu_jax.deletion.rows import draw_held_out, rows_to_measure
    from ltu_jax.evaluation.scores import measure
    from ltu_jax.training.checkpoint import load_tree, save_tree, tree_sha256

    find = functools.partial(problem_of, config, seed, out)
    base = find("ltu", {"evaluation.num_retrain": 2})
    rows = []
    short = SHORT[config]
    for genuine, kind, setup, make in itertools.chain(genuine_models(base, find, short), fakes(base, find, short)):
        name = "".join(letter if letter.isalnum() else "_" for letter in kind)
        path, problem = out / "models" / f"{seed}-{name}", setups(setup, base, out / "models" / f"{seed}-before")
        if not path.exists():
            state = make(problem)
            save_tree(path, {"params": state.params, "model_state": state.model_state}, {})
        tree, _ = load_tree(path)
        after = problem.original.replace(params=tree["params"], model_state=tree["model_state"])
        index = rows_to_measure(problem.splits, problem.splits.forget[:0], problem.config.seed_for("split"))
        index["held_out"] = draw_held_out(problem.splits.test, problem.source, bytes(32), tree_sha256(tree))[0]
        size = problem.config.evaluation.batch_size
        measured = [measure(state, problem.source, index, size) for state in (problem.original, after)]
        copied = copies_in(problem.source, problem.splits)["remain"].share_of(len(problem.splits.forget))
        both = measured[0], measured[1]
        verdict = judge_models(problem.original, after, both, problem.source, index, size, copied)
        accuracy = {
            f"{name}_{when}": 100 * float(one[name].correct.mean())
            for name in ("forget", "remain", "held_out")
            for when, one in zip(("before", "after"), measured, strict=True)
        }
        told = {"findings": verdict.findings, **verdict.numbers, **accuracy}
        rows.append({"seed": seed, "kind": kind, "genuine": genuine, "accepted": verdict.shown, **told})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def problem_of(path: str, seed: int, out: Path, method: str, fields: dict[str, Any]) -> Any:
    """The problem of a configuration file at a seed, with some fields changed."""
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.unlearning.problem import load_problem, prepare

    config = configure(path, method, {"seed": seed, "evaluation.num_retrain": 0, **PROBLEM[path], **fields})
    loaded = load_problem(config, source=source_of(path))
    return prepare(config, loaded=loaded, cache=out / "cache", progress=progress_for())


@functools.cache
def source_of(path: str) -> Any:
    """The data of a configuration file, read once."""
    from ltu_jax.data.sources import load_source
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.sweeping.configuring import configure

    return load_source(configure(path, "ltu", PROBLEM[path]).data, progress_for())


def setups(name: str, base: Any, before: Path) -> Any:
    """The problem that a model is made from and judged on: ``base``, or one that is wrong in some way."""
    if name == "labels in another order":
        return dataclasses.replace(base, original=with_labels_turned(base.original))
    if name.startswith("normalised"):
        from ltu_jax.models.build import build_model

        mean, std = (float(word) for word in name.split()[-2:])
        model = dataclasses.replace(base.config.model, mean=(mean,) * 3, std=(std,) * 3)
        spec = build_model(model, base.source.num_classes, base.source.images.shape[1:])
        return dataclasses.replace(base, spec=spec, original=base.original.replace(apply_fn=spec.apply_fn))
    return with_copies(base, before) if name == "copies" else base


def genuine_models(base: Any, find: Callable[..., Any], short: dict[str, Any]) -> Iterator[Kind]:
    """Models that should be accepted."""
    for i, retrain in enumerate(base.retrains):
        yield True, f"Retrain {i + 1}", "", functools.partial(lambda retrain, _: retrain, retrain)
    for kind, method, fields in (
        ("LTU", "ltu", {}),
        ("LTU, other randomness", "ltu", {"seeds.unlearn": 1000}),
        ("LTU, rho 1", "ltu", ALL_SEEN),
        ("RandL", "random_label", short | ALL_SEEN),
        ("SalUn", "salun", short | ALL_SEEN),
        ("NegGrad+", "neggrad_plus", short | ALL_SEEN),
        ("SCRUB", "scrub", {"method.batch_size": short["method.batch_size"]} | ALL_SEEN),
        ("BadT", "bad_teacher", short | ALL_SEEN | {"method.learning_rate": 1e-3}),
    ):
        yield True, kind, "", _calibrated_by(find, method, fields)


def fakes(base: Any, find: Callable[..., Any], short: dict[str, Any]) -> Iterator[Kind]:
    """Models that should be refused."""
    seed = base.config.seed
    head = short | ALL_SEEN

    def by_head(method: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = {"method.name": f"experiments.evidence_power:head_{method}"}
        make = _calibrated_by(find, method, ({} if method == "ltu" else head) | name)
        return lambda problem: make(dataclasses.replace(problem, original=change(problem.original)))

    yield False, "nothing done", "", lambda problem: problem.original
    yield False, "nothing done, last digits", "", lambda problem: noisy(problem.original, 1e-4, seed)
    for method, words in (("random_label", "RandL"), ("neggrad_plus", "NegGrad+")):
        yield False, f"head alone, {words}", "", by_head(method, lambda state: state)
    for method, words in (("random_label", "RandL"), ("ltu", "LTU")):
        yield False, f"head by {words}, 0.2 % noise below", "", by_head(method, lambda state: noisy(state, 2e-3, seed))
    yield False, "head by RandL, features in another order", "", by_head("random_label", with_features_turned)
    yield False, "head by LTU, features in another order", "", by_head("ltu", with_features_turned)
    for scale in (0.1, 0.3):
        yield False, f"noise {scale:g}", "", functools.partial(lambda scale, p: noisy(p.original, scale, seed), scale)
    for words, method, fields in (("LTU", "ltu", {}), ("RandL", "random_label", head)):
        yield False, f"wrong ids, {words}", "", _calibrated_by(find, method, fields, others_instead)
    yield False, "held-out rows trained on", "", strangers_made_members
    too_much = {**head, "method.epochs": 3 * short["method.epochs"]}
    yield False, "over-forgotten, RandL", "", lambda _: unstopped(find("random_label", too_much))
    ascent = {**short, "method.learning_rate": 0.01}
    yield False, "ruined, GA", "", lambda _: unstopped(find("gradient_ascent", ascent))
    for setup in ("labels in another order", "normalised by 0 1", "normalised by 0.5 0.5", "copies"):
        for words, method, fields in (("LTU", "ltu", {}), ("RandL", "random_label", head)):
            yield False, f"{setup}, {words}", setup, _calibrated_by(find, method, fields)


def _calibrated_by(
    find: Callable[..., Any],
    method: str,
    fields: dict[str, Any],
    change: Callable[[Any], Any] = lambda same: same,
) -> Callable[[Any], Any]:
    """What makes the model of a method, calibrated as for a request, from a problem of ``setups``."""

    def make(problem: Any) -> Any:
        own, original = find(method, fields), problem.original
        kept = {name: getattr(original, name) for name in ("apply_fn", "params", "model_state")}
        parts = {"source": problem.source, "spec": problem.spec, "original": own.original.replace(**kept)}
        return calibrated(change(dataclasses.replace(own, **parts)))

    return make


def calibrated(problem: Any) -> Any:
    """The state that a problem's method reaches when it is calibrated as for a request."""
    from ltu_jax.deletion.calibration import calibrate

    settings = dataclasses.replace(problem.config.calibration, trials=3)
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


def with_labels_turned(state: Any) -> Any:
    """The model as somebody loads it who names its classes in another order, here moved on by one."""
    import jax
    import jax.numpy as jnp

    head = jax.tree.map(lambda x: jnp.roll(x, 1, -1), state.params["head"])
    return state.replace(params={**state.params, "head": head})


def with_features_turned(state: Any) -> Any:
    """The same function with the channels of the last stage, and so the features, of a ResNet in another order."""
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    backbone = state.params["backbone"]
    last = max(name for name in backbone if name.startswith("layer"))[: len("layer1")]
    order = rng.permutation(state.params["head"]["kernel"].shape[0])

    def turned(path: Any, x: Any) -> Any:
        names = [getattr(key, "key", "") for key in path]
        inside = any(name.startswith(last) for name in names)
        if names[0] == "head":
            return x[order] if names[-1] == "kernel" else x
        if not inside or "bn1" in names:
            return x
        if "conv1" in names:  # of what came in, which is the stage's own but for its first block
            return x if f"{last}_0" in names else x[:, :, order]
        return x[..., order]

    return state.replace(
        params=jax.tree_util.tree_map_with_path(turned, state.params),
        model_state=jax.tree_util.tree_map_with_path(lambda path, x: turned(path[1:], x), state.model_state),
    )


def with_copies(base: Any, path: Path) -> Any:
    """The problem with a copy of every forget row among those that stay, and an original trained on both."""
    import jax
    import numpy as np

    from ltu_jax.training.checkpoint import load_tree, save_tree
    from ltu_jax.training.supervised import train

    splits, source = base.splits, base.source
    places = np.random.default_rng(base.config.seed).choice(splits.remain, len(splits.forget), replace=False)
    images, labels = np.array(source.images), np.array(source.labels)
    images[places], labels[places] = images[splits.forget], labels[splits.forget]
    source = dataclasses.replace(source, images=images, labels=labels, pixels_sha256=None)
    if not path.exists():
        key, recipe = jax.random.key(base.config.seed), base.config.training
        (params, stats), augment = base.spec.init(key), base.config.data.augment
        rows = source.rows(splits.train)
        made = train(base.spec.apply_fn, params, stats, rows, recipe, key, augment=augment).state
        save_tree(path, {"params": made.params, "model_state": made.model_state}, {})
    tree, _ = load_tree(path)
    return dataclasses.replace(base, source=source, original=base.original.replace(**tree))


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

    return Method(method.init, method.sample, step, method.num_steps, sees_held_out=method.sees_held_out)


head_random_label = head_neggrad_plus = head_ltu = _head_only


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table of how many models were refused: of the genuine ones and of the fakes, in all and by kind."""
    total, refused = Counter(), Counter()
    for row in rows:
        for group in ((row["genuine"], row["kind"]), (row["genuine"], "")):
            total[group] += 1
            refused[group] += not row["accepted"]
    lines = ["| model | refused |", "|---|---|"]
    for genuine, words in ((True, "genuine unlearning, all"), (False, "fakes, all")):
        if not total[genuine, ""]:  # a run that was stopped early
            continue
        low, high = clopper_pearson(refused[genuine, ""], total[genuine, ""])
        of = f"{refused[genuine, '']} of {total[genuine, '']} (95 %: {100 * low:.0f} to {100 * high:.0f} %)"
        lines.append(f"| **{words}** | **{of}** |")
        kinds = dict.fromkeys(row["kind"] for row in rows if row["genuine"] == genuine)
        lines += [f"| {kind} | {refused[genuine, kind]} of {total[genuine, kind]} |" for kind in kinds]
    return lines


if __name__ == "__main__":
    main()
