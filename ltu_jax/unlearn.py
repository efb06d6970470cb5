"""Makes a trained classifier forget some of its training images: ``python -m ltu_jax.unlearn``."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags, logging

from ltu_jax import command, processes, shutdown
from ltu_jax.config import Config, asked_for, each_seed
from ltu_jax.files import LOCK, DiskFullError, locked, write_whole
from ltu_jax.safe_reading import read_json
from ltu_jax.setting import ConfigError, check_path, to_dict

USAGE = """
python -m ltu_jax.unlearn [--config FILE.py[:METHOD]] [--config.FIELD=VALUE ...] [--workdir DIR]
python -m ltu_jax.unlearn --config FILE.py --forget IDS.txt --workdir DIR [--sign KEY.pem]

Trains (or finds in the cache) an original model, Retrain and the attackers, unlearns, and reports
UA, RA, TA, MI and UT beside Retrain. Without --config: LTU on the embedded digits, no download.
With --forget it carries out a deletion request: no Retrain, a receipt; docs/forget-my-data.md.
"""


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "folder of this run; unset: runs/DATASET-METHOD-SEED, or FIRST-to-LAST seed")
    flags.DEFINE_string("cache", None, "folder of originals, Retrain models and attackers; unset: beside the workdir")
    flags.DEFINE_string("forget", None, "a deletion request: file with one id a line; workdir holds all of a model's")
    flags.DEFINE_string("sign", None, "of --forget: Ed25519 private key (PEM) that signs the receipt")
    flags.DEFINE_bool("keep_original", False, "of --forget: keep models from before it, which know what it forgets")
    flags.DEFINE_bool("prepare", False, "train and cache original, Retrain and attackers; unlearn nothing")
    flags.DEFINE_bool("dry_run", False, "print the resolved configuration, shapes and the cost; train nothing")
    flags.DEFINE_bool("show_images", False, "put the twelve forget images that changed most into report.html")
    processes.define_flags()


class Job(NamedTuple):
    """One run and its folder."""

    config: Config
    workdir: Path


def main(config: Config) -> int:
    """Runs the command on a resolved configuration; the exit status."""
    if flags.FLAGS.prepare and flags.FLAGS.dry_run:
        raise ConfigError("--prepare: it trains and --dry_run trains nothing; allowed: one of the two")
    if flags.FLAGS.sign and not flags.FLAGS.forget:
        raise ConfigError("--sign: it signs the receipt of a request; allowed: with --forget")
    if flags.FLAGS.keep_original and not flags.FLAGS.forget:
        raise ConfigError("--keep_original: a run keeps its original in any case; allowed: with --forget")
    processes.check_flags()
    for name in ("workdir", "cache", "forget", "sign"):
        if getattr(flags.FLAGS, name):
            check_path(f"--{name}", getattr(flags.FLAGS, name))
    if flags.FLAGS.forget:
        return _main_request(config)
    seeds = f"{config.seed}" if config.num_seeds == 1 else f"{config.seed}-to-{config.seed + config.num_seeds - 1}"
    workdir = Path(flags.FLAGS.workdir or f"runs/{config.data.name}-{_word(config.method.name)}-{seeds}")
    cache = Path(flags.FLAGS.cache or workdir.parent / "cache")
    jobs = [Job(c, workdir if config.num_seeds == 1 else workdir / f"seed-{c.seed}") for c in each_seed(config)]
    for job in jobs if not flags.FLAGS.prepare else ():
        _check_workdir(job.workdir, job.config)
    _check_writable("--cache", cache)

    # Orbax logs every step of every save, TFDS every folder it opens, JAX every process that joins.
    logging.set_verbosity(logging.ERROR)
    processes.use_devices(config)
    with shutdown.caught() as stop:
        return processes.stop_if_one_is_lost(lambda: _main(jobs, cache, stop.watched(processes.progress())))


def _main_request(config: Config) -> int:
    if config.num_seeds > 1 or flags.FLAGS.prepare or flags.FLAGS.distributed:
        raise ConfigError("--forget: a request is one run; allowed: without num_seeds, --prepare and --distributed")
    workdir = Path(flags.FLAGS.workdir or f"runs/{config.data.name}-requests")
    _check_writable("--workdir", workdir)
    _check_writable("--cache", cache := Path(flags.FLAGS.cache or workdir.parent / "cache"))
    from ltu_jax.deletion.ledger import FILES, LedgerError

    others = (
        [path.name for path in workdir.iterdir() if path.absolute() != cache.absolute()] if workdir.exists() else []
    )
    if strange := [name for name in others if name not in FILES and not name.startswith("request-")]:
        raise ConfigError(
            f"--workdir: {str(workdir)!r} holds {strange[0]!r}, no request; allowed: a folder of requests"
        )
    logging.set_verbosity(logging.ERROR)
    processes.use_devices(config)

    from ltu_jax.training.checkpoint import CheckpointError
    from ltu_jax.unlearning.saving import WrongRunError

    try:
        with shutdown.caught() as stop:
            return _request(config, workdir, cache, stop.watched(processes.progress()))
    except (FloatingPointError, CheckpointError, DiskFullError, LedgerError, WrongRunError) as error:
        if flags.FLAGS.debug:
            raise
        print(f"error: {workdir}: {error}", file=sys.stderr)
        return 1


def _request(config: Config, workdir: Path, cache: Path, progress: Any) -> int:
    from ltu_jax.data.splits import read_ids
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Fulfilled, Request, load_given_model, plan, request_config
    from ltu_jax.deletion.printing import print_request
    from ltu_jax.unlearning.estimate import estimate
    from ltu_jax.unlearning.problem import Loaded

    config, key = request_config(config), flags.FLAGS.sign
    ids = read_ids(flags.FLAGS.forget, "--forget")
    key = Path(key) if key else None
    request = Request(config, ids, workdir, key, flags.FLAGS.show_images, flags.FLAGS.keep_original)
    source = _read(config)
    spec, weights = load_given_model(config, source, workdir)
    todo = plan(request, source, weights)
    if flags.FLAGS.dry_run:
        if isinstance(todo, Fulfilled):
            print(json.dumps({"config": to_dict(config), "request": todo.number, "is_new": False}, indent=2))
            return 0
        told = estimate(config, Loaded(source, todo.splits, spec, weights))
        print(json.dumps({"config": to_dict(config), "request": todo.number, **told}, indent=2))
        return 0
    if not isinstance(todo, Fulfilled):
        _keep_compiled(cache)
        splits, used = todo.splits, todo.splits.visible
        print(
            f"request {todo.number}: {len(splits.forget)} rows to forget, {len(used)} of {len(splits.remain)} remaining"
            f" rows used; held out: {len(splits.reserve)} for the attackers, {len(splits.validation)} to calibrate by,"
            f" {len(splits.test)} for the evidence",
            file=sys.stderr,
        )
    done = fulfil(request, source, spec, weights, todo=todo, cache=cache, progress=progress)
    print_request(done.receipt, done.folder, done.is_new)
    if (mapped := config.data.memory_map) is not None:
        print(f"note: {mapped} (config.data.memory_map) holds the pixels of all images: delete it with the data")
    return 0


def _main(jobs: list[Job], cache: Path, progress: Any) -> int:
    from ltu_jax.devices import agreed, writes_files
    from ltu_jax.unlearning.problem import load, request_sha256

    source = _read(jobs[0].config)
    # Nothing is written before all is known to be right.
    loaded = [load(job.config, progress, source=source) for job in jobs]
    if flags.FLAGS.dry_run:
        from ltu_jax.unlearning.estimate import estimate

        print(json.dumps({"config": to_dict(jobs[0].config), **estimate(jobs[0].config, loaded[0])}, indent=2))
        return 0
    todo = []
    for job, one in zip(jobs, loaded, strict=True):
        if flags.FLAGS.prepare or not agreed((job.workdir / "result.json").exists):
            todo.append((job, one))
            continue
        outcome = _read_json(job.workdir / "result.json")
        if outcome.get("request_sha256") != request_sha256(job.config, one):
            where = str(job.workdir)
            raise ConfigError(f"--workdir: {where!r} holds a run on other data, ids or weights; allowed: a new folder")
        _show(outcome, job.workdir, "already done; result in")
    if writes_files():
        _check_disk(todo, cache)
    at_once, done = _at_once(jobs[0].config, source), True
    with contextlib.ExitStack() as stack:
        for job, _ in todo if writes_files() and not flags.FLAGS.prepare else ():
            stack.enter_context(locked(job.workdir / LOCK, "--workdir"))
        for size in sorted({one.splits.sizes for _, one in todo}):  # a class has more rows in one split than in another
            alike = [(job, one) for job, one in todo if one.splits.sizes == size]
            for start in range(0, len(alike), at_once):
                done = _attempt(alike[start : start + at_once], cache, at_once, progress) and done
    if done and flags.FLAGS.prepare:
        print(f"prepared; original, Retrain and attackers in {cache}")
    return 0 if done else 1


def _check_disk(todo: list[tuple[Job, Any]], cache: Path) -> None:
    """Refuses runs that begin on a disk that they would fill; those that go on are told when it is full."""
    from ltu_jax.files import disk_of, free_bytes
    from ltu_jax.unlearning.estimate import disk_bytes

    new = [(job, disk_bytes(job.config, one.spec)) for job, one in todo if not job.workdir.exists()]
    wanted = [("--workdir", job.workdir, size["workdir"]) for job, size in new]
    wanted += [("--cache", cache, size["cache"]) for _, size in new]
    for flag, folder, _ in wanted:
        needed = sum(size for _, other, size in wanted if disk_of(other) == disk_of(folder))
        if (free := free_bytes(folder)) < needed:
            raise ConfigError(
                f"{flag}: {str(folder)!r} is on a disk with {free / 1e6:.1f} MB free, and up to {needed / 1e6:.1f} MB"
                " are written there; allowed: a disk with room"
            )


def _read(config: Config) -> Any:
    from ltu_jax.data.sources import load_source

    source = load_source(config.data, processes.progress())
    if left_out := source.unreadable:
        first = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        print(f"left out, {len(left_out)} images that cannot be decoded: {first}", file=sys.stderr)
    return source


def _at_once(config: Config, source: Any) -> int:
    """How many models a program; images that stay on the host are fetched for one model at a time."""
    import jax

    from ltu_jax.data.sources import num_fitting
    from ltu_jax.devices import agreed

    if source.streamed:
        return 1
    if config.at_once or jax.default_backend() == "cpu":
        return config.at_once or 1
    return max(1, min(4, config.num_seeds, agreed(lambda: num_fitting(source))))


def _attempt(jobs: list[tuple[Job, Any]], cache: Path, at_once: int, progress: Any) -> bool:
    """Whether all of the jobs were done; where one of several diverges, the others are run without it."""
    from ltu_jax.training.checkpoint import CheckpointError
    from ltu_jax.unlearning.saving import WrongRunError

    try:
        _run(jobs, cache, at_once, progress)
    except (FloatingPointError, CheckpointError, DiskFullError, WrongRunError) as error:
        if flags.FLAGS.debug:
            raise
        which = jobs[0][0].workdir if len(jobs) == 1 else f"one of {', '.join(str(job.workdir) for job, _ in jobs)}"
        print(f"error: {which}: {error}", file=sys.stderr)
        return len(jobs) > 1 and all([_attempt([job], cache, 1, progress) for job in jobs])
    return True


def _keep_compiled(cache: Path) -> None:
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # JAX's own variable: a place for the programs of many caches
        jax.config.update("jax_compilation_cache_dir", str((cache / "compiled").absolute()))
    # Small programs too, some hundreds, so that a second start compiles nothing.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # XLA's own caches below this folder would put its path into every key: a moved folder would not be read.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _run(jobs: list[tuple[Job, Any]], cache: Path, at_once: int, progress: Any) -> None:
    """Prepares and unlearns, all as one program, and writes each run into its folder."""
    from ltu_jax.devices import writes_files
    from ltu_jax.methods import build_method
    from ltu_jax.unlearning import problem, result
    from ltu_jax.unlearning.loop import Start, run_together
    from ltu_jax.unlearning.saving import Saving

    started = result.now()
    configs, loaded = [job.config for job, _ in jobs], [one for _, one in jobs]
    for job, _ in jobs:
        if writes_files() and not flags.FLAGS.prepare:
            job.workdir.mkdir(parents=True, exist_ok=True)
            write_whole(job.workdir / "config.json", json.dumps(to_dict(job.config), indent=2) + "\n")
    _keep_compiled(cache)
    problems = problem.prepare_together(configs, loaded, cache=cache, at_once=at_once, progress=progress)
    if flags.FLAGS.prepare:
        return
    config = configs[0]
    ended = run_together(
        [
            Start(
                build_method(job.config.method, prepared.parts),
                prepared.original,
                prepared.splits,
                prepared.source,
                Saving(job.workdir, config.save_every, prepared.identity, config.save_seconds),
            )
            for (job, _), prepared in zip(jobs, problems, strict=True)
        ],
        log_every=config.log_every,
        eval_every=config.eval_every,
        batch_size=config.evaluation.batch_size,
        progress=progress,
    )
    for (job, _), prepared, (state, history) in zip(jobs, problems, ended, strict=True):
        outcome = result.make_result(prepared, state, history, started)
        _write(job.workdir, prepared, state, history, outcome)
        _show(outcome, job.workdir, "result in")


def _write(workdir: Path, prepared: Any, state: Any, history: Any, outcome: dict[str, Any]) -> None:
    from ltu_jax.devices import writes_files
    from ltu_jax.interop.weights import save_weights
    from ltu_jax.reporting.page import render_report
    from ltu_jax.training.checkpoint import save
    from ltu_jax.unlearning.evidence import changed_most, forget_confidence

    confidence = forget_confidence(prepared, state)
    changed = changed_most(prepared, confidence) if flags.FLAGS.show_images else None
    described = {name: outcome[name] for name in ("method", "forget", "splits_sha256")}
    save(workdir / "model", {"params": state.params, "model_state": state.model_state}, described)
    if not writes_files():
        return
    if prepared.config.weights is not None:
        given = Path(prepared.config.weights)
        (workdir / "weights").mkdir(exist_ok=True)
        save_weights(given, workdir / "weights" / given.name, {"params": state.params, **state.model_state})
    write_whole(workdir / "report.html", render_report(outcome, history.rows, confidence, changed))
    # Last and whole: a folder with a result is done.
    write_whole(workdir / "result.json", json.dumps(outcome, indent=2) + "\n")


def _show(outcome: dict[str, Any], workdir: Path, words: str) -> None:
    from ltu_jax.reporting.terminal import print_result

    print_result(outcome)
    weights = ", weights/" if (workdir / "weights").exists() else ""
    print(f"{words} {workdir}: result.json, report.html, metrics.jsonl, model/, checkpoints/{weights}")


def _check_workdir(workdir: Path, config: Config) -> None:
    """Refuses a folder that cannot be written, that holds another run, or that holds anything else."""
    _check_writable("--workdir", workdir)
    written = workdir / "config.json"
    begun = (LOCK, f"{written.name}.partial")  # what a run leaves that is killed at its first step
    if workdir.exists() and not written.exists() and any(path.name not in begun for path in workdir.iterdir()):
        raise ConfigError(f"--workdir: {str(workdir)!r} holds files that are no run; allowed: a new or empty folder")
    if written.exists():
        before = _read_json(written)
        if what := ", ".join(_differences(asked_for(before), asked_for(to_dict(config)))[:3]):
            raise ConfigError(f"--workdir: {str(workdir)!r} holds another run ({what}); allowed: a new folder")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        raise ConfigError(
            f"--workdir: {str(path.parent)!r} holds a damaged {path.name}; allowed: a new folder"
        ) from None


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
