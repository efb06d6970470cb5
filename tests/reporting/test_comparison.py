"""The page of many runs as a browser would take it."""

import json
import re
from pathlib import Path

import pytest
from html_reader import EVIL, Reader
from made_audit import made_audit
from made_runs import made_result, write_run

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table, comparison
from ltu_jax.reporting.runs import read_run

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three methods on two seeds, each run with a report of its own."""
    tmp_path, folders = tmp_path_factory.mktemp("comparison"), []
    for number, method in enumerate(("ltu", "salun", "finetune")):
        for seed in range(2):
            result = made_result(method, seed, gaps=(number + 1.0, 0.5, 1.5, 2.0 + seed), flops=1e9 * 4**number)
            folders.append(write_run(tmp_path / "runs" / f"{method}-{seed}", result, epochs=7))
            (folders[-1] / "report.html").write_text("<p>")
    return [read_run(folder) for folder in folders]


@pytest.fixture(scope="module")
def page(runs):
    return comparison.render_comparison(runs, runs[0].path.parents[1] / "pages")


def test_tags_balance_and_structure_is_there(page):
    reader = Reader(page)
    names = [tag for tag, _ in reader.tags]
    for once in ("html", "head", "title", "body", "main", "h1"):
        assert names.count(once) == 1
    assert names.count("figure") == names.count("figcaption") == 3
    assert names.count("table") == 1 + 2  # the means, and a table for each of two problems


def test_nothing_runs_and_nothing_is_fetched(page):
    reader = Reader(page)
    assert not {"script", "link", "iframe", "img", "object"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "data", "srcset", "poster"):
            assert re.match(r"#|\.\./runs/[a-z]+-\d/report\.html$", attributes.get(name) or "#")
    assert all(target.startswith("#") for target in re.findall(r"url\([\"']?([^)]*)", page))
    assert "@import" not in page
    assert not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink)\")", page)


def test_every_run_is_shown_and_linked_to_its_report(page, runs):
    reader = Reader(page)
    targets = [attributes.get("href") for _, attributes in reader.tags]
    identifiers = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for run in runs:
        name = f"{run.path.name}, seed {run.result['seeds']['train']}"
        assert [row for row in reader.rows if row[0].startswith(f"{run.result['method']}{name}")]
        assert targets.count(f"../runs/{run.path.name}/report.html") == 2
    for number in range(1, len(runs) + 1):
        assert f"#run-{number}" in targets and f"run-{number}" in identifiers


def test_means_stand_above_the_runs_smallest_gap_first(page):
    reader = Reader(page)
    assert [row[0] for row in reader.rows[:7]] == [
        "",
        "Original",
        "Retrain",
        "ltu",
        "salun",
        "finetune",
        "Between two Retrain models",
    ]
    # Gaps of ltu: (1 + 0.5 + 1.5 + 2) / 4 and a quarter more.
    assert reader.rows[3][5] == "1.38 ± 0.18"
    assert "seeds (train, split, unlearn)" in page and "seeds 0, 1<" in page


def test_one_run_a_method_on_one_problem_has_one_table_and_no_deviations(runs, tmp_path):
    page = comparison.render_comparison([run for run in runs if run.path.name.endswith("-0")], tmp_path)
    reader = Reader(page)
    assert page.index("<table>") < page.index("<svg")
    assert [tag for tag, _ in reader.tags].count("table") == 1
    assert "±" not in "".join(reader.words)


def test_a_run_without_a_report_has_no_link(tmp_path):
    run = read_run(write_run(tmp_path / "alone", made_result()))
    assert "report.html" not in comparison.render_comparison([run], tmp_path)


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b'c\"<d>&#?%", "ä"])
def test_a_link_is_a_relative_path_whatever_the_folder_is_called(tmp_path, name):
    folder = write_run(tmp_path / name, made_result())
    (folder / "report.html").write_text("<p>")
    reader = Reader(comparison.render_comparison([read_run(folder)], tmp_path))
    (target,) = {attributes["href"] for tag, attributes in reader.tags if tag == "a" if "#" not in attributes["href"]}
    assert re.fullmatch(r"[\w%.()-]+/report\.html", target, re.ASCII)


@pytest.mark.parametrize("evil", EVIL)
def test_what_came_from_outside_is_text(tmp_path, evil):
    folders = []
    for number in range(3):
        flops = None if number == 2 else 1e9
        result = made_result(evil, dataset=evil, model=evil, warnings=[evil], flops=flops, splits_sha256=evil)
        result["seeds"] = {evil: number, "split": 0}
        result["forget"] |= {"kind": evil, "sha256": evil}
        result["provenance"] = {"commit": evil, "versions": {evil: evil}, "device": f"{evil}{number}", evil: evil}
        folders.append(
            write_run(tmp_path / f"{evil.replace('/', '')}{number}", result, **{evil: f"{evil}{number // 2}"})
        )
    reader = Reader(comparison.render_comparison([read_run(folder) for folder in folders], tmp_path))
    tags = [tag for tag, _ in reader.tags]
    assert not {"script", "img"} & set(tags)
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert "".join(reader.words).count(evil) >= 40
    assert len([row for row in reader.rows if row[0].startswith(evil)]) == 2 + 3  # two groups, three runs


def test_warnings_are_counted_at_the_top_and_told_with_their_run(tmp_path):
    results = [made_result("ltu", 0, warnings=["forgets too little"]), made_result("ltu", 1), made_result("ssd", 0)]
    folders = [write_run(tmp_path / f"{number}", result) for number, result in enumerate(results)]
    page = comparison.render_comparison([read_run(folder) for folder in folders], tmp_path)
    assert page.index("told with each run below: ltu (1 of 2).") < page.index("<table>") < page.index("forgets too")
    assert "Not every method ran on every seed" in page
    (article,) = [part for part in page.split("<article")[1:] if "forgets too little" in part]
    assert f"{tmp_path / '0'}, seed 0" in article


def test_runs_of_several_requests_devices_and_commits_say_so(tmp_path, runs):
    other = made_result(dataset="cifar10", provenance={"commit": "other", "device": "1 x H100", "versions": {}})
    page = comparison.render_comparison([*runs, read_run(write_run(tmp_path / "other", other))], tmp_path)
    for note in (
        "requests of 2 kinds",
        "more than one device (1 x H100, cpu)",
        "more than one commit (3f9c2ab, other)",
    ):
        assert note in page
    assert page.count("<h2 class='request'>") == 2
    assert page.count("<svg") == 3 + 2  # the other request states no flops
    assert "digits and cifar10" in re.search("<h1>(.*)</h1>", page)[1]
    identifiers = re.findall(r'\bid="([^"]*)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_runs_of_one_request_on_one_machine_have_no_notes(page):
    assert "<aside" not in page


def test_seeds_that_differ_are_told_by_name(tmp_path):
    results = [made_result(seeds={"train": 0, "split": 0, "unlearn": seed}) for seed in (3, 11)]
    folders = [write_run(tmp_path / f"{number}", result) for number, result in enumerate(results)]
    page = comparison.render_comparison([read_run(folder) for folder in folders], tmp_path)
    assert "train seed 0; split seed 0; unlearn seeds 3, 11" in page
    assert "seeds (unlearn)" in page
    assert page.count("<h3>train seed 0, split seed 0") == 1
    assert len([row for row in Reader(page).rows if row[0].startswith("ltu")]) == 1 + 2  # the mean, and each run


def test_a_result_without_retrain_has_scores_and_no_figures(tmp_path):
    result = made_result(retrain=None, gap=None, original_gap=None, retrain_spread=None)
    page = comparison.render_comparison([read_run(write_run(tmp_path / "a", result))], tmp_path)
    assert "<figure" not in page and "87.00" in page
    assert not re.search(r"\b(None|nan)\b", " ".join(Reader(page).words))


def test_results_of_schema_1_are_shown(tmp_path):
    files = sorted((RESULTS / "cifar10_jpeg_small").glob("seed-*.json"))
    runs = [read_run(file) for file in files]
    reader = Reader(comparison.render_comparison(runs, tmp_path))
    assert [row[0] for row in reader.rows].count("Retrain") == 1 + len(files)
    assert reader.rows[3][0] == "ltu" and reader.rows[3][-2:] == [str(len(files)), "0.3"]


def test_the_columns_of_audits_are_explained(tmp_path):
    folder = write_run(tmp_path / "run", made_result())
    (folder / "audit.json").write_text(json.dumps(made_audit(run={"method": "ltu"})))
    text = comparison.render_comparison([read_run(folder)], tmp_path)
    reader = Reader(text)
    assert "0.443" in reader.words
    for name, audit in AUDITS.items():
        assert audit_table.HEADS[name] in reader.words and any(audit.measure in one for one in reader.words)
    assert "RMIA" not in comparison.render_comparison([read_run(write_run(tmp_path / "b", made_result()))], tmp_path)
