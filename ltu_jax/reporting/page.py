"""A result as one page of HTML that needs no network and no script."""

import base64
import importlib.resources
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ltu_jax.reporting import plots, table

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
    title = escape(f"{result['method']} on {result['dataset']}")
    body = [
        f"<header><h1>{title}</h1>\n<p class='soft'>{escape(table.title(result))}</p></header>",
        _warnings(result),
        _facts(result),
        _scores(result),
        _gaps(result),
        _confidence(confidence),
        _changed(changed or ()),
        _curves(history),
        _attackers(result),
        _times(result),
    ]
    style = importlib.resources.files("ltu_jax.reporting").joinpath("page.css").read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{title}: unlearning report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n{chr(10).join(filter(None, body))}\n</main>\n{_footer(result)}\n</body>\n</html>\n"
    )


def _section(head: str, *content: str) -> str:
    return f"<section>\n<h2>{head}</h2>\n{chr(10).join(content)}\n</section>"


def _figure(svg: str, caption: str, kind: str = "") -> str:
    return f"<figure class='{kind}'>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>"


def _definitions(kind: str, pairs: Iterable[tuple[str, Any]]) -> str:
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(str(told))}</dd>" for name, told in pairs]
    return f"<dl class='{kind}'>\n{chr(10).join(lines)}\n</dl>"


def _warnings(result: Mapping[str, Any]) -> str:
    lines = "\n".join(f"<li>{escape(str(warning))}</li>" for warning in result.get("warnings") or ())
    return f"<aside class='warnings' aria-label='Warnings'>\n<ul>\n{lines}\n</ul>\n</aside>" if lines else ""


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
    lines = (
        f"<div><dt>{name}</dt><dd class='big'>{value}</dd><dd class='soft'>{escape(note)}</dd></div>"
        for name, value, note in facts
    )
    return f"<dl class='facts'>\n{chr(10).join(lines)}\n</dl>"


def _scores(result: Mapping[str, Any]) -> str:
    rows = table.rows(result)
    lines = [_row(row, "method" if row is rows[-1] else "") for row in rows]
    caption = "Percent."
    if result.get("retrain"):
        caption += " In parentheses, and averaged in the column gap: absolute difference to Retrain, in points."
    if spread := result.get("retrain_spread"):
        cells = (f"<small>({table.number(spread.get(measure))})</small>" for measure in table.MEASURES)
        cells = (*cells, table.number(spread.get("mean")), "")
        lines.append(f"<tr class='spread'><th scope='row'>Between two Retrain models</th>{_cells(cells)}</tr>")
    heads = ("", *(measure.upper() for measure in table.MEASURES), "gap", "UT (min)")
    meanings = [(name.upper(), meaning) for name, meaning in table.MEANINGS.items()]
    forgotten = table.forgotten_classes(result)
    return _section(
        "Scores",
        _table(heads, lines, caption),
        f"<p>{escape(forgotten)}.</p>" if forgotten else "",
        _definitions("meanings", meanings),
    )


def _row(row: table.Row, kind: str) -> str:
    scores = [
        table.number(value) + (f" <small>({table.number(gap)})</small>" if gap is not None else "")
        for value, gap in zip(row.values, row.gaps, strict=True)
    ]
    cells = (*scores, table.number(row.mean_gap), table.minutes(row.minutes))
    return f"<tr class='{kind}'><th scope='row'>{escape(row.name)}</th>{_cells(cells)}</tr>"


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _table(heads: Sequence[str], lines: Sequence[str], caption: str) -> str:
    head = "".join(f"<th scope='col'>{head}</th>" if head else "<td></td>" for head in heads)
    return (
        f"<div class='scroll'><table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table></div>"
    )


def _gaps(result: Mapping[str, Any]) -> str:
    svg = plots.gap_bars(result)
    caption = "Distance to Retrain before (grey) and after unlearning (blue): the shorter the blue bar, the better."
    if result.get("retrain_spread"):
        caption += " The orange line is how far two Retrain models lie apart: below it a bar is noise."
    return _section("Gap to Retrain", _figure(svg, caption)) if svg else ""


def _confidence(confidence: Mapping[str, np.ndarray]) -> str:
    svg = plots.confidence_histograms(confidence)
    caption = "How sure each model is of the true label of the forget rows"
    goal = ": after unlearning it should look as under Retrain, not lower." if "Retrain" in confidence else "."
    return _section("Confidence on the forget rows", _figure(svg, caption + goal)) if svg else ""


def _changed(changed: Sequence[tuple[str, np.ndarray, Any, float, float]]) -> str:
    figures = [
        _figure(
            f"<img alt='' src='data:image/png;base64,{_png(image)}'>",
            f"<code>{escape(str(name))}</code><br>label {escape(str(label))}<br>"
            f"{table.number(before)} &rarr; {table.number(after)}",
        )
        for name, image, label, before, after in changed
    ]
    note = "Probability of the true label before and after unlearning. These are samples that were to be forgotten."
    images = f"<div class='images'>\n{chr(10).join(figures)}\n</div>"
    return _section("Forget images that changed most", f"<p class='soft'>{note}</p>", images) if figures else ""


def _png(image: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    figures = [
        _figure(curve.svg, CAPTIONS.get(curve.group, f"{escape(curve.group)} over the steps."), _kind(curve.single))
        for curve in plots.curves(history)
    ]
    thick = "<p class='soft'>The thick line is a moving mean; the thin one is what was logged.</p>"
    content = (
        thick if len(history) >= plots.SMOOTHED_FROM else "",
        f"<div class='figures'>\n{chr(10).join(figures)}\n</div>",
    )
    return _section("Over the steps", *content) if figures else ""


def _kind(single: bool) -> str:
    return "single" if single else ""


def _attackers(result: Mapping[str, Any]) -> str:
    lines = []
    for attacker in result.get("attackers") or ():
        aucs = [table.number(attacker.get(f"auc_{on}"), 3) for on in ("shadow", "original", "unlearned")]
        note = "gives no guidance" if table.gives_no_guidance(attacker) else ""
        lines.append(
            f"<tr><th scope='row'>{escape(str(attacker['name']))}</th>{_cells(aucs)}<td class='note'>{note}</td></tr>"
        )
    caption = (
        "AUC in telling members from non-members: 1 is perfect, 0.5 is a coin. An attacker at "
        f"{table.NO_GUIDANCE_AUC} or less on held-out shadows cannot guide the forgetting."
    )
    heads = ("", "held-out shadows", "original", "unlearned", "")
    return _section("Attackers that guided the forgetting", _table(heads, lines, caption)) if lines else ""


def _times(result: Mapping[str, Any]) -> str:
    times = [(words, result["time"].get(name)) for name, words in table.TIMES.items()]
    return _section("Time", _definitions("meanings", [(words, table.duration(t)) for words, t in times]))


def _footer(result: Mapping[str, Any]) -> str:
    told = dict(result["provenance"])
    versions = told.pop("versions", None) or {}
    told["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items()) or "-"
    told["forget set"] = f"sha256 {result['forget']['sha256']}"
    told["schema"] = result["schema_version"]
    pairs = [(name, "-" if value is None else value) for name, value in told.items()]
    return f"<footer>\n<h2>Provenance</h2>\n{_definitions('meanings', pairs)}\n</footer>"
