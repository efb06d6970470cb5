"""Figures of audits: the points that are drawn, read back from the SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from made_audit import change, curve, relearned

from ltu_jax.reporting import audit_plots
from ltu_jax.reporting.plots import BLUE, GREY, ORANGE

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def drawn(svg, colour, width):
    """The lines of a colour and width, f[., 2] each; y grows upwards."""
    found = []
    for node in ET.fromstring(svg).iter(f"{SVG}path"):
        style = node.get("style", "")
        if f"stroke: {colour}" in style and f"stroke-width: {width}" in style and "fill: none" in style:
            points = re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", node.get("d"))
            found.append(np.array(points, float) * [1, -1])
    return [line for line in found if len(line) > 5]  # shorter ones are of a legend


@pytest.mark.smoke
def test_a_curve_of_a_power_is_a_straight_line_on_logarithmic_axes():
    """From the left TPR = FPR^a; from the right 1 - TPR over 1 - FPR."""
    svg = audit_plots.roc_curves({"unlearned": curve(0.5), "retrain": curve(1.0)}, "x")
    left, right = drawn(svg, BLUE, 1.6)
    diagonal = drawn(svg, ORANGE, 1.6)[0]
    slope = np.polyfit(*left[4:].T, 1)[0] / np.polyfit(*diagonal[4:].T, 1)[0]
    assert slope == pytest.approx(0.5, abs=0.03)
    right = right[-1] - right  # in view-box units from (1, 1)
    assert right[:, 1].max() <= np.ptp(diagonal[:, 1]) + 1
    assert {"this model", "Retrain", "0.01", "0.1", "1"} <= set(texts(svg)) and "original" not in texts(svg)


def test_a_model_that_is_told_by_low_scores_alone_rises_on_the_right():
    """TPR = 1 - (1 - FPR)^(1/2): from the right the same line as FPR^(1/2) from the left."""
    low = curve(0.5)
    mirrored = {name: [1 - x for x in values[::-1]] for name, values in low.items()}
    high_svg, low_svg = (audit_plots.roc_curves({"unlearned": one}, "x") for one in (low, mirrored))
    (left, right), (other_left, other_right) = drawn(high_svg, BLUE, 1.6), drawn(low_svg, BLUE, 1.6)
    shift = right[-1, 0] - left[-1, 0]
    np.testing.assert_allclose(other_right, left + [shift, 0], atol=0.01)
    np.testing.assert_allclose(other_left, right - [shift, 0], atol=0.01)


def test_distributions_pass_through_their_quantiles():
    squares = np.linspace(0, 1, 101) ** 2
    quantiles = {"forget": (2 + 4 * squares).tolist(), "original": (10 * squares).tolist()}
    svg = audit_plots.margin_distributions(quantiles, "x")
    (ours,), (theirs,) = drawn(svg, BLUE, 1.6), drawn(svg, GREY, 1.6)
    unit = (theirs[-1, 0] - theirs[0, 0]) / 10
    np.testing.assert_allclose((ours[[0, -1], 0] - theirs[0, 0]) / unit, [2, 6], atol=0.02)
    heights = {node.text: float(node.get("y")) for node in ET.fromstring(svg).iter(f"{SVG}text")}
    of_hundred = (heights["20"] - heights["80"]) / 0.6
    np.testing.assert_allclose([np.ptp(ours[:, 1]), np.ptp(theirs[:, 1])], of_hundred, rtol=1e-3)


def test_relearning_draws_each_model_and_the_band_around_the_excess():
    details = relearned()
    svg = audit_plots.relearning_curves(details, "x")
    assert len(drawn(svg, GREY, 1.6)) == 3 and len(drawn(svg, ORANGE, 1.6)) == 6  # of each of three sets
    lines = drawn(svg, BLUE, 1.6)
    assert len(lines) == 4 and {"0", "1", "10", "step"} <= set(texts(svg)) and "100" in texts(svg)
    svg = ET.fromstring(svg)
    (band,) = [node for node in svg.iter(f"{SVG}use") if f"fill: {BLUE}; fill-opacity: 0.15" in node.get("style", "")]
    (path,) = [node for node in svg.iter(f"{SVG}path") if f"#{node.get('id')}" == band.get(f"{XLINK}href")]
    ys = -np.array(re.findall(r"[ML] [\d.-]+ ([\d.-]+)", path.get("d")), float) - float(band.get("y"))
    excess = lines[1][:, 1]  # of the second panel
    unit = np.ptp(excess) / np.ptp(details["excess"])
    assert (ys.max() - excess.max()) / unit == pytest.approx(4, abs=0.05)
    assert (excess.min() - ys.min()) / unit == pytest.approx(4, abs=0.05)


def test_relearning_of_the_forget_rows_alone_is_drawn_too():
    only = {name: value for name, value in relearned().items() if name not in ("remain", "test", "band")}
    svg = audit_plots.relearning_curves(only, "x")
    assert len(drawn(svg, ORANGE, 1.6)) == 2 and "accuracy on test rows, %" not in texts(svg)


def test_changes_are_drawn_from_before_to_after():
    sets = {"forget": {"unlearned": change(40, 80), "retrain": [change(50, 60), change(55, 55)]}}
    svg = audit_plots.recalibration_changes(sets, "x")
    lines = [n.get("d") for n in ET.fromstring(svg).iter(f"{SVG}path") if "stroke-width: 2;" in n.get("style", "")]
    ends = [np.array(re.findall(r"[ML] ([\d.-]+) ", d), float) for d in lines]
    lengths = [float(end[-1] - end[0]) for end in ends if len(end) == 2]
    assert lengths[1] / lengths[0] == pytest.approx(0.25, abs=0.01)
    assert {"this model", "Retrain 1", "Retrain 2", "forget rows"} <= set(texts(svg)) and "original" not in texts(svg)


def test_canaries_are_counted():
    svg = audit_plots.canary_scores({"in": [1.0] * 7, "out": [0.0] * 5}, "x")
    assert {"trained on, then forgotten (7)", "never seen (5)"} <= set(texts(svg))


@pytest.mark.parametrize(
    "draw, nothing",
    [
        (audit_plots.roc_curves, {}),
        (audit_plots.margin_distributions, {"other": [1.0]}),
        (audit_plots.relearning_curves, {"band": 1.0}),
        (audit_plots.recalibration_changes, {}),
        (audit_plots.canary_scores, {"in": []}),
    ],
)
def test_of_nothing_nothing_is_drawn(draw, nothing):
    assert draw(nothing, "x") is None
