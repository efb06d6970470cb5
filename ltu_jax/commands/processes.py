"""The devices and processes that a command runs on: how they join, and what is said when one is lost."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from ltu_jax.commands.options import Options
from ltu_jax.config import Config
from ltu_jax.devices import device_mesh, num_devices, writes_files
from ltu_jax.reporting.terminal import progress_for
from ltu_jax.setting import ConfigError, plain, settings
from ltu_jax.types import Progress, silent

LOST = r"^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED)|Gloo|NCCL|[Bb]arrier|heartbeat"
"""What XLA says when it no longer hears from another process, whichever exception carries it."""

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""Kernels that add in one order, and are chosen without being timed. CPUs and TPUs know no others."""

SILENCE_S = 30
"""After so many seconds without a sign of life a process counts as lost, and all others stop."""


def use_devices(config: Config, options: Options) -> None:
    """Joins the other processes, if there are any, and spreads batches over all devices, if there are several.

    What is printed is printed by the first process alone. Batches that do not divide over the devices are named.

    Raises:
      ConfigError: if the other processes cannot be reached.
    """
    # Orbax logs every step of every save, TFDS every folder it opens, JAX every process that joins.
    logging.set_verbosity(logging.ERROR)
    if options.deterministic and DETERMINISTIC.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()  # before the first array
    jax.config.update("jax_debug_nans", options.debug)
    if options.distributed or options.coordinator:
        where = (options.coordinator, options.num_processes, options.process_id)
        try:
            jax.distributed.initialize(*where, heartbeat_timeout_seconds=SILENCE_S)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"--distributed: the other processes are not found ({reason});"
                " allowed: a cluster that JAX knows, or --coordinator, --num_processes, --process_id"
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
            note = f"note: {name}={size} does not divide over {num_devices()} devices, so each computes all of it"
            print(plain(note), file=sys.stderr)


def keep_compiled(cache: Path) -> None:
    """Keeps compiled programs in the cache, so that a second start compiles nothing."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # JAX's own variable: a place for the programs of many caches
        jax.config.update("jax_compilation_cache_dir", str((cache / "compiled").absolute()))
    # Small programs too: there are some hundreds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # XLA's own caches below this folder would put its path into every key: a moved folder would not be read.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def progress() -> Progress:
    """How work reports itself: to a person in the first process, not at all in the others."""
    return progress_for() if writes_files() else silent


def stop_if_one_is_lost(work: Callable[[], int]) -> int:
    """The exit status of ``work``; among several processes, one that fails ends at once, so that the others notice.

    Python's own end would wait for minutes for those that will never come.
    """
    if jax.process_count() == 1:
        return work()
    logging.set_verbosity(logging.FATAL)  # Orbax may print a traceback of the loss that has its own line here
    try:
        status = work()
    except Exception as error:
        status = _say_why(error)
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _say_why(error: Exception) -> int:
    """Says why this process ends; its exit status."""
    if isinstance(error, ConfigError):
        print(plain(f"error: {error}"), file=sys.stderr)
        return 2
    reason = str(error).strip().partition("\n")[0][:200]
    if not re.search(LOST, reason):
        traceback.print_exception(error)
        return 1
    which = f"process {jax.process_index()} of {jax.process_count()} lost another one ({reason})"
    print(plain(f"error: {which}; start all of them again to go on from the last checkpoint"), file=sys.stderr)
    return 1
