"""SIGTERM and Ctrl-C: work is saved at its next step and ends within seconds, with a line that says how to go on.

A handler in Python runs only between two of its instructions, and compiling is one instruction that takes minutes. So
the signal's number goes through a pipe to a thread that waits for it: it tells the work, and ends the process if that
does not answer in time. Nothing is lost but what was not saved: whatever is written appears whole or not at all.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ltu_jax.setting import plain

if TYPE_CHECKING:  # types imports JAX, and ltu_jax.sweep --help does not wait for that
    from ltu_jax.types import Progress

GRACE_S = 8.0
"""How long a step and a save may take; systems that send SIGTERM send SIGKILL ten seconds later, or thirty."""


class StoppedError(BaseException):
    """The work was stopped from outside and has been saved; no ``except Exception`` is meant to catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Stop:
    """The stop signal of this process; made by ``catch_signals``."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._working = 0  # how many pieces of work would be saved

    def watched(self, progress: "Progress") -> "Progress":
        """A ``Progress`` that raises ``StoppedError`` at the next step, in all processes at the same one."""
        from ltu_jax.devices import largest

        @contextlib.contextmanager
        def watching(label: str, total: int) -> Iterator[Callable[[int], None]]:
            with progress(label, total) as advance:

                def advance_or_stop(count: int) -> None:
                    advance(count)
                    # Of all processes, so that they stop at one step: a signal may reach each a little later.
                    if number := largest(self._number or 0):
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
            if not number:  # closed: the work has ended
                return
            self._number = asked = number[0]
            ready, _, _ = select.select([signals], [], [], GRACE_S if self._working else 0)
            if ready and not signals.read(1):  # the work has ended by itself
                return
        _say(StoppedError(asked), "what was saved before is intact")
        sys.stdout.flush()
        os._exit(128 + asked)


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Catches SIGTERM and SIGINT for as long as it is open, in the main thread.

    Raises:
      SystemExit: for ``StoppedError``, after a line about it; the status is 128 and the signal's number, as in shells.
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
    print(plain(f"{stopped}; {what}: the same command again goes on from there"), file=sys.stderr, flush=True)
