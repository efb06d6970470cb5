"""Files that are there whole or not at all, disks that fill, and folders that one process works in at a time."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ltu_jax.setting import ConfigError

LOCK = "lock"
"""Names the file that is locked; it is removed again, and one that a killed process left is in nobody's way."""


class DiskFullError(RuntimeError):
    """There is no room for what is to be saved, told in one line."""


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_existing(folder)).free


def disk_of(folder: Path) -> int:
    """Which disk a folder is on; it need not be there yet."""
    return os.stat(_existing(folder)).st_dev


def _existing(folder: Path) -> Path:
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there


@contextlib.contextmanager
def room(folder: Path, needed: int = 0) -> Iterator[None]:
    """Sees to it that what is written in it fits, or that the disk is said to be full.

    Args:
      folder: where it is written.
      needed: bytes, as far as they are known beforehand.

    Raises:
      DiskFullError: before anything is written, if there is less room than that; later, if there was.
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
    """Whether a full disk is why, whichever library says so in whichever words."""
    while True:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        if (cause := error.__cause__ or error.__context__) is None:
            return False
        error = cause


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a file that appears whole or not at all, in UTF-8; what was there before stays until then.

    Args:
      path: the file.
      text: what shall stand in it.
      durable: whether it must be on the disk when this returns, a power cut notwithstanding.

    Raises:
      DiskFullError: if it does not fit.
    """
    partial = path.with_name(f"{path.name}.partial")
    with room(path.parent):
        _write(path, partial, text, durable)


def _write(path: Path, partial: Path, text: str, durable: bool) -> None:
    try:
        with partial.open("w", encoding="utf-8", errors="replace") as file:  # half a surrogate pair is no text
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # a full disk is not to be filled by the rest of what did not fit
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, field: str | None = None) -> Iterator[None]:
    """Keeps other processes out for as long as it is open; the system lets go when this process ends, however.

    Args:
      path: the file that is locked; it and its folder are made.
      field: the setting that names the folder, for the message to whom is refused; None waits for the other process.

    Raises:
      ConfigError: if another process has it and a field was given.
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
                break  # else its last owner has removed it meanwhile: whoever comes now would lock another file
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before it is let go


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
