"""Files that survive a kill, a full disk and a power cut, their hashes, and locks of folders for one process."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from ltu_jax.setting import LARGEST_PATH, ConfigError, check_path

LOCK = "lock"
"""Name of the locked file. It is removed at the end; one left by a killed process does no harm."""

PATTERN = "*?[\\"
"""Orbax lists its own files by a pattern that begins with the folder's path, so these would stand for others."""
BUCKETS = ("gs:", "s3:", "az:", "hf:")
"""Names of folders that Orbax takes for the beginning of an address."""
DEEPEST = 400
"""Most bytes of a path within a folder that a command writes; Orbax's names are long."""
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial(\.|$)")  # Orbax adds a word until it has written a folder
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_no_locks: set[int] = set()  # the disks on which a lock has failed


class DiskFullError(RuntimeError):
    """The disk is full; the message is one line."""


class InUseError(ConfigError):
    """Another process holds a lock."""


def file_sha256(path: Path) -> str:
    """Hash of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, is_part: Callable[[Path], bool] = lambda path: True) -> dict[str, str]:
    """Hash of every file in a folder that ``is_part`` accepts, by path with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_part(path))
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def disk_of(folder: Path) -> int:
    """The device number of the disk of a folder, which need not exist yet."""
    return os.stat(_existing(folder)).st_dev


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


@contextlib.contextmanager
def room(folder: Path, needed: int = 0) -> Iterator[None]:
    """Turns every error of a full disk within it into ``DiskFullError``, and checks the free space beforehand.

    Args:
      folder: where files are written.
      needed: bytes to be written, if known.

    Raises:
      DiskFullError: at the start, if less than ``needed`` is free; later, if the disk is full.
    """
    if (free := free_bytes(folder)) < needed:
        raise DiskFullError(_full(folder, f"{_megabytes(needed)} are needed and {_megabytes(free)} are free"))
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not _is_full(error):
            raise
        wanted = f", {_megabytes(needed)} were needed" if needed else ""
        raise DiskFullError(_full(folder, f"no space is left on the disk{wanted}")) from error


def _full(folder: Path, what: str) -> str:
    return (
        f"{folder}: {what}; what was saved before is intact: make room, and the same command again goes on from there"
    )


def _megabytes(size: int) -> str:
    return f"{max(size, 0) / 1e6:.1f} MB"


def _is_full(error: BaseException) -> bool:
    """Whether a full disk is the cause, from the errno or message of any library."""
    while True:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        if (cause := error.__cause__ or error.__context__) is None:
            return False
        error = cause


def check_folder(folder: Path, field: str) -> None:
    """Refuses a folder in which Orbax could not find again what it wrote.

    Args:
      folder: where checkpoints are to be written or read.
      field: the setting, for the message.

    Raises:
      ConfigError: if its path has characters or names that Orbax takes for something else, or is too long.
    """
    path = str(folder.absolute())
    check_path(field, path)
    if found := [c for c in PATTERN if c in path] or [f"{name}/" for name in BUCKETS if f"/{name}/" in f"{path}/"]:
        raise ConfigError(
            f"{field}: {path!r} has {found[0]!r}, which Orbax takes for a pattern or an address; allowed: paths without"
            f" any of {' '.join(PATTERN)} and without folders called {' '.join(BUCKETS)}"
        )
    if len(path.encode()) > LARGEST_PATH - DEEPEST:
        raise ConfigError(
            f"{field}: {path!r} is too long; allowed: {LARGEST_PATH - DEEPEST} bytes, for folders are made in it"
        )


def partial_of(path: Path, number: int | None = None) -> Path:
    """Where a file or folder is written until it is whole: a name that no other process takes.

    Args:
      path: where it belongs.
      number: below 2**31; None draws one.
    """
    return path.with_name(f"{path.name}.{secrets.randbits(31) if number is None else number:08x}.partial")


def is_partial(path: Path) -> bool:
    """Whether its name is one of ``partial_of``."""
    return _PARTIAL.search(path.name) is not None


def remove_partials(folder: Path, beginning: str = "") -> None:
    """Removes what killed processes left half written. The caller sees to it that no other process is writing there.

    Args:
      folder: not those in it.
      beginning: of the names.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(beginning) and is_partial(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flushes a file or folder to the disk; of a folder, the names in it.

    A rename lasts through a power cut when the folder is flushed after it, and the contents when the file is before.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)
        except OSError as error:  # some file systems cannot flush folders, and some folders may not be read
            if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
                raise


def sync_tree(folder: Path) -> None:
    """Flushes all files and folders in a folder to the disk, and the folder itself."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not os.path.islink(os.path.join(here, name)):
                sync(Path(here, name))
        sync(Path(here))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and flushes their names to the disk."""
    there = _existing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    above = folder.absolute()
    while above != there:
        above = above.parent
        sync(above)


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Writes a UTF-8 text file atomically: until the end, the old contents stay. It survives a power cut.

    Args:
      path: the file.
      text: its contents.
      mode: its permissions, less the process's umask.

    Raises:
      DiskFullError: if the disk is full.
    """
    partial = partial_of(path)
    with room(path.parent):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "w", encoding="utf-8", errors="replace") as file:  # lone surrogates are not UTF-8
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:  # a partial file would occupy the full disk
            partial.unlink(missing_ok=True)
            raise
        sync(path.parent)


@contextlib.contextmanager
def locked(path: Path, field: str | None = None) -> Iterator[None]:
    """Holds a lock against other processes. The system releases it however this process ends.

    With the lock, ``remove_partials`` removes what killed processes left: of what the file is named after
    (``NAME.lock``), or all in its folder (``lock``).

    Args:
      path: the file to lock; it and its folder are created.
      field: if given, a held lock is refused, with this setting in the message; None waits for the other process.

    Raises:
      InUseError: if another process holds the lock and ``field`` is given.
      ConfigError: if the file cannot be made.
    """
    import fcntl

    make_folder(path.parent)
    with contextlib.ExitStack() as stack:
        while True:
            file = _open_lock(path, field)
            stack.callback(os.close, file)
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if field is not None:
                        raise InUseError(
                            f"{field}: {str(path.parent)!r} is in use by another process; allowed: the same again when"
                            " it has ended"
                        ) from None
                    logging.getLogger(__name__).warning("%s: waiting for another process that makes the same", path)
                    fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:  # some network file systems have no locks
                _note_no_locks(path, error)
                break
            if _is_at(path, file):
                remove_partials(path.parent, path.name.removesuffix(LOCK))
                break  # else its last owner has just removed it, and the next process would lock another file
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock is released


def has_locks(folder: Path) -> bool:
    """Whether no lock has failed yet on the disk of a folder."""
    return disk_of(folder) not in _no_locks


def _open_lock(path: Path, field: str | None) -> int:
    """Opens the file to lock; a pipe, a link or a folder of that name is refused, and a pipe is not waited for."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        why = "is no file" if error.errno in (errno.ELOOP, errno.EISDIR) else f"cannot be opened ({error.strerror})"
    else:
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        why = "is no file"
    raise ConfigError(
        f"{field or '--cache'}: {str(path)!r} {why}: it keeps other processes out; allowed: a file or none"
    )


def _note_no_locks(path: Path, error: OSError) -> None:
    """Says it once for a disk."""
    if has_locks(path.parent):
        _no_locks.add(disk_of(path.parent))
        logging.getLogger(__name__).warning(
            "%s cannot be locked (%s), and nothing else on its disk: see that no two processes have one workdir; what"
            " is trained for a cache there is saved when it is whole, not before",
            path,
            error.strerror,
        )


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
