"""What ``python -m ltu_jax.verify --report`` and ``--token`` do: the check of who has neither data nor model."""

import dataclasses
from pathlib import Path

from ltu_jax.deletion.receipt import NOBODYS, public_key, read_receipt, seal_problems, verdict_of
from ltu_jax.deletion.recipient import check_report, check_token
from ltu_jax.setting import plain

NOT_CHECKED = (
    "not checked, for it needs the operator's files and data: the model, the ids, whether the figures are true"
)


@dataclasses.dataclass(frozen=True)
class RecipientOptions:
    """The command line of a recipient."""

    receipt: Path
    public_key: Path | None
    unsigned: bool
    report: Path | None
    token: Path | None
    image: Path | None


def check_as_recipient(options: RecipientOptions) -> int:
    """Checks a receipt, its report and a token, if given, and prints what was found.

    Returns:
      The exit status: 0 if all is right, 1 if something differs or is nobody's, 3 if nothing differs, but the figures
      of the report could not be compared by this version.

    Raises:
      ConfigError: if a file is not what it should be.
    """
    public = None if options.public_key is None else public_key(options.public_key)
    receipt = read_receipt(options.receipt)
    found, why_not, name = seal_problems(receipt, public), None, None
    if not found and options.report is not None:
        found, why_not = check_report(receipt, options.report)
    if not found and options.token is not None:
        found, name = check_token(receipt, options.token, options.image)
    request = receipt["request"]
    of = f"request {request['number']}, {request['count']} rows"
    if not found and name is not None:
        whose = "your image" if options.image is not None else "the image of the token"
        print(plain(f"{whose}, {name!r}, is among those that the receipt tells of"))
    if not found:
        print(NOT_CHECKED)
    if not found and why_not is not None and (public is not None or options.unsigned):
        print(plain(f"receipt of {of}: its hashes are right; the figures of its report are NOT compared: {why_not}"))
        print(plain(verdict_of(receipt)))
        return 3
    report = " with its report" if options.report is not None and why_not is None else ""
    return print_verdict(found, f"receipt{report} of {of}", public, options.unsigned, verdict_of(receipt))


def print_verdict(found: list[str], what: str, public: str | None, unsigned: bool, said: str | None = None) -> int:
    """Prints what was found of a receipt, and who vouches for it; the exit status, 0 verified, 1 not.

    Args:
      found: the problems, one line each.
      what: what was checked.
      public: the key of the signature that was asked for, hex.
      unsigned: whether any signature and none is accepted.
      said: what the receipt says of its claim, see ``verdict_of``; None if that was judged anew.
    """
    claim = "" if said is None else f"; {said}"
    for line in found:
        print(plain(line))
    if found:
        print(plain(f"NOT verified: {len(found)} finding{'s' if len(found) > 1 else ''}"))
    elif public is not None:
        print(plain(f"verified: {what}, signed by {public[:16]}...{claim}"))
    elif unsigned:
        print(plain(f"consistent (nobody vouches for it): {what}{claim}"))
    else:
        print(plain(f"{what}: {NOBODYS}: pass --public_key KEY.pem, or --unsigned if you made them yourself{claim}"))
    return int(bool(found) or public is None and not unsigned)
