"""The page of an audit: one HTML file without scripts and external files."""

from collections.abc import Iterator, Mapping
from typing import Any

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_plots, audit_table, rendering, table

MEASURES = {
    "js": "Jensen-Shannon divergence, bits",
    "agreement": "rows with the same answer, %",
    "margin": "margin less Retrain's, nats",
    "margin_apart": "|margin less Retrain's|, nats",
    "ks": "KS of the margins, points",
    "auc": "AUC of the margins",
}
"""Of closeness to Retrain on a set of rows."""
MOST = 20
"""Figures of one group that are listed; of more, such as one for each class, none is."""


def render_audit(audit: Mapping[str, Any]) -> str:
    """The page as HTML, with all external text escaped.

    Args:
      audit: the contents of ``audit.json``, or what ``ltu_jax.audit_outputs`` returned.
    """
    run, lines, details = audit["run"], audit_table.lines(audit), {}
    for finding in audit["findings"]:
        details[finding["audit"]] = finding["details"] or {}
    found, tested = audit_table.tests(audit)
    return rendering.render_page(
        "audit",
        title=audit_table.title(run),
        about=audit_table.about(run),
        found=found,
        tested=tested,
        forget_rows=run["forget"]["count"],
        seconds=audit["seconds"].get("total"),
        lines=lines,
        notes=audit.get("notes") or (),
        **_pictures(details),
        recalibration=details.get("recalibration", {}),
        relearning=details.get("relearning", {}),
        closeness=_closeness(details.get("retrain", {})),
        strata=_strata(details.get("strata", {})),
        canaries=details.get("canaries", {}),
        claims=[(line, AUDITS[line.audit], list(_figures(details[line.audit]))) for line in lines],
        models=audit.get("models") or (),
        rows=[(name.replace("_", "-"), count) for name, count in (audit.get("rows") or {}).items()],
        times=list(_times(audit["seconds"])),
        provenance=[
            (name, one)
            for name, value in table.facts(audit["provenance"])
            for one in (value if isinstance(value, list) else [value])
        ],
    )


def _times(seconds: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What took how long, whatever an audit tells apart."""
    for name, taken in seconds.items():
        if isinstance(taken, Mapping):
            yield from _times(taken)
        else:
            yield AUDITS[name].title if name in AUDITS else name, table.duration(taken)


def _pictures(details: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures, None where there is nothing to draw."""
    held_out, rmia = (details.get(name, {}) for name in ("held_out", "rmia"))
    return {
        "held_out_roc": audit_plots.roc_curves(held_out.get("roc") or {}, "ROC of the margin"),
        "rmia_roc": audit_plots.roc_curves(rmia.get("roc") or {}, "ROC of RMIA"),
        "margins": audit_plots.margin_distributions(held_out.get("margins") or {}, "Distributions of the margin"),
        "curves": audit_plots.relearning_curves(details.get("relearning", {}), "Relearning"),
        "changes": audit_plots.recalibration_changes(
            details.get("recalibration", {}).get("sets") or {}, "Accuracy before and after recalibration"
        ),
        "scores": audit_plots.canary_scores(details.get("canaries", {}).get("scores") or {}, "Scores of the canaries"),
    }


def _closeness(details: Mapping[str, Any]) -> dict[str, Any]:
    """Heads and rows of the table of closeness to Retrain: of each measure and set the figure and its floor."""
    sets = [name for name in audit_plots.SETS if details.get(name)]

    def cells(measure: str) -> list[tuple[str, str]]:
        found = [details[name].get(measure) or {} for name in sets]
        places = 3 if measure in ("js", "auc") else 2
        values = [table.number((one.get("figure") or {}).get("value"), places) for one in found]
        return [
            (value, audit_table.between(one.get("floor"), places)) for value, one in zip(values, found, strict=True)
        ]

    rows = [(words, cells(measure)) for measure, words in MEASURES.items()] if sets else []
    return {"heads": [audit_plots.SETS[name] for name in sets], "rows": rows}


def _strata(details: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A row for each stratum: number and small text of rows, accuracies, and the difference to Retrain."""
    found = []
    for name, one in ((name, details[name]) for name in ("hard", "random", "easy") if details.get(name)):
        difference, retrains = one.get("difference") or {}, one.get("retrain") or ()
        ends = (min(retrains), max(retrains)) if retrains else None
        cells = [
            (str(one.get("rows", "-")), ""),
            *((table.number(one.get(of)), "") for of in ("unlearned", "original")),
        ]
        cells.append((audit_table.between(ends, 2) or "-", ""))
        interval = audit_table.between((difference.get("low"), difference.get("high")), 2)
        found.append((name, [*cells, (table.number(difference.get("value")), interval)]))
    return found


def _figures(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All single figures of an audit's details with their names; curves are drawn, and not told."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= set(value):
        main, *ends = (value[end] for end in ("value", "low", "high"))
        if main is not None:
            yield name, f"{main:.4g}" + ("" if None in ends else f" ({ends[0]:.4g} to {ends[1]:.4g})")
    elif isinstance(value, Mapping):
        if len(value) <= MOST:
            for key, one in value.items():
                yield from _figures(one, f"{name} {key}".replace("_", " ").strip())
    elif isinstance(value, list | tuple):
        if len(value) <= MOST and not all(isinstance(one, int | float) for one in value):
            for place, one in enumerate(value):
                yield from _figures(one, f"{name} {place + 1}")
        elif len(value) <= 4:
            yield name, ", ".join(f"{one:.4g}" for one in value)
    elif value is not None:
        yield name, f"{value:.4g}" if isinstance(value, float) else str(value)
