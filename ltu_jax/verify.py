"""Checks the receipt of a deletion request: ``python -m ltu_jax.verify``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ltu_jax import command
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, allowed_names, check_path, plain

USAGE = """
Recomputes every hash that a receipt tells of, and its evidence, and says "verified" (status 0) or what differs (status
1). With --evidence it also tests the claim, on both sides: forgotten rows that the model still knows too well are
refused, and so are rows that it knows worse than any stranger. Status 2: what was asked cannot be checked at all.
With --leftovers it searches a folder for what was forgotten instead: python -m ltu_jax.verify --leftovers DIR --help.
"""
SEARCH = """
python -m ltu_jax.verify --leftovers DIR --forget IDS.txt --config FILE.py [--config.FIELD=VALUE ...]

Searches every file under DIR for the images with these ids, as the data of the configuration hold them: their pixels,
their files, pictures of them at another size, hashes of them, and the ids. Nothing is written. Status 0: none is
found; 1: some are; 2: what was asked cannot be searched for.
"""


def main(arguments: Sequence[str]) -> int:
    """Checks the receipt that the command line names.

    Returns:
      The exit status: 0 verified, 1 something differs.

    Raises:
      ConfigError: if the command line, the receipt or a key is not what it should be.
    """
    given = _parse(arguments)
    from ltu_jax.data.splits import read_ids
    from ltu_jax.deletion.claim import RATES
    from ltu_jax.deletion.ledger import LedgerError
    from ltu_jax.deletion.receipt import public_key
    from ltu_jax.deletion.verification import check_hashes, open_home, removed
    from ltu_jax.training.checkpoint import CheckpointError

    public = None if given.public_key is None else public_key(given.public_key)
    ids = None if given.forget is None else read_ids(given.forget, "--forget")
    what, home = "hashes", None
    try:
        home = open_home(given.receipt, given.model)
        found = check_hashes(home, public=public, ids=ids)
        if "model" in removed(home):
            print("the model was removed when a later request was done, as it should be: the rest is checked")
        if not found and not given.hashes and ("model" not in removed(home) or given.evidence):
            what, found = _evidence(home, given)
    except (LedgerError, CheckpointError) as error:
        found = [str(error)]
    for line in found:
        print(plain(line))
    if found or home is None:
        print(f"NOT verified: {len(found)} finding{'s' if len(found) > 1 else ''}")
        return 1
    told = home.told
    signed = "" if told["signature"] is None else f", signed by {told['signature']['public_key'][:16]}..."
    print(f"verified: {what} of request {told['request']['number']}, {told['request']['count']} rows{signed}")
    if given.evidence:
        print(RATES)
    return 0


def _evidence(home: Any, given: argparse.Namespace) -> tuple[str, list[str]]:
    """What was checked, and what differs in the evidence computed anew, or why the claim is refused, if that is asked.

    Where files lie now may be said on the command line: a receipt is checked on another machine.
    """
    import dataclasses

    from ltu_jax import processes
    from ltu_jax.data.sources import load_source
    from ltu_jax.deletion.claim import FEWEST
    from ltu_jax.deletion.receipt import code_sha256, path_sha256
    from ltu_jax.deletion.verification import before_weights, check_evidence, config_of
    from ltu_jax.unlearning.problem import load_model

    settings, model = config_of(home), home.told["model"]["before"]
    for whose, code in (("model", settings.model.name), ("data set", settings.data.name)):
        if ":" in code and code not in given.code:  # a receipt may be anybody's: what it names is run
            raise ConfigError(
                f"--code: {plain(', '.join(given.code) or 'None')}, but checking evidence runs the {whose}'s code,"
                f" {plain(code)!r}; allowed: the same name, if you trust that code, or --hashes, which runs none"
            )
    data: dict[str, Any] = {
        name: str(path) for name in ("data_dir", "table") if (path := getattr(given, name)) is not None
    }
    file = given.weights or settings.weights
    if given.weights is not None and not given.weights.exists():
        raise ConfigError(f"--weights: {str(given.weights)!r} is not there; allowed: the file of the model before")
    file = str(file) if file is not None and Path(file).exists() and home.told["request"]["number"] == 1 else None
    settings = dataclasses.replace(settings, weights=file, data=dataclasses.replace(settings.data, **data))
    source = load_source(settings.data, processes.progress())
    spec, weights = load_model(settings, source)
    before = before_weights(home, source, spec, weights, given.cache or home.folder.parent.parent / "cache")
    if home.told["code"]["sha256"] != code_sha256():
        print("the receipt was made by another version of this code", file=sys.stderr)
    if before is not None and file is not None and path_sha256(Path(file)) != model["file_sha256"]:
        return "", [f"{file}: it is not the file of the receipt"]
    count = home.told["request"]["count"]
    if count < FEWEST:
        print(
            f"{count} rows are too few for figures to be compared: one row is {100 / count:.0f} points", file=sys.stderr
        )
    if before is None:
        print("the model before is not there: what the receipt says of it was not computed anew", file=sys.stderr)
    evidence = "hashes and evidence" if before is not None else "hashes and evidence (after)"
    what = "hashes, evidence and claim" if given.evidence else evidence
    return what, check_evidence(home, source, spec, before, claim=given.evidence)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m ltu_jax.verify", description=USAGE, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("receipt", nargs="?", type=Path, metavar="RECEIPT.json")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="folder of the request, or of all; unset: the receipt's"
    )
    parser.add_argument("--forget", metavar="IDS.txt", help="also check that these ids are those forgotten")
    parser.add_argument("--public_key", type=Path, metavar="KEY.pem", help="whose signature the receipt must bear")
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="where the data lie now; unset: where they lay")
    parser.add_argument("--table", type=Path, metavar="FILE", help="where the table of data.name table lies now")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="where the weights from before request 1 lie now")
    parser.add_argument(
        "--code",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="code of your own that the receipt names, the model's or the data set's: it will be run; once for each",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where an original that was trained here lies")
    parser.add_argument("--evidence", action="store_true", help="also test the claim itself")
    parser.add_argument("--hashes", action="store_true", help="check hashes alone: no data are needed")
    try:
        given, rest = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}; allowed: see --help") from None
    if rest:
        flag = rest[0].partition("=")[0].lstrip("-")
        known = ["help", *vars(given)]
        raise ConfigError(f"--{flag}: no such flag; {allowed_names(flag, known)}")
    if given.receipt is None:
        raise ConfigError("receipt: none given; allowed: the receipt.json of a request")
    for name, value in vars(given).items():
        if isinstance(value, Path) or name == "forget" and value is not None:
            check_path(f"--{name}" if name != "receipt" else name, str(value))
    if given.evidence and given.hashes:
        raise ConfigError("--hashes: it leaves out what --evidence tests; allowed: one of the two")
    return given


def define_flags() -> None:
    """The flags of a search."""
    flags.DEFINE_string("leftovers", None, "folder that is searched, all that is in it")
    flags.DEFINE_string("forget", None, "file with one id a line: what was forgotten")


def search_leftovers(config: Config) -> int:
    """Searches the folder that the command line names; the exit status.

    Raises:
      ConfigError: if the command line, the ids or the data are not what they should be.
    """
    if not flags.FLAGS.leftovers:
        raise ConfigError("--leftovers: no folder given; allowed: the folder to be searched")
    if not flags.FLAGS.forget:
        raise ConfigError("--forget: no file given; allowed: a file with one id a line, what is searched for")
    folder = Path(flags.FLAGS.leftovers)
    if not folder.is_dir():
        raise ConfigError(f"--leftovers: {str(folder)!r} is no folder; allowed: the folder to be searched")
    from ltu_jax import processes
    from ltu_jax.data.sources import image_files, load_source
    from ltu_jax.data.splits import read_ids
    from ltu_jax.deletion.leftovers.search import report, search, sought

    ids = read_ids(flags.FLAGS.forget, "--forget")
    wanted = sought(load_source(config.data, processes.progress()), ids, image_files(config.data, ids))
    done = search(folder, wanted)
    for line in report(done, wanted):
        print(line)
    return 1 if done.findings else 0


if __name__ == "__main__":
    if any(word.lstrip("-").partition("=")[0] == "leftovers" for word in sys.argv[1:]):
        command.run(define_flags, search_leftovers, SEARCH)
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as mistake:
        command.fail(mistake)
