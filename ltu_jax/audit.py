"""Audits a finished run: does the forgetting hold? ``python -m ltu_jax.audit``."""

from pathlib import Path

from absl import flags

from ltu_jax.auditing.registry import chosen_audits
from ltu_jax.commands import command_line
from ltu_jax.commands.options import FEWEST_CANARIES, AuditOptions, Options, check_audited_folder
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, check_path

OF_RUNS = ("config", "cache", "audits", "level", "retrains", "canaries", "shadows", "oracles", "dry_run")
USAGE = """
python -m ltu_jax.audit --config FILE.py[:METHOD] [--config.FIELD=VALUE ...] --workdir RUN [--level 0|1|2]

python -m ltu_jax.audit --target FILE [--references FILE,FILE,...] [--original FILE] --workdir DIR

Attacks the model of a finished run with more than the paper's MI: is it like rows never seen, like Retrain, does the
forgetting lie in BatchNorm statistics, does it come back? --config and its fields are those of the run. Level 0 trains
nothing but what the cache lacks of the run's own models; level 1 a few more models; level 2 a population of them.
Writes audit.json and audit.html into the run's folder; docs/audits.md says what each audit claims.
With --target it audits a model that was not made here, from files of its answers (.npz or .parquet) and of Retrains'.
"""


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "folder of the run, as python -m ltu_jax.unlearn made it")
    flags.DEFINE_string("cache", None, "folder of originals and Retrain models; unset: beside the workdir")
    flags.DEFINE_string("audits", None, "which audits, separated by commas; unset: all of the level and those below")
    flags.DEFINE_integer("level", 1, "0: no training; 1: a few models, about five trainings; 2: a population")
    flags.DEFINE_integer(
        "retrains", 3, "of level 1: how many Retrains the model is compared with, or more if the run has"
    )
    flags.DEFINE_integer(
        "canaries", None, "of level 1: rows with a wrong label; unset: a fiftieth of the rows; 0: none"
    )
    flags.DEFINE_integer("shadows", 32, "of level 2: how many models are trained, and unlearned, in pairs")
    flags.DEFINE_integer("oracles", 16, "of level 2: how many Retrains of these, and unlearnings of one of them")
    flags.DEFINE_string("target", None, "answers of a model that was not made here; no --config")
    flags.DEFINE_string("references", None, "of --target: answers of Retrains, separated by commas")
    flags.DEFINE_string("original", None, "of --target: answers of the model before unlearning")
    flags.DEFINE_bool("dry_run", False, "print what would be trained, how long it takes and what each audit can see")
    flags.DEFINE_bool("deterministic", True, "of a GPU: as the run was made")
    flags.DEFINE_bool("debug", False, "stop at the operation that makes the first NaN and show where it is; slow")


def main(config: Config) -> int:
    """Checks flags and folders, then audits; the exit status.

    Raises:
      ConfigError: if a flag, a folder or something that is read later is not what it should be.
    """
    given = flags.FLAGS
    if given.workdir is None:
        raise ConfigError("--workdir: None; allowed: the folder of a finished run, or with --target one to write to")
    for name in ("workdir", "cache", "target", "original"):
        if path := getattr(given, name):
            check_path(f"--{name}", path)
    if given.target is not None:
        return _of_files(given)
    for name in ("references", "original"):
        if getattr(given, name) is not None:
            raise ConfigError(f"--{name}: {getattr(given, name)!r} is beside no --target; allowed: with --target")
    for name, least, most in (("level", 0, 2), ("retrains", 1, 64), ("shadows", 6, 512), ("oracles", 6, 512)):
        if not least <= (value := getattr(given, name)) <= most:
            raise ConfigError(f"--{name}: {value}; allowed: {least}..{most}")
    if given.canaries is not None and given.canaries and given.canaries < FEWEST_CANARIES:
        raise ConfigError(f"--canaries: {given.canaries}; allowed: 0, or {FEWEST_CANARIES} and more")
    if given.shadows % 2:
        raise ConfigError(f"--shadows: {given.shadows}; allowed: an even number, for they come in pairs")
    if config.num_seeds > 1:
        raise ConfigError(
            f"config.num_seeds: {config.num_seeds}; allowed: 1, the folder of one seed and its config.seed"
        )
    names = None if given.audits is None else [name.strip() for name in given.audits.split(",")]
    workdir = Path(given.workdir)
    cache = Path(given.cache or workdir.parent / "cache")
    options = AuditOptions(
        Options(workdir, cache, dry_run=given.dry_run, deterministic=given.deterministic, debug=given.debug),
        audits=chosen_audits(names, given.level),
        level=given.level,
        retrains=given.retrains,
        canaries=given.canaries,
        shadows=given.shadows,
        oracles=given.oracles,
    )
    check_audited_folder(config, options)
    from ltu_jax.commands.audits import audit

    return audit(config, options)


def _of_files(given: flags.FlagValues) -> int:
    """Audits the answers in files."""
    if unlike := [name for name in OF_RUNS if given[name].present]:
        raise ConfigError(f"--{unlike[0]}: it is about a run of ours; allowed: without --target")
    references = [Path(name.strip()) for name in (given.references or "").split(",") if name.strip()]
    from ltu_jax.commands.audit_files import audit_files

    original = None if given.original is None else Path(given.original)
    return audit_files(Path(given.target), references, original, Path(given.workdir))


if __name__ == "__main__":
    command_line.run(define_flags, main, USAGE)
