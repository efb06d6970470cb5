"""The paper's Tables 1 to 4 from your own runs, with the command of every cell.

python experiments/tables.py 1 experiments/results/NAME.jsonl                   Markdown on standard output
python experiments/tables.py 3 out/results.jsonl --format latex --paper         with the paper's own rows below
python experiments/tables.py 1 runs/d-0 runs/d-1 runs/d-2 --picture gaps.svg    folders of single runs

Table 1 has a block of columns for each forget fraction and Table 2 one for each rho; Tables 3 and 4 have a single
block. The rows are those of the files, in the order in which their labels first appear.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments.tabling import formats
from experiments.tabling.layout import Table, build
from experiments.tabling.paper import paper_tables
from experiments.tabling.runs import read
from experiments.tabling.tradeoff import save_picture
from ltu_jax.setting import ConfigError

SUFFIXES = (".svg", ".png")


def main(arguments: Sequence[str]) -> int:
    """Prints the table that ``arguments`` name; returns the exit status."""
    try:
        args = _parse(arguments)
        runs = read(args.results)
        tables = [build(args.table, runs), *(paper_tables(args.table) if args.paper else ())]
        if args.picture:
            save_picture(args.table, runs, args.picture)
        print(_text(tables, args.format), end="")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=int, choices=(1, 2, 3, 4), help="which table of the paper")
    parser.add_argument("results", nargs="+", help="results.jsonl files, or folders of single runs")
    parser.add_argument("--format", choices=("markdown", "latex", "csv"), default="markdown")
    parser.add_argument("--paper", action="store_true", help="the paper's own rows below ours")
    parser.add_argument("--picture", type=Path, help="draw the trade-off of forgetting and remembering: a .svg or .png")
    args = parser.parse_args(arguments)
    if args.picture and (args.picture.suffix not in SUFFIXES or not args.picture.absolute().parent.is_dir()):
        allowed = f"a file that ends with {' or '.join(SUFFIXES)}, in a folder that is there"
        raise ConfigError(f"--picture: {str(args.picture)!r}; allowed: {allowed}")
    return args


def _text(tables: Sequence[Table], name: str) -> str:
    if name == "csv":
        return formats.to_csv(tables)
    return "\n".join(map(formats.latex if name == "latex" else formats.markdown, tables))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
