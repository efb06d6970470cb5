"""What a job executes. On this machine it is started as a file, and does not wait for what it does not need."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from ltu_jax.files import write_whole
from ltu_jax.setting import printable

SAVES_WITHIN_S = 12
"""A command that gets SIGTERM saves and ends within ten seconds; one that takes longer than this is killed."""


def run_command(command: list[str], log: str, folder: str, cores: list[int] | None = None) -> None:
    """Runs one command unless it has already succeeded.

    Args:
      command: the command; ``python`` is the running interpreter.
      log: file for its output; its status goes to the ``.json`` file of the same name.
      folder: its working directory.
      cores: the only cores that it may use; None allows all.
    """
    record = Path(log).with_suffix(".json")
    process, stopped, signalled = None, False, False

    def stop(*_: Any) -> None:
        nonlocal stopped, signalled
        stopped = True
        if process is not None and process.returncode is None and not signalled:
            signalled = True  # only once: at a second signal the command would end without saving
            os.killpg(process.pid, signal.SIGTERM)
            signal.alarm(SAVES_WITHIN_S)

    def kill(*_: Any) -> None:
        if process is not None and process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, kill)
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    with open(log, "a") as output:
        # The command inherits this open file as its output, so the lock holds until the command ends.
        while not stopped and not _locks(output):
            time.sleep(0.2)
        if stopped or (record.exists() and json.loads(record.read_text())["status"] == 0):
            return
        print(printable(f"$ {shlex.join(command)}"), file=output, flush=True)
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable if command[0] == "python" else command[0], *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if stopped:  # the signal came during Popen
            stop()
        status = process.wait()
        outcome = {"command": shlex.join(command), "status": status, "seconds": time.monotonic() - start}
        write_whole(record, json.dumps(outcome) + "\n")


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
