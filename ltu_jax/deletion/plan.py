"""Plans a request: checks everything that can be wrong, before anything is written."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax import safe_reading
from ltu_jax.config import Config, needs
from ltu_jax.data.splits import see
from ltu_jax.deletion import ledger, rows
from ltu_jax.deletion.calibration import check_calibration
from ltu_jax.deletion.models import weights_sha256
from ltu_jax.deletion.receipt import RECEIPT, WORK, private_key, read_receipt, seal_problems, shown_in
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import ConfigError, to_dict
from ltu_jax.types import ArrayTree, Source, Splits
from ltu_jax.unlearning.problem import check_scoring, cut, held_out_part, model_for

MAY_CHANGE = ("data_dir", "table", "memory_map", "stream", "augment", "remain_fraction", "skip_unreadable")
"""Fields of ``config.data`` that a later request may change: the others determine the training rows of the model."""


class Request(NamedTuple):
    """A deletion request."""

    config: Config  # resolved; see ``request_config``
    ids: Sequence[str]
    home: Path  # folder of all requests
    key: Path | None = None  # signs the receipt
    show_images: bool = False  # whether the report may show forgotten images
    keep_original: bool = False  # whether to keep the models from before it
    in_memory: bool = False  # whether a caller passed data and model, which ``config`` then does not name
    operator: str | None = None  # who runs which model, as the receipt shall name them


class Fulfilled(NamedTuple):
    """A finished request."""

    number: int
    folder: Path
    receipt: dict[str, Any]
    result: dict[str, Any]
    repeated: int  # number of ids that earlier requests had forgotten
    is_new: bool  # False if those were all, so nothing was done
    lost: ledger.Entry | None = None  # its line, if the ledger lost it
    weights: ArrayTree | None = None  # of a new one: ``{"params": ..., **model_state}``, as read back from its folder
    not_shown: Sequence[int] = ()  # the requests on these ids, this one or earlier, whose receipts show no forgetting


class Plan(NamedTuple):
    """A valid request; nothing is written yet."""

    config: Config  # with ``held_out`` decided
    ids: list[str]  # to forget now
    salt: bytes | None  # None before the first request
    repeated: int
    splits: Splits
    earlier: np.ndarray  # rows that earlier requests forgot, indices into the source
    entries: list[ledger.Entry]  # the ledger so far
    previous: Path | None  # folder of the last request
    recorded: rows.RecordedRows | None  # its rows
    not_shown: Sequence[int]  # earlier requests on some of the ids asked for, whose receipts show no forgetting

    @property
    def number(self) -> int:
        """Number of the request, from 1."""
        return len(self.entries) + 1

    @property
    def salted(self) -> list[str]:
        """The salted ids; needs the salt."""
        assert self.salt is not None
        return ledger.salted(self.salt, self.ids)

    @property
    def last_seal(self) -> str:
        """Seal of the last line of the ledger."""
        return self.entries[-1].seal if self.entries else ledger.START


def request_config(config: Config) -> Config:
    """The configuration of a request: without Retrain, and with ids as the choice of forget rows."""
    data = dataclasses.replace(config.data, forget_kind="ids")
    evaluation = dataclasses.replace(config.evaluation, num_retrain=0)
    return dataclasses.replace(config, data=data, evaluation=evaluation)


def load_given_model(config: Config, source: Source, home: Path) -> tuple[ModelSpec, ArrayTree | None]:
    """The model and its ``config.weights``. A later request does without the file: it starts from the last model.

    Raises:
      ConfigError: as ``model_for``.
      LedgerError: if the ledger was altered.
    """
    if config.weights is not None and not Path(config.weights).exists() and ledger.read_ledger(home):
        config = dataclasses.replace(config, weights=None)
    return model_for(config, source)


def plan(request: Request, source: Source, given: ArrayTree | None = None) -> Plan | Fulfilled:
    """Plans a request; returns ``Fulfilled`` if earlier requests have forgotten all ids.

    That of the last request is found in its receipt, too, if the ledger lost its line.

    Args:
      request: the request.
      source: the data.
      given: weights passed by the user, ``{"params": ..., **model_state}``; they must be the first or a later model
        of the folder.

    Raises:
      ConfigError: if the request does not fit the data or the earlier requests.
      LedgerError: if the ledger or the salt was altered.
    """
    home, config = request.home, request.config
    if not request.ids:
        raise ConfigError("ids: none given; allowed: at least one")
    if source.images.dtype != np.uint8 or source.images.ndim != 4:
        what = f"{source.images.dtype}[{','.join(map(str, source.images.shape))}]"
        raise ConfigError(f"source.images: {what} are no images; allowed in a request: uint8[rows,height,width,3]")
    entries, salt = ledger.read_ledger(home), ledger.read_salt(home)
    number = len(entries) + 1
    folder = home / f"request-{number}"
    has_more = (folder / RECEIPT).exists() or ledger.is_torn(home)
    is_lost = has_more and not (folder / WORK).exists()  # it is there until the line is written
    if (entries or is_lost) and salt is None:
        raise ledger.LedgerError(f"{home / ledger.SALT} is missing: without it no earlier id is recognised")
    done = ledger.forgotten(entries)
    hashed = dict(zip(request.ids, ledger.salted(salt or b"", request.ids), strict=True))
    asked = [name for name in hashed if hashed[name] not in done]
    repeated = len(hashed) - len(asked)
    not_shown = _not_shown(home, {done[name] for name in hashed.values() if name in done})
    lost = _lost_line(home, entries, [hashed[name] for name in asked]) if is_lost and asked else None
    if not asked or lost is not None:
        number = number if lost is not None else max(done[name] for name in hashed.values())
        folder = home / f"request-{number}"
        receipt, result = (read_json(folder / name) for name in (RECEIPT, "result.json"))
        if lost is not None:
            not_shown += _not_shown(home, {number})
        return Fulfilled(number, folder, receipt, result, repeated, False, lost, not_shown=not_shown)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, held_out=held_out_part(config, source)))
    _check_config(config)
    splits, earlier = _cut(config, source, asked, has_model=given is not None), np.zeros(0, np.int64)
    previous, recorded = home / f"request-{number - 1}" if entries else None, None
    if previous is not None and salt is not None:
        _check_same_model(config, previous, entries, salt, given)
        train = splits.train
        is_done = np.array([name in done for name in ledger.salted(salt, source.ids[train].tolist())], bool)
        earlier = np.setdiff1d(train[is_done], splits.forget)
        recorded = rows.read_rows(previous)
        splits = rows.keep_held_out(splits, source, salt, recorded, done, config.data.held_out)
        splits = dataclasses.replace(splits, remain=np.setdiff1d(splits.remain, earlier), seen=None)
    if not len(splits.remain):
        raise ConfigError("--forget: no row is left that remains; allowed: at least one")
    fraction = rows.fraction_seen(config.data.remain_fraction, len(splits.remain))
    splits = see(splits, fraction, config.seed_for("split"))
    if config.calibration.trials:
        check_calibration(config, splits)
    check_scoring(config, splits)
    if request.key is not None:
        private_key(request.key)
    return Plan(config, asked, salt, repeated, splits, earlier, entries, previous, recorded, not_shown)


def _cut(config: Config, source: Source, ids: list[str], *, has_model: bool) -> Splits:
    try:
        return cut(config, source, ids)
    except ConfigError as error:
        if has_model:
            raise
        unset = "config.weights is unset, so the request would train a model of its own on a part of these rows"
        raise ConfigError(f"{error}; {unset}") from error


def _not_shown(home: Path, numbers: Iterable[int]) -> list[int]:
    """Those of some requests whose receipts do not show forgetting, or cannot be read."""
    return [number for number in sorted(numbers) if not shown_in(home / f"request-{number}")]


def entry_of(receipt: dict[str, Any], salted_ids: Sequence[str]) -> ledger.Entry:
    """The line of the ledger that tells of a receipt."""
    request, after = receipt["request"], receipt["model"]["after"]["salted_sha256"]
    finished, ids = receipt["time"]["finished"], tuple(sorted(salted_ids))
    return ledger.Entry(request["number"], finished, ids, receipt["receipt_sha256"], after, request["previous"])


def _lost_line(home: Path, entries: list[ledger.Entry], salted_ids: Sequence[str]) -> ledger.Entry:
    """The line that the ledger lost of the request after ``entries``, made anew of its receipt and its ids."""
    number, seal = len(entries) + 1, entries[-1].seal if entries else ledger.START
    again = "put back a whole copy, or give the ids of that request again, of which its line is made anew"
    try:
        receipt = read_receipt(home / f"request-{number}" / RECEIPT)
    except ConfigError as error:
        receipt, again = None, f"put back a whole copy; its line cannot be made anew ({error})"
    if receipt is not None and not seal_problems(receipt):
        line, ids = entry_of(receipt, salted_ids), ledger.ids_sha256(salted_ids)
        if (line.number, line.previous, receipt["request"]["ids_sha256"]) == (number, seal, ids):
            return line
    raise ledger.LedgerError(
        f"{home / ledger.LEDGER} has no whole line of request {number}, which is done: it lost its end; {again}"
    )


def _check_config(config: Config) -> None:
    if "updates" in needs(config.method):
        raise ConfigError(
            f"config.method.name: {config.method.name!r} needs to have recorded what the rows did in training, before"
            " anybody asked for them; allowed: another method"
        )
    if config.data.train_size is not None and config.data.held_out == "test":
        raise ConfigError(
            f"config.data.train_size: {config.data.train_size}, and which rows those are would change when images are"
            " deleted; allowed: unset, where held-out rows are a part of their own"
        )
    if config.logger is not None:
        raise ConfigError(
            f"config.logger: {config.logger!r}, but a request logs to its own folder alone; allowed: unset"
        )


def _check_same_model(
    config: Config, previous: Path, entries: list[ledger.Entry], salt: bytes, given: ArrayTree | None
) -> None:
    """Refuses a request whose model, data or weights are not those of the last request."""
    if not (previous / "model").is_dir():
        where = str(previous / "model")
        raise ConfigError(f"--workdir: {where!r} is not there; allowed: a folder with its last model")
    before, now = read_json(previous / "config.json"), to_dict(config)
    if not all(isinstance(before.get(group), dict) for group in ("data", "model", "seeds")):
        raise ConfigError(f"--workdir: {str(previous)!r} holds a damaged config.json; allowed: as it was written")
    for settings in (before, now):
        settings["data"] = {name: value for name, value in settings["data"].items() if name not in MAY_CHANGE}
        settings["seeds"] = {"split": settings["seeds"].get("split")}
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
    known, sha256 = {entry.model_sha256 for entry in entries}, weights_sha256(given)
    if (first := previous.parent / "request-1" / RECEIPT).exists():
        known.add(_first_sha256(first))
    if not any(ledger.is_hash_of(model, sha256, salt) for model in known):
        raise ConfigError(
            f"config.weights: they are those of another model than {str(previous.parent)!r} is about; allowed: those"
            " from before the first request, those that the last one left, or another --workdir"
        )


def _first_sha256(path: Path) -> str:
    """The model that the first request started from; its receipt may be of an older version."""
    try:
        return read_json(path)["model"]["before"]["tree_sha256"]
    except (KeyError, TypeError):
        raise ConfigError(f"--workdir: {str(path)!r} is no receipt; allowed: as it was written") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads JSON that an earlier command wrote.

    Raises:
      ConfigError: if the file is missing or damaged.
    """
    try:
        return safe_reading.read_json(path)
    except (OSError, ValueError):
        raise ConfigError(f"--workdir: {str(path)!r} cannot be read; allowed: a folder with all its requests") from None
