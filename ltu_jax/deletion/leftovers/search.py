"""Searches a folder for what must not remain after a deletion request: images, hashes of them, and ids.

What cannot be searched is named. Images that are cropped and resized, normalised by a mean, or learned by a model are
not found.
"""

import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltu_jax.deletion.leftovers.look import Look
from ltu_jax.deletion.leftovers.pictures import OTHERS
from ltu_jax.deletion.leftovers.targets import FILE, HASH, ID, PICTURE, PIXELS, SearchTargets, unsearched_ids
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source

_WORDS = {
    PIXELS: "pixels of {} images",
    FILE: "files of {} images",
    PICTURE: "pictures of {} images",
    HASH: "hashes of {} images or ids",
    ID: "{} ids in clear",
}


class Finding(NamedTuple):
    """Ids found in one file."""

    path: str  # relative to the folder; after ! within an archive
    kind: str
    ids: tuple[str, ...]


class SearchResult(NamedTuple):
    """The result of a search."""

    findings: list[Finding]
    unsearched: list[str]  # files or parts of files that could not be searched, and why
    num_files: int
    num_bytes: int  # of the files, as they are
    plain: list[str]  # ids of images too uniform to be found by their pixels
    seconds: float  # of the search, without preparing the patterns


def search_targets(source: Source, ids: Iterable[str], files: Mapping[str, bytes]) -> SearchTargets:
    """Collects what to search for.

    Args:
      source: the data.
      ids: the forgotten ids; of those no longer in the data only ids and their hashes are searched for.
      files: the encoded images by id, from ``data.sources.image_files``.
    """
    ids = list(dict.fromkeys(ids))
    row_of = {str(name): row for row, name in enumerate(source.ids)}
    rows = {name: row_of[name] for name in ids if name in row_of}
    others = np.setdiff1d(np.arange(len(source.ids)), list(rows.values()))
    if len(others) > OTHERS:
        others = np.sort(np.random.default_rng(0).choice(others, OTHERS, replace=False))
    return SearchTargets(ids, {name: source.images[row] for name, row in rows.items()}, files, source.images[others])


def search_folder(folder: Path, wanted: SearchTargets) -> SearchResult:
    """Searches all that is under a folder; what links lead to comes last, and each once.

    Raises:
      ConfigError: if the folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(f"--leftovers: {str(folder)!r} is no folder; allowed: a folder to be searched")
    look, begun, num_files, num_bytes = Look(wanted), time.perf_counter(), 0, 0
    for path, is_new, problem in _walk(folder):
        label = path.relative_to(folder).as_posix()
        look.search_name(label)
        if problem:
            look.not_searched(label, problem)
        elif is_new and path.is_file():
            num_files, num_bytes = num_files + 1, num_bytes + look.search_file(path, label)
        elif is_new and (path / "_METADATA").is_file():
            look.search_checkpoint(path, label)
    findings = [
        Finding(label, kind, tuple(wanted.ids[owner] for of, owner in sorted(found) if of == kind))
        for label, found in sorted(look.found.items())
        for kind in sorted({kind for kind, _ in found})
    ]
    return SearchResult(findings, look.unsearched(), num_files, num_bytes, look.plain, time.perf_counter() - begun)


def _walk(folder: Path) -> Iterator[tuple[Path, bool, str]]:
    """Every path under a folder, whether what it leads to is new, and why that cannot be searched; links come last."""
    paths, links, seen = [folder], deque[Path](), set[tuple[int, int]]()
    while paths or links:
        is_link = not paths
        path = links.popleft() if is_link else paths.pop()
        try:
            there = path.stat()
            key, is_folder = (there.st_dev, there.st_ino), stat.S_ISDIR(there.st_mode)
            is_new = key not in seen or not (is_link or is_folder)
            inner = sorted(path.iterdir(), reverse=True) if is_folder and is_new else []
        except OSError as error:
            yield path, True, f"{'a link that leads nowhere' if is_link else 'it cannot be read'} ({error.strerror})"
            continue
        seen.add(key)
        yield path, is_new, "" if is_folder or stat.S_ISREG(there.st_mode) else "it is no regular file"
        paths += [one for one in inner if not one.is_symlink()]
        links.extend(one for one in reversed(inner) if one.is_symlink())


def report_lines(done: SearchResult, wanted: SearchTargets) -> list[str]:
    """The findings, what was not searched, and a summary, one line each."""
    lines = [f"{one.path}: {_WORDS[one.kind].format(len(one.ids))}: {_first_five(one.ids)}" for one in done.findings]
    lines += [f"not searched: {what}" for what in done.unsearched]
    lines += [f"not searched for: {what}" for what in not_searched_for(done, wanted)]
    found = len({name for one in done.findings for name in one.ids})
    size = f"{done.num_files} files, {done.num_bytes / 1e6:.1f} MB, {done.num_bytes / 1e6 / done.seconds:.0f} MB/s"
    summary = f"{f'FOUND: {found}' if found else 'found: none'} of {len(wanted.ids)} ({size})"
    left = len(done.unsearched) + len(not_searched_for(done, wanted))
    return [*lines, summary + (f"; NOT SEARCHED: {left}, see above" if left else "")]


def not_searched_for(done: SearchResult, wanted: SearchTargets) -> list[str]:
    """What was searched for in part only, one line for each reason."""
    gone = [name for name in wanted.ids if name not in wanted.images and name not in wanted.files]
    partly = (
        (gone, "ids are no longer in the data: only the ids and hashes of them were searched for"),
        (done.plain, "images are too plain to be told by their pixels"),
        (unsearched_ids(wanted.ids), "ids are short numbers or letters, which anything holds"),
    )
    return [f"{len(names)} {what}: {_first_five(names)}" for names, what in partly if names]


def _first_five(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
