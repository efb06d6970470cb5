"""Checks the receipt of a deletion request: ``python -m ltu_jax.verify``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ltu_jax.commands import command_line
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, check_path

USAGE = """
Recomputes every hash that a receipt tells of, and its evidence, and says "verified" (status 0) or what differs (status
1). Without --public_key it cannot say who wrote the receipt: that is status 1 too, and with --unsigned, for a receipt
that you made yourself, "consistent" (status 0). Nothing that a receipt names is run, written or fetched. With
--evidence it also tests the claim, on both sides: forgotten rows that the model still knows too well are refused, and
so are rows that it knows worse than any stranger. Status 2: what was asked cannot be checked at all.
Who got receipt.json and report.html, and has nothing else, checks them by --report report.html; a person sees by
--token that an image of theirs is among those that the receipt tells of. Status 3: nothing differs, but this version
could not compare the figures of the report. With --leftovers it searches a folder for what was forgotten instead:
python -m ltu_jax.verify --leftovers DIR --help.
"""
RECIPIENTS = ("report", "token", "image")
"""They ask for a recipient's check: an operator's folder that lost its files must not pass for what was handed out."""
BOTH = ("receipt", "public_key", "unsigned")
SEARCH = """
python -m ltu_jax.verify --leftovers DIR --forget IDS.txt --config FILE.py [--config.FIELD=VALUE ...]

Searches every file under DIR, and what links in it lead to, for the images with these ids, as the data of the
configuration hold them: their pixels, their files, pictures of them at another size, hashes of them, and the ids. What
cannot be searched is named, with the reason. Nothing is written. Status 0: none is found, and all was searched; 1: some
are; 2: what was asked cannot be searched for; 3: none is found, and some was not searched.
"""


def main(arguments: Sequence[str]) -> int:
    """Checks the receipt that the command line names; the exit status, 0 verified, 1 something differs or is nobody's.

    Raises:
      ConfigError: if the command line, the receipt or a key is not what it should be.
    """
    given = _parse(arguments)
    options = vars(given)
    recipients = {name: options.pop(name) for name in RECIPIENTS}
    if any(value is not None for value in recipients.values()):
        from ltu_jax.commands.recipients import RecipientOptions, check_as_recipient

        return check_as_recipient(RecipientOptions(**recipients, **{name: options[name] for name in BOTH}))
    from ltu_jax.deletion.receipt import read_receipt

    read_receipt(given.receipt)  # a file that is none is told before JAX is imported, which takes seconds
    from ltu_jax.commands.check import CheckOptions, check

    return check(CheckOptions(**options))


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
    parser.add_argument("--unsigned", action="store_true", help="accept any signature and none: you made it yourself")
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="where the data lie now; unset: where they lay")
    parser.add_argument("--table", type=Path, metavar="FILE", help="where the table of data.name table lies now")
    parser.add_argument("--memory_map", type=Path, metavar="DIR", help="folder for the pixels of data beyond memory")
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
    parser.add_argument("--tokens", type=Path, metavar="DIR", help="write a token for the owner of each id of --forget")
    parser.add_argument("--report", type=Path, metavar="report.html", help="check it and the receipt, without the rest")
    parser.add_argument("--token", type=Path, metavar="FILE", help="see that its image is one the receipt tells of")
    parser.add_argument("--image", type=Path, metavar="FILE", help="your own copy of the image of --token")
    given = command_line.parse(parser, arguments)
    if given.receipt is None:
        raise ConfigError("receipt: none given; allowed: the receipt.json of a request")
    for name, value in vars(given).items():
        if isinstance(value, Path) or name == "forget" and value is not None:
            check_path(f"--{name}" if name != "receipt" else name, str(value))
    if given.unsigned and given.public_key is not None:
        raise ConfigError("--unsigned: it accepts any signature and --public_key asks for one; allowed: one of the two")
    if given.tokens is not None and given.forget is None:
        raise ConfigError("--forget: None, but --tokens needs ids; allowed: a file with one id a line")
    if given.tokens is not None and given.evidence:
        raise ConfigError("--evidence: --tokens writes tokens and judges nothing; allowed: one of the two")
    if given.image is not None and given.token is None:
        raise ConfigError("--token: None, but --image is compared with it; allowed: the token of that image")
    if given.report is not None or given.token is not None:
        for name, value in vars(given).items():
            if value not in (None, False, []) and name not in (*RECIPIENTS, *BOTH):
                raise ConfigError(f"--{name}: --report and --token check without it; allowed: unset")
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
    from ltu_jax.commands.leftovers import find_leftovers

    return find_leftovers(config, folder, flags.FLAGS.forget)


if __name__ == "__main__":
    if any(word.lstrip("-").partition("=")[0] == "leftovers" for word in sys.argv[1:]):
        command_line.run(define_flags, search_leftovers, SEARCH)
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as mistake:
        command_line.fail(mistake)
