"""What ``python -m ltu_jax.verify`` does: checks the receipt of a deletion request, and says what differs."""

import dataclasses
import sys
from pathlib import Path

from ltu_jax.config import Config
from ltu_jax.data.sources import load_source
from ltu_jax.data.splits import read_ids
from ltu_jax.deletion import verification
from ltu_jax.deletion.claim import FEWEST, RATES
from ltu_jax.deletion.ledger import LedgerError
from ltu_jax.deletion.receipt import code_sha256, path_sha256, public_key
from ltu_jax.deletion.verification import NOBODYS, SavedRequest
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
        found = verification.check_hashes(saved, public=public, ids=ids)
        if is_removed := "model" in verification.removed(saved):
            print("the model was removed when a later request was done, as it should be: the rest is checked")
        if not found and not options.hashes and (not is_removed or options.evidence):
            what, found = _check_evidence(saved, options)
    except (LedgerError, CheckpointError) as error:
        found = [str(error)]
    for line in found:
        print(plain(line))
    if found or saved is None:
        print(plain(f"NOT verified: {len(found)} finding{'s' if len(found) > 1 else ''}"))
        return 1
    receipt = saved.receipt
    what = f"{what} of request {receipt['request']['number']}, {receipt['request']['count']} rows"
    if options.evidence:
        print(RATES)
    if public is not None:
        print(plain(f"verified: {what}, signed by {public[:16]}..."))
    elif options.unsigned:
        print(plain(f"consistent (nobody vouches for it): {what}"))
    else:
        print(plain(f"{what}: {NOBODYS}: pass --public_key KEY.pem, or --unsigned if you made them yourself"))
    return 0 if public is not None or options.unsigned else 1


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
    if (count := receipt["request"]["count"]) < FEWEST:
        one = f"one row is {100 / count:.0f} points"
        print(plain(f"{count} rows are too few for figures to be compared: {one}"), file=sys.stderr)
    if before is None:
        print("the model before is not there: what the receipt says of it was not computed anew", file=sys.stderr)
    evidence = "hashes and evidence" if before is not None else "hashes and evidence (after)"
    what = "hashes, evidence and claim" if options.evidence else evidence
    return what, verification.check_evidence(saved, source, spec, before, claim=options.evidence)


def _config(saved: SavedRequest, options: CheckOptions) -> Config:
    """The configuration of the receipt with the paths that hold here, and with weights only if they are still there."""
    config = verification.config_of(saved)
    for whose, code in (("model", config.model.name), ("data set", config.data.name)):
        if ":" in code and code not in options.code:  # a receipt may be anybody's: what it names is run
            raise ConfigError(
                f"--code: {plain(', '.join(options.code) or 'None')}, but checking evidence runs the {whose}'s code,"
                f" {plain(code)!r}; allowed: the same name, if you trust that code, or --hashes, which runs none"
            )
    if options.weights is not None and not options.weights.exists():
        raise ConfigError(f"--weights: {str(options.weights)!r} is not there; allowed: the file of the model before")
    is_first = saved.receipt["request"]["number"] == 1
    weights = _place("weights", config.weights, options.weights) if is_first else None
    weights = weights if weights is not None and Path(weights).exists() else None
    data_dir = _place("data_dir", config.data.data_dir, options.data_dir)
    table = _place("table", config.data.table, options.table)
    mapped = None if options.memory_map is None else str(options.memory_map)  # it is written
    data = dataclasses.replace(config.data, data_dir=data_dir, table=table, memory_map=mapped)
    return dataclasses.replace(config, weights=weights, data=data)


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
