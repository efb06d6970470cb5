"""Figures of a notice, without technical terms, and narrow enough for a phone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.reporting.plots import BLUE, GREY, ORANGE, SERIES, finite, inline_svg, styled_figure

GROUPS = {
    "before": ("images to be forgotten, before", GREY),
    "after": ("images to be forgotten, after", BLUE),
    "held out": ("images never shown, after", SERIES[2]),
}
WIDTH = 4
"""Inches."""
BINS = 20
OF_A_LOOK = ("remain", "validation", "lost", "ks")
"""What is drawn of a look of a calibration."""
LINES = tuple(colour for colour in SERIES if colour != ORANGE)  # orange marks the chosen point


def points_lost(look: Mapping[str, Any], original: Mapping[str, float]) -> float:
    """The larger loss of accuracy on remaining and on held-out images, points; a gain is negative."""
    return float(np.max(finite(original[name] - look[name] for name in ("remain", "validation"))))


def tries_curve(calibration: Mapping[str, Any]) -> str | None:
    """SVG of distance against lost accuracy, one line per trial; None if all trials diverged.

    Args:
      calibration: ``notice.shown_tries``.
    """
    original, chosen, tolerance = (calibration[name] for name in ("original", "chosen", "tolerance"))
    tries = [(number, trial) for number, trial in enumerate(calibration["trials"]) if trial["looks"]]
    if not tries:
        return None
    with styled_figure(WIDTH, 3.3) as figure:
        axes = figure.subplots()
        axes.grid(visible=True, axis="both")
        for number, trial in tries:
            cost = np.array([points_lost(look, original) for look in trial["looks"]])
            unlike = finite(look["ks"] for look in trial["looks"])
            kept = finite(look["lost"] for look in trial["looks"]) <= tolerance
            look: dict[str, Any] = {"color": LINES[number % len(LINES)], "clip_on": False}
            axes.plot(cost, unlike, linewidth=0.8, alpha=0.6, **look)
            axes.plot(cost[kept], unlike[kept], "o", markersize=4.5, label=f"try {number + 1}", **look)
            axes.plot(cost[~kept], unlike[~kept], "o", markersize=4.5, markerfacecolor="white", **look)
            if number == chosen:
                best = trial["best"]
                axes.plot(
                    cost[best], unlike[best], "o", markersize=13, fillstyle="none", color=ORANGE, markeredgewidth=2
                )
                # The label goes below the point, unless that is near the axis.
                below = unlike[best] > 0.2 * axes.get_ylim()[1]
                style: dict[str, Any] = {"color": ORANGE, "fontweight": "bold", "ha": "center"}
                offset = (0, -18 if below else 11)
                axes.annotate("chosen", (cost[best], unlike[best]), offset, textcoords="offset points", **style)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
        axes.set_xlabel("accuracy lost, in points (to the left is better)")
        axes.set_ylabel("how unlike images never shown\n(lower is better)")
        if len(tries) <= len(LINES):
            figure.legend(loc="outside upper left", ncols=4, columnspacing=1, handletextpad=0)
        return inline_svg(figure, f"Forgetting against its cost in {len(tries)} tries; the point chosen is ringed")


def sureness_histograms(sureness: Mapping[str, Mapping[str, Any]]) -> str | None:
    """SVG of one histogram per set, one below the other; None without one.

    Args:
      sureness: for some of ``GROUPS`` the ``shares`` of the images in each of ``BINS`` parts and their ``median``, both
        in percent: see ``notice_measured.sureness``.
    """
    shown = [(*GROUPS[name], sureness[name]) for name in GROUPS if name in sureness]
    if not shown:
        return None
    edges = np.linspace(0, 100, BINS + 1)
    with styled_figure(WIDTH, 0.6 + 1.1 * len(shown)) as figure:
        panels = np.atleast_1d(figure.subplots(len(shown), sharex=True, sharey=True))
        for axes, (words, colour, of) in zip(panels, shown, strict=True):
            axes.bar(edges[:-1], finite(of["shares"]), np.diff(edges), align="edge", color=colour)
            axes.set_title(f"{words}: half are above {of['median']:.0f} %")
            axes.set_ylim(bottom=0)
        panels[-1].set_xlim(0, 100)
        panels[-1].set_xlabel("how sure the model is of the right answer, in %")
        figure.supylabel("share of the images, in %", fontsize=9)
        summary = "; ".join(f"{words}: half are above {of['median']:.0f} percent" for words, _, of in shown)
        return inline_svg(figure, f"How sure the model is of the right answer. {summary}")


def hits_ranges(rows: Sequence[tuple[str, tuple[float, float | None, float | None]]]) -> str:
    """SVG of the cases of 100 in which an attacker is right, with ranges and a line for guessing.

    Args:
      rows: label and ``[value, low, high]``, from top to bottom; ``low`` and ``high`` may be None.
    """
    with styled_figure(WIDTH, 0.8 + 0.38 * len(rows)) as figure:
        axes = figure.subplots()
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.axvline(50, color=ORANGE, linewidth=1.5)
        for place, (words, (value, low, high)) in enumerate(rows):
            colour = GREY if "before" in words else BLUE
            if low is not None and high is not None:
                axes.plot((low, high), (place, place), color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(value, place, "o", color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [words for words, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("cases of 100 in which the attacker is right\n(50, the orange line, is guessing)")
        ends = [", too few for a range" if of[1] is None else f", {of[1]:.1f} to {of[2]:.1f}" for _, of in rows]
        summary = "; ".join(f"{words}: {of[0]:.1f}{end}" for (words, of), end in zip(rows, ends, strict=True))
        return inline_svg(figure, f"The attacker is right in so many cases of 100. {summary}")
