"""What goes when a request is done: the models from before it, which know what it forgot, and what it worked with.

The original that a request trained lies in the cache, and each request starts from the model that the last one left.
All of them go unless the request was told to keep them; a file that the user gave is the user's own and stays. It is
done after the line in the ledger, and the request's ``WORK`` goes last: where it is still there, a request was stopped
in between, and the next command finishes.
"""

import os
import re
import shutil
from pathlib import Path

from ltu_jax.deletion.ledger import ORIGINAL, read_ledger
from ltu_jax.deletion.receipt import WORK
from ltu_jax.files import write_whole

MODEL = ("model", "weights")
"""What of a request's folder is its model."""


def note_original(home: Path, entry: Path | None) -> None:
    """Writes down where the original will lie, before it is trained: its name is a hash of data that may be gone then.

    Args:
      home: folder of the requests.
      entry: the cache's; None where nothing is kept.
    """
    if entry is not None and (name := os.path.relpath(entry, home)) not in (noted := _noted(home)):
        write_whole(home / ORIGINAL, "\n".join([*noted, name]))  # with other data another one is trained


def is_due(home: Path) -> bool:
    """Whether a request that is done was stopped before this was."""
    return any(_work(home, entry.number).exists() for entry in read_ledger(home))


def finish(home: Path, *, keep_original: bool) -> None:
    """Removes what requests that are done need no more; whoever calls it holds the lock.

    Args:
      home: folder of the requests.
      keep_original: whether models from before them stay.

    Raises:
      LedgerError: if the ledger was altered.
    """
    for entry in read_ledger(home):
        work = _work(home, entry.number)
        if work.exists():
            if not keep_original:
                _remove_models(home, entry.number, work)
            shutil.rmtree(work)


def _remove_models(home: Path, number: int, work: Path) -> None:
    for earlier in range(1, number):
        for name in MODEL:
            path = home / f"request-{earlier}" / name
            if path.exists():  # out of the way at once: half a model would look like a damaged one
                path.rename(work / f"{name}-{earlier}")
    for name in _noted(home):
        entry = home / name
        for path in entry.parent.glob(f"{entry.name}*"):  # what a kill left half written too, or locked
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (home / ORIGINAL).unlink(missing_ok=True)


def _noted(home: Path) -> list[str]:
    """What was written down, of which only names of originals are believed: it is what will be deleted."""
    lines = (home / ORIGINAL).read_text().splitlines() if (home / ORIGINAL).exists() else []
    return [line for line in lines if re.fullmatch(r"original-[0-9a-f]{20}", Path(line).name)]


def _work(home: Path, number: int) -> Path:
    return home / f"request-{number}" / WORK
