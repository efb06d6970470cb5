"""Compares finished runs on one page: ``python -m ltu_jax.report``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.commands.command_line import fail
from ltu_jax.files import DiskFullError, write_whole
from ltu_jax.reporting.comparison import render_comparison
from ltu_jax.reporting.runs import Run, read_run
from ltu_jax.setting import ConfigError, allowed_names, check_path, plain

USAGE = """
Puts any number of runs side by side: their scores and gaps to Retrain, forgetting against remembering, gap against
cost. Runs of one method that differ in their seeds are also shown as mean and standard deviation. One file of HTML,
no script, no network.
"""


def main(arguments: Sequence[str]) -> None:
    """Writes the page that the command line asks for.

    Raises:
      ConfigError: if the command line, a run or the file to write is not what it should be.
    """
    folders, out = _parse(arguments)
    _check_out(out)
    runs = [read_run(folder) for folder in folders]
    if out.resolve() in [run.report and run.report.resolve() for run in runs]:
        raise ConfigError(f"--out: {str(out)!r} is the report of one of the runs; allowed: another file")
    _write(runs, out)
    print(plain(f"{len(runs)} run{'' if len(runs) == 1 else 's'} compared in {out}"))


def _parse(arguments: Sequence[str]) -> tuple[list[Path], Path]:
    parser = argparse.ArgumentParser(
        "python -m ltu_jax.report", description=USAGE, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folder of a finished run")
    parser.add_argument("--out", type=Path, default="comparison.html", help="file to write (default: %(default)s)")
    try:
        given, rest = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}; allowed: --out FILE.html") from None
    if rest:
        flag = rest[0].partition("=")[0]
        raise ConfigError(f"{flag}: no such flag; {allowed_names(flag.lstrip('-'), ['out', 'help'])}")
    # A folder named twice is one run.
    folders = list({os.path.realpath(folder): folder for folder in given.folders}.values())
    for name, path in (*(("folder", path) for path in folders), ("--out", given.out)):
        check_path(name, str(path))
    if not folders:
        raise ConfigError("folder: none given; allowed: one or more folders of finished runs")
    return folders, given.out


def _check_out(out: Path) -> None:
    """Finds what cannot be written before anything is read, and does not overwrite what is no page."""
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: {str(out)!r} is no page; allowed: a file that ends in .html")
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--out: {str(out)!r} cannot be written; allowed: a file in a folder that exists")


def _write(runs: Sequence[Run], out: Path) -> None:
    try:
        write_whole(out, render_comparison(runs, out.parent))
    except (OSError, DiskFullError) as error:
        why = error.strerror if isinstance(error, OSError) else "no space is left on the disk"
        raise ConfigError(f"--out: {str(out)!r} cannot be written ({why}); allowed: another file") from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as mistake:
        fail(mistake)
