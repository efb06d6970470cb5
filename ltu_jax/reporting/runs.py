"""Reads finished runs and groups those that can be compared."""

import collections
import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting.table import MEASURES, average
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError

SCHEMAS = (1, 2)
ALLOWED = "folders, or their result.json, that python -m ltu_jax.unlearn finished"
NO_SETTING = ("seed", "seeds", "log_every", "save_every", "data.data_dir", "data.remain_fraction")
"""Fields of a configuration that do not make it another variant; the result has the actual rho."""
NEEDED = {
    **dict.fromkeys(("method", "dataset", "model", "forget.kind", "forget.sha256", "splits_sha256"), str),
    **dict.fromkeys(("rho", "forget.count"), (int, float)),
}
PARTS = ("seeds", "forget", "scores", "original", "time", "provenance")
BY_MODEL = ("closeness", "measures")
"""Parts that have figures by model."""
OPTIONAL_PARTS = ("retrain", "retrain_spread", "gap", "original_gap", "cost", *BY_MODEL)
NUMBERS = ("seeds", "scores", "original", "time", "ratio", *OPTIONAL_PARTS)


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run."""

    path: Path  # as the user gave it
    result: dict[str, Any]
    settings: dict[str, Any]  # dotted field to value; only "rho" without config.json
    report: Path | None  # report.html, if it exists
    audits: Mapping[str, "Audited"] = dataclasses.field(default_factory=dict)  # of audit.json, if it exists


class Audited(NamedTuple):
    """The main figure of an audit."""

    unlearned: float | None
    original: float | None
    floor: tuple[float, float] | None  # range of Retrains, each against the others


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one method with the same settings and different seeds."""

    label: str
    runs: list[Run]

    def gaps(self, *measures: str) -> list[float]:
        """For each run with all measures: the mean of its gaps to Retrain, in points."""
        found = [[gap.get(measure) for measure in measures] for run in self.runs if (gap := run.result.get("gap"))]
        return [statistics.mean(gaps) for gaps in found if None not in gaps]

    def costs(self, name: str) -> list[float]:
        """A field of ``cost``, for each run that has it."""
        values = [(run.result.get("cost") or {}).get(name) for run in self.runs]
        return [value for value in values if value is not None]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs with the same data set, model, and kind and size of the forget set."""

    groups: list[Group]  # smallest mean gap first
    problems: list[list[Group]]  # the same groups, split by rows, original and Retrain

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]

    @property
    def models(self) -> list[dict[str, Any]]:
        """One result of each problem, for its original, its Retrain and the spread of Retrain."""
        return [problem[0].runs[0].result for problem in self.problems]

    def average(self, part: str) -> dict[str, float | None]:
        """The mean over the problems of ``part`` of their results, for each measure and ``mean``."""
        parts = [model.get(part) or {} for model in self.models]
        return {name: average(scores.get(name) for scores in parts) for name in (*MEASURES, "mean")}


def read_run(path: Path) -> Run:
    """Reads a run from its folder or its result file.

    Raises:
      ConfigError: if there is no result, or a damaged one.
    """
    file = path / "result.json" if path.is_dir() else path
    if not file.exists():
        raise ConfigError(f"folder: {str(path)!r} holds no result.json; allowed: {ALLOWED}")
    result = _read_json(path, file)
    if why := find_fault(result):
        raise ConfigError(f"folder: {str(path)!r} holds a damaged {file.name} ({why}); allowed: {ALLOWED}")
    settings, written, report = {"rho": result["rho"]}, file.with_name("config.json"), file.with_name("report.html")
    if file.name != "result.json":  # a copy: the files beside it belong to other runs
        return Run(path, result, settings, None)
    if written.exists():
        config = _flat(_read_json(path, written))
        settings |= {name: value for name, value in config.items() if not _is_no_setting(name)}
    try:
        audits = read_audits(file.parent, result)
    except (OSError, ValueError) as error:
        raise ConfigError(f"folder: {str(path)!r}: {reason(error)}; allowed: {ALLOWED}") from error
    return Run(path, result, settings, report if report.exists() else None, audits)


def read_audits(folder: Path, result: Mapping[str, Any]) -> dict[str, Audited]:
    """What the audits of a run found, by their names, from ``audit.json`` beside its result; empty without one.

    Raises:
      ValueError: if the file is damaged, or of another run.
      OSError: if it cannot be read.
    """
    if not (folder / "audit.json").exists():
        return {}
    try:
        audit = read_json(folder / "audit.json", lambda _: None)
        names = ("method", "request_sha256")
        if [audit["run"].get(name) for name in names] != [result.get(name) for name in names]:
            raise ValueError("it is of another run")
        return {
            one["audit"]: _audited(one) for one in audit["findings"] if one["audit"] in AUDITS and not one["not_done"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a damaged audit.json ({error})") from error


def _audited(finding: Mapping[str, Any]) -> Audited:
    numbers = [finding["unlearned"]["value"], (finding["original"] or {}).get("value"), *(finding["floor"] or ())]
    if not all(isinstance(number, int | float | None) for number in numbers):
        raise ValueError(f"{finding['audit']} is no number")
    low, high = numbers[2:] or (None, None)
    return Audited(numbers[0], numbers[1], None if low is None or high is None else (low, high))


def _read_json(path: Path, file: Path) -> dict[str, Any]:
    try:
        return read_json(file, lambda _: None)  # NaN and infinity become None
    except (OSError, ValueError) as error:
        why = reason(error)
        raise ConfigError(f"folder: {str(path)!r} holds a damaged {file.name} ({why}); allowed: {ALLOWED}") from error


def find_fault(result: Mapping[str, Any]) -> str | None:
    """What is missing or of a wrong type for a page, or None."""
    if result.get("schema_version") not in SCHEMAS:
        return f"schema_version {result.get('schema_version')!r} is none of {SCHEMAS}"
    flat = _flat(result)
    wrong = [name for name, kind in NEEDED.items() if not isinstance(flat.get(name), kind)]
    wrong += [name for name in PARTS if not isinstance(result.get(name), dict)]
    wrong += [name for name in OPTIONAL_PARTS if not isinstance(result.get(name), dict | None)]
    wrong += [name for name in ("warnings",) if not isinstance(result.get(name), list | None)]
    wrong += [name for name in ("ratio",) if isinstance(result.get(name), dict)]  # an empty one has no flat name
    parts = {name: result[name] for name in NUMBERS if isinstance(result.get(name), dict)}
    for part in BY_MODEL:
        by_model = {model: one for model, one in parts.pop(part, {}).items() if one is not None}
        wrong += [f"{part}.{model}" for model, figures in by_model.items() if not isinstance(figures, dict)]
        parts |= {f"{part}.{model}": figures for model, figures in by_model.items() if isinstance(figures, dict)}
    wrong += [f"{name}.{key}" for name, part in parts.items() for key, value in part.items() if isinstance(value, dict)]
    if isinstance(part := result.get("provenance"), dict) and not isinstance(part.get("versions"), dict | None):
        wrong.append("provenance.versions")
    if isinstance(part := result.get("forget"), dict) and not isinstance(part.get("fraction"), int | float | None):
        wrong.append("forget.fraction")
    for name, value in flat.items():
        if name.partition(".")[0] in NUMBERS and not isinstance(value, int | float | None):
            wrong.append(name)
    return f"{', '.join(dict.fromkeys(wrong))} missing or not of its kind" if wrong else None


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix.rstrip("."): config}
    return {name: value for key, part in config.items() for name, value in _flat(part, f"{prefix}{key}.").items()}


def _is_no_setting(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in NO_SETTING)


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Groups runs by request, then by method and settings, and by shared rows, original and Retrain."""
    return [_comparison(same) for same in _by(runs, _request)]


def _comparison(runs: Sequence[Run]) -> Comparison:
    groups = _groups(runs)
    problems = []
    for same in _by(runs, _problem):
        cut = [Group(group.label, [run for run in group.runs if run in same]) for group in groups]
        problems.append([group for group in cut if group.runs])
    return Comparison(groups, problems)


def _request(run: Run) -> list[Any]:
    forget = run.result["forget"]
    return [run.result["dataset"], run.result["model"], forget["kind"], forget["count"]]


def _problem(run: Run) -> list[Any]:
    """What runs with one original and one Retrain have in common; the scores tell recipes of training apart."""
    models = [run.result.get(name) or {} for name in ("original", "retrain", "retrain_spread")]
    scores = [[model.get(measure) for measure in MEASURES] for model in models]
    return [run.result["forget"]["sha256"], run.result["splits_sha256"], run.result["seeds"].get("train"), scores]


def _groups(runs: Sequence[Run]) -> list[Group]:
    groups = []
    for of_method in _by(runs, lambda run: run.result["method"]):
        for same in _by(of_method, lambda run: len(run.settings) > 1):
            label = same[0].result["method"]
            if len(same) < len(of_method) and len(same[0].settings) == 1:
                label += ", settings unknown"
            groups += [group for variant in _variants(label, same) for group in _apart(variant)]
    return sorted(groups, key=lambda group: statistics.mean(group.gaps("mean") or [float("inf")]))


def _variants(label: str, runs: Sequence[Run]) -> list[Group]:
    """Groups the runs of one method by settings; the labels name the settings that differ from the majority."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    varying = [name for name in names if len({_value(run, name) for run in runs}) > 1]
    variants = _by(runs, lambda run: [_value(run, name) for name in varying])
    groups = []
    for same in variants:
        differing = [
            f"{_short(name, varying)} {value}"
            for name in varying
            if (value := _value(same[0], name)) != _usual([_value(other[0], name) for other in variants])
        ]
        groups.append(Group(label + (f" ({', '.join(differing)})" if differing else ""), same))
    return groups


def _value(run: Run, name: str) -> str:
    value = run.settings.get(name, "unknown")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _usual(values: Sequence[str]) -> str | None:
    """The value of more than half of them; None without a majority."""
    value, count = collections.Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _short(name: str, among: Sequence[str]) -> str:
    last = name.rpartition(".")[2]
    return name if [other.rpartition(".")[2] for other in among].count(last) > 1 else last


def _apart(group: Group) -> list[Group]:
    """The group; or its runs one by one, labelled by folder, if two have the same seeds.

    Equal seeds are no independent runs, and a deviation over them would be too small.
    """
    if len(_by(group.runs, lambda run: [run.result["seeds"], run.result["splits_sha256"]])) == len(group.runs):
        return [group]
    return [Group(f"{group.label} in {run.path}", [run]) for run in group.runs]


def _by(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    """Groups runs with equal keys, in the order of the first run."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(json.dumps(key(run), sort_keys=True), []).append(run)
    return list(together.values())
