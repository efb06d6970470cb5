"""Checks a receipt against what it tells of: seal, signature, files, ids, ledger, and the evidence computed anew."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.config import Config, from_dict
from ltu_jax.deletion import ledger, receipt, removal, rows
from ltu_jax.deletion.claim import judge, moved_share
from ltu_jax.deletion.measures import evidence, measure
from ltu_jax.deletion.models import weights_of, weights_sha256
from ltu_jax.interop.weights import load_weights
from ltu_jax.models.build import ModelSpec
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.checkpoint import CheckpointError, load
from ltu_jax.training.jobs import Trainer
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import ArrayTree, Source, UnlearnState, make_state, silent
from ltu_jax.unlearning.preparation import original_job
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
    folder, told = (folder or path.parent).resolve(), receipt.read(path)
    if folder.name != f"request-{told['request']['number']}" and (within := _of(folder, told)).is_dir():
        folder = within  # --model out/ is the folder of all requests
    home = folder.parent
    try:
        salt = ledger.read_salt(home)
    except PermissionError:  # it is its owner's alone; hashes are checked without it
        salt = None
    return Home(told, folder, ledger.read_ledger(home), salt)


def _of(home: Path, told: Mapping[str, Any]) -> Path:
    return home / f"request-{told['request']['number']}"


def config_of(home: Home) -> Config:
    """The configuration of a request, as it lies in its folder."""
    return from_dict(_config_told(home.folder))


def _config_told(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        where = str(folder / "config.json")
        raise ConfigError(f"receipt: {where!r} cannot be read ({reason(error)}); allowed: as it was written") from error


def removed(home: Home) -> list[str]:
    """The folders of a request's model that are gone as a whole, as they are when a later request is done."""
    is_last = home.told["request"]["number"] >= len(home.entries)
    return [] if is_last else [name for name in removal.MODEL if not (home.folder / name).exists()]


def check_receipt(
    path: Path | str,
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
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; without them the claim cannot be tested.
      claim: whether to test the claim itself.
      public: the key whose signature it must bear, hex.

    Returns:
      A line each.

    Raises:
      ConfigError: if there is no receipt, or rows that it is about are no longer in the data.
      LedgerError: if ledger or salt were altered or are missing.
    """
    home = open_home(Path(path))
    return check_hashes(home, public=public) or check_evidence(home, source, spec, before, claim=claim)


def check_hashes(home: Home, *, public: str | None = None, ids: list[str] | None = None) -> list[str]:
    """What differs between a receipt and what lies there, a line each; empty where nothing does.

    Args:
      home: see ``open_home``.
      public: the key whose signature it must bear, hex.
      ids: what is said to have been forgotten; needs the salt.

    Returns:
      Lines.
    """
    told, folder, gone = home.told, home.folder, removed(home)
    if broken := receipt.seal_broken(told, public):
        return broken  # what it says means nothing
    differ = receipt.files_differ(told, folder)
    lawful = {f"{name}: it is missing" for name in told["files"] if name.partition("/")[0] in gone}
    found = [*(line for line in differ if line not in lawful), *_ledger_differs(home)]
    if ids is not None and home.salt is None:
        found.append(f"{ledger.SALT}: it is missing, so ids cannot be compared")
    elif ids is not None and home.salt is not None:
        found += _ids_differ(home.salt, home, ids)
    return found or [*_contents_differ(told, folder)]  # damaged files are not opened


def _ledger_differs(home: Home) -> Iterator[str]:
    told, number = home.told, home.told["request"]["number"]
    if not 1 <= number <= len(home.entries):
        yield f"{ledger.LEDGER}: it has no request {number}"
        return
    entry, model = home.entries[number - 1], told["model"]
    line = f"{ledger.LEDGER}: line {number}"
    if len(entry.ids) != told["request"]["count"]:
        yield f"{line} has {len(entry.ids)} ids, the receipt {told['request']['count']}"
    if entry.receipt_sha256 != told["receipt_sha256"]:
        yield f"{line} tells of another receipt"
    if ledger.ids_sha256(entry.ids) != told["request"]["ids_sha256"]:
        yield f"{line} has other ids than the receipt"
    if entry.model_sha256 != model["after"]["tree_sha256"]:
        yield f"{line} has another model after than the receipt"
    if entry.previous != told["request"]["previous"]:
        yield f"{ledger.LEDGER}: the lines before line {number} are not those that the receipt was made after"
    elif number > 1 and home.entries[number - 2].model_sha256 != model["before"]["tree_sha256"]:
        yield f"{ledger.LEDGER}: line {number - 1} has another model than the receipt has before"


def _ids_differ(salt: bytes, home: Home, ids: list[str]) -> list[str]:
    before = ledger.forgotten(e for e in home.entries if e.number < home.told["request"]["number"])
    hashed = [name for name in ledger.salted(salt, dict.fromkeys(ids)) if name not in before]
    return (
        [] if ledger.ids_sha256(hashed) == home.told["request"]["ids_sha256"] else ["ids: they are not those forgotten"]
    )


def _contents_differ(told: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Whether the files, which are those of the receipt, hold what it says that they hold."""
    config = _config_told(folder)
    method = config.get("method")
    if digest(config) != told["config_sha256"] or not isinstance(method, dict) or method.get("name") != told["method"]:
        yield "config.json: it is not the configuration of the receipt"
    if not (folder / "model").exists():  # see ``removed``
        return
    weights = _loaded(folder / "model")
    if weights_sha256(weights) != told["model"]["after"]["tree_sha256"]:
        yield "model: it is not the one of the receipt"
    for path in sorted((folder / "weights").iterdir()) if (folder / "weights").is_dir() else ():
        if weights_sha256(load_weights(path, weights, f"weights/{path.name}")) != told["model"]["after"]["tree_sha256"]:
            yield f"weights/{path.name}: it is not the model of the receipt"


def _loaded(path: Path) -> ArrayTree:
    """The weights of a model that was saved, and of nothing else."""
    tree, _ = load(path)
    if (
        not isinstance(tree, dict)
        or set(tree) != {"params", "model_state"}
        or not isinstance(tree["model_state"], dict)
    ):
        raise CheckpointError(f"{path} holds no model")
    return weights_of(tree)


def check_evidence(home: Home, source: Source, spec: ModelSpec, before: ArrayTree | None, *, claim: bool) -> list[str]:
    """Computes the evidence of a receipt anew, and judges the claim if asked.

    Args:
      home: see ``open_home``; salt, ledger and ``rows.json`` tell which rows it is about.
      source: the data.
      spec: the model.
      before: its weights before, ``{"params": ..., **model_state}``; None where they are gone.
      claim: whether to judge it.

    Returns:
      What differs from the receipt by more than one row of its set (it may be computed on another machine), else why
      the claim is refused, a line each.

    Raises:
      ConfigError: if rows that it is about are no longer in the data.
      LedgerError: if the rows cannot be told.
    """
    if before is not None and weights_sha256(before) != home.told["model"]["before"]["tree_sha256"]:
        return ["model before: it is not the one of the receipt"]
    if "model" in removed(home):
        why = "its model was removed when a later request was done, which had no --keep_original"
        return [f"claim: it cannot be tested: {why}"] if claim else []
    index, size = rows_of(home, source), config_of(home).evaluation.batch_size
    weights = _loaded(home.folder / "model")
    after = measure(_state(spec, weights), source, index, size)
    started = None if before is None else measure(_state(spec, before), source, index, size)
    then, now = home.told["evidence"], evidence(started, after, source.class_names)
    differs = [f"evidence: {line}" for line in _differences(then, now, _counts(after))]
    if differs or not claim:
        return differs
    if before is None or started is None:
        kept = "a file of your own (config.weights), or what --keep_original keeps when a request is made"
        return [f"claim: it cannot be tested without the model before: {kept}"]
    found = judge(started, after, moved_share(before["params"], weights["params"])).findings
    return [f"claim: {line}" for line in found]


def before_weights(
    home: Home, source: Source, spec: ModelSpec, given: ArrayTree | None, cache: Path
) -> ArrayTree | None:
    """The weights that a request started from: the last request's, those given, or the original in the cache.

    Args:
      home: see ``open_home``.
      source: the data.
      spec: the model.
      given: what ``config.weights`` holds now.
      cache: where an original that was trained here lies.

    Returns:
      ``{"params": ..., **model_state}``; None where they are gone, as where the unlearned ones were put in their place.

    Raises:
      CheckpointError: if those of the last request are damaged.
    """
    number = home.told["request"]["number"]
    if number > 1:
        previous = home.folder.parent / f"request-{number - 1}" / "model"
        return _loaded(previous) if previous.is_dir() else None
    if given is not None:
        is_later = weights_sha256(given) in {entry.model_sha256 for entry in home.entries}
        return None if is_later else given
    config = config_of(home)
    trainer = Trainer(config, source, spec, cache, silent)
    job = original_job(cut(config, source, _ids_of(home, source)))
    return weights_of(trainer.model(job)) if trainer.entry(job).is_there() else None


def rows_of(home: Home, source: Source) -> dict[str, np.ndarray]:
    """The rows that a request was measured on, by name: see ``rows.to_measure``.

    Raises:
      LedgerError: if salt, ledger or ``rows.json`` are missing.
      ConfigError: if some of them are no longer in the data.
    """
    number, told = home.told["request"]["number"], rows.read(home.folder)
    row_of, held_out_part = _row_of(home, source), config_of(home).data.held_out
    names = {"forget": home.entries[number - 1].ids, **told.measured}
    if "earlier" in (num_rows := home.told["evidence"]["rows"]):
        names["earlier"] = [name for name in ledger.forgotten(home.entries[: number - 1]) if name in row_of]
    every = [name for wanted in names.values() for name in wanted]
    used = {*told.held_out["validation"], *told.held_out["reserve"]}
    strange = set(told.measured["held_out"]).difference(told.held_out["test"])
    if strange or used.intersection(every) or len(set(every)) < len(every):
        raise ledger.LedgerError(f"{rows.ROWS}: rows are measured twice, or were used for something else")
    index = {}
    for which, wanted in names.items():
        there = [row_of[name] for name in wanted if name in row_of]
        once = num_rows["earlier"] if which == "earlier" else len(wanted)  # of earlier rows some may have gone before
        if len(there) < once:
            raise ConfigError(
                f"receipt: {once - len(there)} of the {once} {which} rows that it was measured on are no longer in the"
                " data; allowed: the data as they were, or --hashes, which needs none"
            )
        index[which] = np.array(sorted(there), np.int64)
        if held_out_part == "test" and ((index[which] >= source.num_train) != (which == "held_out")).any():
            raise ledger.LedgerError(f"{rows.ROWS}: {which} rows are in the wrong part of the data")
    return index


def _ids_of(home: Home, source: Source) -> list[str]:
    row_of, entry = _row_of(home, source), home.entries[home.told["request"]["number"] - 1]
    return [str(source.ids[row_of[name]]) for name in entry.ids if name in row_of]


def _row_of(home: Home, source: Source) -> dict[str, int]:
    if home.salt is None or len(home.entries) < home.told["request"]["number"]:
        raise ledger.LedgerError("evidence: without salt and ledger nobody can tell which rows it is about")
    return {name: row for row, name in enumerate(ledger.salted(home.salt, source.ids.tolist()))}


def _state(spec: ModelSpec, weights: ArrayTree) -> UnlearnState:
    rest = {name: jax.tree.map(jnp.asarray, value) for name, value in weights.items()}
    return make_state(spec.apply_fn, rest.pop("params"), rest, SGD, jax.random.key(0))


def _counts(told: Mapping[str, Any]) -> dict[str, int]:
    """Rows of each set, and of each class of it."""
    counts = {name: len(one.labels) for name, one in told.items()}
    for name in ("remain", "held_out"):
        for label, count in zip(*np.unique(told[name].labels, return_counts=True), strict=True):
            counts[f"{name} of {label}"] = int(count)
    return counts


def _differences(then: Any, now: Any, num_rows: Mapping[str, int], name: str = "", label: Any = None) -> list[str]:
    """What differs; figures of a model before that is gone are passed over."""
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
    """What one row counts in a figure; those of a class are told in whole points."""
    [which] = [one for one in ("forget", "remain", "held_out", "earlier", "attack", "chance_ks") if one in name][:1]
    if label is not None:
        return 1 + 100 / num_rows[f"{which} of {label}"]
    sets = ["earlier" if "earlier" in name else "forget", "held_out"] if "attack" in name else [which]
    unit = 1 if name.rstrip(" 0123456789").endswith("auc") else 100
    return unit / min(num_rows.get(of, 1000) for of in sets)
