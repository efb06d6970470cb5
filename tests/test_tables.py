"""The tables of made-up runs: numbers against NumPy, formats read back, what has no place refused."""

import csv
import io
import itertools
import json
import re
from pathlib import Path

import made_cells
import numpy as np
import pytest
from made_audit import finding, made_audit

from ltu_jax import tables
from ltu_jax.tabling import runs as reading
from ltu_jax.tabling.paper import FILE

SEEDS = [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
JS = [0.2, 0.31, 0.26]


@pytest.fixture
def show(tmp_path, capsys):
    """Runs the program on cells and returns what it prints."""
    count = itertools.count()

    def run(number, cells, *flags):
        path = made_cells.write(tmp_path / f"{next(count)}.jsonl", cells)
        status = tables.main([str(number), path, *flags])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def refusal(tmp_path, capsys):
    """Runs the program on cells that it refuses and returns its one line."""

    def run(number, cells):
        assert tables.main([str(number), made_cells.write(tmp_path / "r.jsonl", cells)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(r"error: [^\n]+; allowed: [^\n]+\n", printed.err)
        return printed.err

    return run


def grid(markdown):
    """The cells of the first Markdown table: {row: {column: text}}."""
    lines = [line for line in markdown.split("\n\n")[1].splitlines() if line.startswith("|")]
    heads, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == len(heads) for row in rows)
    return {row[0]: dict(zip(heads[1:], row[1:], strict=True)) for row in rows}


def test_a_cell_is_mean_deviation_and_the_mean_of_the_gaps_of_each_seed(show):
    # UA is above Retrain's at one seed and below at the next: the gap of the means would be 1, that of the seeds is 3.
    cells = [
        cell
        for seed, off in zip(SEEDS, (4, -3, 2), strict=True)
        for cell in [made_cells.cell("FT", (off, -1, 0, 0), seed)]
    ]
    shown = grid(show(1, cells))["FT, rho 1"]
    ua = np.array([10 + 4, 11 - 3, 12 + 2])
    assert shown["UA"] == f"{ua.mean():.2f} ± {ua.std(ddof=1):.2f} (3.00)"
    assert shown["RA"] == "98.00 ± 0.00 (1.00)"
    means = np.array([4 + 1, 3 + 1, 2 + 1]) / 4
    assert shown["mean gap"] == f"{means.mean():.2f} ± {means.std(ddof=1):.2f}"
    assert (shown["UT"], shown["images, k"], shown["remain per forget"]) == ("0.50", "4 / 2.5", "3")


def test_one_seed_has_no_deviation(show):
    assert grid(show(1, [made_cells.cell()]))["FT, rho 1"]["UA"] == "11.00 (1.00)"


def test_original_retrain_and_floor_count_each_original_once(show):
    seeds = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (3, 3, 0)]
    rows = grid(show(1, [made_cells.cell(seeds=seed) for seed in seeds]))
    assert list(rows) == ["Original", "Retrain, rho 1", "FT, rho 1", "between two Retrains"]
    ua = np.array([10.0, 13.0])
    assert rows["Retrain, rho 1"]["UA"] == f"{ua.mean():.2f} ± {ua.std(ddof=1):.2f} (0.00)"
    assert rows["Retrain, rho 1"]["UT"] == "4.00"
    assert rows["Original"]["UA"] == "0.00 ± 0.00 (11.50)"
    assert rows["between two Retrains"]["MI"] == "(2.50)"
    assert rows["between two Retrains"]["mean gap"] == f"1.88 ± {np.std([1.5, 2.25], ddof=1):.2f}"


def test_rows_stand_as_their_labels_first_appear_and_blocks_by_size(show):
    cells = [made_cells.cell(label, fraction=f) for f in (0.1, 0.05) for label in ("SalUn", "FT", "LTU")]
    rows = grid(show(1, cells))
    assert [row.partition(",")[0] for row in rows][2:-1] == ["SalUn", "FT", "LTU"]
    heads = list(rows["FT, rho 1"])
    assert [head for head in heads if head.endswith("UA")] == ["5 %: UA", "10 %: UA"]


def test_table_two_has_a_block_for_each_rho_and_a_row_may_miss_one(show):
    cells = [made_cells.cell("FT", (1, 0, 0, 0), rho=0.3), made_cells.cell("FT", (2, 0, 0, 0), rho=0.1)]
    rows = grid(show(2, [*cells, made_cells.cell("LTU", rho=0.3)]))
    assert (rows["FT"]["rho 0.1: UA"], rows["FT"]["rho 0.3: UA"]) == ("12.00 (2.00)", "11.00 (1.00)")
    [ltu] = [row for row in rows if row.startswith("LTU")]
    assert ltu == "LTU, 0 of 1 seeds at rho 0.1"
    assert rows[ltu]["rho 0.1: UA"] == ""


def test_a_row_that_lacks_a_seed_says_so(show):
    cells = [made_cells.cell("FT", seeds=seed) for seed in SEEDS] + [made_cells.cell("GA", seeds=SEEDS[1])]
    assert "GA, rho 1, 1 of 3 seeds" in grid(show(1, cells))


def test_bold_is_what_beats_every_other_method_beyond_the_noise(show):
    # LTU is always nearer in UA by much, in RA by chance; in TA it is the worst; a Retrain run does not compete.
    cells = []
    for seed, wobble in zip(SEEDS, (0.0, 0.1, 0.2), strict=True):
        cells.append(made_cells.cell("FT", (5 + wobble, 2 - wobble * 20, 1, 1), seed))
        cells.append(made_cells.cell("LTU", (1, 1, 4, 1), seed))
        cells.append(made_cells.cell("again", (0, 0, 0, 0), seed, method="retrain"))
    rows = grid(show(3, cells))
    assert rows["LTU, rho 1"]["UA"] == "12.00 ± 1.00 (**1.00**)"
    assert rows["FT, rho 1"]["TA"] == "91.00 ± 0.00 (**1.00**)"
    assert "**" not in rows["LTU, rho 1"]["RA"] + rows["FT, rho 1"]["RA"] + rows["FT, rho 1"]["MI"]
    assert "**" not in "".join(rows["again, rho 1"].values())


def test_a_best_mean_gap_is_bold_as_a_whole(show):
    cells = [made_cells.cell(label, (off,) * 4, seed) for label, off in (("FT", 2), ("LTU", 1)) for seed in SEEDS]
    assert grid(show(4, cells))["LTU, rho 1"]["mean gap"] == "**1.00 ± 0.00**"


def test_one_row_has_nothing_to_be_better_than(show):
    text = show(1, [made_cells.cell(seeds=seed) for seed in SEEDS])
    assert "**" not in text.split("\n\n")[1]
    assert "Bold" not in text


def test_one_seed_makes_nothing_bold(show):
    assert "**" not in show(1, [made_cells.cell("FT"), made_cells.cell("LTU", (0, 0, 0, 0))]).split("\n\n")[1]


def test_under_the_table_stands_which_seeds_varied_and_both_parts_of_the_variance(show):
    assert (
        "Seeds: 3 (0, 1, 2); training, split and unlearning seed are one number, so all three varied together."
        in show(1, [made_cells.cell(seeds=seed) for seed in SEEDS])
    )
    seeds = [(pair, 1, u) for pair in range(2) for u in range(2)]
    # Mean gaps 1, 3 and 6, 8: MSW = 2, MSB = 25, between = (25 - 2) / 2.
    text = show(1, [made_cells.cell(off=(off,) * 4, seeds=s) for off, s in zip((1, 3, 6, 8), seeds, strict=True)])
    assert "Seeds: 4 triples; train varied (0, 1), split fixed (1), unlearn varied (0, 1)." in text
    assert f"FT {np.sqrt(11.5):.2f} and {np.sqrt(2):.2f}" in text


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


def test_every_format_has_every_command_and_as_many_cells_in_each_row(show):
    cells = made_cells.noisy_cells(["FT", "NegGrad+", "my_method"], SEEDS) + made_cells.noisy_cells(
        ["FT"], SEEDS, fraction=0.5
    )
    commands = [cell["command"] for cell in cells]
    markdown, latex, table = (show(1, cells, "--format", name) for name in ("markdown", "latex", "csv"))
    assert set(commands) <= set(markdown.splitlines())
    assert {f"% {command}" for command in commands} <= set(latex.splitlines())
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:]
    heads = latex[latex.index(r"\toprule") : latex.index(r"\midrule")].splitlines()[2]
    assert {len(re.split(r"(?<!\\)&", line)) for line in (heads, *body)} == {1 + 2 * 8}
    assert r"my\_method" in latex and "±" not in latex
    rows = list(csv.DictReader(io.StringIO(table)))
    assert sorted("\n".join(row["commands"] for row in rows if row["commands"]).splitlines()) == sorted(commands)


def test_latex_marks_the_best_and_escapes_the_rest(show):
    cells = [made_cells.cell(label, (off, 1, 1, 1), seed) for label, off in (("a_b", 3), ("50 %", 1)) for seed in SEEDS]
    latex = show(1, cells, "--format", "latex")
    assert r"50 \%, rho 1 & 12.00 $\pm$ 1.00 (\textbf{1.00})" in latex
    assert latex.count(r"\textbf") == 2  # UA and the mean gap


def test_csv_has_the_unrounded_numbers(show):
    cells = made_cells.noisy_cells(["FT", "LTU"], SEEDS)
    [row] = [r for r in csv.DictReader(io.StringIO(show(1, cells, "--format", "csv"))) if r["row"] == "LTU"]
    own = [cell["result"] for cell in cells if cell["label"] == "LTU"]
    for name in made_cells.MEASURES:
        values = np.array([r["scores"][name] for r in own])
        shown = [float(row[f"{name}_{part}"]) for part in ("mean", "std", "gap")]
        assert shown == pytest.approx([values.mean(), values.std(ddof=1), np.mean([r["gap"][name] for r in own])])
    assert float(row["gap_mean"]) == pytest.approx(np.mean([r["gap"]["mean"] for r in own]))
    assert (row["source"], row["num_seeds"], row["rho"], row["flops"]) == ("ours", "3", "1.0", "1000000000000.0")


def close(js, margin=1.0):
    """``closeness`` of a method; of the original 0.9 bits, between two Retrains 0.05."""
    figures = {"unlearned": js, "original": 0.9, "retrain": 0.05}
    return {model: {"js_forget": value, "margin_forget": margin, "js_test": 0.7} for model, value in figures.items()}


def test_closeness_on_the_forget_rows_has_columns_where_it_is_known(show):
    cells = [made_cells.cell("FT", seeds=seed, closeness=close(js, 2.5)) for seed, js in zip(SEEDS, JS, strict=True)]
    text = show(1, cells)
    rows = grid(text)
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
    rows = grid(show(1, [*cells, *old]))
    assert rows["LTU, rho 1"]["JS"] == "" and "**" not in rows["FT, rho 1"]["JS"]
    without = show(1, [made_cells.cell()])
    assert "margin" not in without and "JS" not in without


def test_a_divergence_is_bold_if_it_beats_the_others_beyond_the_noise(show):
    cells = [
        made_cells.cell(label, seeds=seed, closeness=close(by + js, margin))
        for seed, js, margin in zip(SEEDS, JS, (1.0, 3.0, 2.0), strict=True)
        for label, by in (("FT", 0.1 + js / 10), ("LTU", 0.0))
    ]
    rows = grid(show(1, cells))
    assert rows["LTU, rho 1"]["JS"].startswith("**") and "**" not in rows["FT, rho 1"]["JS"]
    assert "**" not in rows["LTU, rho 1"]["margin"] + rows["FT, rho 1"]["margin"]


def test_a_method_that_states_no_cost_leaves_its_cells_empty(show):
    rows = grid(show(1, [made_cells.cell("mine", cost=None, ratio=None), made_cells.cell("FT")]))
    assert (rows["mine, rho 1"]["images, k"], rows["mine, rho 1"]["remain per forget"]) == ("", "")
    half = [made_cells.cell("FT"), made_cells.cell("FT", seeds=(1, 1, 1), cost=None)]
    assert grid(show(1, [*half, made_cells.cell("LTU")]))["FT, rho 1"]["images, k"] == ""
    assert "images, k" not in grid(show(1, [made_cells.cell("mine", cost=None, ratio=None)]))["mine, rho 1"]


def test_folders_of_single_runs_make_a_row_of_their_method(tmp_path, capsys):
    folders = []
    for seed in SEEDS:
        folder = tmp_path / f"d-{seed[0]}"
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(made_cells.cell(seeds=seed, method="finetune")["result"]))
        config = {"seed": seed[0], "seeds": dict.fromkeys(reading.SEEDS, seed[0]), "method": {"epochs": 3}}
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(str(folder))
    assert tables.main(["1", *folders]) == 0
    assert grid(capsys.readouterr().out)["finetune, rho 1"]["UA"] == "12.00 ± 1.00 (1.00)"
    (folder / "config.json").write_text(json.dumps({**config, "method": {"epochs": 4}}))
    assert tables.main(["1", *folders]) == 2
    assert "--config.method.epochs=3, --config.method.epochs=4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (1, {"dataset": "cifar10"}, "dataset: 'digits' and 'cifar10'"),
        (1, {"model": "vit"}, "model: 'resnet8' and 'vit'"),
        (
            1,
            {"forget": {"kind": "random", "sha256": "9f", "count": 500, "fraction": 0.1}},
            "training rows: 300 and 5000",
        ),
        (1, {"retrain": made_cells.RETRAIN | {"ta": 90.1}}, "retrain"),
        (1, {"splits_sha256": "another"}, "splits_sha256: 'split 0' and 'another'"),
        (1, {"retrain": None}, "retrain: 'LTU' has none"),
        (
            3,
            {"forget": {"kind": "class", "sha256": "9f", "count": 30, "fraction": 0.1}},
            "forgotten: '10 %' and 'class'",
        ),
        (
            2,
            {"forget": {"kind": "random", "sha256": "9f", "count": 150, "fraction": 0.5}},
            "forgotten: '10 %' and '50 %'",
        ),
    ],
)
def test_results_that_cannot_stand_in_one_table_are_refused(refusal, number, change, words):
    assert words in refusal(number, [made_cells.cell("FT"), made_cells.cell("LTU", **change)])


def test_a_label_for_two_settings_or_twice_for_one_seed_is_refused(refusal):
    line = refusal(1, [made_cells.cell(rho=0.1), made_cells.cell(rho=0.3, seeds=(1, 1, 1))])
    assert "remain_fraction=0.1" in line and "remain_fraction=0.3" in line and "forget_fraction" not in line
    assert "'FT' twice with seeds (0, 0, 0)" in refusal(1, [made_cells.cell(), made_cells.cell()])


@pytest.mark.parametrize("flag", ["--workdir", "--cache", "--config.seed", "--config.seeds.unlearn"])
@pytest.mark.parametrize("joint", ["=", " "])
def test_commands_of_one_row_may_differ_in_folders_and_seeds_only(flag, joint):
    plain = "python -m ltu_jax.unlearn --config f.py:ltu --config.method.epochs=3"
    assert reading.settings_of(f"{plain} {flag}{joint}'a b' --x=1") == f"{plain} --x=1"


LACKING = made_cells.cell()
del LACKING["result"]["splits_sha256"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"label": "a"}', json.dumps(LACKING)])
def test_a_file_without_a_finished_run_is_refused(tmp_path, capsys, text):
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    assert tables.main(["1", str(path)]) == 2
    assert re.fullmatch(r"error: results: [^\n]+; allowed: [^\n]+\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["1"], "results"),
        (["5", "x"], "table"),
        (["1", "no such file"], "no such file"),
        (["1", "x", "--picture", "a.pdf"], "--picture"),
        (["1", "x", "--picture", "no such folder/a.svg"], "--picture"),
        (["1", "x", "--format", "html"], "--format"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(capsys, arguments, field):
    assert tables.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", printed.err)
    assert field in printed.err


def test_the_picture_is_drawn_beside_the_table(show, tmp_path):
    show(1, made_cells.noisy_cells(["FT", "LTU"], SEEDS), "--picture", str(tmp_path / "p.svg"))
    assert {"FT", "LTU", "Original", "between two Retrains"} <= set(
        re.findall(r">([^<>]+)</text>", (tmp_path / "p.svg").read_text())
    )


def test_the_papers_gaps_are_the_differences_of_its_means_but_where_it_prints_otherwise():
    printed_otherwise = {
        ("Table 1, top", "GA", "50 %", "ra"): 0.30,
        ("Table 1, bottom", "Amnesiac", "10 %", "ta"): 51.44,
        ("Table 1, bottom", "Fisher", "10 %", "ua"): 59.12,
        ("Table 1, bottom", "Fisher", "10 %", "ra"): 79.40,
        ("Table 2", "LTU", "rho 0.3", "ta"): 0.31,
    }
    different = {}
    for table in json.loads(FILE.read_text())["tables"]:
        retrain = table["rows"][0]["blocks"]
        for row, (place, block) in itertools.product(table["rows"], enumerate(table["blocks"])):
            cells = zip(made_cells.MEASURES, row["blocks"][place][:4], retrain[place][:4], strict=True)
            for name, (mean, _, gap), (reference, _, _) in cells:
                if abs(abs(mean - reference) - gap) > 0.031:  # the paper rounds before and after it subtracts
                    different[table["name"], row["label"], block, name] = gap
    assert different == printed_otherwise


@pytest.mark.parametrize(("number", "rows"), [(1, [10, 10]), (2, [6]), (3, [5]), (4, [4])])
def test_the_papers_own_rows_stand_below_ours_and_are_marked_as_its_own(show, number, rows):
    ours, *papers = show(number, [made_cells.cell("LTU")], "--paper").split("**The paper's own ")
    assert "4.37 ± 0.55 (0.87)" not in ours
    assert [len(grid(paper)) for paper in papers] == rows
    assert "4.37 ± 0.55 (0.87)" in papers[0] and "arXiv:2407.10494" in papers[0] and "not ours" in papers[0]
    table = csv.DictReader(io.StringIO(show(number, [made_cells.cell("LTU")], "--paper", "--format", "csv")))
    assert [row["source"] for row in table if row["row"] == "LTU"].count("ours") == 1


@pytest.fixture
def audited(tmp_path):
    """Folders of runs of three seeds; the RMIA of each is audited, its U-LiRA of the first two alone."""
    folders = []
    for seed, triple in enumerate(SEEDS):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        result = made_cells.cell(seeds=triple)["result"] | {"request_sha256": f"{seed}"}
        found = [finding("rmia", RMIA[seed], 0.02, 0.03, 0.9 + seed / 100, [0.48 - seed / 100, 0.52], 0.5)]
        found += [finding("lira", 0.6, 0.01, 0.01)] if seed < 2 else []
        audit = made_audit(run={name: result[name] for name in ("method", "request_sha256")}, findings=found)
        for name, content in (("result", result), ("audit", audit), ("config", {"seed": seed})):
            (folder / f"{name}.json").write_text(json.dumps(content))
        folders.append(str(folder))
    return folders


RMIA = [0.51, 0.55, 0.56]


def test_an_audit_that_every_run_of_a_row_has_is_a_column(audited, capsys):
    assert tables.main(["1", *audited]) == 0
    text = capsys.readouterr().out
    rows = grid(text)
    assert rows["ft, rho 1"]["RMIA AUC"] == f"{np.mean(RMIA):.3f} ± {np.std(RMIA, ddof=1):.3f}"
    assert rows["Original"]["RMIA AUC"] == "0.910 ± 0.010" and rows["Retrain, rho 1"]["RMIA AUC"] == ""
    assert rows["between two Retrains"]["RMIA AUC"] == "0.470 to 0.520"
    assert "U-LiRA AUC" not in text and "from the audit.json of every run" in text
    assert tables.main(["1", *audited, "--format", "csv"]) == 0
    lines = {row["row"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(lines["ft"]["audit_rmia_mean"]) == pytest.approx(np.mean(RMIA))
    assert float(lines["between two Retrains"]["audit_rmia_low"]) == pytest.approx(0.47)


def test_an_audit_of_another_run_is_refused(audited, capsys):
    first, second = (Path(folder) / "audit.json" for folder in audited[:2])
    first.write_text(second.read_text())
    assert tables.main(["1", *audited]) == 2
    assert (
        "run-0' holds no finished run (ValueError('a damaged audit.json (it is of another run)')"
        in capsys.readouterr().err
    )
