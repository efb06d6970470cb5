"""Marks with names that do not hide each other."""

import numpy as np
import pytest

from ltu_jax.reporting.marks import LINE, LONGEST, Mark, draw_marks, free_box, gap_axis, shortened
from ltu_jax.reporting.plots import ORANGE, styled_figure

EDGES = (0.0, 0.0, 500.0, 300.0)


def meet(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


@pytest.mark.parametrize("seed", range(5))
def test_names_meet_no_other_name_no_mark_and_no_edge(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform((10, 10), (490, 290), (25, 2))
    taken = marks = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    for point in points:
        taken = [*taken, free_box(point, 60, EDGES, taken)]
    names = taken[len(marks) :]
    for number, box in enumerate(names):
        np.testing.assert_allclose((box[2] - box[0], box[3] - box[1]), (60, LINE))
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 500 and box[3] <= 300
        assert not any(meet(box, other) for other in marks + names[:number])


def test_a_lone_name_stands_close_on_the_right():
    left, low, right, high = free_box((100, 100), 60, EDGES, [])
    assert (left - 100 < 10, right - left, low + high) == (True, 60, 200)


def test_a_name_without_a_free_place_stands_on_the_right_all_the_same():
    assert free_box((100, 100), 60, EDGES, [EDGES]) == free_box((100, 100), 60, EDGES, [])
    left, _, right, _ = free_box((EDGES[2] - 5, 100), 60, EDGES, [EDGES])
    assert EDGES[0] <= left and right <= EDGES[2], "it would be cut off at the edge"


def test_names_that_a_figure_has_no_room_for_are_cut():
    assert shortened("a" * LONGEST) == "a" * LONGEST
    assert shortened("a" * (LONGEST + 1)) == "a" * (LONGEST - 1) + "…"


def drawn(marks, lines=()):
    """The pixels of each name, and those of the axes' data."""
    with styled_figure(8, 5) as figure:
        axes = figure.subplots()
        gap_axis(axes, "x", 60)
        gap_axis(axes, "y", 60)
        draw_marks(axes, marks, lines)
        figure.draw_without_rendering()
        return axes, {text.get_text(): text.get_window_extent().extents for text in axes.texts}


def test_a_name_hides_no_line_no_whisker_and_no_mark_that_is_drawn():
    marks = [Mark("one", 10, 10, 4, 4), Mark("two", 10.5, 10, 4, 4), Mark("three", 30, 10)]
    line = (1, 8.5, 60, 8.5)
    axes, names = drawn(marks, [line])
    hidden = [line, (6, 10, 14.5, 10), (10, 6, 10, 14), (10.5, 6, 10.5, 14)]
    pixels = [axes.transData.transform(np.reshape(box, (2, 2))).ravel() for box in hidden]
    assert set(names) == {"one", "two", "three"}
    for name in names.values():
        assert not any(meet(name, box + [-0.1, -0.1, 0.1, 0.1]) for box in pixels)


def test_equal_gaps_are_equally_far_below_one_and_equal_ratios_above_two():
    axes, _ = drawn([Mark("one", 1, 1)])
    x = dict(
        zip(ticks := (0, 0.2, 0.4, 4, 8, 16), axes.transData.transform([(t, 0) for t in ticks])[:, 0], strict=True)
    )
    np.testing.assert_allclose(x[0.4] - x[0.2], x[0.2] - x[0])
    np.testing.assert_allclose(x[16] - x[8], x[8] - x[4])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.2", "0.5", "1", "2", "5", "10", "20", "50"]


def test_more_marks_than_colours_have_other_shapes():
    axes, _ = drawn([Mark(f"{number}", number, number) for number in range(1, 15)])
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines if line.get_marker() not in ("None", "")}
    assert len(looks) == 14
    assert ORANGE not in {colour for colour, _ in looks}, "the colour of Retrain's spread is no method's"


def test_a_mark_on_the_edge_is_drawn_whole():
    axes, _ = drawn([Mark("one", 0, 5)])
    (mark,) = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert not mark.get_clip_on()
