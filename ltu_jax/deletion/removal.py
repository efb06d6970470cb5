"""Removes files at the end of a request: the models from before it, which contain the forgotten rows, and ``WORK``.

These are the original in the cache, if the request trained it, and the models of earlier requests. They are kept if
the user asks for it; a weights file given by the user is never removed. The removal follows the line in the ledger, and
``WORK`` is removed last: if it still exists, the request was interrupted and the next command finishes the removal.
"""

import os
import re
import shutil
from pathlib import Path

from ltu_jax.deletion.ledger import ORIGINAL, read_ledger
from ltu_jax.deletion.receipt import WORK
from ltu_jax.files import write_whole

MODEL = ("model", "weights")
"""The model of a request: these parts of its folder."""


def note_original(home: Path, entry: Path | None) -> None:
    """Records the path of the original in the cache (None without one) before it is trained.

    The path is a hash of the data, which may be gone at the removal.
    """
    if entry is not None and (name := os.path.relpath(entry, home)) not in (noted := _noted(home)):
        write_whole(home / ORIGINAL, "\n".join([*noted, name]))  # other data need another original


def is_due(home: Path) -> bool:
    """Whether a finished request was interrupted before the end of its removal."""
    return any(_work(home, entry.number).exists() for entry in read_ledger(home))


def finish(home: Path, *, keep_original: bool) -> None:
    """Removes what finished requests no longer need and, unless ``keep_original``, the models from before them.

    The caller must hold the lock.

    Raises:
      LedgerError: if the ledger was altered.
    """
    for entry in read_ledger(home):
        work = _work(home, entry.number)
        if work.exists():
            if not keep_original:
                _remove_models(home, entry.number, work)
                os.sync()  # a power cut could bring them back, and without ``work`` nobody would remove them again
            shutil.rmtree(work)


def _remove_models(home: Path, number: int, work: Path) -> None:
    for earlier in range(1, number):
        for name in MODEL:
            path = home / f"request-{earlier}" / name
            if path.exists():  # atomic: half a model would look damaged
                path.rename(work / f"{name}-{earlier}")
    for name in _noted(home):
        entry = home / name
        for path in entry.parent.glob(f"{entry.name}*"):  # also partial files and locks of a killed process
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (home / ORIGINAL).unlink(missing_ok=True)


def _noted(home: Path) -> list[str]:
    """The recorded paths. They will be deleted, so only names of originals are accepted."""
    lines = (home / ORIGINAL).read_text().splitlines() if (home / ORIGINAL).exists() else []
    return [line for line in lines if re.fullmatch(r"original-[0-9a-f]{20}", Path(line).name)]


def _work(home: Path, number: int) -> Path:
    return home / f"request-{number}" / WORK
