"""Figures of a result as inline SVG, independent of the method."""

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ltu_jax.reporting.table import MEASURES

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with colour blindness and in grey.
GREY, BLUE, ORANGE = "#8c8c8c", "#0072b2", "#d55e00"
SERIES = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GAPS = (*MEASURES, "mean")
LOG_GROUPS = ("norm",)
SMOOTHED_FROM = 50
"""Curves of at least so many points are drawn thin, with a moving mean."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
}


class Curves(NamedTuple):
    """One figure of ``curves``."""

    group: str
    svg: str
    single: bool  # one series: the figure is half as wide and has no legend


def gap_bars(result: Mapping[str, Any]) -> str | None:
    """Gaps to Retrain of the original and the method, with the spread of Retrain; None without Retrain."""
    models = (("Original", result.get("original_gap"), GREY), (str(result["method"]), result.get("gap"), BLUE))
    if not any(gap for _, gap, _ in models):
        return None
    with styled_figure(8, 2.9) as figure:
        axes = figure.subplots()
        handles: list[Any] = [_bars(axes, place, *model) for place, model in zip((-0.19, 0.19), models, strict=True)]
        if spread := result.get("retrain_spread"):
            heights, places = finite(spread.get(name) for name in GAPS), np.arange(len(GAPS))
            line = axes.hlines(heights, places - 0.44, places + 0.44, ORANGE, linewidth=2)
            line.set_label("between two Retrain models")
            handles.append(line)
        axes.set_xticks(range(len(GAPS)), [name.upper() if name in MEASURES else name for name in GAPS])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("points from Retrain")
        axes.margins(y=0.14)
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        return inline_svg(figure, "Gap to Retrain for each measure")


def _bars(axes: "Axes", shift: float, name: str, gap: Mapping[str, Any] | None, colour: str) -> Any:
    heights = finite((gap or {}).get(measure) for measure in GAPS)
    bars = axes.bar(np.arange(len(GAPS)) + shift, heights, 0.36, color=colour, label=name)
    texts = ["" if math.isnan(height) else f"{height:.2f}" for height in heights]
    # A background, so that the line of the spread does not cross the numbers.
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for label in axes.bar_label(bars, texts, padding=2, fontsize=8, zorder=4):
        if label.get_text():
            label.set_bbox(ground)
    return bars


def curves(history: Sequence[Mapping[str, Any]]) -> list[Curves]:
    """The logged metrics over the steps, one figure for each prefix of the names before ``/``.

    Args:
      history: rows of ``metrics.jsonl``; a row may lack any name, and values may be None or not finite.

    Returns:
      The groups with a finite value, in the order of their first row.
    """
    groups: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name in dict.fromkeys(name for row in history for name in row if name != "step"):
        logged = [row for row in history if name in row]
        values = finite(row[name] for row in logged)
        kept = np.isfinite(values)
        if kept.any():
            steps = np.array([row["step"] for row in logged], float)
            group, _, series = name.partition("/")
            groups.setdefault(group, {})[series or name] = (steps[kept], values[kept])
    return [_curves(group, series) for group, series in groups.items()]


def _curves(group: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Curves:
    from matplotlib import ticker

    single = len(series) == 1
    with styled_figure(4 if single else 8, 2.3 if single else 2.8) as figure:
        axes = figure.subplots()
        for number, (name, (steps, values)) in enumerate(series.items()):
            _draw_series(axes, name, steps, values, number)
        every = np.concatenate([values for _, values in series.values()])
        if group in LOG_GROUPS and (every > 0).any():
            log_axis(axes, "y", every[every > 0])
        elif (every < 0).any():
            axes.axhline(0, color="#333333", linewidth=0.9)
        axes.set_xlabel("step")
        axes.set_ylabel(group)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        if not single:
            figure.legend(loc="outside right upper")
        return Curves(group, inline_svg(figure, f"{group} over the steps"), single)


def _draw_series(axes: "Axes", name: str, steps: np.ndarray, values: np.ndarray, number: int) -> None:
    look: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "linestyle": ("-", "--", ":")[number // 7 % 3]}
    if len(values) < SMOOTHED_FROM:
        axes.plot(steps, values, label=name, linewidth=1.5, marker="o", markersize=3, **look)
        return
    window = np.ones(len(values) // 10)
    mean = np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
    if not np.isin(values, (0, 1)).all():  # of booleans only the mean is readable
        axes.plot(steps, values, linewidth=0.6, alpha=0.35, **look)
    axes.plot(steps, mean, label=name, linewidth=1.6, **look)


def log_axis(axes: "Axes", which: str, positive: np.ndarray, show: Callable[[float], str] = "{:g}".format) -> None:
    """Makes the ``which`` axis (x or y) logarithmic for the values f[.], with labels by ``show``."""
    from matplotlib import ticker

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    # A narrow range may contain no power of ten.
    subs = (1.0,) if positive.max() > 100 * positive.min() else (1.0, 2.0, 5.0)
    axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def confidence_histograms(confidence: Mapping[str, np.ndarray]) -> str | None:
    """Histograms of the probability of the true label on the forget rows, one below the other; None of none.

    Args:
      confidence: name to f[F].
    """
    if not confidence:
        return None
    colours = {"before": GREY, "after": BLUE, "Retrain": ORANGE}
    with styled_figure(8, 0.5 + 1.1 * len(confidence)) as figure:
        panels = np.atleast_1d(figure.subplots(len(confidence), sharex=True, sharey=True))
        for axes, (name, values) in zip(panels, confidence.items(), strict=True):
            values = np.asarray(values, float)
            values = values[np.isfinite(values)]
            middle = f": median {np.median(values):.2f}" if len(values) else ": no finite value"
            weights = np.full(len(values), 100 / max(len(values), 1))
            axes.hist(values, np.linspace(0, 1, 26), weights=weights, color=colours.get(name, SERIES[2]), rwidth=0.92)
            axes.set_title(name + middle)
            axes.set_ylim(bottom=0)
        panels[-1].set_xlim(0, 1)
        panels[-1].set_xlabel("probability of the true label")
        figure.supylabel("% of forget rows", fontsize=9)
        return inline_svg(figure, "Confidence on the forget rows")


def finite(values: Iterable[Any]) -> np.ndarray:
    """The values as f64[.], with NaN, which is not drawn, for None and infinity."""
    array = np.array([np.nan if value is None else value for value in values], float)
    return np.where(np.isfinite(array), array, np.nan)


@contextlib.contextmanager
def styled_figure(width: float, height: float) -> Iterator["Figure"]:
    """A figure in our style; without pyplot, which would keep a reference."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def inline_svg(figure: "Figure", label: str) -> "Markup":
    """The figure as an ``<svg>`` element: deterministic, with identifiers that are unique by the label.

    The only text marked as safe markup: matplotlib has escaped its values.
    """
    import matplotlib
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r'(?<=<g) id="[^"]*"', "", svg[svg.index("<svg") :])
    # The page sets the size; the view box keeps the proportions.
    opening = re.sub(r' (width|height)="[^"]*"', "", svg[: svg.index(">")])
    return Markup(f'{opening} role="img" aria-label="{escape(label)}"{svg[svg.index(">") :]}')
