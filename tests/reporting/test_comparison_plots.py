"""Figures of many runs: marks, bars and lines stand where the numbers say."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_result

from ltu_jax.reporting import comparison_plots as plots
from ltu_jax.reporting.marks import TICKS
from ltu_jax.reporting.plots import BLUE, GREY, ORANGE
from ltu_jax.reporting.runs import Group, Run

SVG = "{http://www.w3.org/2000/svg}"
SPREAD = {"ua": 3.0, "ra": 0.5, "ta": 0.5, "mi": 1.0, "mean": 1.0}
ORIGINAL = {"ua": 10.0, "ra": 1.0, "ta": 3.0, "mi": 30.0, "mean": 11.0}
NOTHING = dict.fromkeys(SPREAD)


def group(label, *gaps, flops=None):
    runs = [Run(Path(label), made_result(gaps=each, flops=flops, seed=n), {}, None) for n, each in enumerate(gaps)]
    return Group(label, runs)


def even(mean):
    return (mean,) * 4


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def used(svg, style):
    """Where the marks with this in their style stand."""
    nodes = [node for node in ET.fromstring(svg).iter(f"{SVG}use") if style in node.get("style", "")]
    return np.array([(float(node.get("x")), float(node.get("y"))) for node in nodes])


def ticks(svg):
    """Places of the gaps in TICKS along x and along y, so far as they are drawn."""
    places = used(svg, "stroke: #000000; stroke-width: 0.8")
    left, low = places[:, 0].min(), places[:, 1].max()  # SVG counts from the top
    return np.unique(places[places[:, 1] == low, 0]), np.unique(places[places[:, 0] == left, 1])[::-1]


def paths(svg, style):
    """Corners f[., 2] of each path with this in its style."""
    nodes = [node for node in ET.fromstring(svg).iter(f"{SVG}path") if style in node.get("style", "")]
    return [np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", node.get("d", "")), float) for node in nodes]


def test_a_mark_stands_at_its_forgetting_and_remembering_gap():
    # Over two runs: forgetting (1 + 3) / 2 = 2, remembering (8 + 2) / 2 = 5.
    ssd = group("ssd", (0.0, 8.0, 8.0, 2.0), (4.0, 1.0, 3.0, 2.0))
    svg = plots.tradeoff([ssd], SPREAD, ORIGINAL, "t")
    x, y = ticks(svg)
    np.testing.assert_allclose(used(svg, f"fill: {BLUE}"), [(x[TICKS.index(2)], y[TICKS.index(5)])])
    np.testing.assert_allclose(used(svg, f"fill: {GREY}"), [(x[TICKS.index(20)], y[TICKS.index(2)])])
    (line,), (box,) = paths(svg, f"stroke: {ORANGE}"), paths(svg, f"fill: {ORANGE}")
    np.testing.assert_allclose(line[1], (x[TICKS.index(2)], y[TICKS.index(0.5)]))
    np.testing.assert_allclose((box[:, 0].max(), box[:, 1].min()), line[1])
    assert {"ssd", "Original"} <= set(texts(svg))


def test_whiskers_reach_a_standard_deviation():
    # Remembering 1 and 3, forgetting 8 and 12: deviations sqrt(2) and 2 sqrt(2).
    pair = group("ssd", (8.0, 1.0, 1.0, 8.0), (12.0, 3.0, 3.0, 12.0))
    svg = plots.tradeoff([pair, group("low", even(10 - 8**0.5))], NOTHING, NOTHING, "t")
    along, up = [path for path in paths(svg, f"stroke: {BLUE}") if len(path) == 2]
    assert along[0, 1] == along[1, 1] and up[0, 0] == up[1, 0]
    low = used(svg, "fill: #009e73")[0]
    np.testing.assert_allclose(along[:, 0].min(), low[0], atol=1e-3)


def test_what_is_not_known_is_not_drawn():
    svg = plots.tradeoff([group("ssd", even(3.0))], NOTHING, NOTHING, "t")
    assert paths(svg, f"stroke: {ORANGE}") == [] and "Original" not in texts(svg)
    svg = plots.gap_ranking([group("ssd", even(3.0))], NOTHING, NOTHING, "t")
    assert paths(svg, f"stroke: {ORANGE}") == [] and "Original" not in texts(svg)


def test_bars_are_as_long_as_the_mean_gaps_are_large_and_in_the_order_given():
    groups = [group("one", even(2.0), even(4.0)), group("two", even(9.0))]
    svg = plots.gap_ranking(groups, SPREAD, ORIGINAL, "t")
    bars = [*paths(svg, f"fill: {BLUE}"), *paths(svg, f"fill: {GREY}")]
    left = bars[0][:, 0].min()
    lengths = np.array([bar[:, 0].max() - left for bar in bars])
    np.testing.assert_allclose(lengths / lengths[-1], np.array([3, 9, 11]) / 11, rtol=1e-4)
    heights = [bar[:, 1].mean() for bar in bars]
    assert heights == sorted(heights)
    (line,) = paths(svg, f"stroke: {ORANGE}")
    np.testing.assert_allclose((line[:, 0] - left) / lengths[-1], 1 / 11, rtol=1e-3)
    assert {"one", "two", "Original", "3.00 ± 1.41", "9.00", "11.00"} <= set(texts(svg))


def test_the_staircase_is_the_smallest_gap_at_each_cost_or_less():
    values = [("d", 8.0, 8e12), ("a", 20.0, 1e12), ("b", 5.0, 2e12), ("c", 10.0, 4e12), ("e", 2.0, 16e12)]
    svg = plots.gap_against_cost([group(n, even(gap), flops=flops) for n, gap, flops in values], NOTHING, "t")
    (stairs,) = [path for path in paths(svg, f"stroke: {GREY}") if len(path) > 2]
    _, y = ticks(svg)
    corners = [y[TICKS.index(gap)] for gap in (20, 5, 2)]
    np.testing.assert_allclose(np.unique(stairs[:, 1]), corners)
    left, right = stairs[stairs[:, 1] == corners[1], 0].min(), stairs[stairs[:, 1] == corners[1], 0].max()
    start = stairs[0, 0]
    np.testing.assert_allclose((right - start) / (left - start), np.log(16) / np.log(2), rtol=1e-4)
    assert {"1 T", "10 T"} <= set(texts(svg))


def test_methods_without_flops_or_without_a_gap_have_no_place_against_cost():
    unknown = [group("a", even(1.0)), group("b", even(1.0), flops=0.0)]
    without = group("c", even(1.0), flops=1e9)
    without.runs[0].result["gap"] = None
    assert plots.gap_against_cost([*unknown, without], SPREAD, "t") is None
    labels = texts(plots.gap_against_cost([*unknown, without, group("d", even(1.0), flops=1e9)], SPREAD, "t"))
    assert "d" in labels and not {"a", "b", "c"} & set(labels)


def test_without_retrain_there_is_nothing_to_draw():
    without = group("ssd", even(1.0))
    without.runs[0].result["gap"] = None
    assert plots.tradeoff([without], NOTHING, NOTHING, "t") is None
    assert plots.gap_ranking([without], NOTHING, NOTHING, "t") is None


@pytest.mark.parametrize("gap, number", [(0.0, 1), (1e-9, 1), (100.0, 1), (100.0, 40)])
def test_extreme_gaps_and_many_methods_do_not_crash(gap, number):
    groups = [group(f"<&$x$>\"'{n}" * (n + 1), even(gap), even(gap), flops=1.0) for n in range(number)]
    for svg in draw(groups):
        ET.fromstring(svg)


def draw(groups, title="t"):
    yield plots.tradeoff(groups, SPREAD, ORIGINAL, f"{title} 1")
    yield plots.gap_ranking(groups, SPREAD, ORIGINAL, f"{title} 2")
    yield plots.gap_against_cost(groups, SPREAD, f"{title} 3")


@pytest.mark.slow
def test_figures_are_the_same_bytes_at_every_call_and_share_no_identifier():
    groups = [group("a", even(1.0), flops=1e9), group("b", even(2.0), even(3.0), flops=2e9)]
    assert list(draw(groups)) == list(draw(groups))
    identifiers = [name for title in "tu" for svg in draw(groups, title) for name in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(identifiers) == len(set(identifiers)) > 0
