"""The measured tables and sentences of the pages are those of the result files, and a changed number is seen."""

import json
import math
import pathlib
import shutil
import statistics

import pytest

from experiments import page_sentences, page_tables, pages
from experiments.page_tables import TABLES, default_runs, markdown, retrain_over_ltu


def test_every_measured_table_and_sentence_is_that_of_its_files():
    assert list(pages.misfits(pages.ROOT, pages.RESULTS)) == []


@pytest.mark.parametrize(
    "file, old, new, told",
    [
        ("defaults/digits.jsonl", '"mean": 1.284818941504176', '"mean": 2.284818941504176', "README.md: table"),
        ("defaults/cifar10_jpeg.jsonl", '"ra": 99.0, ', '"ra": 9.0, ', "results.md: not found: Remaining accuracy"),
        ("study/thirty.jsonl", '"mi": 27.0', '"mi": 57.0', "results.md: table study"),
        ("study/parts_fixed.jsonl", '"ra": 98.', '"ra": 8.', "results.md: table parts"),
        ("study/cosines.jsonl", '"cosine": [', '"cosine": [' + 900 * "-1, ", "not found: (median |cosine| 0."),
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


def test_hours_count_shared_models_once_and_both_retrains(tmp_path, monkeypatch):
    """Two seeds of two methods: 4 runs of 30 + 70 s, 2 originals of 500 s, 2 x 2 Retrains of 400 s: 3,000 s."""
    monkeypatch.setattr(page_tables, "SWEEPS", (("words", "part", "mine", "some"),))
    time = {"compile_s": 30, "unlearn_s": 70, "original_s": 500, "attackers_s": 0, "retrain_s": 400}
    made = {"forget": {"fraction": 0.1, "kind": "random"}, "time": time, "retrain_spread": {"mean": 1.0}}
    lines = [{"result": {"seeds": {"train": seed}, **made}} for seed in (0, 0, 1, 1)]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert TABLES["reproduce"](tmp_path)[2:] == [
        "| [words](results.md#part) | `python -m ltu_jax.sweep experiments/sweeps/mine.py --out DIR` | 0.8 |"
    ]


def test_columns_are_those_that_their_heads_say(tmp_path):
    one = {"gap": 1.0, "nothing": 2.0, "ua": 3.0, "retrain_ua": 4.0, "ra": 5.0, "ta": 6.0, "seconds": 9.0}
    row = {"in_a_row": [one | {"earlier_error": 7.0, "earlier_attack_auc": 0.8}]}
    row["at_once"] = one | {"earlier_error": None, "earlier_attack_auc": None}
    (tmp_path / "requests_in_a_row").mkdir()
    (tmp_path / "requests_in_a_row" / "seed-0.json").write_text(json.dumps(row))
    assert cells(TABLES["in_a_row"](tmp_path)) == {
        "1": ["1.0", "2.0", "3.0 (4.0)", "5.0", "6.0", "7.0", "0.80", "9"],
        "one of all 300": ["1.0", "2.0", "3.0 (4.0)", "5.0", "6.0", "", "", "9"],
    }
    (tmp_path / "cifar10_jpeg").mkdir()
    for kind, add in (("class", 0), ("subclass", 10)):
        by = {of: {name: add + i + j for j, name in enumerate(("ua", "ra", "ta", "mi"))} for i, of in enumerate("abc")}
        result = {
            "original": by["a"],
            "retrain": by["b"],
            "scores": by["c"],
            "original_gap": {"mean": 7},
            "gap": {"mean": 8},
        }
        (tmp_path / "cifar10_jpeg" / f"{kind}.jsonl").write_text(json.dumps({"label": "FT", "result": result}) + "\n")
    found = cells(TABLES["whole_classes"](tmp_path))
    assert found["original"] == [*"0.00 1.00 2.00 3.00 7.00 10.00 11.00 12.00 13.00 7.00".split()]
    assert found["Retrain"][:5] == ["1.00", "2.00", "3.00", "4.00", ""] and found["FT"][4:6] == ["8.00", "12.00"]
    (tmp_path / "speed").mkdir()
    lines = [f"{name} 1.11 1.01 1.21 9.9 0.1 {k}.2 {k}.5 4{k} 0.{k}" for k, name in enumerate(page_tables.STEPS, 1)]
    for width in (16, 64):
        (tmp_path / "speed" / f"step{width}.txt").write_text("\n".join(lines))
    assert cells(TABLES["step"](tmp_path))["`dtype=bfloat16`"] == [
        *("1.11 (1.01 to 1.21)", "1.11", "3.2", "3.5 / 3.5", "43", "0.3 % / 0.3 %")
    ]


def cells(lines):
    """The cells of a table by the first of each row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1:] for row in rows}


def test_the_runs_of_the_defaults_are_all_there_by_fraction():
    runs = default_runs(pathlib.Path(pages.RESULTS))
    assert {key: len(found) for key, found in runs.items()} == {
        **{("digits", fraction): 20 for fraction in (0.1, 0.3, 0.5)},
        **{("cifar10_jpeg", fraction): 10 for fraction in (0.1, 0.3, 0.5)},
    }
    seeds = [run["seeds"]["train"] for run in runs["digits", 0.1]]
    assert sorted(seeds) == list(range(100, 120)) and statistics.fmean(seeds) == 109.5


def test_the_limits_of_a_claim_are_five_points_and_the_noise_of_so_many_rows():
    found = {name: [int(cell) for cell in row] for name, row in cells(TABLES["limits"](pages.RESULTS)).items()}
    noise = lambda n, m: 136 * math.sqrt(1 / n + 1 / m)  # noqa: E731
    wanted = {str(n): [round(5 + noise(n, m)) for m in (40, 250, math.inf)] for n in (20, 40, 100, 400)}
    assert found == wanted


def test_figures_are_put_into_words():
    assert page_sentences.listed([1.06, 2.55, 4.34], ".1f") == "1.1, 2.5 and 4.3"
    assert page_sentences.spanned([4.2, 34.2, 7.0], ".1f") == "4.2 to 34.2"
