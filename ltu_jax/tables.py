"""The paper's Tables 1 to 4 from your own runs: ``python -m ltu_jax.tables``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ltu_jax.commands.command_line import fail, print_lines
from ltu_jax.setting import ConfigError
from ltu_jax.tabling import formats
from ltu_jax.tabling.layout import Table, build
from ltu_jax.tabling.paper import paper_tables
from ltu_jax.tabling.runs import read
from ltu_jax.tabling.tradeoff import save_picture

USAGE = """
python -m ltu_jax.tables 1 DIR/results.jsonl                                 Markdown on standard output
python -m ltu_jax.tables 3 DIR/results.jsonl --format latex --paper          with the paper's own rows below
python -m ltu_jax.tables 1 runs/d-0 runs/d-1 runs/d-2 --picture gaps.svg     folders of single runs

Prints the paper's Tables 1 to 4 from your own runs, with the command of every cell. Table 1 has a block of columns for
each forget fraction and Table 2 one for each rho; Tables 3 and 4 have a single block. The rows are those of the files,
in the order in which their labels first appear.
"""
SUFFIXES = (".svg", ".png")


def main(arguments: Sequence[str]) -> None:
    """Prints the table that the command line asks for.

    Raises:
      ConfigError: if the command line is not what it should be, or the runs do not make such a table.
    """
    args = _parse(arguments)
    runs = read(args.results)
    tables = [build(args.table, runs), *(paper_tables(args.table) if args.paper else ())]
    if args.picture:
        save_picture(args.table, runs, args.picture)
    print_lines(_text(tables, args.format).removesuffix("\n").split("\n"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        "python -m ltu_jax.tables", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=int, choices=(1, 2, 3, 4), help="which table of the paper")
    parser.add_argument("results", nargs="+", help="results.jsonl files, or folders of single runs")
    parser.add_argument("--format", choices=("markdown", "latex", "csv"), default="markdown")
    parser.add_argument("--paper", action="store_true", help="the paper's own rows below ours")
    parser.add_argument("--picture", type=Path, help="draw the trade-off of forgetting and remembering: a .svg or .png")
    args = parser.parse_args(arguments)
    if args.picture and (args.picture.suffix not in SUFFIXES or not os.access(args.picture.parent, os.W_OK | os.X_OK)):
        allowed = f"a file that ends with {' or '.join(SUFFIXES)}, in a folder that exists and can be written"
        raise ConfigError(f"--picture: {str(args.picture)!r}; allowed: {allowed}")
    return args


def _text(tables: Sequence[Table], name: str) -> str:
    if name == "csv":
        return formats.to_csv(tables)
    return "\n".join(map(formats.latex if name == "latex" else formats.markdown, tables))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as mistake:
        fail(mistake)
