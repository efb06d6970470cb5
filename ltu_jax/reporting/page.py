"""A result as one page of HTML that needs no network and no script."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ltu_jax.reporting import markup, plots, table

CAPTIONS = {
    "loss": "The losses that the method descends.",
    "norm": "Norms of the parts of the update, on a log scale: a part far below the others has no say.",
    "cosine": "Cosine of the two gradients that are combined: below zero they pull against each other.",
    "conflict": "Share of steps in which the two gradients conflicted (1: in each).",
    "eval": "Scores during the run, on rows that the method may be tuned by: never test rows, never Retrain.",
}


def render(
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]] | None = None,
) -> str:
    """The whole report, to be written to one file.

    Args:
      result: what ``result.json`` holds.
      history: rows of ``metrics.jsonl``.
      confidence: model name to f[F], the probability of the true label of each forget row.
      changed: ``(id, image u8[H,W,3], label, probability before, after)`` of the forget rows to show;
        None unless the user asked for them.

    Returns:
      HTML; all text that came from outside is escaped.
    """
    title = f"{result['method']} on {result['dataset']}"
    body = [
        "<main>",
        f"<header><h1>{escape(title)}</h1>\n<p class='soft'>{escape(table.title(result))}</p></header>",
        markup.warnings(result.get("warnings") or ()),
        _facts(result),
        _scores(result),
        _gaps(result),
        _confidence(confidence),
        _changed(changed or ()),
        _curves(history),
        _attackers(result),
        markup.section("Time", markup.definitions("meanings", table.times(result))),
        "</main>",
        f"<footer>\n<h2>Provenance</h2>\n{markup.definitions('meanings', table.provenance(result))}\n</footer>",
    ]
    return markup.document(f"{title}: unlearning report", body)


def _facts(result: Mapping[str, Any]) -> str:
    """The three numbers that a reader looks for first; without Retrain there is nothing to compare with."""
    if not result.get("gap"):
        return "<p>There is no Retrain model to compare with, so the scores below stand alone.</p>"
    before = table.number((result.get("original_gap") or {}).get("mean"))
    facts = [
        ("Mean gap to Retrain, in points", table.number(result["gap"].get("mean")), f"before unlearning: {before}")
    ]
    if spread := result.get("retrain_spread"):
        facts.append(("Between two Retrain models", table.number(spread.get("mean")), "a gap within this is noise"))
    ut = result["scores"].get("ut_minutes")
    facts.append(("Time to unlearn", table.duration(None if ut is None else ut * 60), table.speed(result) or ""))
    return markup.facts(facts)


def _scores(result: Mapping[str, Any]) -> str:
    rows = table.rows(result)
    lines = [_row(row, "method" if row is rows[-1] else "") for row in rows]
    caption = "Percent."
    if result.get("retrain"):
        caption += " In parentheses, and averaged in the column gap: absolute difference to Retrain, in points."
    if spread := result.get("retrain_spread"):
        cells = [f"<small>({table.number(spread.get(measure))})</small>" for measure in table.MEASURES]
        lines.append(markup.row(table.SPREAD, [*cells, table.number(spread.get("mean")), ""], "spread"))
    heads = ("", *(measure.upper() for measure in table.MEASURES), "gap", "UT (min)")
    meanings = [(name.upper(), meaning) for name, meaning in table.MEANINGS.items()]
    forgotten = table.forgotten_classes(result)
    return markup.section(
        "Scores",
        markup.table(heads, lines, caption),
        f"<p>{escape(forgotten)}.</p>" if forgotten else "",
        markup.definitions("meanings", meanings),
    )


def _row(row: table.Row, kind: str) -> str:
    scores = [
        table.number(value) + (f" <small>({table.number(gap)})</small>" if gap is not None else "")
        for value, gap in zip(row.values, row.gaps, strict=True)
    ]
    return markup.row(escape(row.name), [*scores, table.number(row.mean_gap), table.minutes(row.minutes)], kind)


def _gaps(result: Mapping[str, Any]) -> str:
    svg = plots.gap_bars(result)
    caption = "Distance to Retrain before (grey) and after unlearning (blue): the shorter the blue bar, the better."
    if result.get("retrain_spread"):
        caption += " The orange line is how far two Retrain models lie apart: below it a bar is noise."
    return markup.section("Gap to Retrain", markup.figure(svg, caption)) if svg else ""


def _confidence(confidence: Mapping[str, np.ndarray]) -> str:
    svg = plots.confidence_histograms(confidence)
    caption = "How sure each model is of the true label of the forget rows"
    goal = ": after unlearning it should look as under Retrain, not lower." if "Retrain" in confidence else "."
    return markup.section("Confidence on the forget rows", markup.figure(svg, caption + goal)) if svg else ""


def _changed(changed: Sequence[tuple[str, np.ndarray, Any, float, float]]) -> str:
    figures = [
        markup.figure(
            markup.image(image),
            f"<code>{escape(str(name))}</code><br>label {escape(str(label))}<br>"
            f"{table.number(before)} &rarr; {table.number(after)}",
        )
        for name, image, label, before, after in changed
    ]
    note = "Probability of the true label before and after unlearning. These are samples that were to be forgotten."
    images = f"<div class='images'>\n{chr(10).join(figures)}\n</div>"
    return markup.section("Forget images that changed most", f"<p class='soft'>{note}</p>", images) if figures else ""


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    figures = [
        markup.figure(svg, CAPTIONS.get(group, f"{escape(group)} over the steps."), "single" if single else "")
        for group, svg, single in plots.curves(history)
    ]
    thick = "<p class='soft'>The thick line is a moving mean; the thin one is what was logged.</p>"
    content = (
        thick if len(history) >= plots.SMOOTHED_FROM else "",
        f"<div class='figures'>\n{chr(10).join(figures)}\n</div>",
    )
    return markup.section("Over the steps", *content) if figures else ""


def _attackers(result: Mapping[str, Any]) -> str:
    lines = []
    for attacker in result.get("attackers") or ():
        aucs = [table.number(attacker.get(f"auc_{on}"), 3) for on in ("shadow", "original", "unlearned")]
        note = "<span class='note'>gives no guidance</span>" if table.gives_no_guidance(attacker) else ""
        lines.append(markup.row(escape(str(attacker["name"])), [*aucs, note]))
    caption = (
        "AUC in telling members from non-members: 1 is perfect, 0.5 is a coin. An attacker at "
        f"{table.NO_GUIDANCE_AUC} or less on outputs that it was not fitted on cannot guide the forgetting."
    )
    if result.get("attackers_fitted_on") == "original":
        caption += " " + table.FITTED_ON_ORIGINAL
    heads = ("", "held-out outputs", "original", "unlearned", "")
    return markup.section("Attackers that guided the forgetting", markup.table(heads, lines, caption)) if lines else ""
