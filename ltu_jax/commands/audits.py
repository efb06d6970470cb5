"""What ``python -m ltu_jax.audit`` does: compares the model of a finished run with others, writes what was found."""

import dataclasses
import functools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ltu_jax.auditing import plan, population, second_request
from ltu_jax.auditing.again import why_not_again
from ltu_jax.auditing.audited import Audited, RuleError, scored
from ltu_jax.auditing.canaries import jax_privacy_auditing
from ltu_jax.auditing.findings import SCHEMA_VERSION, Finding, as_json, missing, verdict
from ltu_jax.auditing.registry import AUDITS
from ltu_jax.auditing.run import AUDIT_OF
from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.audit_files import write
from ltu_jax.commands.options import FEWEST_CANARIES, AuditOptions
from ltu_jax.commands.run import FAILURES, at_once_of, read_source
from ltu_jax.config import Config, needs
from ltu_jax.files import LOCK, locked
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError, plain
from ltu_jax.training.checkpoint import load_tree
from ltu_jax.training.jobs import ORACLE, Trainer, train_or_find
from ltu_jax.types import Source, UnlearnState
from ltu_jax.unlearning import problem
from ltu_jax.unlearning.preparation import original, original_job, retrain_jobs
from ltu_jax.unlearning.problem import Loaded, load_problem, request_sha256
from ltu_jax.unlearning.result import now, provenance

OF_A_CLASS = "the run forgets a class: its settings say nothing of single rows"
OF_CANARIES = "the run forgets canaries: its settings say nothing of other rows"
TOO_FEW_ROWS = "{} rows are forgotten, and each of three strata needs one"
TOO_FEW = "{} canaries fit a run of this size, and {} are the fewest that can show anything: --canaries asks for more"


@dataclasses.dataclass(frozen=True)
class Planned:
    """What an audit will do; nothing is trained yet."""

    options: AuditOptions
    names: list[str]
    result: dict[str, Any]  # of the run
    loaded: Loaded
    raw: Source  # as it was read, with true labels
    trainer: Trainer  # its configuration has as many Retrains as are compared with

    @functools.cached_property
    def not_made(self) -> dict[str, str]:
        """Audits that cannot be made of this run, and why."""
        kind, why = self.trainer.config.data.forget_kind, {}
        again = why_not_again(self.trainer)
        if again is None and kind in ("class", "subclass"):
            again = OF_A_CLASS
        if again is not None:
            why |= dict.fromkeys((*second_request.SECOND, *population.POPULATION), again)
        if kind == "canaries":  # its own canaries are the audit's
            why.pop("canaries", None)
            why["strata"] = OF_CANARIES
        elif len(self.loaded.splits.forget) < 3:
            why.setdefault("strata", TOO_FEW_ROWS.format(len(self.loaded.splits.forget)))
        if "canaries" not in why and self.num_canaries < FEWEST_CANARIES:
            why["canaries"] = TOO_FEW.format(self.num_canaries, FEWEST_CANARIES)
        elif "canaries" not in why and "canaries" in self.names:
            try:
                jax_privacy_auditing()
            except ModuleNotFoundError as error:
                why["canaries"] = str(error)
        return {name: reason for name, reason in why.items() if name in self.names}

    @functools.cached_property
    def num_canaries(self) -> int:
        """How many there are; in a run that forgets canaries, its own."""
        if self.trainer.config.data.forget_kind == "canaries":
            return len(problem.canaries(self.trainer.config, self.raw).rows)
        asked = self.options.canaries
        return second_request.default_canaries(self.loaded.splits) if asked is None else asked

    @functools.cached_property
    def second(self) -> second_request.Second | None:
        """The second request, where an audit is made of it.

        Raises:
          ConfigError: there are more canaries than its forget set bears.
        """
        todo = [name for name in second_request.SECOND if name in self.names and name not in self.not_made]
        if not todo or self.trainer.config.data.forget_kind == "canaries":
            return None
        splits, seed = self.loaded.splits, self.trainer.config.seed_for("split")
        count = self.num_canaries if "canaries" in todo else 0
        second = second_request.second_request(self.loaded.source, splits, count, seed)
        if second_request.stratum_size(splits, second) < 1:
            raise ConfigError(
                f"--canaries: of {count} {int(second.canaries.is_in.sum())} are in, and with the strata"
                f" {len(splits.forget)} rows are forgotten, as in the run; allowed: fewer"
            )
        return second

    @property
    def num_second(self) -> int:
        """Retrains of the second request: it has no other first one, so one less than the run is compared with."""
        return max(second_request.RETRAINS, self.trainer.config.evaluation.num_retrain - 1)

    @functools.cached_property
    def cut(self) -> population.Cut | None:
        """The rows of a population, where an audit is made of one."""
        if not [name for name in population.POPULATION if name in self.names and name not in self.not_made]:
            return None
        rng = np.random.default_rng([self.trainer.config.seed_for("train"), ORACLE])
        try:
            return population.cut(self.loaded.splits, self.options.shadows, rng)
        except ValueError as error:
            raise ConfigError(f"--shadows: {error}") from None

    def models(self) -> list[plan.PlannedModel]:
        """All models that are compared with; what a training takes is known from the run's own."""
        splits, times, trainer = self.loaded.splits, self.result.get("time") or {}, self.trainer
        of_one = times.get("original_s") or times.get("retrain_s") or 0.0
        jobs = [] if self.loaded.weights is not None else [(original_job(splits), "all training rows")]
        jobs += [(job, "remaining rows") for job in retrain_jobs(trainer.config, splits)]
        if self.cut is not None:
            shadows, oracles = population.jobs(self.cut, self.options.oracles)
            jobs += [(job, "common rows and half of the candidates") for job in shadows]
            jobs += [(job, "common rows") for job in oracles]
        models = plan.planned(trainer, jobs, of_one, len(splits.train))
        if (second := self.second) is not None:
            models += second_request.planned(trainer, splits, second, of_one, self.num_second)
        return models


def audit(config: Config, options: AuditOptions) -> int:
    """Audits the model of a finished run; the exit status, 1 where an audit failed on the way.

    Raises:
      ConfigError: if the folder holds another run, or a flag does not fit.
    """
    processes.use_devices(config, options.base)
    with shutdown.catch_signals() as stop:
        progress = stop.watched(processes.progress())
        raw = read_source(config)
        loaded = load_problem(config, progress, source=raw)
        result = _result(config, options, loaded)
        num = max(config.evaluation.num_retrain, options.retrains if options.level else 0)
        compared = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, num_retrain=num))
        trainer = Trainer(compared, loaded.source, loaded.spec, options.base.cache, progress)
        planned = Planned(options, options.audits, result, loaded, raw, trainer)
        models = planned.models()
        _say(planned, models)
        if options.base.dry_run:
            return 0
        with locked(options.base.workdir / LOCK, "--workdir"):
            try:
                return _audit(planned, models)
            except FAILURES as error:
                if options.base.debug:
                    raise
                print(plain(f"error: {options.base.workdir}: {error}"), file=sys.stderr)
                return 1
            except RuleError as error:
                raise ConfigError(
                    f"--workdir: {str(options.base.workdir)!r}: {error}; allowed: a fair comparison"
                ) from error


def _result(config: Config, options: AuditOptions, loaded: Loaded) -> dict[str, Any]:
    """The run's own result, which has to be of these settings and data."""
    file = options.base.workdir / "result.json"
    try:
        result = read_json(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--workdir: {str(file)!r} cannot be read ({reason(error)}); allowed: a finished run"
        ) from None
    if result.get("request_sha256") != request_sha256(config, loaded):
        where = str(options.base.workdir)
        raise ConfigError(f"--workdir: {where!r} holds a run on other data, ids or weights; allowed: its own settings")
    return result


def _say(planned: Planned, models: list[plan.PlannedModel]) -> None:
    """Prints what will be trained, and what each audit can see."""
    source, splits, not_made = planned.loaded.source, planned.loaded.splits, planned.not_made
    missing = [model for model in models if not model.found]
    seconds = sum(model.seconds for model in missing)
    words = f"{len(missing)} to be trained, about {seconds:.0f} s" if missing else "all in the cache"
    print(plain(f"{len(models)} models, {words}"))
    labels = source.labels[splits.forget], source.labels[scored(splits)["test"]]
    sees = plan.resolution(planned.names, *labels, planned.trainer.config.data.forget_kind == "random")
    if "canaries" in planned.names and "canaries" not in not_made:
        sees["canaries"] = plan.resolution_of_canaries(planned.num_canaries)
    for name in planned.names:
        finds = f"; it would find {sees[name]}" if name in sees else ""
        print(
            plain(f"  {name}: {AUDITS[name].title}" + (f"; not made: {not_made[name]}" if name in not_made else finds))
        )


def _audit(planned: Planned, models: list[plan.PlannedModel]) -> int:
    """Trains what is missing, audits, and writes ``audit.json`` last."""
    started, start, options, trainer = now(), time.perf_counter(), planned.options, planned.trainer
    processes.keep_compiled(options.base.cache)
    splits = planned.loaded.splits
    begun_from = trainer.state_of(original(trainer, splits, planned.loaded.weights))
    retrains = [trainer.state_of(model) for model in train_or_find(trainer, retrain_jobs(trainer.config, splits))]
    tree, _ = load_tree(options.base.workdir / "model")
    unlearned = begun_from.replace(params=tree["params"], model_state=tree["model_state"])
    run = Audited(
        trainer.config, planned.loaded.source, splits, unlearned, begun_from, tuple(retrains), trainer.progress
    )
    seconds = {"models": time.perf_counter() - start}
    findings = [missing(name, why) for name, why in planned.not_made.items()]

    failed = []

    def timed(name: str, audits: Sequence[str], find: Callable[[], list[Finding]]) -> None:
        """Makes some audits; where they fail, the others are made all the same."""
        begun = time.perf_counter()
        try:
            findings.extend(find())
        except (ValueError, *FAILURES) as error:
            if options.base.debug:
                raise
            failed.append(f"{name}: {error}")
            findings.extend(missing(audit, str(error)) for audit in audits)
        seconds[name] = time.perf_counter() - begun

    todo = [name for name in planned.names if name not in planned.not_made]
    for name in todo:
        if name in AUDIT_OF:
            timed(name, [name], lambda: [AUDIT_OF[name](run)])  # noqa: B023, called at once
    if "canaries" in todo and planned.trainer.config.data.forget_kind == "canaries":
        timed("canaries", ["canaries"], lambda: _own_canaries(planned, unlearned, begun_from, retrains))
    for name, of, find in (
        ("second request", second_request.SECOND, _of_second),
        ("population", population.POPULATION, _of_population),
    ):
        wanted = [one for one in of if one in todo and one not in seconds]
        if wanted:
            timed(name, wanted, lambda: find(planned))  # noqa: B023, called at once
    findings.sort(key=lambda finding: [*AUDITS].index(finding.audit))
    outcome = {
        "schema_version": SCHEMA_VERSION,
        "run": {
            name: planned.result.get(name)
            for name in ("method", "dataset", "model", "seeds", "forget", "request_sha256")
        },
        "level": options.level,
        "models": as_json(models),
        "rows": {name: len(index) for name, index in run.rows.items()},
        "findings": as_json(findings),
        "verdict": verdict(findings),
        "notes": _notes(run),
        "seconds": {**seconds, "total": time.perf_counter() - start},
        "provenance": {**provenance(started), "command": shlex.join(["python", "-m", "ltu_jax.audit", *sys.argv[1:]])},
    }
    write(options.base.workdir, outcome)
    for line in failed:
        print(plain(f"error: {line}"), file=sys.stderr)
    return 1 if failed else 0


def _own_canaries(
    planned: Planned, unlearned: UnlearnState, begun_from: UnlearnState, retrains: list[UnlearnState]
) -> list[Finding]:
    """The bound of a run that forgets canaries."""
    config, source = planned.trainer.config, planned.loaded.source
    drawn = problem.canaries(config, planned.raw)
    return [second_request.canary_audit(config, source, drawn, unlearned, begun_from, retrains)]


def _of_second(planned: Planned) -> list[Finding]:
    """The audits that are made of a second request."""
    second, config = planned.second, planned.trainer.config
    if second is None:
        return []
    models, findings = second_request.models_of(planned.trainer, planned.loaded.splits, second, planned.num_second), []
    if len(second.canaries.rows):
        states = models.unlearned, models.original, models.retrains
        findings.append(second_request.canary_audit(config, second.source, second.canaries, *states))
    if "strata" in planned.names and "strata" not in planned.not_made:
        findings.append(second_request.strata_audit(config, second, models))
    return findings


def _of_population(planned: Planned) -> list[Finding]:
    """The audits that are made of a population."""
    made, trainer = planned.cut, planned.trainer
    if made is None:
        return []
    at_once = at_once_of(trainer.config, trainer.source)
    found = population.populate(trainer, planned.loaded.splits, made, planned.options.oracles, at_once)
    return population.population_audits(found, planned.names)


def _notes(run: Audited) -> list[str]:
    """What has to be known to read the figures."""
    notes, config = [], run.config
    if config.attackers.fitted_on == "original" and "bank" in needs(config.method):
        notes.append("the attackers that guided the run were fitted on the original, with visible rows as members")
    if not run.is_random:
        why = "so held-out rows need not be as hard: only the difference to Retrain counts"
        notes.append(f"the forget rows were chosen ({config.data.forget_kind}), {why}")
    return notes
