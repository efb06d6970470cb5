"""Carries out a deletion request: forgets, shows that it did, and leaves a receipt.

A folder of requests (``home``) belongs to one model: ``ledger.jsonl`` and ``salt``, and a folder ``request-N`` for each
request. The second request starts from the first one's model; rows of earlier requests stay out of what remains.
The line in the ledger is the last thing written: until then the same command goes on where it was stopped.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.config import Config
from ltu_jax.interop.weights import save_weights
from ltu_jax.methods import build_method
from ltu_jax.models.build import ModelSpec
from ltu_jax.reporting.notice import render_notice
from ltu_jax.requests import ledger
from ltu_jax.requests.calibration import Calibrated, calibrate, check_calibration
from ltu_jax.requests.measures import evidence, measure
from ltu_jax.requests.receipt import RECEIPT, SCHEMA, WORK, code_sha256, files_sha256, path_sha256, private_key, seal
from ltu_jax.setting import ConfigError, digest, to_dict
from ltu_jax.training.checkpoint import load, save, tree_sha256
from ltu_jax.types import ArrayTree, Progress, Source, Splits, UnlearnState, silent
from ltu_jax.unlearning.evidence import changed_most
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.making import Maker
from ltu_jax.unlearning.problem import Loaded, Problem, cut, prepare
from ltu_jax.unlearning.result import make_result, now
from ltu_jax.unlearning.saving import History, Saving

MAY_CHANGE = ("data_dir", "table", "memory_map", "stream", "augment", "remain_fraction", "skip_unreadable")
"""Of ``config.data``, what a later request may say otherwise: all else says which rows the model was trained on."""


class Request(NamedTuple):
    """What was asked, and where."""

    config: Config  # resolved; see ``request_config``
    ids: Sequence[str]
    home: Path
    key: Path | None = None  # signs the receipt
    show_images: bool = False  # whether the report may show images that were to be forgotten


class Fulfilled(NamedTuple):
    """A request that was carried out."""

    number: int
    folder: Path
    receipt: dict[str, Any]
    result: dict[str, Any]
    repeated: int  # ids that earlier requests had forgotten
    is_new: bool  # False where all of them were: nothing was done


class Plan(NamedTuple):
    """A request whose data are read and found right: nothing is written yet."""

    number: int
    ids: list[str]  # to be forgotten now
    salted: list[str]
    salt: bytes | None  # None where there is none yet
    repeated: int
    splits: Splits
    earlier: np.ndarray  # rows that earlier requests forgot, indices into the source
    previous: Path | None  # the model that the last request left


def request_config(config: Config) -> Config:
    """The configuration of a request: no Retrain, and the ids say what is forgotten."""
    data = dataclasses.replace(config.data, forget_kind="ids")
    evaluation = dataclasses.replace(config.evaluation, num_retrain=0)
    return dataclasses.replace(config, data=data, evaluation=evaluation)


def plan(request: Request, source: Source) -> Plan | Fulfilled:
    """What there is to do; ``Fulfilled`` where earlier requests did it all.

    Raises:
      ConfigError: if an id cannot be forgotten, or another request is under way.
      LedgerError: if the ledger or the salt was altered.
    """
    entries, salt = ledger.read_ledger(request.home), ledger.read_salt(request.home)
    for entry in entries:  # one that was stopped after its line, before it had cleaned up
        shutil.rmtree(request.home / f"request-{entry.number}" / WORK, ignore_errors=True)
    if entries and salt is None:
        raise ledger.LedgerError(f"{request.home / ledger.SALT} is missing: without it no earlier id is recognised")
    done = ledger.forgotten(entries)
    hashed = dict(zip(request.ids, ledger.salted(salt or b"", request.ids), strict=True))
    asked = [name for name in hashed if hashed[name] not in done]
    repeated = len(hashed) - len(asked)
    if not asked:
        number = max(done[name] for name in hashed.values())
        folder = request.home / f"request-{number}"
        receipt, result = (json.loads((folder / name).read_text()) for name in (RECEIPT, "result.json"))
        return Fulfilled(number, folder, receipt, result, repeated, False)
    splits, earlier = cut(request.config, source, asked), np.zeros(0, np.int64)
    if done and salt is not None:
        train = splits.train
        was = np.array([name in done for name in ledger.salted(salt, source.ids[train].tolist())], bool)
        earlier = np.setdiff1d(train[was], splits.forget)
        splits = dataclasses.replace(splits, remain=np.setdiff1d(splits.remain, earlier))
    if not len(splits.remain):
        raise ConfigError("--forget: no row is left that remains; allowed: at least one")
    if request.config.calibration.trials:
        check_calibration(request.config, splits)
    if request.key is not None:
        private_key(request.key)
    number = len(entries) + 1
    previous = request.home / f"request-{number - 1}" / "model" if entries else None
    if previous is not None:
        if not previous.is_dir():
            raise ConfigError(f"--workdir: {str(previous)!r} is not there; allowed: a folder with its last model")
        _check_same_model(request.config, previous.parent)
    return Plan(number, asked, [hashed[name] for name in asked], salt, repeated, splits, earlier, previous)


def fulfil(
    request: Request,
    source: Source,
    spec: ModelSpec,
    original: ArrayTree | None = None,
    *,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Fulfilled:
    """Forgets, and leaves model, report and receipt in ``home/request-N``.

    Args:
      request: what is asked.
      source: the data: forget rows, remaining rows (a sample is enough), held-out rows.
      spec: the model.
      original: its trained weights ``{"params": ..., **model_state}``; None trains it on the training rows.
      cache: where originals that are trained here are kept.
      progress: told about every finished step.

    Returns:
      ``Fulfilled``.

    Raises:
      ConfigError: before anything is written, if something asked for does not fit.
      LedgerError: if ledger or salt were altered.
      FloatingPointError, CheckpointError: as ``run_unlearning``.
    """
    started, todo = now(), plan(request, source)
    if isinstance(todo, Fulfilled):
        return todo
    config, home = request.config, request.home
    folder = home / f"request-{todo.number}"
    todo = _begin(request, todo, folder)
    if todo.previous is not None:
        tree, _ = load(todo.previous)
        original = {"params": tree["params"], **tree["model_state"]}
    elif original is None:
        made = Maker(config, source, spec, cache, progress).original(todo.splits).value
        original = {"params": made["params"], **made["model_state"]}
    work = folder / WORK
    problem = prepare(config, loaded=Loaded(source, todo.splits, spec, original), cache=work, progress=progress)
    calibrated, state, history = _forget(problem, work, progress)
    receipt, outcome = _leave(request, todo, problem, state, history, calibrated, folder, started)
    ledger.append(home, _entry(todo, receipt, ledger.read_ledger(home)))
    shutil.rmtree(work)
    return Fulfilled(todo.number, folder, receipt, outcome, todo.repeated, True)


def _check_same_model(config: Config, previous: Path) -> None:
    """Refuses a request on another model than the last one left, or that takes rows it learned from for held out."""
    before, now = json.loads((previous / "config.json").read_text()), to_dict(config)
    for told in (before, now):
        told["data"] = {name: value for name, value in told["data"].items() if name not in MAY_CHANGE}
        told["seeds"] = {"split": told["seeds"]["split"]}
    for group in ("data", "model", "seeds"):
        for name, value in now[group].items():
            if before[group].get(name) != value:
                raise ConfigError(
                    f"config.{group}.{name}: {value!r} where {previous} had {before[group].get(name)!r};"
                    " allowed: the same, for the request starts from the model of the last one"
                )


def _begin(request: Request, todo: Plan, folder: Path) -> Plan:
    """Makes salt and folder; a folder that another request began is refused."""
    request.home.mkdir(parents=True, exist_ok=True)
    salt = todo.salt or ledger.make_salt(request.home)
    todo = todo._replace(salt=salt, salted=ledger.salted(salt, todo.ids))
    settings = to_dict(request.config)
    begun = {"ids_sha256": ledger.ids_sha256(todo.salted), "config": settings}
    written = folder / "config.json"
    if written.exists():
        if json.loads(written.read_text()) != settings or (folder / WORK / "ids").read_text() != begun["ids_sha256"]:
            raise ConfigError(
                f"--workdir: {str(folder)!r} holds a request under way with other ids or settings;"
                " allowed: the same again, or delete that folder"
            )
        return todo
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    (folder / WORK / "ids").write_text(begun["ids_sha256"])
    _write(written, settings)
    return todo


def _forget(problem: Problem, work: Path, progress: Progress) -> tuple[Calibrated | None, UnlearnState, History]:
    config = problem.config
    if config.calibration.trials:
        calibrated = calibrate(problem, work / "calibration", progress)
        return calibrated, calibrated.state, calibrated.history
    state, history = run_unlearning(
        build_method(config.method, problem.parts),
        problem.original,
        problem.splits,
        problem.source,
        remain_fraction=config.data.remain_fraction,
        split_seed=config.seeds.split or 0,
        log_every=config.log_every,
        eval_every=config.eval_every,
        saving=Saving(work, config.save_every, problem.identity),
        batch_size=config.evaluation.batch_size,
        progress=progress,
    )
    return None, state, history


def _leave(
    request: Request,
    todo: Plan,
    problem: Problem,
    state: UnlearnState,
    history: History,
    calibrated: Calibrated | None,
    folder: Path,
    started: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes all files of a request, the receipt last; what is in it and in ``result.json``."""
    config, source = request.config, problem.source
    save(folder / "model", {"params": state.params, "model_state": state.model_state}, {"method": config.method.name})
    if config.weights is not None:
        given = Path(config.weights)
        (folder / "weights").mkdir(exist_ok=True)
        save_weights(given, folder / "weights" / given.name, {"params": state.params, **state.model_state})
    curve = None if calibrated is None else calibrated.as_json()
    if curve is not None:
        _write(folder / "calibration.json", curve)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history.rows))
    outcome = _result(problem, state, history, started, todo)
    _write(folder / "result.json", outcome)

    before, after = (measure(config, source, todo.splits, one, todo.earlier) for one in (problem.original, state))
    shown = evidence(before, after, source.class_names)
    receipt = _receipt(request, todo, problem, state, outcome, shown, curve, started)
    sure = {"before": before["forget"], "after": after["forget"], "held out": after["held_out"]}
    confidence = {name: told.confidence for name, told in sure.items()}
    changed = changed_most(problem, confidence) if request.show_images else None
    (folder / "report.html").write_text(render_notice(receipt, curve, confidence, changed), encoding="utf-8")
    receipt = seal({**receipt, "files": files_sha256(folder)}, request.key)
    _write(folder / RECEIPT, receipt)
    return receipt, outcome


def _entry(todo: Plan, receipt: dict[str, Any], before: list[ledger.Entry]) -> ledger.Entry:
    return ledger.Entry(
        todo.number,
        receipt["time"]["finished"],
        tuple(sorted(todo.salted)),
        receipt["receipt_sha256"],
        receipt["model"]["after"]["tree_sha256"],
        before[-1].seal if before else ledger.START,
    )


def _result(problem: Problem, state: UnlearnState, history: History, started: str, todo: Plan) -> dict[str, Any]:
    """``make_result`` without hashes that whoever has the data could try ids on."""
    outcome = make_result(problem, state, history, started)
    outcome["forget"]["sha256"] = ledger.ids_sha256(todo.salted)
    for name in ("splits_sha256", "request_sha256"):
        outcome.pop(name)
    return outcome


def _receipt(
    request: Request,
    todo: Plan,
    problem: Problem,
    state: UnlearnState,
    outcome: dict[str, Any],
    shown: dict[str, Any],
    curve: dict[str, Any] | None,
    started: str,
) -> dict[str, Any]:
    config, original = request.config, problem.original
    given = None if config.weights is None or todo.previous is not None else Path(config.weights)
    return {
        "schema": SCHEMA,
        "request": {
            "number": todo.number,
            "count": len(todo.ids),
            "repeated": todo.repeated,
            "ids_sha256": ledger.ids_sha256(todo.salted),
        },
        "model": {
            "before": {
                "tree_sha256": tree_sha256({"params": original.params, "model_state": original.model_state}),
                "file_sha256": given and path_sha256(given),
            },
            "after": {"tree_sha256": tree_sha256({"params": state.params, "model_state": state.model_state})},
        },
        "method": config.method.name,
        "calibration": curve and curve["why"],
        "guidance": outcome["attackers_fitted_on"],
        "evidence": shown,
        "warnings": outcome["warnings"],
        "config_sha256": digest(to_dict(config)),
        "code": {"sha256": code_sha256(), **{n: outcome["provenance"][n] for n in ("commit", "versions", "device")}},
        "time": {"started": started, "finished": now(), "unlearn_s": outcome["time"]["unlearn_s"]},
    }


def _write(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)
