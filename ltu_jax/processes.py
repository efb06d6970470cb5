"""The devices and processes that a command runs on: its flags, how they join, and what is said when one is lost."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import flags, logging

from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, settings

LOST = r"^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED)|Gloo|NCCL|[Bb]arrier|heartbeat"
"""What XLA says when it no longer hears from another process, whichever exception carries it."""

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""Kernels that add in one order, and are chosen without being timed. CPUs and TPUs know no others."""

TOGETHER = ("coordinator", "num_processes", "process_id")
SILENCE_S = 30
"""After so many seconds without a sign of life a process counts as lost, and all others stop."""


def define_flags() -> None:
    """The flags of a command that may run as several processes."""
    flags.DEFINE_bool("distributed", False, "one of the processes that a cluster started (Slurm, GKE, Open MPI)")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster tells; with the two below")
    flags.DEFINE_integer("num_processes", None, "how many processes run this command together")
    flags.DEFINE_integer("process_id", None, "which of them this is, from 0")
    flags.DEFINE_bool("deterministic", True, "of a GPU: the same bits whenever it runs; --nodeterministic is faster")
    flags.DEFINE_bool("debug", False, "stop at the operation that makes the first NaN and show where it is; slow")


def check_flags() -> None:
    """Refuses half of an answer to where the other processes are.

    Raises:
      ConfigError: the flag that is missing or out of range.
    """
    given = {name: getattr(flags.FLAGS, name) for name in TOGETHER}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise ConfigError(f"--{missing[0]}: None; allowed: all of {', '.join(f'--{name}' for name in TOGETHER)}")
    if not missing and not 0 <= given["process_id"] < given["num_processes"]:
        raise ConfigError(f"--process_id: {given['process_id']}; allowed: 0..{given['num_processes'] - 1}")


def use_devices(config: Config) -> None:
    """Joins the other processes, if there are any, and spreads batches over all devices, if there are several.

    What is printed is printed by the first process alone. Batches that do not divide over the devices are named.

    Args:
      config: the run's settings.

    Raises:
      ConfigError: if the other processes cannot be reached.
    """
    if flags.FLAGS.deterministic and DETERMINISTIC.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()  # before the first array

    import jax

    from ltu_jax.devices import device_mesh, num_devices, writes_files

    jax.config.update("jax_debug_nans", flags.FLAGS.debug)

    if flags.FLAGS.distributed or flags.FLAGS.coordinator:
        where = [getattr(flags.FLAGS, name) for name in TOGETHER]
        try:
            jax.distributed.initialize(*where, heartbeat_timeout_seconds=SILENCE_S)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"--distributed: the other processes are not found ({reason});"
                f" allowed: a cluster that JAX knows, or {', '.join(f'--{name}' for name in TOGETHER)}"
            ) from None
    if jax.device_count() == 1:
        return
    jax.set_mesh(device_mesh())
    if not writes_files():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the end of the process
        return
    for name, size, _ in settings(config):
        trains = name.startswith(("config.method.", "config.training.")) and name.endswith(("batch_size", "query_size"))
        if trains and size % num_devices():
            print(
                f"note: {name}={size} does not divide over {num_devices()} devices, so each computes all of it",
                file=sys.stderr,
            )


def progress() -> Any:
    """How work reports itself: to a person in the first process, not at all in the others."""
    from ltu_jax.devices import writes_files
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.types import silent

    return progress_for() if writes_files() else silent


def stop_if_one_is_lost(work: Callable[[], int]) -> int:
    """The exit status of ``work``; among several processes, one that fails ends at once, so that the others notice.

    Python's own end would wait for minutes for those that will never come.

    Args:
      work: what to do.

    Returns:
      What ``work`` returned; with other processes, 0 only.
    """
    import jax

    if jax.process_count() == 1:
        return work()
    logging.set_verbosity(logging.FATAL)  # Orbax may print a traceback of the loss that is told in a line here
    try:
        status = work()
    except Exception as error:
        status = _tell(error)
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _tell(error: Exception) -> int:
    """Says why this process ends; its exit status."""
    import jax

    if isinstance(error, ConfigError):
        print(f"error: {error}", file=sys.stderr)
        return 2
    reason = str(error).strip().partition("\n")[0][:200]
    if not re.search(LOST, reason):
        traceback.print_exception(error)
        return 1
    print(
        f"error: process {jax.process_index()} of {jax.process_count()} lost another one ({reason});"
        " start all of them again to go on from the last checkpoint",
        file=sys.stderr,
    )
    return 1
