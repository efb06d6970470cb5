"""Figures that compare many runs, as SVG: a mark or a bar for each method and settings."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from ltu_jax.reporting.marks import Mark, draw_marks, gap_axis, shortened
from ltu_jax.reporting.plots import BLUE, GREY, ORANGE, inline_svg, log_axis, styled_figure
from ltu_jax.reporting.runs import Group
from ltu_jax.reporting.table import average, quantity

FORGETTING, REMEMBERING = ("ua", "mi"), ("ra", "ta")
Gaps = Mapping[str, float | None]
"""Points for UA, RA, TA, MI and ``mean``; None if unknown."""


def tradeoff(groups: Sequence[Group], spread: Gaps, original: Gaps, title: str) -> str | None:
    """Forgetting gap (mean of UA and MI) against remembering gap (mean of RA and TA), one mark per group.

    Args:
      groups: those without a gap to Retrain are left out.
      spread: difference between two Retrain models, drawn as a box.
      original: gap of the model before unlearning, drawn as a mark.
      title: unique within a page.

    Returns:
      SVG, or None if there is nothing to draw.
    """
    gaps = [(group.label, group.gaps(*FORGETTING), group.gaps(*REMEMBERING)) for group in groups]
    marks = [Mark(label, mean(x), mean(y), _deviation(x), _deviation(y)) for label, x, y in gaps if x and y]
    if not marks:
        return None
    if not np.isnan(start := _corner(original)).any():
        marks.append(Mark("Original", *start, colour=GREY))
    with styled_figure(8, 5) as figure:
        axes = figure.subplots()
        axes.grid(visible=True, axis="both")
        if not np.isnan(corner := _corner(spread)).any():
            axes.fill((0, corner[0], corner[0], 0), (0, 0, corner[1], corner[1]), ORANGE, alpha=0.15, linewidth=0)
            axes.plot((corner[0], corner[0], 0), (0, corner[1], corner[1]), color=ORANGE, linewidth=1)
        gap_axis(axes, "x", max(mark.x + mark.x_deviation for mark in marks))
        gap_axis(axes, "y", max(mark.y + mark.y_deviation for mark in marks))
        axes.set_xlabel("forgetting gap: points from Retrain, mean of UA and MI")
        axes.set_ylabel("remembering gap: mean of RA and TA")
        draw_marks(axes, marks, [(corner[0], 0, corner[0], corner[1]), (0, corner[1], *corner)])
        return inline_svg(figure, title)


def gap_ranking(groups: Sequence[Group], spread: Gaps, original: Gaps, title: str) -> str | None:
    """Mean gap of each group as a bar with its deviation, in the given order, and the original's below.

    Args, Returns: as ``tradeoff``; the spread is a line.
    """
    bars = [(group.label, BLUE, gaps) for group in groups if (gaps := group.gaps("mean"))]
    if not bars:
        return None
    if (start := original.get("mean")) is not None:
        bars.append(("Original", GREY, [start]))
    names, colours, gaps = zip(*bars, strict=True)
    means, deviations = np.array([mean(g) for g in gaps]), np.array([_deviation(g) for g in gaps])
    with styled_figure(8, 0.7 + 0.27 * len(bars)) as figure:
        axes = figure.subplots()
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        drawn = axes.barh(range(len(bars)), means, 0.7, color=colours, xerr=deviations, ecolor="#333333")
        labels = [f"{m:.2f}" + (f" ± {off:.2f}" if off else "") for m, off in zip(means, deviations, strict=True)]
        axes.bar_label(drawn, labels, padding=4, fontsize=8)
        if (floor := spread.get("mean")) is not None:
            axes.axvline(floor, color=ORANGE, linewidth=1.5)
        axes.set_yticks(range(len(bars)), [shortened(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(means + deviations) or 1)
        axes.margins(y=0.02)
        axes.set_xlabel("mean gap: points from Retrain")
        return inline_svg(figure, title)


def gap_against_cost(groups: Sequence[Group], spread: Gaps, title: str) -> str | None:
    """Mean gap against flops on a log scale, with the smallest gap reached at each cost as a staircase.

    Args, Returns: as ``tradeoff``; groups without flops are left out too.
    """
    known = [(group.label, average(group.costs("flops")) or 0, group.gaps("mean")) for group in groups]
    marks = [Mark(label, flops, mean(gaps), 0, _deviation(gaps)) for label, flops, gaps in known if flops and gaps]
    if not marks:
        return None
    flops, gaps = np.array(sorted((mark.x, mark.y) for mark in marks)).T
    budgets, reached = [*flops, flops[-1] * 2.5], np.minimum.accumulate(gaps)
    stairs = [(budgets[i], gap, budgets[i + 1], gap) for i, gap in enumerate(reached)]
    stairs += [(budgets[i + 1], reached[i + 1], budgets[i + 1], gap) for i, gap in enumerate(reached[:-1])]
    with styled_figure(8, 4) as figure:
        axes = figure.subplots()
        axes.grid(visible=True, axis="both")
        log_axis(axes, "x", flops, quantity)
        axes.set_xlim(flops[0] / 1.5, budgets[-1])
        gap_axis(axes, "y", max(mark.y + mark.y_deviation for mark in marks))
        axes.step(budgets, [*reached, reached[-1]], "--", where="post", color=GREY, linewidth=1)
        if (floor := spread.get("mean")) is not None:
            axes.axhline(floor, color=ORANGE, linewidth=1.5)
            stairs.append((flops[0], floor, budgets[-1], floor))
        axes.set_xlabel("flops of the whole run")
        axes.set_ylabel("mean gap: points from Retrain")
        draw_marks(axes, marks, stairs)
        return inline_svg(figure, title)


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _corner(gaps: Gaps) -> Any:
    """Forgetting and remembering gap f[2]; NaN if a measure is unknown."""
    parts = [[gaps.get(measure) for measure in part] for part in (FORGETTING, REMEMBERING)]
    return np.array(parts, float).mean(axis=1)
