"""Makes a trained classifier forget some of its training images: ``python -m ltu_jax.unlearn``."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from absl import flags, logging

from ltu_jax import command
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, to_dict

USAGE = """
python -m ltu_jax.unlearn [--config FILE.py[:METHOD]] [--config.FIELD=VALUE ...] [--workdir DIR]

Trains (or finds in the cache) an original model, Retrain and the attackers, unlearns, and reports
UA, RA, TA, MI and UT beside Retrain. Without --config: LTU on the embedded digits, no download.
"""


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "folder of this run; unset: runs/DATASET-METHOD-SEED")
    flags.DEFINE_string("cache", None, "folder of originals, Retrain models and attackers; unset: beside the workdir")
    flags.DEFINE_bool("prepare", False, "train and cache original, Retrain and attackers; unlearn nothing")
    flags.DEFINE_bool("dry_run", False, "print the resolved configuration, shapes and the cost; train nothing")
    flags.DEFINE_bool("show_images", False, "put the twelve forget images that changed most into report.html")


def main(config: Config) -> int:
    """Runs the command on a resolved configuration; the exit status."""
    if flags.FLAGS.prepare and flags.FLAGS.dry_run:
        raise ConfigError("--prepare: it trains and --dry_run trains nothing; allowed: one of the two")
    workdir = Path(flags.FLAGS.workdir or f"runs/{config.data.name}-{_word(config.method.name)}-{config.seed}")
    cache = Path(flags.FLAGS.cache or workdir.parent / "cache")
    if not flags.FLAGS.prepare:
        _check_workdir(workdir, config)
    _check_writable("--cache", cache)

    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.unlearning.problem import load, request_sha256

    logging.set_verbosity(logging.ERROR)  # Orbax logs every step of every save, TFDS every folder it opens
    loaded = load(config, progress_for())  # nothing is written before all is known to be right
    if flags.FLAGS.dry_run:
        from ltu_jax.unlearning.estimate import estimate

        print(json.dumps({"config": to_dict(config), **estimate(config, loaded)}, indent=2))
        return 0
    if flags.FLAGS.prepare:
        return _prepare(config, loaded, cache)
    if (workdir / "result.json").exists():
        outcome = json.loads((workdir / "result.json").read_text())
        if outcome.get("request_sha256") != request_sha256(config, loaded.source, loaded.splits):
            raise ConfigError(f"--workdir: {str(workdir)!r} holds a run on other data or ids; allowed: a new folder")
        return _show(outcome, workdir, "already done; result in")
    return _run(config, loaded, workdir, cache)


def _prepare(config: Config, loaded: Any, cache: Path) -> int:
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.training.checkpoint import CheckpointError
    from ltu_jax.unlearning.problem import prepare

    _keep_compiled(cache)
    try:
        prepare(config, loaded=loaded, cache=cache, progress=progress_for())
    except (FloatingPointError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"prepared; original, Retrain and attackers in {cache}")
    return 0


def _keep_compiled(cache: Path) -> None:
    import jax

    jax.config.update("jax_compilation_cache_dir", str((cache / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _run(config: Config, loaded: Any, workdir: Path, cache: Path) -> int:
    from ltu_jax.methods import build_method
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.training.checkpoint import CheckpointError
    from ltu_jax.unlearning import problem, result
    from ltu_jax.unlearning.loop import run_unlearning
    from ltu_jax.unlearning.saving import Saving, WrongRunError

    progress, started = progress_for(), result.now()
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(to_dict(config), indent=2) + "\n")
    _keep_compiled(cache)
    try:
        prepared = problem.prepare(config, loaded=loaded, cache=cache, progress=progress)
        method = build_method(config.method, prepared.parts)
        state, history = run_unlearning(
            method,
            prepared.original,
            prepared.splits,
            prepared.source,
            remain_fraction=config.data.remain_fraction,
            split_seed=config.seeds.split or 0,
            log_every=config.log_every,
            eval_every=config.eval_every,
            saving=Saving(workdir, config.save_every, prepared.identity),
            batch_size=config.evaluation.batch_size,
            progress=progress,
        )
    except (FloatingPointError, CheckpointError, WrongRunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    outcome = result.make_result(prepared, state, history, started)
    _write(workdir, prepared, state, history, outcome)
    return _show(outcome, workdir, "result in")


def _write(workdir: Path, prepared: Any, state: Any, history: Any, outcome: dict[str, Any]) -> None:
    from ltu_jax.reporting.page import render
    from ltu_jax.training.checkpoint import save
    from ltu_jax.unlearning.evidence import changed_most, forget_confidence

    confidence = forget_confidence(prepared, state)
    changed = changed_most(prepared, confidence) if flags.FLAGS.show_images else None
    described = {name: outcome[name] for name in ("method", "forget", "splits_sha256")}
    save(workdir / "model", {"params": state.params, "model_state": state.model_state}, described)
    (workdir / "report.html").write_text(render(outcome, history.rows, confidence, changed), encoding="utf-8")
    # Last and whole: a folder with a result is done.
    partial = workdir / "result.json.partial"
    partial.write_text(json.dumps(outcome, indent=2) + "\n")
    os.replace(partial, workdir / "result.json")


def _show(outcome: dict[str, Any], workdir: Path, words: str) -> int:
    from ltu_jax.reporting.terminal import print_result

    print_result(outcome)
    print(f"{words} {workdir}: result.json, report.html, metrics.jsonl, model/, checkpoints/")
    return 0


def _check_workdir(workdir: Path, config: Config) -> None:
    """Refuses a folder that cannot be written, that holds another run, or that holds anything else."""
    _check_writable("--workdir", workdir)
    written = workdir / "config.json"
    if workdir.exists() and not written.exists() and any(workdir.iterdir()):
        raise ConfigError(f"--workdir: {str(workdir)!r} holds files that are no run; allowed: a new or empty folder")
    if written.exists():
        try:
            before = json.loads(written.read_text())
        except (OSError, ValueError):
            raise ConfigError(
                f"--workdir: {str(workdir)!r} holds a damaged config.json; allowed: a new folder"
            ) from None
        if before != to_dict(config):
            what = ", ".join(_differences(before, to_dict(config))[:3])
            raise ConfigError(f"--workdir: {str(workdir)!r} holds another run ({what}); allowed: a new folder")


def _check_writable(flag: str, path: Path) -> None:
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{flag}: {str(path)!r} cannot be made, {there} is no folder; allowed: a folder to write to")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{flag}: {str(path)!r} cannot be written; allowed: a folder to write to")


def _differences(before: Any, now: Any, name: str = "config") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(k for k in before if k not in now)]
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{name}.{k}")]
    return [] if before == now else [f"{name} was {before!r}, is {now!r}"]


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


if __name__ == "__main__":
    command.run(define_flags, main, USAGE)
