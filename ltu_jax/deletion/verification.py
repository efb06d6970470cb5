"""Verifies a receipt: seal, signature, files, ids, ledger, and the evidence, which is recomputed.

A receipt may be anybody's. What it names is not imported, written or fetched: no method is built, and no model trained.
"""

import dataclasses
import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Attackers, Calibration, Config, Data, Retrain, from_dict
from ltu_jax.deletion import ledger, removal, rows
from ltu_jax.deletion.claim import Claim, judge_models
from ltu_jax.deletion.copies import find_copies
from ltu_jax.deletion.measures import Measured, evidence
from ltu_jax.deletion.models import weights_of, weights_sha256
from ltu_jax.deletion.receipt import (
    IMAGES,
    NOBODYS,
    RECEIPT,
    WORK,
    file_problems,
    read_receipt,
    seal_problems,
    strange_files,
    verdict_of,
)
from ltu_jax.deletion.tokens import token_problems
from ltu_jax.evaluation.scores import measure
from ltu_jax.interop.weights import load_weights
from ltu_jax.models.build import ModelSpec
from ltu_jax.safe_reading import read_json
from ltu_jax.setting import ConfigError, digest, plain, to_dict
from ltu_jax.training.checkpoint import CheckpointError, load_tree
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import ArrayTree, Source, UnlearnState, make_state
from ltu_jax.unlearning.problem import cut

NEWER = {"copied"}
"""Figures of a claim that receipts of earlier versions lack."""


class SavedRequest(NamedTuple):
    """A finished request on the disk, to be verified."""

    receipt: dict[str, Any]
    folder: Path
    entries: list[ledger.Entry]
    salt: bytes | None  # None if it is missing or not readable
    settings: dict[str, Any] | None  # config.json, read once: what was checked is what is used; None if unreadable

    @property
    def number(self) -> int:
        """Number of the request, from 1."""
        return self.receipt["request"]["number"]


def open_request(path: Path, folder: Path | None = None) -> SavedRequest:
    """Opens a receipt and the ledger and salt beside its folder.

    Args:
      path: ``receipt.json``.
      folder: the folder of the request, or of all requests; None means that of the receipt.

    Raises:
      ConfigError: if there is no receipt.
      LedgerError: if ledger or salt were altered.
    """
    folder, receipt = (folder or path.parent).resolve(), read_receipt(path)
    name = f"request-{receipt['request']['number']}"
    if folder.name != name and (folder / name).is_dir():
        folder = folder / name
    home = folder.parent
    try:
        salt = ledger.read_salt(home)
    except PermissionError:  # only its owner can read it; hashes are checked without it
        salt = None
    try:
        settings = read_json(folder / "config.json")
    except (OSError, ValueError):  # a finding: its hash is another
        settings = None
    return SavedRequest(receipt, folder, ledger.read_ledger(home), salt, settings)


def config_of(saved: SavedRequest) -> Config:
    """The configuration of a request without what checking does not run: method, attackers, calibration, measure.

    So these may have other fields in the version that made the receipt.

    Raises:
      ConfigError: if it is not there or not one.
    """
    if saved.settings is None:
        raise ConfigError(f"receipt: {str(saved.folder)!r} has no readable config.json; allowed: as it was written")
    not_run = {"method": Retrain(), "attackers": Attackers(), "calibration": Calibration()}
    config = from_dict({**saved.settings, **{name: to_dict(group) for name, group in not_run.items()}})
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, measure=None))


def removed(saved: SavedRequest) -> list[str]:
    """The parts of a request's model that a later request removed."""
    is_last = saved.number >= len(saved.entries)
    return [] if is_last else [name for name in removal.MODEL if not (saved.folder / name).exists()]


def check_receipt(
    path: Path | str,
    source: Source,
    spec: ModelSpec,
    before: ArrayTree | None = None,
    *,
    claim: bool = True,
    public: str | None = None,
    unsigned: bool = False,
) -> list[str]:
    """Verifies a receipt and tests its claim.

    Args:
      path: ``receipt.json`` in its folder.
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; needed to test the claim.
      claim: whether to test the claim.
      public: the key of the required signature, hex.
      unsigned: accepts any signature and none, for a receipt that the caller made.

    Returns:
      The problems found, one line each; empty if the receipt is verified.

    Raises:
      ConfigError: if there is no receipt, or its rows are no longer in the data.
      LedgerError: if ledger or salt were altered or are missing.
    """
    saved = open_request(Path(path))
    found = check_hashes(saved, public=public) or check_evidence(saved, source, spec, before, claim=claim)
    if not found and saved.receipt.get("in_memory"):
        found = check_tokens(saved, source, None)
    return found if found or public is not None or unsigned else [f"{NOBODYS}: pass public, or unsigned=True"]


def check_hashes(saved: SavedRequest, *, public: str | None = None, ids: list[str] | None = None) -> list[str]:
    """Compares a receipt with its files, its ledger and, if given, the key of its signature (hex) and the ids.

    Returns the problems found, one line each. Files, models and ids need the salt.
    """
    receipt, folder, gone, salt = saved.receipt, saved.folder, removed(saved), saved.salt
    if broken := seal_problems(receipt, public) or [*strange_files(folder)]:
        return broken  # nothing in it can be trusted
    found = [*_ledger_problems(saved)]
    if salt is None:
        return [*found, f"{ledger.SALT}: it is missing or not readable, so files, models and ids cannot be compared"]
    names = receipt["files_salted_sha256"]
    expected = {f"{name}: it is missing" for name in names if name.partition("/")[0] in (*gone, IMAGES)}
    found = [line for line in file_problems(receipt, folder, salt) if line not in expected] + found
    found += [] if ids is None else _id_problems(salt, saved, ids)
    return found or [*_content_problems(saved, salt)]  # damaged files are not opened


def _ledger_problems(saved: SavedRequest) -> Iterator[str]:
    receipt, number, home = saved.receipt, saved.number, saved.folder.parent
    if ledger.is_torn(home):
        yield f"{ledger.LEDGER}: its last line is torn: the command of that request, given again, writes it anew"
    if not 1 <= number <= len(saved.entries):
        yield f"{ledger.LEDGER}: it has no request {number}"
        return
    following = home / f"request-{len(saved.entries) + 1}"
    if (following / RECEIPT).exists() and not (following / WORK).exists():
        yield f"{ledger.LEDGER}: it has no {following.name}, whose receipt is there"
    entry, model = saved.entries[number - 1], receipt["model"]
    line = f"{ledger.LEDGER}: line {number}"
    if len(entry.ids) != receipt["request"]["count"]:
        yield f"{line} has {len(entry.ids)} ids, the receipt {receipt['request']['count']}"
    if entry.receipt_sha256 != receipt["receipt_sha256"]:
        yield f"{line} tells of another receipt"
    if ledger.ids_sha256(entry.ids) != receipt["request"]["ids_sha256"]:
        yield f"{line} has other ids than the receipt"
    if entry.time != receipt["time"]["finished"]:
        yield f"{line} has another time than the receipt"
    if entry.model_sha256 != model["after"]["salted_sha256"]:
        yield f"{line} has another model after than the receipt"
    if entry.previous != receipt["request"]["previous"]:
        yield f"{ledger.LEDGER}: the lines before line {number} are not those that the receipt was made after"
    elif number > 1 and saved.salt is not None:
        earlier = saved.entries[number - 2].model_sha256  # without the salt in lines of older versions
        salted = ledger.salted_sha256(saved.salt, earlier)
        if model["before"]["salted_sha256"] not in (earlier, salted):
            yield f"{ledger.LEDGER}: line {number - 1} has another model than the receipt has before"


def _id_problems(salt: bytes, saved: SavedRequest, ids: list[str]) -> list[str]:
    before = ledger.forgotten(e for e in saved.entries if e.number < saved.number)
    hashed = [name for name in ledger.salted(salt, dict.fromkeys(ids)) if name not in before]
    is_same = ledger.ids_sha256(hashed) == saved.receipt["request"]["ids_sha256"]
    return [] if is_same else ["ids: they are not those forgotten"]


def _content_problems(saved: SavedRequest, salt: bytes) -> Iterator[str]:
    """Compares the contents of configuration, model and weights, whose files are intact, with the receipt."""
    receipt, folder, config = saved.receipt, saved.folder, saved.settings or {}
    method, after = config.get("method"), receipt["model"]["after"]
    is_same_method = isinstance(method, dict) and method.get("name") == receipt["method"]
    if digest(config) != receipt["config_sha256"] or not is_same_method:
        yield "config.json: it is not the configuration of the receipt"
    if not (folder / "model").exists():  # see ``removed``
        return
    weights = _load_weights(folder / "model")
    if not _is_model(after, weights, salt):
        yield "model: it is not the one of the receipt"
    for path in sorted((folder / "weights").iterdir()) if (folder / "weights").is_dir() else ():
        if not _is_model(after, load_weights(path, weights, f"weights/{path.name}"), salt):
            yield f"weights/{path.name}: it is not the model of the receipt"


def _is_model(recorded: Mapping[str, Any], weights: ArrayTree, salt: bytes | None) -> bool:
    """Whether weights are those that a receipt tells of, plainly (the owner's own) or under the salt."""
    sha256 = weights_sha256(weights)
    if (plainly := recorded.get("tree_sha256")) is not None:
        return sha256 == plainly
    return salt is not None and ledger.salted_sha256(salt, sha256) == recorded["salted_sha256"]


def _load_weights(path: Path) -> ArrayTree:
    """The weights of a saved model; refuses a checkpoint of anything else."""
    tree, _ = load_tree(path)
    is_model = isinstance(tree, dict) and set(tree) == {"params", "model_state"}
    if not is_model or not isinstance(tree["model_state"], dict):
        raise CheckpointError(f"{path} holds no model")
    return weights_of(tree)


def check_evidence(
    saved: SavedRequest, source: Source, spec: ModelSpec, before: ArrayTree | None, *, claim: bool
) -> list[str]:
    """Recomputes the evidence of a receipt, and tests the claim if asked.

    Args:
      saved: the request.
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; None if they no longer exist.
      claim: whether to test the claim.

    Returns:
      One line for each figure that differs by more than one row of its set, the tolerance for another machine. If none
      does, why the claim is refused.

    Raises:
      ConfigError: if its rows are no longer in the data.
      LedgerError: if salt, ledger or ``rows.json`` are missing, so that its rows are unknown.
    """
    if before is not None and not _is_model(saved.receipt["model"]["before"], before, saved.salt):
        return ["model before: it is not the one of the receipt"]
    if "model" in removed(saved):
        why = "its model was removed when a later request was done, which had no --keep_original"
        return [f"claim: it cannot be tested: {why}; {verdict_of(saved.receipt)}"] if claim else []
    index, size = rows_of(saved, source), config_of(saved).evaluation.batch_size
    model = _state(spec, _load_weights(saved.folder / "model"))
    original = None if before is None else _state(spec, before)
    after = measure(model, source, index, size)
    measured_before = None if original is None else measure(original, source, index, size)
    then, now = saved.receipt["evidence"], evidence(measured_before, after, source.class_names)
    differs = [f"evidence: {line}" for line in _differences(then, now, _counts(after))]
    if differs or not claim:
        return differs
    if original is None or measured_before is None:
        kept = "a file of your own (config.weights), or what --keep_original keeps when a request is made"
        return [f"claim: it cannot be tested without the model before: {kept}; {verdict_of(saved.receipt)}"]
    copied = _copied(saved, source, index["forget"])
    judged = judge_models(original, model, (measured_before, after), source, index, size, copied)
    return [f"claim: {line}" for line in [*_claim_differences(saved.receipt.get("claim"), judged), *judged.findings]]


def _copied(saved: SavedRequest, source: Source, forget: np.ndarray) -> float:
    """The share of the forgotten rows of which copies stayed, looked for in the data as they are now."""
    config, row_of, held_out = config_of(saved), _row_of(saved, source), rows.read_rows(saved.folder).held_out
    train = np.arange(source.num_train)
    if config.data.train_size is not None:  # else new rows in the data may cut them otherwise, and need not
        train = cut(config, source, source.ids[forget].tolist()).train
    not_there = {*ledger.forgotten(saved.entries[: saved.number]), *itertools.chain(*held_out.values())}
    stay = np.setdiff1d(train, [row_of[name] for name in not_there if name in row_of])
    return find_copies(source.images, forget, stay).share_of(len(forget))


def _claim_differences(then: Mapping[str, Any] | None, now: Claim) -> Iterator[str]:
    """How the verdict of a receipt differs from that made anew; a figure may by two rows, since bounds are drawn."""
    if then is None:
        return
    if then["shown"] != now.shown:
        said, is_so = ("shown" if one else "not shown" for one in (then["shown"], now.shown))
        yield f"the receipt says {said}, judged anew it is {is_so}"
    lacks = set(now.numbers) - set(then["numbers"])
    if set(then["numbers"]) - set(now.numbers) or lacks - NEWER:
        yield "its figures are others than those judged anew"
        return
    for name, was in then["numbers"].items():
        value = now.numbers[name]
        known = isinstance(was, float | int) and value is not None
        if was != value if not known else abs(was - value) > 2.001 * now.one_row[name]:
            yield f"{name} was {was}, is {value}"


def check_tokens(saved: SavedRequest, source: Source, data: Data | None) -> list[str]:
    """Compares the commitments of a receipt, by which persons find their images, with the data; see ``token_problems``.

    Args:
      saved: a request whose hashes are right.
      source: the data.
      data: what they were read from; None where the caller of ``ltu_jax.forget`` had them.
    """
    if saved.salt is None or len(saved.entries) < saved.number:
        return []  # a finding of ``check_hashes``
    forgotten = saved.entries[saved.number - 1].ids
    return token_problems(saved.receipt.get("tokens"), forgotten, saved.salt, source, data)


def before_weights(saved: SavedRequest, given: ArrayTree | None, cache: Path) -> ArrayTree | None:
    """The weights that a request started from: those of the request before, those given, or the original in the cache.

    Args:
      saved: the request.
      given: the current weights in ``config.weights``.
      cache: folder of an original that was trained here.

    Returns:
      ``{"params": ..., **model_state}``; None if they no longer exist or were replaced by the unlearned ones.

    Raises:
      CheckpointError: if those of the request before are damaged.
    """
    number = saved.number
    if number > 1:
        previous = saved.folder.parent / f"request-{number - 1}" / "model"
        return _load_weights(previous) if previous.is_dir() else None
    if given is not None:
        sha256, salt = weights_sha256(given), saved.salt
        later = (entry.model_sha256 for entry in saved.entries)
        return None if salt and any(ledger.is_hash_of(one, sha256, salt) for one in later) else given
    # By its hash and not by its key, which depends on the machine; an entry is read, and none is made.
    noted = {Path(name).name for name in removal.noted_originals(saved.folder.parent)}  # first, for each is read whole
    for path in sorted(cache.glob("original-*"), key=lambda path: path.name not in noted):
        if re.fullmatch(r"original-[0-9a-f]+", path.name) and path.is_dir() and not path.is_symlink():
            try:
                found = weights_of(load_tree(path)[0])
            except (CheckpointError, KeyError, TypeError) as error:
                logging.getLogger(__name__).warning("passed over: %s", plain(str(error)))
                continue
            if _is_model(saved.receipt["model"]["before"], found, saved.salt):
                return found
    return None


def rows_of(saved: SavedRequest, source: Source) -> dict[str, np.ndarray]:
    """The rows that a request was measured on, by name: see ``rows.rows_to_measure``.

    Raises:
      LedgerError: if salt, ledger or ``rows.json`` are missing or damaged.
      ConfigError: if some rows are no longer in the data.
    """
    number, recorded = saved.number, rows.read_rows(saved.folder)
    row_of, held_out_part = _row_of(saved, source), config_of(saved).data.held_out
    names = {"forget": saved.entries[number - 1].ids, **recorded.measured}
    if "earlier" in (num_rows := saved.receipt["evidence"]["rows"]):
        names["earlier"] = [name for name in ledger.forgotten(saved.entries[: number - 1]) if name in row_of]
    every = [name for wanted in names.values() for name in wanted]
    used = {*recorded.held_out["validation"], *recorded.held_out["reserve"]}
    not_test = set(recorded.measured["held_out"]).difference(recorded.held_out["test"])
    if not_test or used.intersection(every) or len(set(every)) < len(every):
        raise ledger.LedgerError(f"{rows.ROWS}: rows are measured twice, or were used for something else")
    index = {}
    for which, wanted in names.items():
        found = [row_of[name] for name in wanted if name in row_of]
        count = num_rows["earlier"] if which == "earlier" else len(wanted)  # some earlier rows were already gone
        if len(found) < count:
            raise ConfigError(
                f"receipt: {count - len(found)} of the {count} {which} rows that it was measured on are no longer in"
                " the data; allowed: the data as they were, or --hashes, which needs none"
            )
        index[which] = np.array(sorted(found), np.int64)
        if held_out_part == "test" and ((index[which] >= source.num_train) != (which == "held_out")).any():
            raise ledger.LedgerError(f"{rows.ROWS}: {which} rows are in the wrong part of the data")
    _check_draw(saved, recorded)
    return index


def _check_draw(saved: SavedRequest, recorded: rows.RecordedRows) -> None:
    """Refuses held-out rows that salt and model do not draw; receipts without a claim were measured on all."""
    if "claim" not in saved.receipt:
        return
    pool, salt = recorded.drawn_from or {}, saved.salt
    names = [name for of_class in pool.values() for name in of_class]
    was_there = set(recorded.held_out["test"]) if saved.number == 1 else set(names) & set(recorded.held_out["test"])
    assert salt is not None  # _row_of
    again = rows.drawn(pool, salt, saved.receipt["model"]["after"]["salted_sha256"])
    if set(names) != was_there or sorted(again) != sorted(recorded.measured["held_out"]):
        raise ledger.LedgerError(f"{rows.ROWS}: the held-out rows measured are not those that salt and model draw")


def _row_of(saved: SavedRequest, source: Source) -> dict[str, int]:
    if saved.salt is None or len(saved.entries) < saved.number:
        raise ledger.LedgerError("evidence: without salt and ledger nobody can tell which rows it is about")
    return {name: row for row, name in enumerate(ledger.salted(saved.salt, source.ids.tolist()))}


def _state(spec: ModelSpec, weights: ArrayTree) -> UnlearnState:
    rest = {name: jax.tree.map(jnp.asarray, value) for name, value in weights.items()}
    return make_state(spec.apply_fn, rest.pop("params"), rest, SGD, jax.random.key(0))


def _counts(measured: Measured) -> dict[str, int]:
    """The number of rows of each set, and of each class in it."""
    counts = {name: len(one.labels) for name, one in measured.items()}
    for name in ("remain", "held_out"):
        for label, count in zip(*np.unique(measured[name].labels, return_counts=True), strict=True):
            counts[f"{name} of {label}"] = int(count)
    return counts


def _differences(then: Any, now: Any, num_rows: Mapping[str, int], name: str = "", label: Any = None) -> list[str]:
    """One line for each difference; figures of a missing model before are ignored."""
    if now is None and (name == "before" or name.endswith(("remain 0", "held_out 0"))):
        return []
    if isinstance(then, dict) and isinstance(now, dict) and set(then) == set(now):
        here = now.get("label", label)
        return [
            line for key in then for line in _differences(then[key], now[key], num_rows, f"{name} {key}".strip(), here)
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return [line for i, pair in pairs for line in _differences(*pair, num_rows, f"{name} {i}", label)]
    if isinstance(then, float) and isinstance(now, float):
        close = abs(then - now) <= 1.001 * _one_row(name, num_rows, label)
        return [] if close else [f"{name} was {then:g}, is {now:g}"]
    return [] if then == now else [f"{name} was {then!r}, is {now!r}"]


def _one_row(name: str, num_rows: Mapping[str, int], label: Any) -> float:
    """The contribution of one row to a figure; figures of a class are rounded to whole points."""
    [which] = [one for one in ("forget", "remain", "held_out", "earlier", "attack", "chance_ks") if one in name][:1]
    if label is not None:
        return 1 + 100 / num_rows[f"{which} of {label}"]
    sets = ["earlier" if "earlier" in name else "forget", "held_out"] if "attack" in name else [which]
    unit = 1 if name.rstrip(" 0123456789").endswith("auc") else 100
    return unit / min(num_rows.get(of, 1000) for of in sets)
