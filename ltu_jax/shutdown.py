"""SIGTERM and Ctrl-C: the work is saved at its next step and ends within seconds, with a line on how to resume.

Python runs a signal handler only between two bytecode instructions, and compiling is one instruction that can take
minutes. So the signal number is sent through a pipe to a thread. The thread notifies the work, and ends the process if
the work does not end in time. Files are written atomically, so only unsaved work is lost.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # types imports JAX, which would slow down --help
    from ltu_jax.types import Progress

GRACE_S = 8.0
"""Seconds for a step and a save; schedulers send SIGKILL ten or thirty seconds after SIGTERM."""


class StoppedError(BaseException):
    """A signal has stopped the work, which was saved; not an Exception, which library code might catch."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Stop:
    """Whether a signal has asked this process to stop; created by ``caught``."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._working = 0  # number of watched pieces of work in progress

    def watched(self, progress: "Progress") -> "Progress":
        """A ``Progress`` that raises ``StoppedError`` at the next step, at the same one in all processes."""

        @contextlib.contextmanager
        def watching(label: str, total: int) -> Iterator[Callable[[int], None]]:
            with progress(label, total) as advance:

                def advance_or_stop(count: int) -> None:
                    advance(count)
                    if number := _largest(self._number or 0):
                        raise StoppedError(number)

                self._working += 1
                try:
                    yield advance_or_stop
                finally:
                    self._working -= 1

        return watching

    def watch(self, pipe: int) -> None:
        """Waits for a signal, then for the work to end; a second signal ends it at once."""
        with open(pipe, "rb", buffering=0) as signals:
            number = signals.read(1)
            if not number:  # closed by caught
                return
            self._number = number[0]
            ready, _, _ = select.select([signals], [], [], GRACE_S if self._working else 0)
            if ready and not signals.read(1):  # the work has ended
                return
        _say(StoppedError(self._number), "what was saved before is intact")
        sys.stdout.flush()
        os._exit(128 + self._number)


@contextlib.contextmanager
def caught() -> Iterator[Stop]:
    """Catches SIGTERM and SIGINT; for the main thread.

    Raises:
      SystemExit: in place of ``StoppedError``, which is printed; the status is 128 plus the signal number.
    """
    stop, (read, write) = Stop(), os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    others = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=stop.watch, args=(read,), daemon=True).start()
    try:
        yield stop
    except StoppedError as stopped:
        _say(stopped, "saved")
        raise SystemExit(128 + stopped.number) from None
    finally:
        signal.set_wakeup_fd(others)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)


def _say(stopped: StoppedError, what: str) -> None:
    print(f"{stopped}; {what}: the same command again goes on from there", file=sys.stderr, flush=True)


def _largest(number: int) -> int:
    """The maximum over all processes: signals may arrive at different steps, but all must stop at the same one."""
    import jax

    if jax.process_count() == 1:
        return number
    import numpy as np
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))
