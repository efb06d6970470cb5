"""Carries out a deletion request: forgets, shows that it did, and leaves a receipt.

A folder of requests (``home``) belongs to one model: ``ledger.jsonl`` and ``salt``, and a folder ``request-N`` for each
request. The second request starts from the first one's model; rows of earlier requests stay out of what remains.
The line in the ledger is the last thing written: until then the same command goes on where it was stopped. Then the
models from before go (``removal``), which know what was forgotten.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.deletion import ledger, removal, rows
from ltu_jax.deletion.calibration import Calibrated, calibrate
from ltu_jax.deletion.measures import evidence, measure
from ltu_jax.deletion.models import last_model, weights_of
from ltu_jax.deletion.notice import render_notice
from ltu_jax.deletion.plan import Fulfilled, Plan, Request, plan, read_json
from ltu_jax.deletion.receipt import RECEIPT, SCHEMA, WORK, code_sha256, files_sha256, path_sha256, seal
from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import ConfigError, digest, to_dict
from ltu_jax.training.checkpoint import save, tree_sha256
from ltu_jax.training.jobs import Trainer
from ltu_jax.training.saving import History
from ltu_jax.types import ArrayTree, Progress, Source, UnlearnState, silent
from ltu_jax.unlearning.evidence import changed_most
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.preparation import original_job
from ltu_jax.unlearning.problem import Loaded, Problem, prepare
from ltu_jax.unlearning.result import make_result, now


def fulfil(
    request: Request,
    source: Source,
    spec: ModelSpec,
    original: ArrayTree | None = None,
    *,
    todo: Plan | Fulfilled | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Fulfilled:
    """Forgets, and leaves model, report and receipt in ``home/request-N``.

    Args:
      request: what is asked.
      source: the data: forget rows, remaining rows (a sample is enough), held-out rows.
      spec: the model.
      original: its trained weights ``{"params": ..., **model_state}``; None trains it on the training rows.
      todo: what ``plan`` said, where it was asked before.
      cache: where an original that is trained here lies until the request is done.
      progress: told about every finished step.

    Returns:
      ``Fulfilled``.

    Raises:
      ConfigError: before anything is written, if something asked for does not fit.
      LedgerError: if ledger or salt were altered.
      FloatingPointError, CheckpointError: as ``run_unlearning``.
    """
    todo, home, keep = todo or plan(request, source, original), request.home, request.keep_original
    if isinstance(todo, Fulfilled):
        if removal.is_due(home):
            with locked(home / LOCK, "--workdir"):
                removal.finish(home, keep_original=keep)
        return todo
    started, config = now(), todo.config
    with locked(home / LOCK, "--workdir"):
        removal.finish(home, keep_original=keep)
        if ledger.read_ledger(home) != todo.entries:
            raise ConfigError(f"--workdir: {str(home)!r} has got another request meanwhile; allowed: the same again")
        folder = home / f"request-{todo.number}"
        todo = _begin(request, todo, folder)
        if todo.previous is not None:
            original = last_model(home, todo.entries)
        elif original is None:
            trainer, job = Trainer(config, source, spec, cache, progress), original_job(todo.splits)
            removal.note_original(home, trainer.entry(job).path)
            original = weights_of(trainer.model(job))
        work = folder / WORK
        problem = prepare(config, loaded=Loaded(source, todo.splits, spec, original), cache=work, progress=progress)
        calibrated, state, history = _forget(problem, work, progress)
        receipt, outcome = _leave(request, todo, problem, state, history, calibrated, folder, started)
        os.sync()  # a power cut must not take what the ledger tells of
        ledger.append(home, _entry(todo, receipt))
        os.sync()
        removal.finish(home, keep_original=keep)
        return Fulfilled(todo.number, folder, receipt, outcome, todo.repeated, True)


def _begin(request: Request, todo: Plan, folder: Path) -> Plan:
    """Makes salt and folder; a folder that another request began is refused."""
    request.home.mkdir(parents=True, exist_ok=True)
    salt = ledger.read_salt(request.home) or ledger.make_salt(request.home)
    todo = todo._replace(salt=salt)
    settings, asked = to_dict(todo.config), ledger.ids_sha256(todo.salted)
    written, named = folder / "config.json", folder / WORK / "ids"
    if written.exists():
        if read_json(written) != settings or not named.exists() or named.read_text() != asked:
            raise ConfigError(
                f"--workdir: {str(folder)!r} holds a request under way with other ids or settings;"
                " allowed: the same again, or delete that folder"
            )
        return todo
    named.parent.mkdir(parents=True, exist_ok=True)
    named.write_text(asked)
    _write(written, settings)
    return todo


def _forget(problem: Problem, work: Path, progress: Progress) -> tuple[Calibrated | None, UnlearnState, History]:
    if problem.config.calibration.trials:
        calibrated = calibrate(problem, work / "calibration", progress)
        return calibrated, calibrated.state, calibrated.history
    return None, *run_problem(problem, folder=work, progress=progress)


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
    config, source = todo.config, problem.source
    (folder / f"{RECEIPT}.partial").unlink(missing_ok=True)  # else it would be in the receipt
    state = _written(todo, state, folder)
    save(folder / "model", {"params": state.params, "model_state": state.model_state}, {"method": config.method.name})
    curve = None if calibrated is None else calibrated.as_json()
    if curve is not None:
        _write(folder / "calibration.json", curve)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history.rows))
    outcome = _result(problem, state, history, started, todo)
    _write(folder / "result.json", outcome)

    measured = rows.to_measure(todo.splits, todo.earlier, config.seed_for("split"))
    assert todo.salt is not None  # _begin
    _write(folder / rows.ROWS, rows.record(todo.splits, measured, source, todo.salt, todo.recorded)._asdict())
    before, after = (measure(one, source, measured, config.evaluation.batch_size) for one in (problem.original, state))
    shown = evidence(before, after, source.class_names)
    is_seen = history.rho == 1 or bool(np.isin(measured["remain"], todo.splits.visible).any())
    curve = None if calibrated is None else calibrated.as_json(in_rows=len(todo.ids))  # what is handed out
    receipt = _receipt(todo, problem, state, outcome, shown, curve, started) | {"remain_seen": is_seen}
    sure = {"before": before["forget"], "after": after["forget"], "held out": after["held_out"]}
    confidence = {name: told.confidence for name, told in sure.items()}
    changed = changed_most(problem, confidence) if request.show_images else None
    write_whole(folder / "report.html", render_notice(receipt, curve, confidence, changed))
    receipt = seal({**receipt, "files": files_sha256(folder)}, request.key)
    _write(folder / RECEIPT, receipt)
    return receipt, outcome


def _written(todo: Plan, state: UnlearnState, folder: Path) -> UnlearnState:
    """Writes the weights in the form they came in, if they did; the model as it is read back, rounded by its file."""
    form = None if todo.config.weights is None else Path(todo.config.weights)
    if todo.previous is not None and (before := todo.previous / "weights").is_dir():
        form = next(iter(sorted(before.iterdir())))  # the first file may be gone by now
    if form is None:
        return state
    weights, target = {"params": state.params, **state.model_state}, folder / "weights" / form.name
    target.parent.mkdir(exist_ok=True)
    save_weights(form, target, weights)
    rest = jax.tree.map(jnp.asarray, load_weights(target, weights))
    return state.replace(params=rest.pop("params"), model_state=rest)


def _entry(todo: Plan, receipt: dict[str, Any]) -> ledger.Entry:
    return ledger.Entry(
        todo.number,
        receipt["time"]["finished"],
        tuple(sorted(todo.salted)),
        receipt["receipt_sha256"],
        receipt["model"]["after"]["tree_sha256"],
        todo.last_seal,
    )


def _result(problem: Problem, state: UnlearnState, history: History, started: str, todo: Plan) -> dict[str, Any]:
    """``make_result`` without hashes that whoever has the data could try ids on."""
    outcome = make_result(problem, state, history, started)
    outcome["forget"]["sha256"] = ledger.ids_sha256(todo.salted)
    for name in ("splits_sha256", "request_sha256"):
        outcome.pop(name)
    return outcome


def _receipt(
    todo: Plan,
    problem: Problem,
    state: UnlearnState,
    outcome: dict[str, Any],
    shown: dict[str, Any],
    curve: dict[str, Any] | None,
    started: str,
) -> dict[str, Any]:
    config, original = todo.config, problem.original
    given = None if config.weights is None or todo.previous is not None else Path(config.weights)
    return {
        "schema": SCHEMA,
        "request": {
            "number": todo.number,
            "count": len(todo.ids),
            "repeated": todo.repeated,
            "ids_sha256": ledger.ids_sha256(todo.salted),
            "previous": todo.last_seal,
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
    write_whole(path, json.dumps(value, indent=2) + "\n")
