"""The report of one run: one HTML page without scripts and external files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.reporting import plots, rendering, table


def render_report(
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]] | None = None,
) -> str:
    """The report as HTML, with all external text escaped.

    Args:
      result: the contents of ``result.json``.
      history: rows of ``metrics.jsonl``.
      confidence: model name to f[F], the probability of the true label of each forget row.
      changed: ``(id, image u8[H,W,3], label, probability before, after)`` of the forget rows to show;
        None unless the user asked for them.
    """
    spread, minutes = result.get("retrain_spread"), result["scores"].get("ut_minutes")
    return rendering.render_page(
        "page",
        method=result["method"],
        dataset=result["dataset"],
        about=table.title(result),
        warning_texts=result.get("warnings"),
        gap=_gap(result),
        spread=[spread.get(name) for name in plots.GAPS] if spread else None,
        between=table.SPREAD,
        seconds=None if minutes is None else 60 * minutes,
        speed=table.speed(result),
        heads=("", *(measure.upper() for measure in table.MEASURES), "gap", "UT (min)"),
        rows=table.rows(result),
        retrained=bool(result.get("retrain")),
        sentences=table.sentences(result),
        meanings=[(name.upper(), meaning) for name, meaning in table.MEANINGS.items()],
        gap_bars=plots.gap_bars(result),
        histograms=plots.confidence_histograms(confidence),
        sure_retrain="Retrain" in confidence,
        changed=changed,
        curves=plots.curves(history),
        smoothed=len(history) >= plots.SMOOTHED_FROM,
        attackers=[_attacker(attacker) for attacker in result.get("attackers") or ()],
        no_guidance_auc=table.NO_GUIDANCE_AUC,
        fitted_on_original=table.FITTED_ON_ORIGINAL if result.get("attackers_fitted_on") == "original" else "",
        times=table.times(result),
        provenance=table.provenance(result),
    )


def _gap(result: Mapping[str, Any]) -> dict[str, float | None] | None:
    """The mean gap to Retrain before and after unlearning; None without Retrain."""
    if not (gap := result.get("gap")):
        return None
    return {"mean": gap.get("mean"), "before": (result.get("original_gap") or {}).get("mean")}


def _attacker(attacker: Mapping[str, Any]) -> tuple[str, list[float | None], bool]:
    aucs = [attacker.get(f"auc_{on}") for on in ("shadow", "original", "unlearned")]
    return attacker["name"], aucs, table.gives_no_guidance(attacker)
