"""The trade-off picture: its marks against NumPy, its labels by where they really stand."""

import itertools

import made_cells
import numpy as np
import pytest

from ltu_jax.tabling import tradeoff
from ltu_jax.tabling.runs import Run


@pytest.fixture(scope="module")
def runs():
    seeds = [(s, s, s) for s in range(3)]
    labels = ["FT", "RandL", "GA", "Amnesiac", "Amnesiac (relabel)", "SSD", "BadT", "SalUn", "SCRUB", "LTU"]
    cells = made_cells.noisy_cells(labels, seeds)
    return [Run(c["label"], c["command"], "", c["result"]) for c in cells]


def test_a_mark_is_the_mean_over_seeds_of_two_gaps_each_way(runs):
    marks = {mark.name: mark for mark in tradeoff.marks(runs)}
    for label in ("GA", "LTU"):
        gaps = [run.result["gap"] for run in runs if run.label == label]
        x, y = (
            np.array([[gap[name] for name in names] for gap in gaps]).mean(axis=1)
            for names in (("ua", "mi"), ("ra", "ta"))
        )
        assert marks[label][1:3] == pytest.approx((x.mean(), y.mean()))
        assert marks[label][3:5] == pytest.approx((x.std(ddof=1), y.std(ddof=1)))


def test_the_original_is_marked_once_a_pair_and_the_floor_is_that_of_two_retrains(runs):
    cells = [made_cells.cell(seeds=seeds) for seeds in ((0, 0, 0), (0, 0, 1), (3, 3, 0))]
    own = [Run("FT", "", "", c["result"]) for c in cells]
    # UA is off by 10 and 13, MI by 40 and 43; two Retrains by 3 and 3, by 1 and 4.
    original = tradeoff.marks(own)[-1]
    assert (original.name, original.x, original.x_deviation) == (
        "Original",
        26.5,
        pytest.approx(np.std([25, 28], ddof=1)),
    )
    floor = tradeoff.floor(own)
    assert (floor.x, floor.y, floor.y_deviation) == (2.75, 1.0, 0)


def test_without_two_retrains_there_is_no_floor():
    run = Run("FT", "", "", made_cells.cell(retrain_spread=None)["result"])
    assert tradeoff.floor([run]) is None


def test_no_method_has_the_colour_of_the_floor(runs):
    assert tradeoff.floor(runs).colour not in {mark.colour for mark in tradeoff.marks(runs)}


def test_every_label_is_written_and_none_covers_another_or_a_mark(runs, monkeypatch, tmp_path):
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self))
    tradeoff.save_picture(1, runs, tmp_path / "p.svg")
    [figure] = drawn
    figure.draw_without_rendering()
    [axes] = figure.axes
    extents = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    assert set(extents) == {"Original", *(run.label for run in runs)}
    covered = [pair for pair in itertools.combinations(extents, 2) if extents[pair[0]].overlaps(extents[pair[1]])]
    assert not covered
    for mark in tradeoff.marks(runs):
        point = axes.transData.transform((mark.x, mark.y))
        assert axes.bbox.contains(*point)
        assert not [label for label, extent in extents.items() if extent.contains(*point)]
    assert all(axes.bbox.containsx(e.x0) and axes.bbox.containsx(e.x1) for e in extents.values())


def test_a_table_of_two_blocks_is_a_picture_of_two_panels_the_smaller_fraction_first(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    cells = [made_cells.cell(fraction=fraction) for fraction in (0.5, 0.1)]
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self))
    tradeoff.save_picture(1, [Run(c["label"], "", "", c["result"]) for c in cells], tmp_path / "p.svg")
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    assert [title.rpartition(", ")[2] for title in titles] == ["10 %", "50 %"]


def test_the_suffix_says_what_is_written_and_the_same_runs_give_the_same_bytes(runs, tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
        for path in paths:
            tradeoff.save_picture(1, runs, path)
        first, again = (path.read_bytes() for path in paths)
        assert first.startswith(start)
        assert first == again
