"""Labelled marks in a scatter plot of gaps; labels are placed so that they overlap nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltu_jax.reporting.plots import GREY, ORANGE, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = tuple(colour for colour in SERIES if colour != ORANGE)  # orange is Retrain's spread
SHAPES = "osD^vPX"
TICKS = (0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
LETTER, LINE, NEAR = 4.4, 10, 6
"""Width and height of a letter, and the distance of a label from its mark, in points."""
LONGEST = 34
"""Most letters of a label."""
Box = tuple[float, float, float, float]  # left, bottom, right, top


class Mark(NamedTuple):
    """A labelled mean, with standard deviations as whiskers."""

    name: str
    x: float
    y: float
    x_deviation: float = 0.0
    y_deviation: float = 0.0
    colour: str = ""  # "": the next of the palette


def shortened(name: str) -> str:
    """A name cut to ``LONGEST`` letters."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def gap_axis(axes: "Axes", which: str, largest: float) -> None:
    """Makes the ``which`` axis (x or y) linear up to one point and logarithmic from there to above ``largest``.

    On a linear scale, one method with a huge gap would squeeze all others into a corner.
    """
    from matplotlib import ticker

    top = max(1.2 * largest, 1)
    getattr(axes, f"set_{which}scale")("symlog", linthresh=1, linscale=0.5)
    axes.set(**{f"{which}lim": (0, top)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(ticker.FixedLocator([tick for tick in TICKS if tick <= top]))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def draw_marks(axes: "Axes", marks: Sequence[Mark], lines: Sequence[Box] = ()) -> None:
    """Draws marks, whiskers and labels; the scales must be set before.

    Args:
      axes: the axes.
      marks: the marks, in units of the data.
      lines: vertical or horizontal lines that no label may cross, in units of the data.
    """
    for number, (_, x, y, along, up, colour) in enumerate(marks):
        colour = colour or COLOURS[number % len(COLOURS)]
        shape = SHAPES[number // len(COLOURS) % len(SHAPES)]
        axes.errorbar(x, y, up, along, fmt="none", ecolor=colour, elinewidth=1)
        axes.plot(x, y, shape, color=colour, markersize=6, clip_on=False)  # a gap of zero is on the edge
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # computes the position of the axes
    points = 72 / figure.dpi

    def placed(boxes: Sequence[Box], margin: float) -> list[Box]:
        corners = axes.transData.transform(np.reshape(boxes, (-1, 2))) * points
        return [tuple(box) for box in np.reshape(corners, (-1, 4)) + [-margin, -margin, margin, margin]]

    middles = placed([(mark.x, mark.y, mark.x, mark.y) for mark in marks], 0)
    whiskers = [(x - along, y, x + along, y) for _, x, y, along, *_ in marks]
    whiskers += [(x, y - up, x, y + up) for _, x, y, _, up, _ in marks]
    taken = placed([*whiskers, *lines], 1) + [(x - 4, y - 4, x + 4, y + 4) for x, y, *_ in middles]
    edges = tuple(np.array(axes.get_window_extent().extents) * points)
    for mark, at in zip(marks, middles, strict=True):
        taken.append(free_box(at, LETTER * len(shortened(mark.name)), edges, taken))
        _write(axes, mark, at, taken[-1])


def free_box(at: Sequence[float], width: float, edges: Box, taken: Sequence[Box]) -> Box:
    """The nearest box for a label of this width around a mark that overlaps neither ``taken`` nor the edges.

    All lengths are in points; ``at`` begins with x and y. If no box is free, it is the nearest one within the edges; if
    none is, the nearest on the right.
    """
    boxes = []
    for far in range(NEAR, 90, NEAR):
        for right, up in AROUND:
            x, y = at[0] + right * (far + width / 2), at[1] + up * (far + LINE / 2)
            boxes.append((x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2))
    inside = [box for box in boxes if _inside(box, edges)] or boxes
    return next((box for box in inside if not any(_meet(box, other) for other in taken)), inside[0])


def _inside(box: Box, edges: Box) -> bool:
    return edges[0] <= box[0] and edges[1] <= box[1] and box[2] <= edges[2] and box[3] <= edges[3]


def _meet(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _write(axes: "Axes", mark: Mark, at: Sequence[float], box: Box) -> None:
    middle = (box[0] + box[2]) / 2 - at[0], (box[1] + box[3]) / 2 - at[1]
    far = max(abs(middle[0]) - (box[2] - box[0]) / 2, abs(middle[1]) - LINE / 2) > NEAR
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    text = axes.annotate(
        shortened(mark.name),
        (mark.x, mark.y),
        middle,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        arrowprops=line if far else None,
    )
    text.set_in_layout(False)  # else the axes would move after the labels were placed
