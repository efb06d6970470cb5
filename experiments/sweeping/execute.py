"""What a job does; it stands alone, because a job finds no other file of this folder."""

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

SAVES_WITHIN_S = 12
"""A command that was told to stop ends within ten seconds; what does not is killed."""


def run_command(
    command: list[str], log: str, folder: str, cores: list[int] | None, environment: dict[str, str | None]
) -> None:
    """Runs one command unless it has ended well already; this is what a job executes.

    Args:
      command: the command; ``python`` is the running one.
      log: file that takes its output; what became of it goes to the ``.json`` beside.
      folder: where it runs.
      cores: the only cores that it may use; None leaves all.
      environment: variables to set, or with None to remove.
    """
    record = Path(log).with_suffix(".json")
    process, stopped, told = None, False, False

    def stop(*_: Any) -> None:
        nonlocal stopped, told
        stopped = True
        if process is not None and process.returncode is None and not told:
            told = True  # once: at a second signal it would not save
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
        # The command's output is this same open file, so it is locked for as long as the command lives.
        while not stopped and not _locks(output):
            time.sleep(0.2)
        if stopped or (record.exists() and json.loads(record.read_text())["status"] == 0):
            return
        print(f"$ {shlex.join(command)}", file=output, flush=True)
        variables = {**os.environ, **environment}
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable if command[0] == "python" else command[0], *command[1:]],
            cwd=folder,
            env={name: value for name, value in variables.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if stopped:  # while it started
            stop()
        status = process.wait()
        told = {"command": shlex.join(command), "status": status, "seconds": time.monotonic() - start}
        write_whole(record, json.dumps(told) + "\n")


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
