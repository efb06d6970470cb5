"""The command line of ``ltu_jax.sweep`` and ``ltu_jax.tune``: arguments, one line per mistake, and how they stop."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ltu_jax.commands.command_line import fail
from ltu_jax.commands.shutdown import StoppedError
from ltu_jax.files import check_folder
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping.pool import usable_cores


class Parser(argparse.ArgumentParser):
    """Parses the arguments of ``ltu_jax.sweep`` and ``ltu_jax.tune``; a mistake gives one line."""

    def __init__(self, usage: str, program: str | None = None) -> None:
        super().__init__(program, description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
        cores = len(usable_cores())
        self.add_argument("file", metavar="FILE.py", type=Path, help="sweep file with get_sweep() -> Sweep")
        self.add_argument("--cache", type=Path, help="originals, Retrain models and attackers; unset: beside the runs")
        self.add_argument("--workers", type=int, default=cores, help=f"jobs at a time; unset: one a core, {cores} here")
        self.add_argument("--cluster", choices=("local", "slurm"), default="local", help="where jobs run")
        self.add_argument(
            "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="for sbatch: partition=gpu gpus_per_node=1"
        )

    def error(self, message: str) -> NoReturn:
        """Prints the mistake in one line and exits with status 2."""
        fail(ConfigError(message))


def folder(flag: str, path: Path) -> Path:
    """Creates the folder that a flag names.

    Raises:
      ConfigError: if it cannot be created, or checkpoints in it could not be found again.
    """
    check_folder(path, flag)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag}: {str(path)!r}: {error.strerror}; allowed: a folder to write to") from None
    return path


def start(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs ``main`` and exits with its status: 2 after one line about a mistake, 143 or 130 if it was stopped."""
    try:
        raise SystemExit(main(sys.argv[1:]))
    except ConfigError as error:
        fail(error)
    except (KeyboardInterrupt, StoppedError) as stopped:
        number = stopped.number if isinstance(stopped, StoppedError) else signal.SIGINT
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(128 + number) from None
