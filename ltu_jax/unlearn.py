"""Makes a trained classifier forget some of its training images: ``python -m ltu_jax.unlearn``."""

import dataclasses
from pathlib import Path
from typing import Any

from absl import flags

from ltu_jax.commands import command_line
from ltu_jax.commands.options import Options, check_request_folders, check_run_folders, default_workdir
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, check_path

USAGE = """
python -m ltu_jax.unlearn [--config FILE.py[:METHOD]] [--config.FIELD=VALUE ...] [--workdir DIR]
python -m ltu_jax.unlearn --config FILE.py --forget IDS.txt --workdir DIR [--sign KEY.pem]

Trains (or finds in the cache) an original model, Retrain and the attackers, unlearns, and reports
UA, RA, TA, MI and UT beside Retrain. Without --config: LTU on the embedded digits, no download.
With --forget it carries out a deletion request: no Retrain, a receipt; docs/forget-my-data.md.
Status 4: it is done, but that the rows were forgotten is not shown.
"""


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "folder of this run; unset: runs/DATASET-METHOD-SEED, or FIRST-to-LAST seed")
    flags.DEFINE_string("cache", None, "folder of originals, Retrain models and attackers; unset: beside the workdir")
    flags.DEFINE_string("forget", None, "a deletion request: file with one id a line; workdir holds all of a model's")
    flags.DEFINE_string("sign", None, "of --forget: Ed25519 private key (PEM) that signs the receipt")
    flags.DEFINE_string("operator", None, "of --forget: who runs which model, as receipt and report shall name them")
    flags.DEFINE_bool("keep_original", False, "of --forget: keep models from before it, which know what it forgets")
    flags.DEFINE_bool("prepare", False, "train and cache original, Retrain and attackers; unlearn nothing")
    flags.DEFINE_bool("dry_run", False, "print the resolved configuration, shapes and the cost; train nothing")
    flags.DEFINE_bool(
        "show_images", False, "show the twelve forget images that changed most; of --forget: in images.html"
    )
    flags.DEFINE_bool("distributed", False, "one of the processes that a cluster started (Slurm, GKE, Open MPI)")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster tells; with the two below")
    flags.DEFINE_integer("num_processes", None, "how many processes run this command together")
    flags.DEFINE_integer("process_id", None, "which of them this is, from 0")
    flags.DEFINE_bool("deterministic", True, "of a GPU: the same bits whenever it runs; --nodeterministic is faster")
    flags.DEFINE_bool("debug", False, "stop at the operation that makes the first NaN and show where it is; slow")


def main(config: Config) -> int:
    """Checks flags and folders, then does what they ask for; the exit status.

    Raises:
      ConfigError: if a flag, a folder or something that is read later is not what it should be.
    """
    _check_flags(config, flags.FLAGS)
    given: dict[str, Any] = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Options)}
    given["workdir"] = Path(given["workdir"] or default_workdir(config, given["forget"]))
    given["cache"] = Path(given["cache"] or given["workdir"].parent / "cache")
    options = Options(**given)
    if options.forget:
        check_request_folders(options)
        from ltu_jax.commands.request import carry_out

        return carry_out(config, options.forget, options)
    jobs = check_run_folders(config, options)
    from ltu_jax.commands.run import unlearn

    return unlearn(jobs, options)


def _check_flags(config: Config, given: flags.FlagValues) -> None:
    if given.prepare and given.dry_run:
        raise ConfigError("--prepare: it trains and --dry_run trains nothing; allowed: one of the two")
    if given.sign and not given.forget:
        raise ConfigError("--sign: it signs the receipt of a request; allowed: with --forget")
    if given.operator and not given.forget:
        raise ConfigError("--operator: it stands in the receipt of a request; allowed: with --forget")
    if given.keep_original and not given.forget:
        raise ConfigError("--keep_original: a run keeps its original in any case; allowed: with --forget")
    together = {name: getattr(given, name) for name in ("coordinator", "num_processes", "process_id")}
    missing = [name for name, value in together.items() if value is None]
    if missing and len(missing) < len(together):
        raise ConfigError(f"--{missing[0]}: None; allowed: all of {', '.join(f'--{name}' for name in together)}")
    if not missing and not 0 <= given.process_id < given.num_processes:
        raise ConfigError(f"--process_id: {given.process_id}; allowed: 0..{given.num_processes - 1}")
    for name in ("workdir", "cache", "forget", "sign"):
        if path := getattr(given, name):
            check_path(f"--{name}", path)
    if given.forget and (config.num_seeds > 1 or given.prepare or given.distributed):
        raise ConfigError("--forget: a request is one run; allowed: without num_seeds, --prepare and --distributed")


if __name__ == "__main__":
    command_line.run(define_flags, main, USAGE)
