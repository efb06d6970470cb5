"""Lists and empties a cache of trained models: ``python -m ltu_jax.cache``."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.commands import command_line
from ltu_jax.setting import ConfigError, check_path

USAGE = """
Lists a cache (--cache of python -m ltu_jax.unlearn): originals, Retrain models, shadows, attackers, scores, compiled
programs; what each takes on the disk, when it was made and last used, what computed it, and whether it is whole. With
--purge or --limit it removes some of them, by their exact names, and asks nothing. One that a process makes at the
moment stays, and the status is 1.
"""
UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; the exit status, 1 if something stays that was to go.

    Raises:
      ConfigError: if the command line is not what it should be.
    """
    given = _parse(arguments)
    from ltu_jax.commands.caches import list_cache, purge

    if not given.purge and given.limit is None:
        return list_cache(given.directory)
    return purge(given.directory, given.purge, given.limit)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m ltu_jax.cache", description=USAGE, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="the cache")
    what = "remove these: names, kinds (retrain), old (of another version), damaged, unfinished, compiled"
    parser.add_argument("--purge", nargs="+", default=[], metavar="WHAT", help=what)
    parser.add_argument(
        "--limit", metavar="SIZE", help="remove what was not used for longest until 20GB, 500MB are left"
    )
    given = command_line.parse(parser, arguments)
    if given.directory is None:
        raise ConfigError("DIR: none given; allowed: the folder of a cache")
    check_path("DIR", str(given.directory))
    if not given.directory.is_dir():
        raise ConfigError(f"DIR: {str(given.directory)!r} is no folder; allowed: the folder of a cache")
    given.limit = None if given.limit is None else _bytes(given.limit)
    return given


def _bytes(size: str) -> float:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?) ?([KMGT]?B?)", size.upper())
    if found is None or found[2] not in UNITS:
        raise ConfigError(f"--limit: {size!r} is no size; allowed: a number with {', '.join(UNITS)[2:]}")
    return float(found[1]) * UNITS[found[2]]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as mistake:
        command_line.fail(mistake)
