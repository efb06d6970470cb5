"""What ``python -m ltu_jax.verify`` does: checks the receipt of a deletion request, and says what differs."""

import dataclasses
import sys
from pathlib import Path

from ltu_jax.commands.recipients import print_verdict
from ltu_jax.config import Config, Data
from ltu_jax.data.records import refuse
from ltu_jax.data.sources import load_source
from ltu_jax.data.splits import read_ids
from ltu_jax.deletion import ledger, tokens, verification
from ltu_jax.deletion.few import FEWEST_TO_CLAIM
from ltu_jax.deletion.ledger import LedgerError
from ltu_jax.deletion.rates import RATES
from ltu_jax.deletion.receipt import code_sha256, path_sha256, public_key, verdict_of
from ltu_jax.deletion.verification import SavedRequest
from ltu_jax.reporting.terminal import progress_for
from ltu_jax.setting import ConfigError, plain
from ltu_jax.training.checkpoint import CheckpointError
from ltu_jax.unlearning.problem import model_for


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """The command line of a check; paths say where files lie now, for a receipt is checked on another machine."""

    receipt: Path
    model: Path | None
    forget: str | None
    public_key: Path | None
    unsigned: bool
    data_dir: Path | None
    table: Path | None
    memory_map: Path | None
    weights: Path | None
    code: list[str]
    cache: Path | None
    evidence: bool
    hashes: bool
    tokens: Path | None


def check(options: CheckOptions) -> int:
    """Checks a receipt and prints what was found; the exit status, 0 verified, 1 something differs or is nobody's.

    Raises:
      ConfigError: if the receipt, a key, the data or the model is not what it should be.
    """
    public = None if options.public_key is None else public_key(options.public_key)
    ids = None if options.forget is None else read_ids(options.forget, "--forget")
    what, saved = "hashes", None
    try:
        saved = verification.open_request(options.receipt, options.model)
        found = verification.check_hashes(saved, public=public, ids=ids if options.tokens is None else None)
        if is_removed := "model" in verification.removed(saved):
            print("the model was removed when a later request was done, as it should be: the rest is checked")
        if saved.receipt.get("in_memory") and not found and not options.hashes:
            _say_in_memory(options)
        elif not found and not options.hashes and options.tokens is None and (not is_removed or options.evidence):
            what, found = _check_evidence(saved, options)
    except (LedgerError, CheckpointError) as error:
        found = [str(error)]
    if found or saved is None:
        if saved is not None and not (saved.folder / "config.json").exists():
            print("who has receipt.json and report.html alone checks them by --report report.html", file=sys.stderr)
        return print_verdict(found, what, public, options.unsigned)
    if options.tokens is not None:
        return _hand_out(saved, options, options.tokens, list(dict.fromkeys(ids or [])))
    receipt = saved.receipt
    if options.evidence:
        print(RATES)
    what = f"{what} of request {receipt['request']['number']}, {receipt['request']['count']} rows"
    said = None if options.evidence else verdict_of(receipt)
    return print_verdict(found, what, public, options.unsigned, said)


def _hand_out(saved: SavedRequest, options: CheckOptions, folder: Path, ids: list[str]) -> int:
    """Writes the tokens of some forgotten ids."""
    receipt, salt, number = saved.receipt, saved.salt, saved.number
    assert salt is not None  # check_hashes
    forgotten, told = saved.entries[number - 1].ids, receipt.get("tokens")
    if not isinstance(told, list):
        raise ConfigError("--tokens: the receipt is of a version that had none; allowed: unset")
    if folder.resolve().is_relative_to(saved.folder.parent):
        where = f"--tokens: {str(folder)!r} lies in the folder of requests, which names no id"
        raise ConfigError(f"{where}; allowed: another folder")
    others = [repr(name) for name, one in zip(ids, ledger.salted(salt, ids), strict=True) if one not in forgotten]
    refuse("--forget", others, len(ids), f"ids are not of request {number}", "ids that it forgot")
    images: dict[str, str] = {}
    if not receipt.get("in_memory"):
        data = _data(saved, options)
        try:
            images = tokens.hashed_images(ids, load_source(data, progress_for(), fetch=False), data)
        except ConfigError as error:
            print(plain(f"the images are not there: {error}"), file=sys.stderr)
    num_without = tokens.write_tokens(folder, number, told, salt, {name: images.get(name) for name in ids})
    print(plain(f"{len(ids)} tokens in {folder}: hand each to the owner of its image, and to nobody else"))
    if num_without:
        print(plain(f"{num_without} of them have no hash of the image: their owners need a copy of it (--image)"))
    return 0


def _say_in_memory(options: CheckOptions) -> None:
    """Data and model were passed by a caller: what a receipt says of them is computed anew by who has them."""
    how = "ltu_jax.check_receipt(RECEIPT, source, model, before) computes it anew"
    if options.evidence:
        raise ConfigError(
            "--evidence: the request was made by ltu_jax.forget, on data and a model that no configuration names;"
            f" allowed: --hashes, and in Python {how}"
        )
    print(plain(f"made by ltu_jax.forget: the hashes are checked, not the evidence; {how}"), file=sys.stderr)


def _check_evidence(saved: SavedRequest, options: CheckOptions) -> tuple[str, list[str]]:
    """What was checked, and what differs in the evidence computed anew or why the claim, if tested, is refused."""
    receipt, config = saved.receipt, _config(saved, options)
    source = load_source(config.data, progress_for(), fetch=False)
    spec, weights = model_for(config, source)
    cache = options.cache or saved.folder.parent.parent / "cache"
    before = verification.before_weights(saved, weights, cache)
    if receipt["code"]["sha256"] != code_sha256():
        print("the receipt was made by another version of this code", file=sys.stderr)
    if before is not None and config.weights is not None:
        if path_sha256(Path(config.weights)) != receipt["model"]["before"]["file_sha256"]:
            return "", [f"{config.weights}: it is not the file of the receipt"]
    if (count := receipt["request"]["count"]) < FEWEST_TO_CLAIM:
        one = f"one row is {100 / count:.0f} points"
        print(plain(f"{count} rows are too few for figures to be compared: {one}"), file=sys.stderr)
    if before is None:
        print("the model before is not there: what the receipt says of it was not computed anew", file=sys.stderr)
    evidence = "hashes and evidence" if before is not None else "hashes and evidence (after)"
    what = "hashes, evidence and claim" if options.evidence else evidence
    found = verification.check_evidence(saved, source, spec, before, claim=options.evidence)
    return what, found or verification.check_tokens(saved, source, config.data)


def _config(saved: SavedRequest, options: CheckOptions) -> Config:
    """The configuration of the receipt with the paths that hold here, and with weights only if they are still there."""
    config = verification.config_of(saved)
    _check_code("model", config.model.name, options)
    if options.weights is not None and not options.weights.exists():
        raise ConfigError(f"--weights: {str(options.weights)!r} is not there; allowed: the file of the model before")
    is_first = saved.receipt["request"]["number"] == 1
    weights = _place("weights", config.weights, options.weights) if is_first else None
    weights = weights if weights is not None and Path(weights).exists() else None
    return dataclasses.replace(config, weights=weights, data=_data(saved, options))


def _data(saved: SavedRequest, options: CheckOptions) -> Data:
    config = verification.config_of(saved)
    _check_code("data set", config.data.name, options)
    data_dir = _place("data_dir", config.data.data_dir, options.data_dir)
    table = _place("table", config.data.table, options.table)
    mapped = None if options.memory_map is None else str(options.memory_map)  # it is written
    return dataclasses.replace(config.data, data_dir=data_dir, table=table, memory_map=mapped)


def _check_code(whose: str, code: str, options: CheckOptions) -> None:
    if ":" in code and code not in options.code:  # a receipt may be anybody's: what it names is run
        raise ConfigError(
            f"--code: {plain(', '.join(options.code) or 'None')}, but checking evidence runs the {whose}'s code,"
            f" {plain(code)!r}; allowed: the same name, if you trust that code, or --hashes, which runs none"
        )


def _place(flag: str, in_receipt: str | None, given: Path | None) -> str | None:
    """Where something lies: where the caller says, else where the receipt does, but no address elsewhere."""
    if given is not None:
        return str(given)
    if in_receipt is not None and "://" in in_receipt:
        raise ConfigError(
            f"--{flag}: None, and the receipt names the address {in_receipt!r}, which is not opened; allowed: where it"
            " lies here, or --hashes, which needs none"
        )
    return in_receipt
