"""Tests the claim of a receipt: that the model treats the forgotten rows like rows that it never saw.

The test is two-sided: rows that are known better than held-out rows leak, and so do rows that are known worse. The
remaining rows must be known better than the forgotten ones; otherwise the model was damaged as a whole, or forgot other
rows. All of it is tested through the model's own head and through two others (``old_head``), since a new head alone can
hide what the features still know. And copies of the rows may not stay: of these no answer of the model tells whether
what they show was forgotten. The test is no proof of forgetting; its error rates were measured (``rates``).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.deletion.few import FEWEST_TO_CLAIM
from ltu_jax.deletion.measures import RESAMPLES, Measured
from ltu_jax.deletion.old_head import HEADS, through_heads
from ltu_jax.evaluation.likeness import attack_auc, comparable, ks_distance, ks_noise
from ltu_jax.types import ArrayTree, Source, UnlearnState
from ltu_jax.unlearning.monitor import accuracy_lost

MARGIN = 5.0
"""Points of Kolmogorov-Smirnov distance beyond noise that approximate unlearning may leave."""
LOSS = 10.0
"""Points of accuracy beyond noise that forgetting may cost on remaining and on held-out rows."""
GAIN = 2.0
"""Points of accuracy beyond noise that held-out rows may gain: more, and they were trained on."""
SHARE = 0.5
"""The attacker's distance of AUC from 0.5 must shrink by at least this share."""
MOVED = 0.1
"""Least share of the weights that must have changed: changing only the head is not forgetting."""
COPIED = 0.05
"""Most forgotten rows of which copies may stay, as a share: what these show was not forgotten."""


class Claim(NamedTuple):
    """The result of the test."""

    numbers: dict[str, float | None]  # the values compared with the limits, rounded to what one row contributes
    findings: list[str]  # why forgetting is not shown, one line each
    one_row: dict[str, float]  # what one row contributes to each number

    @property
    def shown(self) -> bool:
        """Whether forgetting is shown."""
        return not self.findings

    def as_json(self) -> dict[str, object]:
        """``claim`` of a receipt."""
        return {"shown": self.shown, "findings": self.findings, "numbers": self.numbers}


def judge_models(
    before: UnlearnState,
    after: UnlearnState,
    measured: tuple[Measured, Measured],
    source: Source,
    rows: Mapping[str, np.ndarray],
    batch_size: int,
    copied: float,
) -> Claim:
    """Tests whether rows were forgotten, from the two models.

    Args:
      before: the model before.
      after: the unlearned model.
      measured: the predictions of both.
      source: the data.
      rows: what they were measured on, see ``rows.rows_to_measure``.
      batch_size: images per forward pass.
      copied: the share of the forgotten rows of which copies stay, see ``copies.Copies.share_of``.
    """
    heads = through_heads(before, after, measured[0], source, rows, batch_size)
    return judge(*measured, moved_share(before.params, after.params), heads, copied)


def judge(
    before: Measured,
    after: Measured,
    moved: float,
    heads: Mapping[str, tuple[Measured, Measured]] | None = None,
    copied: float = 0.0,
) -> Claim:
    """Tests whether rows were forgotten.

    Args:
      before: predictions of the model before.
      after: predictions of the unlearned model.
      moved: the ``moved_share``.
      heads: predictions of both through other heads, see ``old_head.through_heads``.
      copied: the share of the forgotten rows of which copies stay.
    """
    exact, one_row = {}, {}

    def note(values: Mapping[str, float], unit: float, *sets: str) -> None:
        for name, value in values.items():
            exact[name] = value
            one_row[name] = unit / min(len(after[which].labels) for which in sets)

    forget, held_out = after["forget"], after["held_out"]
    num_rows = len(forget.labels)
    alone = num_rows - len(comparable(forget, held_out).labels)
    limit = MARGIN + ks_noise(forget.labels, held_out.labels)  # no number of the receipt: it tells the rows' classes
    for prefix, (old, new) in {"": (before, after), **(heads or {})}.items():
        aucs = attack_aucs(old, new)
        note({f"{prefix}ks": ks_distance(new["forget"], new["held_out"])}, 100, "forget", "held_out")
        note({f"{prefix}{name}": value for name, value in aucs._asdict().items()}, 1, "forget", "held_out")
    for name, low in {"stay": stay_low(after), "knew_remain": knew_remain_low(before)}.items():
        note({name: low}, 1, "forget", "held_out")
    for name in ("remain", "held_out"):
        note({f"lost_{name}": accuracy_lost(before[name].correct, after[name].correct)}, 100, name)
    note({"gained_held_out": accuracy_lost(after["held_out"].correct, before["held_out"].correct)}, 100, "held_out")
    note({"moved": moved}, 1, "remain", "held_out")
    one_row["moved"] = 0.001
    numbers = {name: _rounded(value, one_row[name]) for name, value in exact.items()}
    # In whole limits: a finer share would tell which rows were forgotten to whoever knows which have copies.
    numbers["copied"], one_row["copied"] = round(COPIED * math.floor(copied / COPIED), 6), COPIED
    findings = [*_findings(numbers, limit, num_rows, alone)]
    if copied > COPIED:
        findings.append(
            f"copies of more than {100 * COPIED:g} % of the forgotten rows stay, so what these show was not forgotten:"
            " forget the copies as well"
        )
    return Claim(numbers, findings, one_row)


def _rounded(value: float, unit: float) -> float | None:
    return round(round(value / unit) * unit, 6) if np.isfinite(value) else None


def _findings(numbers: Mapping[str, float | None], limit: float, num_rows: int, alone: int) -> Iterator[str]:
    """Why forgetting is not shown."""
    at = {name: np.nan if value is None else value for name, value in numbers.items()}  # NaN fails every test
    if num_rows < FEWEST_TO_CLAIM:
        yield f"it cannot be shown of {num_rows} rows: at least {FEWEST_TO_CLAIM} are needed"
    if alone:
        yield f"it cannot be shown for {alone} of {num_rows} forgotten rows: no held-out row has their class"
    if not at["knew_remain"] > 0.5:
        yield (
            "it cannot be shown: the model before did not know the rows that stay better than held-out rows; look at"
            " the order of the classes, the normalisation, the size of the images"
        )
    for prefix, words in HEADS.items():
        if f"{prefix}ks" in at:
            yield from _not_forgotten({name.removeprefix(prefix): at[name] for name in at}, limit, words)
    if not at["stay"] > 0.5:
        yield (
            "nothing was forgotten of these rows in particular: rows that stay are not shown to be known better than"
            f" they are (AUC at least {at['stay']:.3f}; above 0.5 is asked for)"
        )
    for name, words in (("remain", "the remaining rows"), ("held_out", "held-out rows")):
        if not at[f"lost_{name}"] <= LOSS:
            yield f"the model was damaged: {at[f'lost_{name}']:.1f} points lost on {words}, {LOSS:g} are allowed"
    if not at["gained_held_out"] <= GAIN:
        yield (
            f"held-out rows are known better than before, by {at['gained_held_out']:.1f} points beyond noise, {GAIN:g}"
            " are allowed: they were trained on, or the model before was not measured as it was trained"
        )
    if not at["moved"] >= MOVED:
        yield f"only {100 * at['moved']:.1f} % of the weights changed, at least {100 * MOVED:g} % must"


def _not_forgotten(at: Mapping[str, float], limit: float, head: str) -> Iterator[str]:
    """What one head still tells."""
    if not at["ks"] <= limit:
        side = "are still known better" if at["auc"] > 0.5 else "are known worse"
        yield (
            f"the forgotten rows {side} than held-out rows{head}: an attacker gains {at['ks']:.1f} points on guessing,"
            f" more than {MARGIN:g} beyond what chance makes of so many rows"
        )
    if not at["knew_low"] > 0:
        yield (
            f"it cannot be shown: the model before did not give these rows away either{head}"
            f" (AUC {at['auc_before']:.3f}, which chance alone may leave of so many rows), so nothing tells a model"
            " that forgot them from one that did not"
        )
    elif not (at["auc_drop_low"] > 0 and at["auc_drop"] >= SHARE * abs(at["auc_before"] - 0.5)):
        yield (
            f"too little was forgotten to be shown{head}: the attacker's AUC went from {at['auc_before']:.3f} towards"
            f" 0.5 by {at['auc_drop']:.3f} (at least {at['auc_drop_low']:.3f}); {100 * SHARE:g} % of the way are asked"
            " for"
        )


class AttackAucs(NamedTuple):
    """AUC of an attacker who tells forget rows from held-out rows; ``..._low`` are lower 97.5 % bootstrap bounds."""

    auc: float  # after
    auc_before: float
    knew_low: float  # of its distance from 0.5
    auc_drop: float  # how far it moved towards 0.5
    auc_drop_low: float


def attack_aucs(before: Measured, after: Measured) -> AttackAucs:
    """What an attacker could tell before and after; both models are measured on the same resampled rows."""

    def aucs(forget: np.ndarray, held_out: np.ndarray) -> list[float]:
        return [attack_auc(one["forget"].at(forget), one["held_out"].at(held_out)) for one in (before, after)]

    (old, new), drawn = _resampled(aucs, len(after["forget"].labels), len(after["held_out"].labels))
    side = 1 if old >= 0.5 else -1  # members that are known worse than held-out rows can be told apart as well
    low = [float(np.percentile(x, 2.5)) for x in (side * (drawn[0] - 0.5), side * (drawn[0] - drawn[1]))]
    return AttackAucs(new, old, low[0], side * (old - new), low[1])


def stay_low(after: Measured) -> float:
    """Lower 75 % bound of the AUC of an attacker who tells remaining rows, the higher ones, from forget rows."""
    forget, remain = after["forget"], after["remain"]
    tell = lambda f, r: [1 - attack_auc(forget.at(f), remain.at(r))]  # noqa: E731
    return float(np.percentile(_resampled(tell, len(forget.labels), len(remain.labels))[1], 25))


def knew_remain_low(before: Measured) -> float:
    """Lower 97.5 % bound of the AUC of an attacker who tells remaining rows from held-out rows."""
    remain, held_out = before["remain"], before["held_out"]
    tell = lambda r, h: [attack_auc(remain.at(r), held_out.at(h))]  # noqa: E731
    return float(np.percentile(_resampled(tell, len(remain.labels), len(held_out.labels))[1], 2.5))


def _resampled(
    statistic: Callable[[np.ndarray, np.ndarray], list[float]], *sizes: int
) -> tuple[list[float], np.ndarray]:
    """Statistics of two samples f64[S], and those of their resamples f64[S, RESAMPLES]; the seed is fixed."""
    rng = np.random.default_rng(0)
    drawn = [statistic(*(rng.integers(0, size, size) for size in sizes)) for _ in range(RESAMPLES)]
    return statistic(*map(np.arange, sizes)), np.array(drawn).T


def moved_share(before: ArrayTree, after: ArrayTree, least: float = 1e-3) -> float:
    """Share of the weights in tensors that changed by more than ``least`` of their norm."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(before)), map(np.asarray, jax.tree.leaves(after)), strict=True))
    moved = sum(old.size for old, new in pairs if np.linalg.norm(new - old) > least * np.linalg.norm(old))
    return moved / sum(old.size for old, _ in pairs)
