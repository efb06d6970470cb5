"""Writes the measured tables of README.md and docs/ from the result files, and tells which sentences do not fit these.

python experiments/pages.py          writes the tables
python experiments/pages.py --check  writes nothing; its status is 1 if a table or a sentence is not that of the files

A table follows ``<!-- table: NAME -->`` on its page. A sentence with figures is not written, since lines are wrapped by
hand: what it must say is made of the files, and looked for on its page.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.page_sentences import sentences
from experiments.page_tables import TABLES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
TABLE = re.compile(r"(?P<mark><!-- table: (?P<name>\w+) -->\n)(?P<lines>(?:\|.*\n)*)")


def main() -> int:
    """Parses the arguments; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say what does not fit")
    if parser.parse_args().check:
        wrong = list(misfits(ROOT, RESULTS))
    else:
        for page in pages(ROOT):
            page.write_text(with_tables(page.read_text(), RESULTS))
        wrong = missing_sentences(ROOT, RESULTS)
    print("\n".join(wrong) or "every table and sentence is that of the result files")
    return 1 if wrong else 0


def pages(root: Path) -> list[Path]:
    """The pages whose tables are written."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def with_tables(text: str, results: Path, tables: dict[str, Callable[[Path], list[str]]] = TABLES) -> str:
    """A page with its tables made anew.

    Args:
      text: the page.
      results: the folder of the result files.
      tables: makes the lines of each table from that folder.

    Raises:
      KeyError: if there is no table of a name on the page.
    """
    return TABLE.sub(lambda found: found["mark"] + "\n".join([*tables[found["name"]](results), ""]), text)


def misfits(root: Path, results: Path) -> Iterator[str]:
    """A line for each table and sentence that is not that of the result files."""
    seen = []
    for page in pages(root):
        text = page.read_text()
        for found in TABLE.finditer(text):
            seen.append(found["name"])
            if found["lines"].splitlines() != TABLES[found["name"]](results):
                yield f"{page.name}: table {found['name']} is not that of its file"
    for name in TABLES.keys() - set(seen):
        yield f"no page has table {name}"
    yield from missing_sentences(root, results)


def missing_sentences(root: Path, results: Path) -> list[str]:
    """A line for each sentence that its page does not have."""
    wanted = list(sentences(results))
    texts = {page: " ".join((root / page).read_text().split()) for page, _ in wanted}
    return [f"{page}: not found: {sentence}" for page, sentence in wanted if sentence not in texts[page]]


if __name__ == "__main__":
    sys.exit(main())
