"""Figures of audits as SVG, from the ``details`` of their findings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ltu_jax.reporting.plots import BLUE, GREY, ORANGE, SERIES, finite, inline_svg, log_axis, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREEN = SERIES[2]
MODELS = {"original": ("original", GREY), "retrain": ("Retrain", ORANGE), "unlearned": ("this model", BLUE)}
"""Name and colour of each, the model under audit drawn last and so on top."""
MARGINS = {
    "original": ("forget rows, original", GREY),
    "retrain": ("forget rows, Retrain", ORANGE),
    "held_out": ("rows never seen, this model", GREEN),
    "forget": ("forget rows, this model", BLUE),
}
SETS = {"forget": "forget rows", "remain": "remaining rows", "test": "test rows"}
Curve = Mapping[str, Sequence[float]]


def roc_curves(curves: Mapping[str, Curve], title: str) -> str | None:
    """ROC on logarithmic axes, from both ends: an attacker may look for the surest rows or for the least sure ones.

    Args:
      curves: ``fpr`` and ``tpr`` f[.], rising, by the names in ``MODELS``.
      title: unique within a page.
    """
    shown = {name: (finite(curves[name]["fpr"]), finite(curves[name]["tpr"])) for name in MODELS if name in curves}
    if not shown:
        return None
    with styled_figure(8, 4) as figure:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        ends = (
            ("the surest are taken for forget rows", lambda x: x),
            ("the least sure are taken for forget rows", lambda x: 1 - x[::-1]),
        )
        rates = np.concatenate([of(fpr) for _, of in ends for fpr, _ in shown.values()])
        low = min(0.1, rates[rates > 1e-9].min())
        for axes, (words, of) in zip(panels, ends, strict=True):
            axes.grid(visible=True, axis="both")
            axes.plot([low, 1], [low, 1], "--", color="#555555", linewidth=0.8)
            for name, curve in shown.items():
                x, y = (np.maximum(of(one), low) for one in curve)
                axes.plot(x, y, color=MODELS[name][1], linewidth=1.6, drawstyle="steps-post", label=MODELS[name][0])
            for which in ("x", "y"):
                log_axis(axes, which, np.array([low, 1]))
            axes.set(xlim=(low, 1), ylim=(low, 1), title=words, xlabel="rows never seen, wrongly taken (FPR)")
        panels[0].set_ylabel("forget rows found (TPR)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return inline_svg(figure, title)


def margin_distributions(quantiles: Mapping[str, Sequence[float]], title: str) -> str | None:
    """Empirical distribution functions, from quantiles f[.] in equal steps by the names in ``MARGINS``."""
    shown = {name: finite(quantiles[name]) for name in MARGINS if name in quantiles}
    if not shown:
        return None
    with styled_figure(8, 3.6) as figure:
        axes = figure.subplots()
        axes.grid(visible=True, axis="both")
        for name, values in shown.items():
            words, colour = MARGINS[name]
            axes.plot(values, np.linspace(0, 100, len(values)), color=colour, linewidth=1.6, label=words)
        axes.set_ylim(0, 100)
        axes.set_xlabel("margin: log-odds of the true label, nats")
        axes.set_ylabel("% of rows below")
        figure.legend(loc="outside upper left", ncols=2)
        return inline_svg(figure, title)


def relearning_curves(details: Mapping[str, Any], title: str) -> str | None:
    """Accuracy on each set of rows over the steps, and the excess on forget rows over Retrain with its band."""
    steps = finite(details.get("steps") or ())
    sets = [name for name in SETS if details.get(name)]
    if not len(steps) or not sets:
        return None
    with styled_figure(8, 5.4 if len(sets) > 1 else 3) as figure:
        panels = figure.subplots(2 if len(sets) > 1 else 1, 2, sharex=True).ravel()
        _excess(panels[1], steps, details)
        for axes, name in zip([panels[0], *panels[2:]], sets, strict=False):
            axes.set_title(f"accuracy on {SETS[name]}, %")
            for model, (_, colour) in MODELS.items():
                found = details[name].get(model) or []
                for values in found if model == "retrain" else [found] if found else []:
                    axes.plot(steps, finite(values), color=colour, linewidth=1.6, marker="o", markersize=3)
        for axes in panels:
            axes.set_xscale("symlog", linthresh=1)
            marked = [step for step in (0, *(10**power for power in range(9))) if step <= steps[-1]]
            axes.set_xticks(marked, [f"{step:g}" for step in marked])
            axes.xaxis.minorticks_off()
        for axes in panels[-2:]:
            axes.set_xlabel("step")
        handles = [panels[0].plot([], [], color=colour)[0] for _, colour in MODELS.values()]
        figure.legend(handles, [words for words, _ in MODELS.values()], loc="outside upper left", ncols=3)
        return inline_svg(figure, title)


def _excess(axes: "Axes", steps: np.ndarray, details: Mapping[str, Any]) -> None:
    axes.set_title("accuracy on forget rows less Retrain's, points")
    axes.axhline(0, color=ORANGE, linewidth=1.2)
    if details.get("excess"):
        excess, band = finite(details["excess"]), details.get("band") or 0.0
        axes.fill_between(steps, excess - band, excess + band, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(steps, excess, color=BLUE, linewidth=1.6, marker="o", markersize=3)


def recalibration_changes(sets: Mapping[str, Mapping[str, Any]], title: str) -> str | None:
    """Accuracy before (ring) and after (dot) of each model, a panel for each set of rows.

    Args:
      sets: by ``SETS``, then ``unlearned`` and ``original`` with ``before`` and ``after``, and ``retrain``, a list.
      title: unique within a page.
    """
    shown = [name for name in SETS if name in sets]
    if not shown:
        return None
    names = [name for name in ("unlearned", "original") if sets[shown[0]].get(name)]
    count = len(sets[shown[0]].get("retrain") or ())
    labels = [MODELS[name][0] for name in names] + [f"Retrain {number + 1}" for number in range(count)]
    colours = [MODELS[name][1] for name in names] + [ORANGE] * count
    with styled_figure(8, 1 + 0.3 * len(labels)) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, shown, strict=True):
            axes.grid(visible=False, axis="y")
            axes.grid(visible=True, axis="x")
            changes = [sets[name][model] for model in names] + list(sets[name].get("retrain") or ())
            for place, (change, colour) in enumerate(zip(changes, colours, strict=True)):
                before, after = finite((change["before"], change["after"]))
                axes.plot((before, after), (place, place), color=colour, linewidth=2)
                axes.plot(before, place, "o", color=colour, markerfacecolor="white", markersize=6)
                axes.plot(after, place, "o", color=colour, markersize=6)
            axes.set_title(SETS[name])
            axes.margins(x=0.15)
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        figure.supxlabel("accuracy, %: before (ring) and after (dot)", fontsize=9)
        return inline_svg(figure, title)


def canary_scores(scores: Mapping[str, Sequence[float]], title: str) -> str | None:
    """Histograms of the scores of canaries that were trained on and forgotten (``in``), and of the others (``out``)."""
    shown = [
        (scores[name], *look)
        for name, look in {"out": ("never seen", GREEN), "in": ("trained on, then forgotten", BLUE)}.items()
        if scores.get(name)
    ]
    if not shown:
        return None
    edges = np.histogram_bin_edges(np.concatenate([finite(values) for values, *_ in shown]), 30).tolist()
    with styled_figure(8, 2.8) as figure:
        axes = figure.subplots()
        for values, words, colour in shown:
            weights = np.full(len(values), 100 / len(values))
            axes.hist(finite(values), edges, weights=weights, color=colour, alpha=0.5, label=f"{words} ({len(values)})")
        axes.set_xlabel("score: margin of the canary's label")
        axes.set_ylabel("% of canaries")
        figure.legend(loc="outside upper left", ncols=2)
        return inline_svg(figure, title)
