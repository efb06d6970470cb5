"""Removes files at the end of a request: the models from before it, which contain the forgotten rows, and ``WORK``.

These are the original in the cache, if a request of this folder trained it, and the models of earlier requests. The
last one whose forgetting is shown is kept, or the original if none is: it is served where that of the new model is not
shown. All are kept if the user asks for it; a weights file given by the user is never removed, and an original that was
only found stays for whoever made it, and is named. The removal follows the line in the ledger, and ``WORK`` is removed
last: if it still exists, the request was interrupted and the next command finishes the removal.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
from pathlib import Path

from ltu_jax.deletion.ledger import ORIGINAL, read_ledger, read_salt, salted
from ltu_jax.deletion.receipt import WORK, shown_in
from ltu_jax.files import write_whole
from ltu_jax.safe_reading import read_text
from ltu_jax.setting import ConfigError
from ltu_jax.training import cache
from ltu_jax.training.checkpoint import CheckpointError

MODEL = ("model", "weights")
"""The model of a request: these parts of its folder."""


def note_original(home: Path, entry: Path | None) -> str | None:
    """Records the path of the original in the cache (None without one) before it is trained or found.

    The path is a hash of the data, which may be gone at the removal.

    Returns:
      What its entry holds if a request of this folder makes it, and no other's: nobody has the salt.
    """
    if entry is None:
        return None
    # Resolved: from a folder that is a link, ".." leads elsewhere than its name says.
    if (name := os.path.relpath(entry.resolve(), home.resolve())) not in (noted := noted_originals(home)):
        _note(home, [*noted, name])  # other data need another original
    return _made_here(home, entry)


def is_due(home: Path) -> bool:
    """Whether a finished request was interrupted before the end of its removal."""
    return any(_work(home, entry.number).exists() for entry in read_ledger(home))


def finish(home: Path, *, keep_original: bool) -> None:
    """Removes what finished requests no longer need and, unless ``keep_original``, the models from before them.

    Of these it leaves the one to serve, where the request's own forgetting is not shown. The caller must hold the lock.

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


def models_before(home: Path, number: int) -> list[Path]:
    """The models from before a request that were made here and are still there: folders of requests, and originals."""
    folders = [home / f"request-{earlier}" for earlier in range(1, number)]
    there = [folder for folder in folders if any((folder / name).exists() for name in MODEL)]
    return [*there, *(path for name in noted_originals(home) if (path := home / name).exists())]


def _remove_models(home: Path, number: int, work: Path) -> None:
    # A receipt of an older version says nothing (None): it counts as shown.
    shown = [one for one in range(1, number + 1) if shown_in(home / f"request-{one}") is not False]
    served = max(shown, default=0)  # 0: the original
    for earlier in set(range(1, number)) - {served}:
        for name in MODEL:
            path = home / f"request-{earlier}" / name
            if path.exists():  # atomic: half a model would look damaged
                path.rename(work / f"{name}-{earlier}")
    if not served:
        return
    left = [name for name in noted_originals(home) if not _remove_original(home, home.resolve() / name)]
    if left:
        _note(home, left)  # for the next request
    else:
        (home / ORIGINAL).unlink(missing_ok=True)


def _remove_original(home: Path, entry: Path) -> bool:
    """Whether nothing is left to be done about an original: it was removed, or is not this folder's to remove."""
    entry = entry.parent.resolve() / entry.name
    there = cache.part_left(entry)
    if there is None:
        if not entry.parent.exists():  # else it was removed, and a kill came between
            logging.getLogger(__name__).warning("%s is not there: where its cache lies now it may be left", entry)
        return True
    why, is_done, own = "", True, _made_here(home, entry)
    is_empty = there.is_dir() and not any(there.iterdir())  # a kill came just before the end
    try:
        metadata = {cache.MADE_FOR: own} if is_empty else cache.metadata_of(there)
        if cache.MADE_FOR not in metadata:
            why = "is of an older version, which did not write down who trained it"
        elif own is None or metadata[cache.MADE_FOR] != own:
            why = "was not trained by a request of this folder"
        else:
            cache.remove(entry)
    except CheckpointError:
        why = "is no original that can be read"
    except ConfigError as error:
        why, is_done = f"is not removed ({error})", False
    if why:
        logging.getLogger(__name__).warning(
            "%s %s: it is left, and knows what was forgotten. To remove it: python -m ltu_jax.cache %s --purge %s",
            *(entry, why, shlex.quote(str(entry.parent)), entry.name),
        )
    return is_done


def _made_here(home: Path, entry: Path) -> str | None:
    salt = read_salt(home)
    return None if salt is None else salted(salt, [entry.name])[0]


def _note(home: Path, names: list[str]) -> None:
    write_whole(home / ORIGINAL, "\n".join(map(json.dumps, names)))  # a name may have a line break


def noted_originals(home: Path) -> list[str]:
    """The recorded paths of originals, from the folder of requests; older versions wrote them as they are."""
    names = []
    for line in read_text(home / ORIGINAL).split("\n") if (home / ORIGINAL).exists() else ():
        with contextlib.suppress(ValueError):
            line = json.loads(line)
        if isinstance(line, str) and re.fullmatch(r"original-[0-9a-f]{20}", Path(line).name):
            names.append(line)
    return names


def _work(home: Path, number: int) -> Path:
    return home / f"request-{number}" / WORK
