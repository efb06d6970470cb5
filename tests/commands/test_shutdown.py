"""Signals end a process within seconds: after a step, out of a call that takes minutes, or at once."""

import signal
import subprocess
import sys
import time

import pytest

from ltu_jax.commands import shutdown
from ltu_jax.types import silent

WORK = """
import hashlib, sys, time
from ltu_jax.commands import shutdown
from ltu_jax.types import silent

shutdown.GRACE_S = 2.0
with shutdown.catch_signals() as stop:
    if sys.argv[1] == "idle":
        print("ready", flush=True)
        time.sleep(60)
    with stop.watched(silent)("work", 1000) as advance:
        print("ready", flush=True)
        for _ in range(1000):
            if sys.argv[1] == "compiling":  # one call out of Python that takes minutes
                hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
            time.sleep(0.05)
            try:
                advance(1)
            except BaseException:
                print("saving", flush=True)
                raise
"""


def stopped(how, *signals, work=WORK):
    """Seconds until the process ends, its status and its output."""
    process = subprocess.Popen(
        [sys.executable, "-c", work, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    return time.monotonic() - began, process.returncode, out, err


@pytest.mark.parametrize(
    "number, status", [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_work_is_saved_at_its_next_step(number, status):
    seconds, code, out, err = stopped("stepping", number)
    assert (code, out) == (status, "saving\n") and seconds < 2
    assert err == f"stopped by {number.name}; saved: the same command again goes on from there\n"


@pytest.mark.slow
def test_work_that_was_saved_has_all_the_time_it_needs_to_end():
    work = WORK.replace(
        "with shutdown.catch_signals() as stop:",
        "import atexit\natexit.register(time.sleep, 3)\nwith shutdown.catch_signals() as stop:",
    )
    seconds, code, out, err = stopped("stepping", signal.SIGTERM, work=work)
    assert code == 143 and seconds > 3 and len(err.splitlines()) == 1


def test_a_call_that_does_not_come_back_is_not_waited_for():
    seconds, code, out, err = stopped("compiling", signal.SIGTERM)
    assert (code, out) == (143, "") and 1.5 < seconds < 10
    assert err == "stopped by SIGTERM; what was saved before is intact: the same command again goes on from there\n"


@pytest.mark.parametrize("how, signals", [("idle", [signal.SIGTERM]), ("compiling", [signal.SIGINT] * 2)])
def test_where_nothing_would_be_saved_or_at_a_second_signal_it_ends_at_once(how, signals):
    seconds, code, _, err = stopped(how, *signals)
    assert code == 128 + signals[0] and seconds < 1.5 and len(err.splitlines()) == 1


def test_handlers_are_put_back_and_other_errors_pass_through():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError):
        with shutdown.catch_signals() as stop:
            assert signal.getsignal(signal.SIGTERM) is not before[0]
            with stop.watched(silent)("work", 1) as advance:
                advance(1)  # nobody asked
                raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_what_is_watched_is_told_to_the_progress_as_before():
    events = []

    class Telling:
        def __enter__(self):
            return events.append

        def __exit__(self, *error):
            events.append("closed")

    with shutdown.Stop().watched(lambda label, total: events.append((label, total)) or Telling())("a", 3) as advance:
        advance(2)
    assert events == [("a", 3), 2, "closed"]
