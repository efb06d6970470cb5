"""The page of an audit as a browser would take it."""

import re

import pytest
from html_reader import EVIL, Reader
from made_audit import finding, made_audit
from made_outputs import made_outputs

from ltu_jax import audit_outputs
from ltu_jax.auditing.findings import as_json, missing
from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table
from ltu_jax.reporting.audit_page import render_audit


@pytest.fixture(scope="module")
def page():
    return render_audit(made_audit())


def cells(text, start):
    """The cells of the row whose first cell begins so."""
    (row,) = [row for row in Reader(text).rows if row and row[0].startswith(start)]
    return [" ".join(cell.split()) for cell in row[1:]]


def plain(text):
    return " ".join(" ".join(Reader(text).words).split())


@pytest.mark.smoke
def test_tags_balance_and_structure_is_there(page):
    reader = Reader(page)
    names = [tag for tag, _ in reader.tags]
    assert page.startswith("<!doctype html>") and "script" not in names
    for once in ("html", "head", "title", "body", "main", "h1", "footer"):
        assert names.count(once) == 1
    assert names.count("figure") == names.count("figcaption") == 6  # margins, two ROCs, changes, curves, canaries
    assert {len(row) for row in reader.rows[:12]} == {7}


def test_nothing_is_fetched(page):
    for _, attributes in Reader(page).tags:
        for name in ("src", "href", "xlink:href", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\([\"']?([^)]*)", page))
    assert "@import" not in page and not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink)\")", page)


def test_the_head_says_what_each_audit_found(page):
    words = plain(page)
    assert "3 of 7 at 5 % for all of them together (Holm)" in words
    for line in audit_table.lines(made_audit()):
        assert f"{line.title}: {line.sentence}" in words.partition("Figures")[0]
    assert "too far is a leak too" in words.partition("Figures")[0]


def test_the_table_holds_the_numbers_of_the_findings(page):
    assert cells(page, "Forget rows beside rows never seen") == [
        "0.5710.550 to 0.592", "0.957", "0.491 to 0.512", "0.031", "< 0.001", "found",
    ]  # fmt: skip
    assert cells(page, "Training on with") == ["36.1232.12 to 40.12", "49.50", "1.10 to 2.20", "5.70", "-", "no test"]
    assert cells(page, "KLoM")[1:3] == ["-", "3.80 to 3.90"]


def test_tables_of_closeness_strata_and_models(page):
    assert cells(page, "Jensen-Shannon") == ["0.1230.041 to 0.052"] * 3
    assert cells(page, "rows with the same answer") == ["91.2093.10 to 94.20"] * 3
    assert cells(page, "hard") == ["30", "31.25", "100.00", "30.25 to 34.25", "4.00 -5.00 to 13.00"]
    assert cells(page, "retrain 2/3") == ["remaining rows", "810", "1 min 01 s", "trained for this"]
    words = plain(page)
    assert "Of 50 guesses each, 41 were right" in words and "61 % came back" in words
    assert "1350 rows, 20 batches of 128, augmentation none" in words


def test_claims_costs_and_provenance_are_told(page):
    words = plain(page)
    for audit in AUDITS.values():
        assert f"Claims: {audit.claims}" in words and f"Does not claim: {audit.does_not}" in words
    footer = page.split("<footer>")[1]
    for value in ("3f9c2ab", "jax 0.10.2", "2026-11-24", "python -m ltu_jax.audit --workdir runs/x"):
        assert value in footer
    assert "the forget rows were drawn by lot" in words
    assert "trainings 1 min 01 s" in words and f"{AUDITS['rmia'].title} 2.5 s" in words and "total 1 min 40 s" in words


def test_all_single_figures_are_listed_and_no_curve_is(page):
    words = plain(page)
    for text in (
        "ks 12.34",
        "confidence 0.41 (0.39 to 0.43)",
        "unlearned to oracle p95 7.1 (6.6 to 7.6)",
        "models 16, 16",
    ):
        assert text in words
    many = finding("held_out", 0.5, 0.1, 0.1, confidence={str(c): 0.125 for c in range(100)}, curve=[0.25] * 101)
    text = render_audit(made_audit(findings=[many], verdict={"held_out": False}))
    assert "0.125" not in text and "0.25" not in plain(text)


@pytest.mark.parametrize("evil", EVIL)
def test_what_came_from_outside_is_text(evil):
    audit = made_audit()
    audit["run"] |= {"method": evil, "dataset": evil, "model": evil, "seeds": {evil: evil, "split": 0}}
    audit["run"]["forget"] = {"kind": evil, "count": evil}
    audit["notes"], audit["rows"] = [evil], {evil: evil}
    audit["models"][0] |= {"name": evil, "trained_on": evil, "rows": evil}
    audit["provenance"] = {evil: evil, "versions": {evil: evil}, "files": [evil]}
    audit["findings"][0]["details"] |= {evil: evil}
    audit["findings"][1]["not_done"] = evil
    audit["seconds"]["audits"] = {evil: 1.0}
    reader = Reader(render_audit(audit))
    tags = [tag for tag, _ in reader.tags]
    assert "script" not in tags and "img" not in tags
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert "".join(reader.words).count(evil) >= 15


@pytest.mark.parametrize("name", AUDITS)
def test_an_audit_that_could_not_be_made_and_one_without_details_leave_their_places_empty(name):
    for one in (as_json(missing(name, "there are no Retrains")), finding(name, 0.5, 0.1, 0.1)):
        text = render_audit(made_audit(findings=[one], verdict={name: None}, models=[], notes=[]))
        words = plain(text)
        assert not re.search(r"\b(None|nan)\b", words) and "<svg" not in text
        assert ("Not done: there are no Retrains." in words) == bool(one["not_done"])


def test_outputs_of_a_model_that_was_not_made_here_are_drawn():
    audit = audit_outputs(made_outputs(0), [made_outputs(1), made_outputs(2)], made_outputs(3, 2.0), resamples=100)
    text = render_audit(audit)
    words = plain(text)
    assert text.count("<svg") == 3 and "Audit of arrays" in words and "120 rows to forget" in words
    assert "references[1]: arrays, sha256 " in words
    assert cells(text, "RMIA")[-1] in ("found", "not found")
