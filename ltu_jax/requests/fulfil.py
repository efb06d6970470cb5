"""Carries out a deletion request: forgets, shows that it did, and leaves a receipt.

A folder of requests (``home``) belongs to one model: ``ledger.jsonl`` and ``salt``, and a folder ``request-N`` for each
request. The second request starts from the first one's model; rows of earlier requests stay out of what remains.
The line in the ledger is the last thing written: until then the same command goes on where it was stopped.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Config
from ltu_jax.data.splits import remain_subset
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.methods import build_method
from ltu_jax.models.build import ModelSpec
from ltu_jax.reporting.notice import render_notice
from ltu_jax.requests import ledger, rows
from ltu_jax.requests.calibration import Calibrated, calibrate, check_calibration
from ltu_jax.requests.measures import evidence, measure
from ltu_jax.requests.receipt import RECEIPT, SCHEMA, WORK, code_sha256, files_sha256, path_sha256, private_key, seal
from ltu_jax.setting import ConfigError, digest, to_dict
from ltu_jax.training.checkpoint import load, save, tree_sha256
from ltu_jax.types import ArrayTree, Progress, Source, Splits, UnlearnState, silent
from ltu_jax.unlearning.evidence import changed_most
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.making import Maker
from ltu_jax.unlearning.problem import Loaded, Problem, check_scoring, cut, held_out_part, load_model, prepare
from ltu_jax.unlearning.result import make_result, now
from ltu_jax.unlearning.saving import History, Saving

LOCK = "lock"
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
    config: Config  # with ``held_out`` decided
    ids: list[str]  # to be forgotten now
    salted: list[str]
    salt: bytes | None  # None where there is none yet
    repeated: int
    splits: Splits
    earlier: np.ndarray  # rows that earlier requests forgot, indices into the source
    entries: list[ledger.Entry]  # the ledger so far
    previous: Path | None  # folder of the last request
    recorded: rows.Recorded | None  # what was written down of its rows

    @property
    def last_seal(self) -> str:
        """Seal of the last line of the ledger."""
        return self.entries[-1].seal if self.entries else ledger.START


def request_config(config: Config) -> Config:
    """The configuration of a request: no Retrain, and the ids say what is forgotten."""
    data = dataclasses.replace(config.data, forget_kind="ids")
    evaluation = dataclasses.replace(config.evaluation, num_retrain=0)
    return dataclasses.replace(config, data=data, evaluation=evaluation)


def load_given(config: Config, source: Source, home: Path) -> tuple[ModelSpec, ArrayTree | None]:
    """The model, and its weights where they are given and there: a later request needs those it left, not the first.

    Raises:
      ConfigError: as ``load_model``.
      LedgerError: if the ledger was altered.
    """
    if config.weights is not None and not Path(config.weights).exists() and ledger.read_ledger(home):
        config = dataclasses.replace(config, weights=None)
    return load_model(config, source)


def plan(request: Request, source: Source, given: ArrayTree | None = None) -> Plan | Fulfilled:
    """What there is to do; ``Fulfilled`` where earlier requests did it all.

    Args:
      request: what is asked.
      source: the data.
      given: the weights that the request is said to be about, ``{"params": ..., **model_state}``; compared with those
        of the requests before it.

    Raises:
      ConfigError: if an id cannot be forgotten, or another request is under way.
      LedgerError: if the ledger or the salt was altered.
    """
    home, config = request.home, request.config
    entries, salt = ledger.read_ledger(home), ledger.read_salt(home)
    for entry in entries:  # one that was stopped after its line, before it had cleaned up
        shutil.rmtree(home / f"request-{entry.number}" / WORK, ignore_errors=True)
    if entries and salt is None:
        raise ledger.LedgerError(f"{home / ledger.SALT} is missing: without it no earlier id is recognised")
    number = len(entries) + 1
    if (left := home / f"request-{number}" / RECEIPT).exists() and not (left.parent / WORK).exists():
        raise ledger.LedgerError(
            f"{home / ledger.LEDGER} has no request {number}, whose receipt is there: it lost a line"
        )
    done = ledger.forgotten(entries)
    hashed = dict(zip(request.ids, ledger.salted(salt or b"", request.ids), strict=True))
    asked = [name for name in hashed if hashed[name] not in done]
    repeated = len(hashed) - len(asked)
    if not asked:
        number = max(done[name] for name in hashed.values())
        folder = home / f"request-{number}"
        receipt, result = (_read(folder / name) for name in (RECEIPT, "result.json"))
        return Fulfilled(number, folder, receipt, result, repeated, False)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, held_out=held_out_part(config, source)))
    _check_config(config)
    splits, earlier = cut(config, source, asked), np.zeros(0, np.int64)
    previous, recorded = home / f"request-{number - 1}" if entries else None, None
    if previous is not None and salt is not None:
        _check_same_model(config, previous, entries, given)
        train = splits.train
        was = np.array([name in done for name in ledger.salted(salt, source.ids[train].tolist())], bool)
        earlier = np.setdiff1d(train[was], splits.forget)
        recorded = rows.read(previous)
        splits = rows.kept_apart(splits, source, salt, recorded, done, config.data.held_out)
        splits = dataclasses.replace(splits, remain=np.setdiff1d(splits.remain, earlier))
    if not len(splits.remain):
        raise ConfigError("--forget: no row is left that remains; allowed: at least one")
    if config.calibration.trials:
        check_calibration(config, splits)
    check_scoring(config, splits)
    if request.key is not None:
        private_key(request.key)
    salted = [hashed[name] for name in asked]
    return Plan(number, config, asked, salted, salt, repeated, splits, earlier, entries, previous, recorded)


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
    todo = plan(request, source, original)
    if isinstance(todo, Fulfilled):
        return todo
    return carry_out(request, todo, source, spec, original, cache=cache, progress=progress)


def carry_out(
    request: Request,
    todo: Plan,
    source: Source,
    spec: ModelSpec,
    original: ArrayTree | None = None,
    *,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Fulfilled:
    """Does what ``plan`` found that there is to do; otherwise as ``fulfil``."""
    started, config, home = now(), todo.config, request.home
    with locked(home):
        if ledger.read_ledger(home) != todo.entries:
            raise ConfigError(f"--workdir: {str(home)!r} has got another request meanwhile; allowed: the same again")
        folder = home / f"request-{todo.number}"
        todo = _begin(request, todo, folder)
        if todo.previous is not None:
            original = last_model(home, todo.entries)
        elif original is None:
            original = _weights(Maker(config, source, spec, cache, progress).original(todo.splits).value)
        work = folder / WORK
        problem = prepare(config, loaded=Loaded(source, todo.splits, spec, original), cache=work, progress=progress)
        calibrated, state, history = _forget(problem, work, progress)
        receipt, outcome = _leave(request, todo, problem, state, history, calibrated, folder, started)
        os.sync()  # a power cut must not take what the ledger tells of
        ledger.append(home, _entry(todo, receipt))
        os.sync()
        shutil.rmtree(work)
        return Fulfilled(todo.number, folder, receipt, outcome, todo.repeated, True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder, which is made; the system lets go of it when this one ends, however.

    Raises:
      ConfigError: if another process is in it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"--workdir: {str(folder)!r} is in use by another process; allowed: the same again when it has ended"
            ) from None
        yield


def weights_sha256(weights: ArrayTree) -> str:
    """Hash of ``{"params": ..., **model_state}``, as receipts name a model."""
    rest = dict(weights)
    return tree_sha256({"params": rest.pop("params"), "model_state": rest})


def _weights(saved: ArrayTree) -> ArrayTree:
    return {"params": saved["params"], **saved["model_state"]}


def last_model(home: Path, entries: Sequence[ledger.Entry]) -> ArrayTree:
    """The weights that the last request left, ``{"params": ..., **model_state}``.

    Raises:
      LedgerError: if they are not those of the ledger.
      CheckpointError: if they are damaged.
    """
    path = home / f"request-{entries[-1].number}" / "model"
    weights = _weights(load(path)[0])
    if weights_sha256(weights) != entries[-1].model_sha256:
        raise ledger.LedgerError(f"{path} is not the model that request {entries[-1].number} left")
    return weights


def _check_config(config: Config) -> None:
    if getattr(config.method, "recorded_epochs", None) is not None:
        raise ConfigError(
            f"config.method.name: {config.method.name!r} needs to have recorded what the rows did in training, before"
            " anybody asked for them; allowed: another method"
        )
    if config.data.train_size is not None and config.data.held_out == "test":
        raise ConfigError(
            f"config.data.train_size: {config.data.train_size}, and which rows those are would change when images are"
            " deleted; allowed: unset, where held-out rows are a part of their own"
        )


def _check_same_model(config: Config, previous: Path, entries: list[ledger.Entry], given: ArrayTree | None) -> None:
    """Refuses a request on another model than the last one left, or that takes rows it learned from for held out."""
    if not (previous / "model").is_dir():
        where = str(previous / "model")
        raise ConfigError(f"--workdir: {where!r} is not there; allowed: a folder with its last model")
    before, now = _read(previous / "config.json"), to_dict(config)
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
    if config.weights is not None and not Path(config.weights).exists() and not (previous / "weights").is_dir():
        raise ConfigError(f"config.weights: {config.weights!r} is not there; allowed: a file, or unset as before")
    if given is None:
        return
    known = {entry.model_sha256 for entry in entries}
    if (first := previous.parent / "request-1" / RECEIPT).exists():
        known.add(_read(first)["model"]["before"]["tree_sha256"])
    if weights_sha256(given) not in known:
        raise ConfigError(
            f"config.weights: they are those of another model than {str(previous.parent)!r} is about; allowed: those"
            " from before the first request, those that the last one left, or another --workdir"
        )


def _begin(request: Request, todo: Plan, folder: Path) -> Plan:
    """Makes salt and folder; a folder that another request began is refused."""
    request.home.mkdir(parents=True, exist_ok=True)
    salt = ledger.read_salt(request.home) or ledger.make_salt(request.home)
    todo = todo._replace(salt=salt, salted=ledger.salted(salt, todo.ids))
    settings, asked = to_dict(todo.config), ledger.ids_sha256(todo.salted)
    written, named = folder / "config.json", folder / WORK / "ids"
    if written.exists():
        if _read(written) != settings or not named.exists() or named.read_text() != asked:
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

    known, seed = config.data.remain_fraction, config.seeds.split or 0
    measured = rows.to_measure(todo.splits, todo.earlier, known, seed)
    assert todo.salt is not None  # _begin
    _write(folder / rows.ROWS, rows.record(todo.splits, measured, source, todo.salt, todo.recorded)._asdict())
    before, after = (measure(one, source, measured, config.evaluation.batch_size) for one in (problem.original, state))
    shown = evidence(before, after, source.class_names)
    sampled = remain_subset(todo.splits, known, seed)
    shown["remain_seen"] = history.rho == 1 or bool(np.isin(measured["remain"], sampled).any())
    curve = calibrated and calibrated.as_json(in_rows=len(todo.ids))  # what is handed out
    receipt = _receipt(todo, problem, state, outcome, shown, curve, started)
    sure = {"before": before["forget"], "after": after["forget"], "held out": after["held_out"]}
    confidence = {name: told.confidence for name, told in sure.items()}
    changed = changed_most(problem, confidence) if request.show_images else None
    (folder / "report.html").write_text(render_notice(receipt, curve, confidence, changed), encoding="utf-8")
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


def _read(path: Path) -> dict[str, Any]:
    """JSON that an earlier command wrote.

    Raises:
      ConfigError: if it is not there or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise ConfigError(f"--workdir: {str(path)!r} cannot be read; allowed: a folder with all its requests") from None


def _write(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)
