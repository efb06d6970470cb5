"""Files that are there whole or not at all, and folders that one process works in at a time."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ltu_jax.setting import ConfigError

LOCK = "lock"
"""Names the file that is locked; it is removed again, and one that a killed process left is in nobody's way."""


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a file that appears whole or not at all, in UTF-8; what was there before stays until then.

    Args:
      path: the file.
      text: what shall stand in it.
      durable: whether it must be on the disk when this returns, a power cut notwithstanding.
    """
    partial = path.with_name(f"{path.name}.partial")
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
