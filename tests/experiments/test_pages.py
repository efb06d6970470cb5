"""The measured tables and sentences of the pages are those of the result files, and a changed number is seen."""

import json
import pathlib
import shutil
import statistics

import numpy as np
import pytest

from experiments import page_sentences, pages
from experiments.page_tables import TABLES, default_runs, markdown, retrain_over_ltu
from ltu_jax.deletion.claim import MARGIN
from ltu_jax.evaluation.likeness import ks_noise


def test_every_measured_table_and_sentence_is_that_of_its_files():
    assert list(pages.misfits(pages.ROOT, pages.RESULTS)) == []


@pytest.mark.parametrize(
    "file, old, new, told",
    [
        ("defaults/digits.jsonl", '"mean": 1.284818941504176', '"mean": 2.284818941504176', "README.md: table"),
        ("defaults/cifar10_jpeg.jsonl", '"ra": 99.0, ', '"ra": 9.0, ', "results.md: not found: Remaining accuracy"),
        ("study/thirty.jsonl", '"mi": 27.0', '"mi": 57.0', "results.md: table study"),
        ("cifar10_jpeg/table3.jsonl", '"mean": 9.592222222222219', '"mean": 1', "results.md: table parts"),
        ("cifar10_jpeg/table4.jsonl", '"ua": 32.8', '"ua": 33.8', ""),  # no page tells it
        ("cifar10_jpeg/class.jsonl", '"mean": 4.00541430963192', '"mean": 1.5', "not found: FT (1.50) and SalUn"),
        ("calibration/seed-0.json", '"gap": 2.3711111111111096', '"gap": 3', "requests-measured.md: table calibrated"),
        ("evidence_power/digits.jsonl", '"accepted": true', '"accepted": false', "table wrong_verdicts"),
        ("requests_in_a_row/seed-0.json", '"ra": 98.08080808080808', '"ra": 97', "table in_a_row"),
        ("speed/step64.txt", "9.28", "9.38", "speed.md: table step"),
        ("speed/peers16.txt", "first two steps 394.2", "first two steps 494.2", "under `torch.compile` 494 and 655."),
        ("speed/end_to_end.txt", "1120.64", "1220.64", "(1,221 against 58;"),
        ("speed/gpu.txt", "113.4 s", "123.4 s", "Compiling LTU takes 123 s."),
        ("speed/scaling.txt", "23.24", "33.24", "33 s for features"),
    ],
)
def test_a_number_that_is_changed_in_a_file_no_longer_fits_its_page(tmp_path, file, old, new, told):
    results = tmp_path / "results"
    shutil.copytree(pages.RESULTS, results)
    text = (results / file).read_text()
    assert old in text
    (results / file).write_text(text.replace(old, new, 1))
    found = list(pages.misfits(pages.ROOT, results))
    assert bool(found) == bool(told) and told in "\n".join(found)


def test_tables_are_written_where_their_names_stand_and_nothing_else_changes(tmp_path):
    tables = {"one": lambda _: markdown(("", "b"), [["1", ""]]), "two": lambda _: ["| x |"]}
    page = "# A\n\n<!-- table: one -->\n| old |\n| older |\n\nText | with a bar.\n\n<!-- table: two -->\n"
    written = pages.with_tables(page, tmp_path, tables)
    assert written == (
        "# A\n\n<!-- table: one -->\n| | b |\n|---|---|\n| 1 | |\n\nText | with a bar.\n\n<!-- table: two -->\n| x |\n"
    )
    assert pages.with_tables(written, tmp_path, tables) == written
    with pytest.raises(KeyError):
        pages.with_tables("<!-- table: three -->\n", tmp_path, tables)


def test_a_table_that_no_page_has_is_told(monkeypatch):
    monkeypatch.setitem(TABLES, "nowhere", lambda results: [])
    assert list(pages.misfits(pages.ROOT, pages.RESULTS)) == ["no page has table nowhere"]


def test_retrain_is_counted_as_its_recipe_passes_images(tmp_path):
    """20 epochs of 4,500 rows, forward and backward at 3 flops an image: 270,000, beside runs of 1,000 and 2,000."""
    ft = {"label": "FT", "result": {"cost": {"forward_images": 10, "backward_images": 10, "flops": 30.0}}}
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thirty.jsonl").write_text(json.dumps(ft) + "\n")
    runs = [{"forget": {"count": 500, "fraction": 0.1}, "cost": {"flops": flops}} for flops in (1000.0, 2000.0)]
    assert retrain_over_ltu(tmp_path, runs) == pytest.approx(270_000 / 1500)


def test_the_runs_of_the_defaults_are_all_there_by_fraction():
    runs = default_runs(pathlib.Path(pages.RESULTS))
    assert {key: len(found) for key, found in runs.items()} == {
        **{("digits", fraction): 20 for fraction in (0.1, 0.3, 0.5)},
        **{("cifar10_jpeg", fraction): 10 for fraction in (0.1, 0.3, 0.5)},
    }
    seeds = [run["seeds"]["train"] for run in runs["digits", 0.1]]
    assert sorted(seeds) == list(range(100, 120)) and statistics.fmean(seeds) == 109.5


def test_the_limits_of_a_claim_are_those_that_it_is_judged_by():
    """Of one class the noise of a verdict is that of ``ks_noise``."""
    header, _, *lines = TABLES["limits"](pages.RESULTS)
    for line in lines:
        count, *shown = (int(cell) for cell in line.strip("| ").split(" | "))
        noise = [ks_noise(np.zeros(count, int), np.zeros(size, int)) for size in (40, 250)]
        assert shown[:2] == [round(MARGIN + value) for value in noise]
    assert header.startswith("| to forget | 40 held out")


def test_figures_are_put_into_words():
    assert page_sentences.listed([1.06, 2.55, 4.34], ".1f") == "1.1, 2.5 and 4.3"
    assert page_sentences.spanned([4.2, 34.2, 7.0], ".1f") == "4.2 to 34.2"
