"""Checks a receipt against what it tells of: seal, signature, files, ids, ledger, and the evidence computed anew."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Config
from ltu_jax.models.build import ModelSpec
from ltu_jax.requests import ledger, receipt
from ltu_jax.requests.claim import judge, moved_share
from ltu_jax.requests.measures import evidence, measure
from ltu_jax.training.checkpoint import CheckpointError, load, tree_sha256
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import ArrayTree, Source, Splits, UnlearnState, make_state, silent
from ltu_jax.unlearning.making import Maker
from ltu_jax.unlearning.problem import cut


class Home(NamedTuple):
    """A folder of requests as a verifier finds it."""

    told: dict[str, Any]  # the receipt
    folder: Path  # of the request
    entries: list[ledger.Entry]
    salt: bytes | None


def open_home(path: Path, folder: Path | None = None) -> Home:
    """A receipt, its folder, and ledger and salt beside that.

    Raises:
      ConfigError: if there is no receipt.
      LedgerError: if ledger or salt were altered.
    """
    folder = folder or path.parent
    told = receipt.read(path)
    if folder.name != f"request-{told['request']['number']}" and (within := _of(folder, told)).is_dir():
        folder = within  # --model out/ is the folder of all requests
    home = folder.parent
    return Home(told, folder, ledger.read_ledger(home), ledger.read_salt(home))


def _of(home: Path, told: Mapping[str, Any]) -> Path:
    return home / f"request-{told['request']['number']}"


def check_receipt(
    path: Path | str,
    config: Config,
    source: Source,
    spec: ModelSpec,
    before: ArrayTree | None = None,
    *,
    claim: bool = True,
    public: str | None = None,
) -> list[str]:
    """What differs between a receipt and what it tells of, and why its claim is refused; empty where it is verified.

    Args:
      path: ``receipt.json`` in its folder.
      config: of the request.
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; without them the claim cannot be tested.
      claim: whether to test the claim itself.
      public: the key whose signature it must bear, hex.

    Returns:
      A line each.

    Raises:
      ConfigError: if there is no receipt.
      LedgerError: if ledger or salt were altered or are missing.
    """
    home = open_home(Path(path))
    found = check_hashes(home, public=public)
    return found or check_evidence(home, config, source, spec, before, claim=claim)


def check_hashes(home: Home, *, public: str | None = None, ids: list[str] | None = None) -> list[str]:
    """What differs between a receipt and what lies there, a line each; empty where nothing does.

    Args:
      home: see ``open_home``.
      public: the key whose signature it must bear, hex.
      ids: what is said to have been forgotten; needs the salt.

    Returns:
      Lines.
    """
    told, folder = home.told, home.folder
    found = receipt.seal_broken(told, public) + receipt.files_differ(told, folder)
    entry = next((e for e in home.entries if e.number == told["request"]["number"]), None)
    if entry is None:
        found.append(f"{ledger.LEDGER}: it has no request {told['request']['number']}")
    elif entry.receipt_sha256 != told["receipt_sha256"]:
        found.append(f"{ledger.LEDGER}: line {entry.number} tells of another receipt")
    elif ledger.ids_sha256(entry.ids) != told["request"]["ids_sha256"]:
        found.append(f"{ledger.LEDGER}: line {entry.number} has other ids than the receipt")
    if ids is not None and home.salt is None:
        found.append(f"{ledger.SALT}: it is missing, so ids cannot be compared")
    elif ids is not None and home.salt is not None:
        found += _ids_differ(home.salt, home, ids)
    return found or _model_differs(told, folder)  # damaged files are not opened


def _ids_differ(salt: bytes, home: Home, ids: list[str]) -> list[str]:
    before = ledger.forgotten(e for e in home.entries if e.number < home.told["request"]["number"])
    hashed = [name for name in ledger.salted(salt, dict.fromkeys(ids)) if name not in before]
    return (
        [] if ledger.ids_sha256(hashed) == home.told["request"]["ids_sha256"] else ["ids: they are not those forgotten"]
    )


def _model_differs(told: Mapping[str, Any], folder: Path) -> list[str]:
    try:
        tree, _ = load(folder / "model")
    except CheckpointError as error:
        return [f"model: {error}"]
    now = tree_sha256({"params": tree["params"], "model_state": tree["model_state"]})
    return [] if now == told["model"]["after"]["tree_sha256"] else ["model: it is not the one of the receipt"]


def check_evidence(
    home: Home, config: Config, source: Source, spec: ModelSpec, before: ArrayTree | None, *, claim: bool
) -> list[str]:
    """Computes the evidence of a receipt anew, and judges the claim if asked.

    Args:
      home: see ``open_home``; salt and ledger tell which rows it is about.
      config: of the request.
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; None where they are gone.
      claim: whether to judge it.

    Returns:
      What differs from the receipt by more than one row of the smallest set (it may be computed on another machine),
      else why the claim is refused, a line each.

    Raises:
      LedgerError: if the rows cannot be told.
    """
    splits, earlier = rows_of(home, config, source)
    tree, _ = load(home.folder / "model")
    after = measure(config, source, splits, _state(spec, _weights(tree)), earlier)
    started = None if before is None else measure(config, source, splits, _state(spec, before), earlier)
    then, now = home.told["evidence"], evidence(started, after, source.class_names)
    differs = [f"evidence: {line}" for line in _differences(then, now, 100 / min(now["rows"].values()))]
    if differs or not claim:
        return differs
    if before is None or started is None:
        return ["claim: it cannot be tested without the model before"]
    return [f"claim: {line}" for line in judge(started, after, moved_share(before["params"], tree["params"])).findings]


def before_weights(
    home: Home, config: Config, source: Source, spec: ModelSpec, given: ArrayTree | None, cache: Path
) -> ArrayTree | None:
    """The weights that a request started from: the last request's, those given, or the original in the cache.

    Args:
      home: see ``open_home``.
      config: of the request.
      source: the data.
      spec: the model.
      given: what ``config.weights`` holds.
      cache: where an original that was trained here lies.

    Returns:
      ``{"params": ..., **model_state}``; None where they are gone, or are no longer those of the receipt.
    """
    number = home.told["request"]["number"]
    if number > 1:
        previous = home.folder.parent / f"request-{number - 1}" / "model"
        given = _weights(load(previous)[0]) if previous.is_dir() else None
    elif given is None:
        made = Maker(config, source, spec, cache, silent).found_original(rows_of(home, config, source)[0])
        given = None if made is None else _weights(made)
    if given is None:
        return None
    rest = dict(given)
    now = tree_sha256({"params": rest.pop("params"), "model_state": rest})
    return given if now == home.told["model"]["before"]["tree_sha256"] else None


def _weights(saved: ArrayTree) -> ArrayTree:
    return {"params": saved["params"], **saved["model_state"]}


def rows_of(home: Home, config: Config, source: Source) -> tuple[Splits, np.ndarray]:
    """The splits of a request that was carried out, and the rows that earlier ones forgot: from salt and ledger.

    Raises:
      LedgerError: if salt or ledger are missing, or a forgotten row is no longer in the data.
    """
    number = home.told["request"]["number"]
    if home.salt is None or len(home.entries) < number:
        raise ledger.LedgerError("evidence: without salt and ledger nobody can tell which rows it is about")
    row_of = {name: row for row, name in enumerate(ledger.salted(home.salt, source.ids.tolist()))}
    asked = [source.ids[row_of[name]] for name in home.entries[number - 1].ids if name in row_of]
    if gone := len(home.entries[number - 1].ids) - len(asked):
        raise ledger.LedgerError(f"evidence: {gone} of the forgotten rows are no longer in the data")
    splits, done = cut(config, source, asked), ledger.forgotten(home.entries[: number - 1])
    earlier = np.array(sorted(row_of[name] for name in done if name in row_of), np.int64)
    return dataclasses.replace(splits, remain=np.setdiff1d(splits.remain, earlier)), earlier


def _state(spec: ModelSpec, weights: ArrayTree) -> UnlearnState:
    rest = {name: jax.tree.map(jnp.asarray, value) for name, value in weights.items()}
    return make_state(spec.apply_fn, rest.pop("params"), rest, SGD, jax.random.key(0))


def _differences(then: Any, now: Any, allowed: float, name: str = "") -> list[str]:
    """What differs; what could not be computed anew is passed over."""
    if now is None:
        return []
    if isinstance(then, dict) and isinstance(now, dict) and set(then) == set(now):
        return [line for key in then for line in _differences(then[key], now[key], allowed, f"{name} {key}".strip())]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return [line for i, pair in pairs for line in _differences(*pair, allowed, f"{name} {i}")]
    if isinstance(then, float) and isinstance(now, float):
        close = abs(then - now) <= (allowed / 100 if "auc" in name else allowed)
        return [] if close else [f"{name} was {then:g}, is {now:g}"]
    return [] if then == now else [f"{name} was {then!r}, is {now!r}"]
