"""One run as a JSON-ready dictionary: what ``result.json`` holds."""

import datetime
import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from ltu_jax.attackers.fit import auc_noise
from ltu_jax.config import NO_GUIDANCE_AUC
from ltu_jax.devices import num_cores
from ltu_jax.evaluation.closeness import Answers
from ltu_jax.evaluation.scores import gap, mean_scores, spread
from ltu_jax.setting import digest, to_dict
from ltu_jax.training.cost import Cost, image_flops
from ltu_jax.training.saving import History
from ltu_jax.types import Scores, UnlearnState
from ltu_jax.unlearning.problem import Problem

SCHEMA_VERSION = 2


def make_result(
    problem: Problem,
    state: UnlearnState,
    history: History,
    started: str,
    retrained: Sequence[Answers] | None = None,
) -> dict[str, Any]:
    """Scores a finished run beside the original and Retrain.

    Args:
      problem: what the run started from.
      state: the unlearned model.
      history: what the run recorded.
      started: time the program started, ISO 8601.
      retrained: see ``Problem.closeness_of``.

    Returns:
      The dictionary; percentages 0..100, UT in minutes, other times in seconds.
    """
    config, splits, seconds = problem.config, problem.splits, problem.seconds
    original, retrains = problem.original_scores, problem.retrain_scores
    scores = Scores(**{**asdict(problem.score(state)), "ut_minutes": history.ut_minutes})
    reference = mean_scores(retrains) if retrains else None
    retrain = None if reference is None else {**_plain(reference), "ut_minutes": seconds["retrain_s"] / 60}
    close = problem.closeness_of(state, retrained)
    auc = problem.attackers_on(state)
    forgotten = problem.source.ids[splits.forget].tolist()
    measures = None if problem.measures is None else {"unlearned": problem.measured(state), **problem.measures}
    return {
        "schema_version": SCHEMA_VERSION,
        "method": config.method.name,
        "seeds": asdict(config.seeds),
        "dataset": problem.source.name,
        "model": config.model.name,
        "forget": {
            "kind": config.data.forget_kind,
            "count": len(forgotten),
            "fraction": len(forgotten) / len(splits.train),
            "sha256": digest(forgotten),
        },
        "rho": history.rho,
        "ratio": _ratio(history),
        "scores": _plain(scores),
        "original": _plain(original),
        "retrain": retrain,
        "retrain_spread": spread(retrains),
        "gap": None if reference is None else gap(scores, reference),
        "original_gap": None if reference is None else gap(original, reference),
        "closeness": None if close is None else {"unlearned": close, **(problem.closeness or {})},
        **({} if measures is None else {"measures": measures}),
        "attackers_fitted_on": config.attackers.fitted_on if problem.attackers else None,
        "attackers": [{**row, "auc_unlearned": auc.get(row["name"])} for row in problem.attackers],
        "warnings": [
            *history.warnings,
            *_unused(problem),
            *_no_better_than_chance(problem),
            *_blind(problem),
        ],
        "steps": {"taken": history.steps, "best": history.best_step},
        "audits": {},
        "cost": _cost(problem, history),
        "time": {"compile_s": history.compile_s, "unlearn_s": history.ut_minutes * 60, **seconds},
        "splits_sha256": splits.sha256(),
        "request_sha256": problem.request_sha256,
        "provenance": {**provenance(started), "config_sha256": digest(to_dict(config))},
    }


def provenance(started: str) -> dict[str, Any]:
    """Commit, versions and device: what a figure must be quoted with."""
    names = ("ltu-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    devices = jax.devices()
    cores = f"{num_cores()} core{'' if num_cores() == 1 else 's'}"
    one_cpu = len(devices) == 1 and devices[0].platform == "cpu"
    return {
        "commit": _commit(),
        "versions": {"python": sys.version.split()[0], **{n: importlib.metadata.version(n) for n in names}},
        "device": f"CPU, {cores}" if one_cpu else f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
        "started": started,
    }


def now() -> str:
    """The time, ISO 8601 with its zone."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _ratio(history: History) -> float | None:
    """Remaining images drawn for each forget image drawn."""
    cost = history.cost
    return cost["remain"] / cost["forget"] if cost and cost["forget"] else None


def _cost(problem: Problem, history: History) -> dict[str, float | None]:
    """What the run passed through the model, so that methods can be compared at equal budgets."""
    cost, flops = history.cost, None
    if cost is not None:
        state, images = problem.original, problem.source.images
        image = image_flops(
            problem.spec.apply_fn, state.params, state.model_state, images.shape[1:], problem.config.training.batch_size
        )
        flops = image.of(Cost(**cost))
    return {
        **{f"{name}_images": cost[name] if cost else None for name in ("forward", "backward", "remain", "forget")},
        "flops": flops,
        "compile_s": history.compile_s,
        "run_s": history.ut_minutes * 60,
    }


def _plain(scores: Scores) -> dict[str, float | None]:
    return {k: v for k, v in asdict(scores).items() if v is not None or k in ("ua", "ra", "ta", "mi")}


def _unused(problem: Problem) -> list[str]:
    """Attackers of the user's own that a method goes without, such as LTU by margins."""
    method, own = problem.config.method, [name for name in problem.config.attackers.names if ":" in name]
    if problem.attackers or not own:
        return []
    turn = "; by config.method.forget_by=attackers it does" if hasattr(method, "forget_by") else ""
    return [f"config.attackers.names: {', '.join(own)} is not used: {method.name} takes no attackers{turn}"]


def _no_better_than_chance(problem: Problem) -> list[str]:
    """Attackers that cannot tell that the original was trained on the forget rows, or tell the opposite.

    No line where there are so few rows that chance alone could make any AUC.
    """
    found = {row["name"]: row["auc_original"] for row in problem.attackers if row["auc_original"] is not None}
    size = min(len(problem.splits.forget), len(problem.splits.validation))  # equally many of each are asked about
    noise = auc_noise(size, size) if found else 0.5
    if noise >= 0.5:
        return []
    low, high = 0.5 - noise, 0.5 + noise
    on = (
        f"AUC on the original, {size} forget against {size} validation rows, where chance makes {low:.2f} to {high:.2f}"
    )
    kinds = (
        (0.0, low, "worse than chance", "are members and non-members swapped?"),
        (low, high, "no better than chance", "they may have learned nothing"),
    )
    lines = []
    for lowest, highest, what, so in kinds:
        if names := ", ".join(f"{name} {auc:.2f}" for name, auc in found.items() if lowest <= auc < highest):
            lines.append(f"attackers {what}: {names} ({on}); {so}")
    return lines


def _blind(problem: Problem) -> list[str]:
    """An attacker at 0.5 gives no guidance, and the user must see it."""
    blind = [row["name"] for row in problem.attackers if row["auc_shadow"] <= NO_GUIDANCE_AUC]
    if not blind:
        return []
    known = f"attackers that know next to nothing (AUC <= {NO_GUIDANCE_AUC:g} on outputs they were not fitted on)"
    return [f"{known} give no guidance: {', '.join(blind)}"]


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with ``+`` where it was changed since; None if installed.

    A repository that this package is installed in, such as that of a project with its environment in it, has no such
    file where a checkout has it.
    """
    file, room = Path(__file__), "ltu_jax/unlearning/"
    try:
        git = ["git", "-C", str(file.parent)]
        tracked = subprocess.run(
            [*git, "ls-files", "--full-name", file.name], capture_output=True, text=True, check=True
        )
        if tracked.stdout.strip() != room + file.name:
            return None
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
