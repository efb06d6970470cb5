"""What stands in a table of made-up runs: numbers against NumPy, what is bold, what is left out."""

import csv
import io

import made_cells
import numpy as np
import pytest
from made_cells import RMIA, SEEDS, read_table

from ltu_jax import tables

JS = [0.2, 0.31, 0.26]


def test_a_cell_is_mean_deviation_and_the_mean_of_the_gaps_of_each_seed(show):
    # UA is above Retrain's at one seed and below at the next: the gap of the means would be 1, that of the seeds is 3.
    cells = [
        cell
        for seed, off in zip(SEEDS, (4, -3, 2), strict=True)
        for cell in [made_cells.cell("FT", (off, -1, 0, 0), seed)]
    ]
    shown = read_table(show(1, cells))["FT, rho 1"]
    ua = np.array([10 + 4, 11 - 3, 12 + 2])
    assert shown["UA"] == f"{ua.mean():.2f} ± {ua.std(ddof=1):.2f} (3.00)"
    assert shown["RA"] == "98.00 ± 0.00 (1.00)"
    means = np.array([4 + 1, 3 + 1, 2 + 1]) / 4
    assert shown["mean gap"] == f"{means.mean():.2f} ± {means.std(ddof=1):.2f}"
    assert (shown["UT"], shown["images, k"], shown["remain per forget"]) == ("0.50", "4 / 2.5", "3")


def test_one_seed_has_no_deviation(show):
    assert read_table(show(1, [made_cells.cell()]))["FT, rho 1"]["UA"] == "11.00 (1.00)"


def test_original_retrain_and_floor_count_each_original_once(show):
    seeds = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (3, 3, 0)]
    rows = read_table(show(1, [made_cells.cell(seeds=seed) for seed in seeds]))
    assert list(rows) == ["Original", "Retrain, rho 1", "FT, rho 1", "between two Retrains"]
    ua = np.array([10.0, 13.0])
    assert rows["Retrain, rho 1"]["UA"] == f"{ua.mean():.2f} ± {ua.std(ddof=1):.2f} (0.00)"
    assert rows["Retrain, rho 1"]["UT"] == "4.00"
    assert rows["Original"]["UA"] == "0.00 ± 0.00 (11.50)"
    assert rows["between two Retrains"]["MI"] == "(2.50)"
    assert rows["between two Retrains"]["mean gap"] == f"1.88 ± {np.std([1.5, 2.25], ddof=1):.2f}"


def test_rows_stand_as_their_labels_first_appear_and_blocks_by_size(show):
    cells = [made_cells.cell(label, fraction=f) for f in (0.1, 0.05) for label in ("SalUn", "FT", "LTU")]
    rows = read_table(show(1, cells))
    assert [row.partition(",")[0] for row in rows][2:-1] == ["SalUn", "FT", "LTU"]
    heads = list(rows["FT, rho 1"])
    assert [head for head in heads if head.endswith("UA")] == ["5 %: UA", "10 %: UA"]


def test_table_two_has_a_block_for_each_rho_and_a_row_may_miss_one(show):
    cells = [made_cells.cell("FT", (1, 0, 0, 0), rho=0.3), made_cells.cell("FT", (2, 0, 0, 0), rho=0.1)]
    rows = read_table(show(2, [*cells, made_cells.cell("LTU", rho=0.3)]))
    assert (rows["FT"]["rho 0.1: UA"], rows["FT"]["rho 0.3: UA"]) == ("12.00 (2.00)", "11.00 (1.00)")
    [ltu] = [row for row in rows if row.startswith("LTU")]
    assert ltu == "LTU, 0 of 1 seeds at rho 0.1"
    assert rows[ltu]["rho 0.1: UA"] == ""


def test_a_row_that_lacks_a_seed_says_so(show):
    cells = [made_cells.cell("FT", seeds=seed) for seed in SEEDS] + [made_cells.cell("GA", seeds=SEEDS[1])]
    assert "GA, rho 1, 1 of 3 seeds" in read_table(show(1, cells))


def test_bold_is_what_beats_every_other_method_beyond_the_noise(show):
    # LTU is always nearer in UA by much, in RA by chance; in TA it is the worst; a Retrain run does not compete.
    cells = []
    for seed, wobble in zip(SEEDS, (0.0, 0.1, 0.2), strict=True):
        cells.append(made_cells.cell("FT", (5 + wobble, 2 - wobble * 20, 1, 1), seed))
        cells.append(made_cells.cell("LTU", (1, 1, 4, 1), seed))
        cells.append(made_cells.cell("again", (0, 0, 0, 0), seed, method="retrain"))
    rows = read_table(show(3, cells))
    assert rows["LTU, rho 1"]["UA"] == "12.00 ± 1.00 (**1.00**)"
    assert rows["FT, rho 1"]["TA"] == "91.00 ± 0.00 (**1.00**)"
    assert "**" not in rows["LTU, rho 1"]["RA"] + rows["FT, rho 1"]["RA"] + rows["FT, rho 1"]["MI"]
    assert "**" not in "".join(rows["again, rho 1"].values())


def test_a_best_mean_gap_is_bold_as_a_whole(show):
    cells = [made_cells.cell(label, (off,) * 4, seed) for label, off in (("FT", 2), ("LTU", 1)) for seed in SEEDS]
    assert read_table(show(4, cells))["LTU, rho 1"]["mean gap"] == "**1.00 ± 0.00**"


def test_one_row_has_nothing_to_be_better_than(show):
    text = show(1, [made_cells.cell(seeds=seed) for seed in SEEDS])
    assert "**" not in text.split("\n\n")[1]
    assert "Bold" not in text


def test_one_seed_makes_nothing_bold(show):
    assert "**" not in show(1, [made_cells.cell("FT"), made_cells.cell("LTU", (0, 0, 0, 0))]).split("\n\n")[1]


def test_what_the_numbers_come_from_stands_under_the_table(show):
    other = {"commit": None, "versions": {"jax": "0.11.0"}, "device": "1 x H100"}
    text = show(1, [made_cells.cell(), made_cells.cell("LTU", provenance=other)])
    for words in (
        "dataset: digits",
        "model: resnet8",
        "CPU, 2 cores; 1 x H100",
        "3f9c2ab; not known",
        "jax 0.10.2; jax 0.11.0",
    ):
        assert words in text


def close(js, margin=1.0):
    """``closeness`` of a method; of the original 0.9 bits, between two Retrains 0.05."""
    figures = {"unlearned": js, "original": 0.9, "retrain": 0.05}
    return {model: {"js_forget": value, "margin_forget": margin, "js_test": 0.7} for model, value in figures.items()}


def test_closeness_on_the_forget_rows_has_columns_where_it_is_known(show):
    cells = [made_cells.cell("FT", seeds=seed, closeness=close(js, 2.5)) for seed, js in zip(SEEDS, JS, strict=True)]
    text = show(1, cells)
    rows = read_table(text)
    assert list(rows["Original"])[4:8] == ["mean gap", "JS", "margin", "UT"] and "JS and margin: how far" in text
    assert rows["FT, rho 1"]["JS"] == f"{np.mean(JS):.3f} ± {np.std(JS, ddof=1):.3f}"
    assert [rows[row]["JS"] for row in ("Original", "Retrain, rho 1")] == ["0.900 ± 0.000", ""]
    assert rows["between two Retrains"]["JS"] == "0.050 ± 0.000"
    assert rows["FT, rho 1"]["margin"] == "2.50 ± 0.00"
    [row] = [r for r in csv.DictReader(io.StringIO(show(1, cells, "--format", "csv"))) if r["row"] == "FT"]
    shown = [float(row[name]) for name in ("js_forget_mean", "js_forget_std", "margin_forget_mean")]
    assert shown == pytest.approx([np.mean(JS), np.std(JS, ddof=1), 2.5])
    # A mean over some of the seeds is not the mean, and what is not known of all runs has no best.
    old = [made_cells.cell("LTU", seeds=seed, closeness=close(0.9) if seed[0] else None) for seed in SEEDS]
    rows = read_table(show(1, [*cells, *old]))
    assert rows["LTU, rho 1"]["JS"] == "" and "**" not in rows["FT, rho 1"]["JS"]
    without = show(1, [made_cells.cell()])
    assert "margin" not in without and "JS" not in without


def test_a_divergence_is_bold_if_it_beats_the_others_beyond_the_noise(show):
    cells = [
        made_cells.cell(label, seeds=seed, closeness=close(by + js, margin))
        for seed, js, margin in zip(SEEDS, JS, (1.0, 3.0, 2.0), strict=True)
        for label, by in (("FT", 0.1 + js / 10), ("LTU", 0.0))
    ]
    rows = read_table(show(1, cells))
    assert rows["LTU, rho 1"]["JS"].startswith("**") and "**" not in rows["FT, rho 1"]["JS"]
    assert "**" not in rows["LTU, rho 1"]["margin"] + rows["FT, rho 1"]["margin"]


def test_a_method_that_states_no_cost_leaves_its_cells_empty(show):
    rows = read_table(show(1, [made_cells.cell("mine", cost=None, ratio=None), made_cells.cell("FT")]))
    assert (rows["mine, rho 1"]["images, k"], rows["mine, rho 1"]["remain per forget"]) == ("", "")
    half = [made_cells.cell("FT"), made_cells.cell("FT", seeds=(1, 1, 1), cost=None)]
    assert read_table(show(1, [*half, made_cells.cell("LTU")]))["FT, rho 1"]["images, k"] == ""
    assert "images, k" not in read_table(show(1, [made_cells.cell("mine", cost=None, ratio=None)]))["mine, rho 1"]


def test_an_audit_that_every_run_of_a_row_has_is_a_column(audited, capsys):
    tables.main(["1", *audited])
    text = capsys.readouterr().out
    rows = read_table(text)
    assert rows["ft, rho 1"]["RMIA AUC"] == f"{np.mean(RMIA):.3f} ± {np.std(RMIA, ddof=1):.3f}"
    assert rows["Original"]["RMIA AUC"] == "0.910 ± 0.010" and rows["Retrain, rho 1"]["RMIA AUC"] == ""
    assert rows["between two Retrains"]["RMIA AUC"] == "0.470 to 0.520"
    assert "U-LiRA AUC" not in text and "from the audit.json of every run" in text
    tables.main(["1", *audited, "--format", "csv"])
    lines = {row["row"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(lines["ft"]["audit_rmia_mean"]) == pytest.approx(np.mean(RMIA))
    assert float(lines["between two Retrains"]["audit_rmia_low"]) == pytest.approx(0.47)
