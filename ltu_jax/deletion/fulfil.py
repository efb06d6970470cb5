"""Carries out a deletion request: forgets, measures the evidence, and writes a receipt.

A folder of requests (``home``) belongs to one model. It holds ``ledger.jsonl``, ``salt``, and a folder ``request-N``
for each request. Each request starts from the last one's model; rows of earlier requests do not count as remaining.
The line in the ledger is written last: until then the same command resumes an interrupted request. Then the models from
before are removed (``removal``).
"""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax import safe_reading
from ltu_jax.deletion import ledger, removal, rows
from ltu_jax.deletion.calibration import Calibrated, calibrate
from ltu_jax.deletion.claim import judge_models
from ltu_jax.deletion.measures import evidence
from ltu_jax.deletion.models import last_model, weights_of, weights_sha256
from ltu_jax.deletion.notice import drawn_with, render_images, render_notice, shown_tries
from ltu_jax.deletion.notice_measured import sureness
from ltu_jax.deletion.plan import Fulfilled, Plan, Request, entry_of, plan
from ltu_jax.deletion.receipt import (
    IMAGES,
    RECEIPT,
    REPORT,
    SCHEMA,
    WORK,
    as_read,
    code_sha256,
    file_problems,
    files_salted_sha256,
    is_shown,
    path_sha256,
    receipt_text,
    seal_receipt,
)
from ltu_jax.deletion.set_up import SetUp, check_set_up
from ltu_jax.deletion.tokens import commitments, hashed_images
from ltu_jax.evaluation.scores import measure
from ltu_jax.files import LOCK, check_folder, locked, make_folder, remove_partials, sync_tree, write_whole
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import ConfigError, digest, to_dict
from ltu_jax.training.checkpoint import CheckpointError, load_tree, save_tree, tree_sha256
from ltu_jax.training.jobs import Trainer
from ltu_jax.training.saving import METRICS, History, as_lines
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
    checked: SetUp | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Fulfilled:
    """Forgets, and writes model, report and receipt into ``home/request-N``.

    Args:
      request: the request.
      source: the data: forget rows, remaining rows (a sample is enough), held-out rows.
      spec: the model.
      original: its trained weights ``{"params": ..., **model_state}``; None trains it on the training rows.
      todo: the result of ``plan``; None calls it.
      checked: the result of ``check_set_up``; None calls it.
      cache: folder of an original that is trained here, until the request is finished.
      progress: reports the progress.

    Raises:
      ConfigError: if the request is invalid; nothing is written then.
      LedgerError: if ledger or salt were altered.
      FloatingPointError, CheckpointError: as ``run_unlearning``.
    """
    check_folder(request.home, "--workdir")
    if cache is not None:
        check_folder(cache, "--cache")
    todo, home, keep = todo or plan(request, source, original), request.home, request.keep_original
    if isinstance(todo, Fulfilled):
        if todo.lost is not None or removal.is_due(home):
            with locked(home / LOCK, "--workdir"):
                if todo.lost is not None:
                    ledger.append(home, todo.lost)
                removal.finish(home, keep_original=keep)
        return todo
    checked = checked or check_set_up(request, todo, source, spec, original)
    started, config = now(), todo.config
    with locked(home / LOCK, "--workdir"):
        removal.finish(home, keep_original=keep)
        if ledger.read_ledger(home) != todo.entries:
            raise ConfigError(f"--workdir: {str(home)!r} has got another request meanwhile; allowed: the same again")
        folder = home / f"request-{todo.number}"
        todo = _begin(request, todo, folder)
        assert todo.salt is not None  # _begin
        # Now, and not at the end: the images may be gone by then.
        images = hashed_images(todo.ids, source, None if request.in_memory else config.data)
        if len(images) < len(todo.ids):
            raise ConfigError(
                "config.data: images to be forgotten vanished while they were read; allowed: the same again"
            )
        more = {"tokens": commitments(todo.salt, images), "in_memory": request.in_memory}
        if todo.previous is not None:
            original = last_model(home, todo.entries)
        elif original is None:
            trainer, job = Trainer(config, source, spec, cache, progress), original_job(todo.splits)
            made_for = removal.note_original(home, trainer.entry(job).path)
            original = weights_of(trainer.model(job, made_for))
        work = folder / WORK
        problem = prepare(config, loaded=Loaded(source, todo.splits, spec, original), cache=work, progress=progress)
        calibrated, state, history = _forget(problem, work, progress)
        copied = checked.copies["remain"].share_of(len(todo.ids))
        more |= checked.in_receipt()
        receipt, outcome = _write_request(
            request, todo, problem, state, history, calibrated, folder, started, copied, more
        )
        sync_tree(folder)
        weights = _read_back(folder, receipt, todo.salt)
        ledger.append(home, entry_of(receipt, todo.salted))
        removal.finish(home, keep_original=keep)
        not_shown = [*todo.not_shown, *([] if is_shown(receipt) else [todo.number])]
        return Fulfilled(
            todo.number, folder, receipt, outcome, todo.repeated, True, weights=weights, not_shown=not_shown
        )


def _begin(request: Request, todo: Plan, folder: Path) -> Plan:
    """Creates salt and folder; refuses a folder begun by another request."""
    salt = ledger.read_salt(request.home) or ledger.make_salt(request.home)
    todo = todo._replace(salt=salt)
    settings, ids = to_dict(todo.config), ledger.ids_sha256(todo.salted)
    config_file, ids_file = folder / "config.json", folder / WORK / "ids"
    # What an older version left empty at a power cut says nothing; the checkpoints know whose they are.
    begun = {"settings": None, "ids": None}
    with contextlib.suppress(OSError, ValueError):
        begun["settings"] = safe_reading.read_json(config_file)
    with contextlib.suppress(OSError, ValueError):
        begun["ids"] = safe_reading.read_text(ids_file) or None
    if any(begun[name] not in (None, now) for name, now in (("settings", settings), ("ids", ids))):
        raise ConfigError(
            f"--workdir: {str(folder)!r} holds a request under way with other ids or settings;"
            " allowed: the same again, or delete that folder"
        )
    make_folder(ids_file.parent)
    remove_partials(folder)
    for path in [path for path in folder.iterdir() if path.suffix == ".partial"]:  # an older version's
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_whole(ids_file, ids)
    write_whole(config_file, _text(settings))
    return todo


def _forget(problem: Problem, work: Path, progress: Progress) -> tuple[Calibrated | None, UnlearnState, History]:
    if problem.config.calibration.trials:
        calibrated = calibrate(problem, work / "calibration", progress)
        return calibrated, calibrated.state, calibrated.history
    return None, *run_problem(problem, folder=work, progress=progress)


def _write_request(
    request: Request,
    todo: Plan,
    problem: Problem,
    state: UnlearnState,
    history: History,
    calibrated: Calibrated | None,
    folder: Path,
    started: str,
    copied: float,
    more: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes all files of a request, the receipt last; returns the receipt and ``result.json``."""
    config, source = todo.config, problem.source
    meant: dict[str, str] = {}  # the hashes go into the receipt: they are compared with what is read back

    def write(name: str, text: str) -> None:
        write_whole(folder / name, text)
        meant[name] = hashlib.sha256(text.encode(errors="replace")).hexdigest()

    state = _write_weights(todo, state, folder)
    described: dict[str, Any] = {"method": config.method.name}
    if not request.in_memory:  # for load_model
        described |= {"num_classes": source.num_classes, "image_shape": list(source.images.shape[1:])}
    save_tree(folder / "model", {"params": state.params, "model_state": state.model_state}, described)
    curve = None if calibrated is None else calibrated.as_json()
    if curve is not None:
        write("calibration.json", _text(curve))
    write(METRICS, as_lines(history.rows))
    outcome = _result(problem, state, history, started, todo)
    write("config.json", _text(to_dict(config)))
    write("result.json", _text(outcome))

    seed, is_calibrated = config.seed_for("split"), calibrated is not None
    measured = rows.rows_to_measure(todo.splits, todo.earlier, seed, calibrated=is_calibrated)
    assert todo.salt is not None  # _begin
    model = ledger.salted_sha256(todo.salt, weights_sha256({"params": state.params, **state.model_state}))
    measured["held_out"], pool = rows.draw_held_out(todo.splits.test, source, todo.salt, model)
    recorded = rows.record_rows(todo.splits, measured, source, todo.salt, todo.recorded)._replace(drawn_from=pool)
    write(rows.ROWS, _text(recorded._asdict()))
    size = config.evaluation.batch_size
    before, after = (measure(one, source, measured, size) for one in (problem.original, state))
    shown = evidence(before, after, source.class_names)
    claim = judge_models(problem.original, state, (before, after), source, measured, size, copied)
    is_seen = history.rho == 1 or bool(np.isin(measured["remain"], todo.splits.visible).any())
    curve = None if calibrated is None else calibrated.as_json(in_rows=len(todo.ids))  # rounded, as it is handed out
    receipt = _receipt(todo, problem, state, outcome, shown, curve, started)
    receipt |= {"remain_seen": is_seen, "claim": claim.as_json()}
    # A later request starts from the last model, and a caller's own model has no name here.
    file = f", {Path(config.weights).name}" if config.weights and todo.previous is None else ""
    name = None if request.in_memory else f"{config.model.name}{file}"
    receipt["about"] = {"operator": request.operator, "model": name}
    compared = {"before": before["forget"], "after": after["forget"], "held out": after["held_out"]}
    confidence = {name: one.confidence for name, one in compared.items()}
    report = {"tries": curve and shown_tries(curve), "sureness": sureness(confidence), "drawn_with": drawn_with()}
    on = "on the held-out rows that guided it (the verdict goes by others): "
    warnings = [on + line if line in history.warnings else line for line in receipt["warnings"]]
    warnings = [*more["warnings"], *warnings]
    receipt = as_read(receipt | more | {"warnings": warnings, "report": report})
    write(REPORT, render_notice(receipt))
    # A plain hash tells nothing more: the page is a function of the rest of the receipt.
    receipt["report"]["sha256"] = meant[REPORT]
    if request.show_images:
        write(IMAGES, render_images(receipt, changed_most(problem, confidence)))
    files = files_salted_sha256(folder, todo.salt)
    files |= {name: ledger.salted_sha256(todo.salt, sha256) for name, sha256 in meant.items()}
    receipt = seal_receipt({**receipt, "files_salted_sha256": files}, request.key)
    write_whole(folder / RECEIPT, receipt_text(receipt))
    return receipt, outcome


def _read_back(folder: Path, receipt: dict[str, Any], salt: bytes) -> ArrayTree:
    """Reads back what a request has written: its line in the ledger and the removal of the original wait for that.

    Returns:
      The weights of its model.

    Raises:
      CheckpointError: if it is not what was meant.
    """
    wrong = file_problems(receipt, folder, salt)
    if (folder / RECEIPT).read_text() != receipt_text(receipt):
        wrong.append(f"{RECEIPT}: it was altered")
    if wrong:
        raise _unlike(wrong[0], folder)
    weights = weights_of(load_tree(folder / "model")[0])
    files = sorted((folder / "weights").iterdir()) if (folder / "weights").is_dir() else []
    models = {"model": weights} | {f"weights/{file.name}": load_weights(file, weights) for file in files}
    for name, one in models.items():
        if ledger.salted_sha256(salt, weights_sha256(one)) != receipt["model"]["after"]["salted_sha256"]:
            raise _unlike(f"{name}: it is another model", folder)
    return weights


def _unlike(what: str, folder: Path) -> CheckpointError:
    return CheckpointError(f"read back, {what} ({folder}): the request is not done, and nothing was deleted")


def _write_weights(todo: Plan, state: UnlearnState, folder: Path) -> UnlearnState:
    """Writes the weights in the format of ``config.weights``, if set; returns the model as read back, with rounding."""
    template = None if todo.config.weights is None else Path(todo.config.weights)
    if todo.previous is not None and (before := todo.previous / "weights").is_dir():
        template = next(iter(sorted(before.iterdir())))  # config.weights may no longer exist
    if template is None:
        return state
    weights, target = {"params": state.params, **state.model_state}, folder / "weights" / template.name
    target.parent.mkdir(exist_ok=True)
    save_weights(template, target, weights)
    rest = jax.tree.map(jnp.asarray, load_weights(target, weights))
    return state.replace(params=rest.pop("params"), model_state=rest)


def _result(problem: Problem, state: UnlearnState, history: History, started: str, todo: Plan) -> dict[str, Any]:
    """``make_result`` without unsalted hashes, against which somebody with the data could test ids."""
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
    config, salt = todo.config, todo.salt
    given = None if config.weights is None else Path(config.weights)
    assert salt is not None  # _begin
    before, after = (
        tree_sha256({"params": one.params, "model_state": one.model_state}) for one in (problem.original, state)
    )
    first = {"tree_sha256": before, "file_sha256": given and path_sha256(given)} if todo.previous is None else None
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
            "before": first or {"salted_sha256": ledger.salted_sha256(salt, before)},
            "after": {"salted_sha256": ledger.salted_sha256(salt, after)},
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


def _text(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
