"""Atomic writes, full disks, and locks for folders that only one process may use."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ltu_jax.setting import ConfigError

LOCK = "lock"
"""Name of the locked file. It is removed at the end; one left by a killed process does no harm."""


class DiskFullError(RuntimeError):
    """The disk is full; the message is one line."""


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


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a UTF-8 text file atomically: until the end, the old contents stay.

    Args:
      path: the file.
      text: its contents.
      durable: whether to flush it to the disk, so that it survives a power cut.

    Raises:
      DiskFullError: if the disk is full.
    """
    partial = path.with_name(f"{path.name}.partial")
    with room(path.parent):
        try:
            with partial.open("w", encoding="utf-8", errors="replace") as file:  # lone surrogates are not UTF-8
                file.write(text)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:  # a partial file would occupy the full disk
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def locked(path: Path, field: str | None = None) -> Iterator[None]:
    """Holds a lock against other processes. The system releases it however this process ends.

    Args:
      path: the file to lock; it and its folder are created.
      field: if given, a held lock is refused, with this setting in the message; None waits for the other process.

    Raises:
      ConfigError: if another process holds the lock and ``field`` is given.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if field is not None:
                    raise ConfigError(
                        f"{field}: {str(path.parent)!r} is in use by another process; allowed: the same again when it"
                        " has ended"
                    ) from None
                logging.getLogger(__name__).warning("%s: waiting for another process that makes the same", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:  # some network file systems have no locks
                logging.getLogger(__name__).warning(
                    "%s cannot be locked (%s): see that one process has it", path, error
                )
                break
            if _is_at(path, file.fileno()):
                break  # else its last owner has just removed it, and the next process would lock another file
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock is released


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
