"""Says how hard each training row is: ``python -m ltu_jax.difficulty``."""

from pathlib import Path

from absl import flags

from ltu_jax.commands import command_line
from ltu_jax.commands.options import Options, check_writable
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, check_path

USAGE = """
python -m ltu_jax.difficulty --out ROWS.csv [--config FILE.py] [--config.FIELD=VALUE ...] [--cache DIR]

Trains the original once more, or finds it in the cache, with the loss of every training row in every epoch, and writes
a line for each row: its id, the LT-IQR of its losses (hard rows have a large one) and its mean confidence (easy ones).
With --config.data.difficulty=ROWS.csv, forget_kind=hard or easy forgets that fraction of the rows, by any method.
"""


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("out", None, "file to write, .csv")
    flags.DEFINE_string("cache", None, "folder that keeps the training; unset: beside the file")
    flags.DEFINE_bool("deterministic", True, "of a GPU: the same bits whenever it runs; --nodeterministic is faster")


def main(config: Config) -> int:
    """Checks what is asked for and measures the rows; the exit status.

    Raises:
      ConfigError: if a flag or a setting is not what it should be.
    """
    given = flags.FLAGS
    for name in ("out", "cache"):
        if path := getattr(given, name):
            check_path(f"--{name}", path)
    out = Path(given.out or "")
    if out.suffix != ".csv" or out.is_dir():
        raise ConfigError(f"--out: {given.out!r}; allowed: a file that ends in .csv")
    cache = Path(given.cache or out.parent / "cache")
    for flag, folder in (("--out", out.parent), ("--cache", cache)):
        check_writable(flag, folder)
    if config.num_seeds > 1:
        raise ConfigError(f"config.num_seeds: {config.num_seeds}; allowed: 1, for each split has a file of its own")
    if config.weights is not None:
        raise ConfigError(f"config.weights: {config.weights!r} are trained already; allowed: unset")
    if config.training.epochs < 2:
        raise ConfigError("config.training.epochs: 1 gives no spread of losses; allowed: >= 2")
    from ltu_jax.commands.trace import write_difficulty

    return write_difficulty(config, out, Options(out.parent, cache, deterministic=given.deterministic))


if __name__ == "__main__":
    command_line.run(define_flags, main, USAGE)
