"""What ``python -m ltu_jax.audit`` does: compares the model of a finished run with others, writes what was found."""

import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.auditing import plan, population
from ltu_jax.auditing.again import can_be_run_again
from ltu_jax.auditing.audited import Audited, RuleError
from ltu_jax.auditing.findings import AUDITS, SCHEMA_VERSION, Finding, as_json, missing, verdict
from ltu_jax.auditing.run import AUDIT_OF
from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.options import AuditOptions
from ltu_jax.commands.run import FAILURES, at_once_of, read_source
from ltu_jax.config import Config
from ltu_jax.files import LOCK, locked, write_whole
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError, plain
from ltu_jax.training.checkpoint import load_tree
from ltu_jax.training.jobs import ORACLE, Trainer, train_or_find
from ltu_jax.types import Splits
from ltu_jax.unlearning.preparation import original, original_job, retrain_jobs
from ltu_jax.unlearning.problem import Loaded, load_problem, request_sha256
from ltu_jax.unlearning.result import now, provenance


def audit(config: Config, options: AuditOptions) -> int:
    """Audits the model of a finished run; the exit status, 0 where every audit could be made.

    Raises:
      ConfigError: if the folder holds another run, or a flag does not fit.
    """
    names = plan.chosen_audits(options.audits, options.level)
    processes.use_devices(config, options)
    with shutdown.catch_signals() as stop:
        progress = stop.watched(processes.progress())
        loaded = load_problem(config, progress, source=read_source(config))
        result = _result(config, options.workdir, loaded)
        num_retrain = config.evaluation.num_retrain
        if options.level:
            num_retrain = max(num_retrain, options.retrains)
        trained = dataclasses.replace(
            config, evaluation=dataclasses.replace(config.evaluation, num_retrain=num_retrain)
        )
        trainer = Trainer(trained, loaded.source, loaded.spec, options.cache, progress)
        models = _models(trainer, loaded, result, names, options)
        _say_plan(names, models, loaded)
        if options.dry_run:
            return 0
        with locked(options.workdir / LOCK, "--workdir"):
            try:
                return _audit(trainer, loaded, result, names, models, options)
            except FAILURES as error:
                if options.debug:
                    raise
                print(plain(f"error: {options.workdir}: {error}"), file=sys.stderr)
                return 1
            except RuleError as error:
                raise ConfigError(
                    f"--workdir: {str(options.workdir)!r}: {error}; allowed: a fair comparison"
                ) from error


def _result(config: Config, workdir: Path, loaded: Loaded) -> dict[str, Any]:
    """The run's own result, which has to be of these settings and data."""
    file = workdir / "result.json"
    try:
        result = read_json(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--workdir: {str(file)!r} cannot be read ({reason(error)}); allowed: a finished run"
        ) from None
    if result.get("request_sha256") != request_sha256(config, loaded):
        raise ConfigError(f"--workdir: {str(workdir)!r} holds a run on other data, ids or weights; allowed: its own")
    return result


def _models(
    trainer: Trainer, loaded: Loaded, result: dict[str, Any], names: list[str], options: AuditOptions
) -> list[plan.PlannedModel]:
    """All models that are compared with; what a training takes is known from the run's own."""
    splits, times = loaded.splits, result.get("time") or {}
    jobs = [] if loaded.weights is not None else [(original_job(splits), "all training rows")]
    jobs += [(job, "remaining rows") for job in retrain_jobs(trainer.config, splits)]
    if set(names) & set(population.POPULATION) and not can_be_run_again(trainer):
        of_shadows, of_oracles = population.jobs(_cut(trainer, splits, options), options.oracles)
        jobs += [(job, "common rows and half of the candidates") for job in of_shadows]
        jobs += [(job, "common rows") for job in of_oracles]
    of_one = times.get("original_s") or times.get("retrain_s") or 0.0
    return plan.planned(trainer, jobs, of_one, len(splits.train))


def _cut(trainer: Trainer, splits: Splits, options: AuditOptions) -> population.Cut:
    try:
        return population.cut(
            splits, options.shadows, np.random.default_rng([trainer.config.seed_for("train"), ORACLE])
        )
    except ValueError as error:
        raise ConfigError(f"--level: {options.level}: {error}") from None


def _say_plan(names: list[str], models: list[plan.PlannedModel], loaded: Loaded) -> None:
    """Prints what will be trained, and what each audit can see."""
    source, splits = loaded.source, loaded.splits
    missing = [model for model in models if not model.found]
    seconds = sum(model.seconds for model in missing)
    words = f"{len(missing)} to be trained, about {seconds:.0f} s" if missing else "all in the cache"
    print(plain(f"{len(models)} models, {words}"))
    sees = plan.resolution(names, source.labels[splits.forget], source.labels[splits.test])
    for name in names:
        finds = f"; it would find {sees[name]}" if name in sees else ""
        print(plain(f"  {name}: {AUDITS[name].title}{finds}"))


def _audit(
    trainer: Trainer,
    loaded: Loaded,
    result: dict[str, Any],
    names: list[str],
    models: list[plan.PlannedModel],
    options: AuditOptions,
) -> int:
    started, start = now(), time.perf_counter()
    processes.keep_compiled(options.cache)
    config, splits = trainer.config, loaded.splits
    begun_from = trainer.state_of(original(trainer, splits, loaded.weights))
    retrains = [trainer.state_of(model) for model in train_or_find(trainer, retrain_jobs(config, splits))]
    tree, _ = load_tree(options.workdir / "model")
    unlearned = begun_from.replace(params=tree["params"], model_state=tree["model_state"])
    run = Audited(config, loaded.source, splits, unlearned, begun_from, tuple(retrains), trainer.progress)
    trainings, findings, seconds = time.perf_counter() - start, [], {}
    for name in names:
        if name in AUDIT_OF:
            begun = time.perf_counter()
            findings.append(AUDIT_OF[name](run))
            seconds[name] = time.perf_counter() - begun
    if wanted := [name for name in names if name in population.POPULATION]:
        begun = time.perf_counter()
        findings += _of_population(trainer, splits, wanted, options)
        seconds["population"] = time.perf_counter() - begun
    outcome = {
        "schema_version": SCHEMA_VERSION,
        "run": {name: result.get(name) for name in ("method", "dataset", "model", "seeds", "forget", "request_sha256")},
        "level": options.level,
        "models": as_json(models),
        "rows": {name: len(index) for name, index in run.rows.items()},
        "findings": as_json(findings),
        "verdict": verdict(findings),
        "notes": _notes(run, findings),
        "seconds": {"trainings": trainings, "audits": seconds, "total": time.perf_counter() - start},
        "provenance": {**provenance(started), "command": shlex.join(["python", "-m", "ltu_jax.audit", *sys.argv[1:]])},
    }
    write_whole(options.workdir / "audit.json", json.dumps(outcome, indent=2) + "\n")
    for finding in findings:
        print(finding.audit, finding.unlearned, finding.original, finding.floor, finding.p_value, finding.not_done)
    print(plain(f"audit in {options.workdir}: audit.json, audit.html"))
    return 0


def _of_population(trainer: Trainer, splits: Splits, names: list[str], options: AuditOptions) -> list[Finding]:
    if why := can_be_run_again(trainer):
        return [missing(name, why) for name in names]
    at_once = at_once_of(trainer.config, trainer.source)
    made = population.populate(trainer, splits, _cut(trainer, splits, options), options.oracles, at_once)
    return population.population_audits(made, names)


def _notes(run: Audited, findings: list[Finding]) -> list[str]:
    """What has to be known to read the figures."""
    notes = [f"{AUDITS[one.audit].title}: not made, {one.not_done}" for one in findings if one.not_done]
    if run.config.attackers.fitted_on == "original" and getattr(run.config.method, "forget_by", None) == "attackers":
        notes.append(
            "the attackers that guided the run were fitted on the original, and saw visible remaining rows as members"
        )
    if not run.is_random:
        kind = run.config.data.forget_kind
        why = "so held-out rows need not be as hard: only the difference to Retrain counts"
        notes.append(f"the forget rows were chosen ({kind}), {why}")
    return notes
