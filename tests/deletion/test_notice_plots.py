"""Figures of a notice: marks stand where the numbers say."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from made_notice import made_calibration, made_confidence

from ltu_jax.deletion import notice_plots as plots
from ltu_jax.deletion.notice_measured import sureness
from ltu_jax.reporting.plots import BLUE, GREY, ORANGE

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def used(svg, style):
    """Where the marks with this in their style stand."""
    nodes = [node for node in ET.fromstring(svg).iter(f"{SVG}use") if style in node.get("style", "")]
    return np.array([(float(node.get("x")), float(node.get("y"))) for node in nodes])


def paths(svg, style):
    """Corners f[., 2] of each path with this in its style."""
    nodes = [node for node in ET.fromstring(svg).iter(f"{SVG}path") if style in node.get("style", "")]
    return [np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", node.get("d", "")), float) for node in nodes]


def calibration(*tries, chosen=0, tolerance=2.0):
    """Tries of looks (remain, validation, lost, ks); the original has 100 and 90; the last look is the best."""
    names = ("remain", "validation", "lost", "ks")
    trials = [{"looks": [dict(zip(names, look, strict=True)) for look in looks]} for looks in tries]
    trials = [trial | {"learning_rate": 0.1, "best": len(trial["looks"]) - 1} for trial in trials]
    return {
        "original": {"remain": 100.0, "validation": 90.0},
        "tolerance": tolerance,
        "trials": trials,
        "chosen": chosen,
    }


def test_points_lost_are_the_larger_loss():
    assert plots.points_lost({"remain": 99.0, "validation": 87.0}, {"remain": 100.0, "validation": 90.0}) == 3
    assert plots.points_lost({"remain": 95.0, "validation": 91.0}, {"remain": 100.0, "validation": 90.0}) == 5
    assert plots.points_lost({"remain": 100.5, "validation": 92.0}, {"remain": 100.0, "validation": 90.0}) == -0.5


def test_dots_stand_at_loss_and_unlikeness():
    # Losses 0, 1 and 4 points, unlike by 20, 10 and 5.
    svg = plots.tries_curve(calibration([(100.0, 90.0, 0.0, 20.0), (99.0, 90.0, 0.0, 10.0), (100.0, 86.0, 1.5, 5.0)]))
    dots = used(svg, f"fill: {BLUE}")[:3]  # the fourth is in the legend
    x, y = dots.T
    np.testing.assert_allclose((x[2] - x[0]) / (x[1] - x[0]), 4, rtol=1e-3)
    np.testing.assert_allclose((y[2] - y[0]) / (y[1] - y[0]), 1.5, rtol=1e-3)
    assert y[0] < y[1] < y[2]  # SVG counts from the top


def test_what_cost_too_much_is_hollow_and_the_point_chosen_is_ringed():
    looks = [(99.0, 90.0, 0.0, 20.0), (93.0, 90.0, 6.0, 1.0)]
    svg = plots.tries_curve(calibration(looks, [(98.0, 90.0, 2.0, 7.0)], chosen=1))
    filled, other = used(svg, f"fill: {BLUE}"), used(svg, "fill: #009e73")
    hollow = used(svg, f"fill: #ffffff; stroke: {BLUE}")
    assert len(hollow) == 1 and len(filled) == 2 and len(other) == 2  # one more each, in the legend
    ring = used(svg, f"stroke: {ORANGE}; stroke-width: 2")
    np.testing.assert_allclose(ring, other[:1])
    assert {"try 1", "try 2", "chosen"} <= set(texts(svg))


def test_a_try_without_looks_is_left_out_and_keeps_its_number():
    svg = plots.tries_curve(calibration([], [(99.0, 90.0, 0.0, 20.0)], chosen=1))
    assert "try 2" in texts(svg) and "try 1" not in texts(svg)
    assert plots.tries_curve(calibration([])) is None


def test_too_many_tries_for_the_colours_have_no_legend():
    svg = plots.tries_curve(calibration(*[[(99.0, 90.0, 0.0, 20.0 + i)] for i in range(9)]))
    assert not [text for text in texts(svg) if text.startswith("try")]
    assert "in 9 tries" in ET.fromstring(svg).get("aria-label")


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_odd_values_do_not_crash(odd):
    plots.tries_curve(calibration([(odd, 90.0, 0.0, 20.0), (99.0, 90.0, odd, odd)]))
    plots.tries_curve(calibration([(odd, odd, odd, odd)]))


def test_histograms_have_one_panel_a_group_with_its_median():
    nowhere = [0] * plots.BINS
    shown = {"before": {"shares": nowhere, "median": 95}, "held out": {"shares": nowhere, "median": 25}}
    svg = plots.sureness_histograms(shown)
    labels = texts(svg)
    assert "images to be forgotten, before: half are above 95 %" in labels
    assert "images never shown, after: half are above 25 %" in labels
    assert not [text for text in labels if text.startswith("images to be forgotten, after")]


def test_bars_are_shares_of_the_images():
    svg = plots.sureness_histograms(sureness({"after": np.repeat([0.01, 0.01, 0.01, 0.99], 25)}))
    heights = [np.ptp(corners[:, 1]) for corners in paths(svg, f"fill: {BLUE}")]
    low, high = sorted(height for height in heights if height > 0)
    np.testing.assert_allclose(high / low, 3, rtol=1e-3)


def test_groups_of_any_size_have_bars_of_one_scale():
    """All of two hundred stand twice as high as half of two."""
    svg = plots.sureness_histograms(sureness({"before": np.repeat([0.99], 200), "after": np.repeat([0.01, 0.99], 50)}))
    heights = [np.ptp(corners[:, 1]) for colour in (GREY, BLUE) for corners in paths(svg, f"fill: {colour}")]
    all_of_many, *halves = [height for height in heights if height > 0]
    np.testing.assert_allclose(halves, [all_of_many / 2] * 2, rtol=1e-3)


def test_a_group_without_a_number_has_no_panel():
    nothing = sureness({"after": np.repeat(float("nan"), 100)})
    assert nothing == {} and plots.sureness_histograms(nothing) is None
    some = sureness({"before": np.repeat(0.5, 100), "after": np.repeat(float("nan"), 100)})
    assert "after" not in " ".join(texts(plots.sureness_histograms(some)))


def test_ranges_stand_on_a_scale_of_a_hundred():
    svg = plots.hits_ranges([("before", (75.0, 50.0, 100.0)), ("after", (50.0, 25.0, 60.0))])
    (guess,) = paths(svg, f"stroke: {ORANGE}")
    (before,), (after,) = paths(svg, f"stroke: {GREY}; stroke-width: 3"), paths(svg, f"stroke: {BLUE}; stroke-width: 3")
    middle, whole = guess[0, 0], 2 * np.ptp(before[:, 0])  # a range from 50 to 100 is half of the scale
    np.testing.assert_allclose(before[0, 0], middle, atol=1e-3)
    np.testing.assert_allclose(np.ptp(after[:, 0]), 0.35 * whole, rtol=1e-3)
    np.testing.assert_allclose(used(svg, f"fill: {GREY}")[0, 0], middle + whole / 4, atol=1e-3)
    np.testing.assert_allclose(used(svg, f"fill: {BLUE}")[0, 0], middle, atol=1e-3)
    assert before[0, 1] < after[0, 1]
    assert [text for text in texts(svg) if text.isdigit()] == ["0", "20", "40", "60", "80", "100"]


@pytest.mark.slow
def test_figures_are_the_same_bytes_at_every_call_and_share_no_identifier():
    def figures():
        hits = plots.hits_ranges([("before", (75.0, 50.0, 100.0))])
        return [plots.tries_curve(made_calibration()), plots.sureness_histograms(sureness(made_confidence())), hits]

    assert figures() == figures()
    identifiers = [name for svg in figures() for name in re.findall(r'\bid="([^"]*)"', svg)]
    assert identifiers and len(identifiers) == len(set(identifiers))
