"""Figures as inline SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ltu_jax.reporting import plots

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def filled(svg, colour):
    """Heights of the shapes of a colour, in the units of the view box."""
    heights = []
    for node in ET.fromstring(svg).iter(f"{SVG}path"):
        if f"fill: {colour}" in node.get("style", ""):
            ys = [float(y) for y in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", node.get("d", ""))]
            heights.append(max(ys) - min(ys))
    return heights


@pytest.mark.smoke
def test_bars_are_as_high_as_the_gaps_are_large(result):
    svg = plots.gap_bars(result)
    *heights, legend = filled(svg, plots.BLUE)
    gaps = [result["gap"][name] for name in ("ua", "ra", "ta", "mi", "mean")]
    np.testing.assert_allclose(np.divide(heights, max(heights)), np.divide(gaps, max(gaps)), atol=1e-3)
    assert {"UA", "RA", "TA", "MI", "mean", "Original", "ltu", "between two Retrain models"} <= set(texts(svg))
    assert {"1.34", "0.28", "13.12"} <= set(texts(svg))


def test_one_retrain_model_has_no_spread_to_draw(result):
    assert "between two Retrain models" not in texts(plots.gap_bars(result | {"retrain_spread": None}))


def test_without_retrain_there_are_no_gap_bars(without_retrain):
    assert plots.gap_bars(without_retrain) is None


@pytest.mark.parametrize("odd", [None, float("nan"), float("inf")])
def test_a_gap_that_is_not_a_number_leaves_its_place_empty(result, odd):
    result["gap"]["ua"] = result["original_gap"]["mi"] = result["retrain_spread"]["ta"] = odd
    labels = texts(plots.gap_bars(result))
    assert "1.34" not in labels
    assert "1.11" in labels
    assert not {"nan", "inf"} & set(labels)


@pytest.mark.smoke
def test_curves_are_grouped_by_what_stands_before_the_slash(history):
    groups = plots.curves(history)
    assert [(curve.group, curve.single) for curve in groups] == [
        ("loss", False),
        ("norm", True),
        ("cosine", True),
        ("conflict", True),
        ("eval", True),
    ]
    assert {"tune", "query_0"} <= set(texts(groups[0].svg))
    assert "forget" not in texts(groups[0].svg)


def test_names_of_any_method_are_drawn():
    (curve,) = plots.curves([{"step": 1, "mask/kept": 3.0}, {"step": 2, "mask/cost$x$": 0.1}, {"step": 3}])
    assert curve.group == "mask"
    assert {"kept", "cost$x$"} <= set(texts(curve.svg))


def test_norms_have_a_log_scale_and_losses_have_not():
    rows = [{"step": step, "norm/a": 10.0**-step, "loss/a": 10.0**-step} for step in range(5)]
    norm, loss = plots.curves(rows)
    assert {"1", "0.1", "0.01", "0.001", "0.0001"} <= set(texts(norm.svg))
    assert "0.001" not in texts(loss.svg)


def test_norms_within_a_decade_have_labels():
    (norm,) = plots.curves([{"step": step, "norm/a": 1.5 + step / 100} for step in range(0, 300, 100)])
    assert "2" in texts(norm.svg)


def zero_lines(svg):
    return svg.count("stroke: #333333")


def test_only_curves_that_go_below_zero_have_a_zero_line():
    cosine, loss = plots.curves([{"step": step, "cosine": 0.5 - step, "loss": 1.0 + step} for step in range(3)])
    assert zero_lines(cosine.svg) == 1
    assert zero_lines(loss.svg) == 0


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf"), None, 0.0, -1.0])
@pytest.mark.parametrize("name", ["loss/a", "norm/a", "norm"])
@pytest.mark.parametrize("steps", [1, 60])
def test_odd_values_do_not_crash(odd, name, steps):
    rows = [{"step": step, name: 1.0 + step} for step in range(steps)]
    rows[steps // 2][name] = odd
    plots.curves(rows)
    plots.curves([{"step": step, name: odd} for step in range(steps)])


def test_a_name_without_a_finite_value_is_left_out():
    (curve,) = plots.curves([{"step": 1, "loss/a": float("nan"), "norm/a": 1.0}])
    assert curve.group == "norm"


def test_an_empty_history_has_no_curves():
    assert plots.curves([]) == []


def test_the_moving_mean_of_a_constant_is_the_constant():
    (curve,) = plots.curves([{"step": step, "share": 1.0} for step in range(100)])
    (path,) = [
        node.get("d")
        for node in ET.fromstring(curve.svg).iter(f"{SVG}path")
        if f"stroke: {plots.BLUE}" in node.get("style", "")
    ]
    assert len({y for y in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", path)}) == 1


@pytest.mark.smoke
def test_histograms_hold_each_model_and_its_median():
    labels = texts(plots.confidence_histograms({"before": np.array([0.9, 1.0, 1.0]), "after": np.array([0.25])}))
    assert {"before: median 1.00", "after: median 0.25"} <= set(labels)


def test_bars_of_a_histogram_are_shares_of_the_rows():
    svg = plots.confidence_histograms({"after": np.array([0.01, 0.01, 0.01, 0.99])})
    heights = sorted(height for height in filled(svg, plots.BLUE) if height > 0)
    np.testing.assert_allclose(heights[1] / heights[0], 3, rtol=1e-3)
    assert max(float(text) for text in texts(svg) if text.isdigit()) in (50, 60, 75)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 0.5]])
def test_confidence_that_is_not_finite_does_not_crash(values):
    labels = texts(plots.confidence_histograms({"after": np.array(values)}))
    assert ("after: median 0.50" in labels) == (0.5 in values)


def test_no_confidence_is_no_figure():
    assert plots.confidence_histograms({}) is None


def test_figures_are_the_same_bytes_at_every_call(result, history, confidence):
    for draw, given in ((plots.gap_bars, result), (plots.curves, history), (plots.confidence_histograms, confidence)):
        assert draw(given) == draw(given)


def test_no_two_figures_share_an_identifier(result, history, confidence):
    figures = [plots.gap_bars(result), plots.confidence_histograms(confidence)]
    figures += [curve.svg for curve in plots.curves(history)]
    identifiers = [name for svg in figures for name in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(identifiers) == len(set(identifiers))
    for svg in figures:
        own = set(re.findall(r'\bid="([^"]*)"', svg))
        assert set(re.findall(r'(?:url\(|href=")#([^")]*)', svg)) <= own
        assert "<metadata" not in svg
