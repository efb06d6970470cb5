"""The table of many runs, against NumPy's means and deviations of the same numbers."""

from pathlib import Path

import numpy as np
import pytest
from html_reader import Reader
from made_runs import MEASURES, made_result

from ltu_jax.reporting import rendering
from ltu_jax.reporting.comparison_table import Name, scores_table
from ltu_jax.reporting.runs import Audited, Run


def table(rows, models, **options):
    runs = [(Name(name), [Run(Path(name), result, {}, None) for result in results]) for name, results in rows]
    page = rendering.template_environment().get_template("scores.html.jinja").module
    return Reader(page.scores_table(scores_table(runs, models, **options)))


@pytest.fixture
def results():
    gaps = np.random.default_rng(0).uniform(0, 9, (3, 4))
    return [made_result(seed=seed, gaps=gaps[seed].tolist()) for seed in range(3)]


def test_a_row_is_the_mean_and_deviation_of_its_runs_and_of_their_gaps(results):
    row = table([("ltu", results)], results).row("ltu")
    for cell, measure in zip(row, MEASURES, strict=False):
        values = [result["scores"][measure] for result in results]
        gaps = [abs(result["scores"][measure] - result["retrain"][measure]) for result in results]
        assert cell == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} ({np.mean(gaps):.2f})"
    means = [result["gap"]["mean"] for result in results]
    assert row[4:] == [f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f}", "1.50 ± 1.00", "0.3"]


def test_one_run_has_no_deviation():
    row = table([("ltu", [made_result()])], [made_result()]).row("ltu")
    assert row == ["9.00 (1.00)", "97.00 (2.00)", "87.00 (3.00)", "41.00 (4.00)", "2.50", "0.50", "0.3"]


def test_original_retrain_and_their_spread_are_means_over_the_problems(results):
    reader = table([("ltu", results[:1])], results, counted=True)
    assert reader.row("Original") == [
        "0.00 ± 0.00 (11.00)",
        "100.00 ± 0.00 (1.00)",
        "92.00 ± 1.00 (3.00)",
        "4.00 ± 0.00 (41.00)",
        "14.00 ± 0.25",
        "-",
        "",
        "",
    ]
    assert reader.row("Retrain")[:2] == ["11.00 ± 1.00", "99.00 ± 0.00"]
    assert reader.row("Between two Retrain models") == ["(1.10)", "(0.10)", "(0.70)", "(2.10)", "1.00", "", "", ""]
    assert reader.row("ltu")[-2:] == ["1", "0.3"]
    assert table([("ltu", results)], results, counted=True).row("ltu")[-2:] == ["3", "0.3"]


def test_costs_have_columns_where_any_run_states_them():
    known, unknown = made_result("ssd", flops=4.56e12), made_result()
    reader = table([("ssd", [known]), ("ltu", [unknown])], [known])
    assert reader.rows[0][5:] == ["gap", "UT (min)", "rho", "ratio", "imagesforward", "imagesbackward", "flops"]
    assert reader.row("ssd")[6:] == ["0.3", "2.50", "12.3 k", "678", "4.56 T"]
    assert reader.row("ltu")[6:] == ["0.3", "-", "-", "-", "-"]
    assert "flops" not in table([("ltu", [unknown])], [unknown]).rows[0]


def test_every_row_is_as_long_as_the_head(results):
    results[0]["cost"] = {"flops": 1.0}
    for counted in (False, True):
        assert {len(row) for row in table([("ltu", results)], results, counted=counted).rows} == {9 + 3 + counted}


def test_a_class_that_is_forgotten_whole_has_a_column(results):
    for number, result in enumerate(results):
        for part in ("original", "retrain", "scores"):
            result[part]["ta_forgotten"] = 10.0 * number
    reader = table([("ltu", results)], results)
    assert reader.rows[0][4:7] == ["MI", "TAforgotten", "gap"][:1] + ["TAforgotten", "gap"]
    assert reader.row("ltu")[4] == reader.row("Retrain")[4] == "10.00 ± 10.00"
    assert reader.row("Between two Retrain models")[4] == ""


def test_a_short_unlearning_time_does_not_read_as_zero():
    result = made_result()
    result["scores"]["ut_minutes"] = 0.0123
    assert table([("ltu", [result])], [result]).row("ltu")[5] == "0.0123"


def test_without_retrain_there_are_no_gaps():
    result = made_result(retrain=None, gap=None, original_gap=None, retrain_spread=None)
    reader = table([("ltu", [result])], [result])
    assert reader.row("ltu") == ["9.00", "97.00", "87.00", "41.00", "-", "0.50", "0.3"]
    assert [row[0] for row in reader.rows] == ["", "Original", "ltu"]


def test_a_part_without_a_name_is_none_of_a_result(results):
    """Retrain has no gap to itself, whatever a damaged file has under an empty name."""
    odd = [result | {"": [3]} for result in results]
    assert table([("ltu", odd)], odd).rows == table([("ltu", results)], results).rows


def test_audits_have_columns_where_any_run_has_them():
    """Means over the runs that were audited; of Retrains the range, its ends averaged."""
    audits = [
        {"rmia": Audited(0.55, 0.91, (0.49, 0.51)), "relearning": Audited(4.0, 30.0, None)},
        {"rmia": Audited(0.58, 0.93, (0.47, 0.53))},
        {},
    ]
    runs = [Run(Path(f"{seed}"), made_result(seed=seed), {}, None, of) for seed, of in enumerate(audits)]
    page = rendering.template_environment().get_template("scores.html.jinja").module
    reader = Reader(page.scores_table(scores_table([(Name("ltu"), runs)], [runs[0].result])))
    assert reader.rows[0][-2:] == ["relearned,points", "RMIAAUC"]
    assert reader.row("ltu")[-2:] == ["4.00", f"0.565 ± {np.std([0.55, 0.58], ddof=1):.3f}"]
    assert reader.row("Original")[-2:] == ["30.00", f"0.920 ± {np.std([0.91, 0.93], ddof=1):.3f}"]
    assert reader.row("Retrain")[-2:] == ["", "0.480 to 0.520"] and reader.row("Between two Retrain models")[-2:] == [
        "",
        "",
    ]
    assert len({len(row) for row in reader.rows}) == 1


def test_figures_of_one_s_own_have_columns_of_the_original_retrain_and_each_row():
    of = [
        {"unlearned": {"ece": 0.1}, "original": {"ece": 0.3}, "retrain": {"ece": 0.2}},
        {"unlearned": {"ece": 0.14}, "original": {"ece": 0.5}, "retrain": {"ece": 0.2}},
    ]
    runs = [Run(Path(str(seed)), made_result(seed=seed, measures=one), {}, None) for seed, one in enumerate(of)]
    other = Run(Path("2"), made_result("salun"), {}, None)
    page = rendering.template_environment().get_template("scores.html.jinja").module
    rows = [(Name("salun"), [other]), (Name("ltu"), runs)]
    reader = Reader(page.scores_table(scores_table(rows, [other.result, runs[1].result])))
    assert reader.rows[0][-1] == "ece" and len({len(row) for row in reader.rows}) == 1
    assert reader.row("ltu")[-1] == f"0.120 ± {np.std([0.1, 0.14], ddof=1):.3f}"
    assert reader.row("Original")[-1] == f"0.400 ± {np.std([0.3, 0.5], ddof=1):.3f}"
    assert reader.row("Retrain")[-1] == "0.200 ± 0.000" and reader.row("salun")[-1] == "-"
