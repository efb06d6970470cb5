"""The trade-off picture: each method's gap to Retrain in forgetting, against its gap in remembering."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltu_jax.reporting.marks import Mark, draw_marks, gap_axis
from ltu_jax.reporting.plots import GREY, ORANGE, styled_figure
from ltu_jax.tabling import noise
from ltu_jax.tabling.layout import one_each_pair
from ltu_jax.tabling.runs import Run, by_block

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR = "between two Retrains"


def marks(runs: Sequence[Run]) -> list[Mark]:
    """One mark per row, over the seeds of one block, and one for the original; x forgetting, y remembering gap."""
    rows: dict[str, list[Mapping[str, float]]] = {}
    for run in runs:
        rows.setdefault(run.label, []).append(run.result["gap"])
    of_rows = [_mark(label, gaps) for label, gaps in rows.items()]
    return [*of_rows, _mark("Original", [run.result["original_gap"] for run in one_each_pair(runs)], GREY)]


def floor(runs: Sequence[Run]) -> Mark | None:
    """How far apart two Retrain models are; None if no run has two."""
    spreads = [run.result["retrain_spread"] for run in one_each_pair(runs) if run.result.get("retrain_spread")]
    return _mark(FLOOR, spreads, ORANGE) if spreads else None


def _mark(name: str, gaps: Sequence[Mapping[str, float]], colour: str = "") -> Mark:
    forgetting = noise.spread([(gap["ua"] + gap["mi"]) / 2 for gap in gaps])
    remembering = noise.spread([(gap["ra"] + gap["ta"]) / 2 for gap in gaps])
    return Mark(name, forgetting.mean, remembering.mean, forgetting.deviation or 0, remembering.deviation or 0, colour)


def save_picture(table: int, runs: Sequence[Run], path: Path) -> None:
    """Draws one panel per block of the table.

    Args:
      table: 1 to 4, which decides the blocks.
      runs: the same as for ``build``, which has checked them.
      path: file to write; SVG or PNG by its suffix.
    """
    import matplotlib

    parts = by_block(runs, table)
    with styled_figure(7 * len(parts), 5.2) as figure, matplotlib.rc_context({"svg.hashsalt": "trade-off"}):
        panels = figure.subplots(1, len(parts), squeeze=False)[0]
        for axes, (block, part) in zip(panels, parts.items(), strict=True):
            axes.set_title(f"{part[0].result['dataset']}, {part[0].result['model']}, {block}")
            _prepare(axes, marks(part), floor(part))
        if any(map(floor, parts.values())):
            figure.legend([panels[0].plot([], [], color=ORANGE)[0]], [FLOOR], loc="outside lower right")
        # Labels come last: they must not cover anything, and only now everything else has its place.
        for axes, part in zip(panels, parts.values(), strict=True):
            draw_marks(axes, marks(part), _edges(floor(part)))
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _prepare(axes: "Axes", drawn: Sequence[Mark], retrain: Mark | None) -> None:
    axes.grid(visible=True, axis="both")
    gap_axis(axes, "x", max(mark.x + mark.x_deviation for mark in drawn))
    gap_axis(axes, "y", max(mark.y + mark.y_deviation for mark in drawn))
    axes.set_xlabel("forgetting gap: points from Retrain, mean of UA and MI")
    axes.set_ylabel("remembering gap: mean of RA and TA")
    if retrain:
        axes.fill_between([0, retrain.x], retrain.y, color=ORANGE, alpha=0.15, linewidth=0)
        axes.plot([retrain.x, retrain.x, 0], [0, retrain.y, retrain.y], color=ORANGE)


def _edges(retrain: Mark | None) -> list[tuple[float, float, float, float]]:
    """The two edges of the floor, as boxes."""
    if retrain is None:
        return []
    return [(retrain.x, 0, retrain.x, retrain.y), (0, retrain.y, retrain.x, retrain.y)]
