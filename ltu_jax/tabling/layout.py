"""The content of a table before it has a format: rows and blocks of columns as in the paper, and notes."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.tabling import noise
from ltu_jax.tabling.notes import notes
from ltu_jax.tabling.runs import MEASURES, Run, block_of, by_block, check

GAPS = (*MEASURES, "mean")
CLOSE = ("js_forget", "margin_forget")
"""Closeness to Retrain row by row: divergence in bits and |difference of margins|, on the forget rows."""


class Score(NamedTuple):
    """One score of a table, with its deviation and its gap: in percent and points, but for the figures in CLOSE."""

    mean: float | None
    deviation: float | None = None
    gap: float | None = None
    best: bool = False
    ends: tuple[float, float] | None = None  # a range in place of a mean


@dataclass(frozen=True)
class Entry:
    """A row within one block."""

    scores: Mapping[str, Score]  # by the names in GAPS, "mean" is the mean gap; in CLOSE and of AUDITS if known
    num_seeds: int | None = None
    minutes: float | None = None
    rho: float | None = None
    ratio: float | None = None  # remaining images drawn per forget image drawn
    cost: Mapping[str, float] = field(default_factory=dict)  # forward_images, backward_images, flops
    commands: tuple[str, ...] = ()
    own: Mapping[str, Score] = field(default_factory=dict)  # figures of the user's own, in units of their own


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    hint: str  # behind the label: rho, missing seeds
    entries: Mapping[str, Entry]  # by block; a block may be missing


@dataclass(frozen=True)
class Table:
    """A table, without a format."""

    title: str
    source: str  # "ours" or "paper"
    blocks: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    about: Mapping[str, str]  # dataset, model, devices, commits, versions


def build(number: int, runs: Sequence[Run]) -> Table:
    """The paper's Table 1, 2, 3 or 4, from our runs.

    Args:
      number: which table.
      runs: the runs of all its rows and seeds.

    Raises:
      ConfigError: if the runs do not belong in one table.
    """
    check(runs, number)
    parts = by_block(runs, number)
    blocks = tuple(parts)
    models = (("Original", "", _original), ("Retrain", "rho 1", _retrain))
    rows = [Row(name, hint, {b: entry_of(parts[b]) for b in blocks}) for name, hint, entry_of in models]
    bests = {block: best_rows(parts[block]) for block in blocks}
    for label in dict.fromkeys(run.label for run in runs):
        mine = {b: [run for run in parts[b] if run.label == label] for b in blocks}
        entries = {b: _method(own, bests[b].get(label, ())) for b, own in mine.items() if own}
        missing = _missing(mine, {b: len({run.seeds for run in parts[b]}) for b in blocks})
        rho = "" if number == 2 else f"rho {', '.join(dict.fromkeys(f'{e.rho:g}' for e in entries.values()))}"
        rows.append(Row(label, ", ".join(filter(None, (rho, missing))), entries))
    floor = {b: entry for b in blocks if (entry := _floor(parts[b]))}
    rows += [Row("between two Retrains", "", floor)] if floor else []
    return Table(_title(number, runs), "ours", blocks, tuple(rows), notes(parts), about(runs))


def _title(number: int, runs: Sequence[Run]) -> str:
    result, rows = runs[0].result, runs[0].num_train
    words = [str(result["dataset"]), str(result["model"])] + ([f"{rows} training images"] if rows else [])
    if number != 1:
        words.append(f"{block_of(runs[0], 1)} to forget")
    return f"Table {number}: {', '.join(words)}"


def one_each_pair(runs: Sequence[Run]) -> list[Run]:
    """The first run of each (train, split) pair: the others have the same original and Retrain."""
    return list({run.seeds.pair: run for run in reversed(runs)}.values())[::-1]


def best_rows(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """The rows that are best beyond the noise: label to the names in GAPS and CLOSE in which it is best.

    Retrain does not compete.
    """
    labels = dict.fromkeys(run.label for run in runs if run.result["method"] != "retrain")
    bests: dict[str, tuple[str, ...]] = {}
    figures = [(run, {**run.close("unlearned"), **run.result["gap"]}) for run in runs if run.label in labels]
    for name in (*GAPS, *CLOSE):
        known = [(run, value) for run, found in figures if (value := found.get(name)) is not None]
        if len(known) < len(figures):
            continue
        rows = {label: {run.seeds: value for run, value in known if run.label == label} for label in labels}
        if winner := noise.best(rows):
            bests[winner] = (*bests.get(winner, ()), name)
    return bests


def _missing(mine: Mapping[str, Sequence[Run]], expected: Mapping[str, int]) -> str:
    """``2 of 3 seeds`` for a row that lacks some, with the block if there are several; else empty."""
    several = len(mine) > 1
    short = [(b, f"{len(own)} of {expected[b]} seeds") for b, own in mine.items() if len(own) < expected[b]]
    return ", ".join(f"{count} at {block}" if several else count for block, count in short)


def _scores(scores: Sequence[Mapping], gaps: Sequence[Mapping], best: Sequence[str] = ()) -> dict[str, Score]:
    by_measure = {
        name: Score(*noise.spread([s[name] for s in scores]), statistics.fmean(g[name] for g in gaps), name in best)
        for name in MEASURES
    }
    return {**by_measure, "mean": Score(*noise.spread([g["mean"] for g in gaps]), None, "mean" in best)}


def _close(runs: Sequence[Run], model: str, best: Sequence[str] = ()) -> dict[str, Score]:
    """The figures in CLOSE that are known of every run."""
    return _of_every_run({name: [run.close(model).get(name) for run in runs] for name in CLOSE}, best)


def _audits(runs: Sequence[Run], model: str) -> dict[str, Score]:
    """The main figure of every audit that each of the runs has."""
    shared = [name for name in AUDITS if all(name in run.audits for run in runs)]
    return _of_every_run({name: [getattr(run.audits[name], model) for run in runs] for name in shared})


def _of_every_run(columns: Mapping[str, Sequence[float | None]], best: Sequence[str] = ()) -> dict[str, Score]:
    """The columns that have a value of every run."""
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    whole = {name: values for name, values in known.items() if len(values) == len(columns[name])}
    return {name: Score(*noise.spread(values), None, name in best) for name, values in whole.items()}


def _own_of_pairs(runs: Sequence[Run], model: str) -> dict[str, Score]:
    """``_own`` of the original or of Retrain, of those runs of a pair that have any."""
    return _own(one_each_pair([run for run in runs if run.own(model)]), model)


def _own(runs: Sequence[Run], model: str) -> dict[str, Score]:
    """The figures of the user's own that are known of every run."""
    names = dict.fromkeys(name for run in runs for name in run.own(model))
    return _of_every_run({name: [run.own(model).get(name) for run in runs] for name in names})


def _ranges(runs: Sequence[Run]) -> dict[str, Score]:
    """The range of Retrains in each audit, its ends averaged over the runs."""
    floors = {name: [run.audits[name].floor for run in runs if name in run.audits] for name in AUDITS}
    ends = {name: list(zip(*filter(None, found), strict=True)) for name, found in floors.items()}
    return {
        name: Score(None, ends=(statistics.fmean(low), statistics.fmean(high)))
        for name, (low, high) in ((name, found) for name, found in ends.items() if found)
    }


def _original(runs: Sequence[Run]) -> Entry:
    own = one_each_pair(runs)
    scores = _scores([run.result["original"] for run in own], [run.result["original_gap"] for run in own])
    return Entry(
        {**scores, **_close(own, "original"), **_audits(own, "original")}, len(own), own=_own_of_pairs(runs, "original")
    )


def _retrain(runs: Sequence[Run]) -> Entry:
    own = [run.result["retrain"] for run in one_each_pair(runs)]
    scores = {**_scores(own, [dict.fromkeys(GAPS, 0.0)]), "mean": Score(None)}
    minutes = mean_or_none([r.get("ut_minutes") for r in own])
    return Entry(scores, len(own), minutes, rho=1.0, own=_own_of_pairs(runs, "retrain"))


def _floor(runs: Sequence[Run]) -> Entry | None:
    """How far apart two Retrain models are: gaps and closeness only, without scores."""
    own = [run for run in one_each_pair(runs) if run.result.get("retrain_spread")]
    if not own:
        return Entry(ranges) if (ranges := _ranges(runs)) else None
    spreads = [run.result["retrain_spread"] for run in own]
    scores = {name: Score(None, None, statistics.fmean(s[name] for s in spreads)) for name in MEASURES}
    mean = Score(*noise.spread([s["mean"] for s in spreads]))
    return Entry({**scores, "mean": mean, **_close(own, "retrain"), **_ranges(runs)}, len(own))


def _method(runs: Sequence[Run], best: Sequence[str]) -> Entry:
    runs = sorted(runs, key=lambda run: run.seeds)
    own = [run.result for run in runs]
    scores = _scores([r["scores"] for r in own], [r["gap"] for r in own], best)
    costs = {name: mean_or_none([(r.get("cost") or {}).get(name) for r in own]) for name in COSTS}
    return Entry(
        {**scores, **_close(runs, "unlearned", best), **_audits(runs, "unlearned")},
        len(own),
        mean_or_none([r["scores"].get("ut_minutes") for r in own]),
        own[0]["rho"],
        mean_or_none([r.get("ratio") for r in own]),
        {name: cost for name, cost in costs.items() if cost is not None},
        tuple(run.command for run in runs),
        _own(runs, "unlearned"),
    )


COSTS = ("forward_images", "backward_images", "flops")


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean, or None if one of the values is not known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def about(runs: Sequence[Run]) -> dict[str, str]:
    """Data set, model, device, commit and versions of the runs, each different value once."""
    provenance: list[Mapping[str, Any]] = [run.result["provenance"] for run in runs]
    versions = [
        ", ".join(f"{name} {version}" for name, version in (p.get("versions") or {}).items()) for p in provenance
    ]
    values_of = {
        "dataset": [run.result["dataset"] for run in runs],
        "model": [run.result["model"] for run in runs],
        "device": [p.get("device") for p in provenance],
        "commit": [p.get("commit") or "not known" for p in provenance],
        "versions": versions,
    }
    return {name: "; ".join(dict.fromkeys(map(str, values))) for name, values in values_of.items()}
