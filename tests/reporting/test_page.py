"""The report as a browser would take it."""

import base64
import io
import re

import numpy as np
import pytest
from html_reader import EVIL, Reader
from PIL import Image

from ltu_jax.reporting import page


@pytest.fixture
def changed():
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), np.uint8)
    return [("digits-0001", images[0], 3, 0.98, 0.41), ("digits-0002", images[1], "seven", 0.97, None)]


@pytest.fixture(scope="module")
def drawn():
    return []


@pytest.fixture
def text(drawn, result, history, confidence, changed):
    """The page of all that there is, drawn once."""
    if not drawn:
        drawn.append(page.render_report(result, history, confidence, changed))
    return drawn[0]


def test_tags_balance_and_structure_is_there(text):
    reader = Reader(text)
    assert text.startswith("<!doctype html>")
    names = [tag for tag, _ in reader.tags]
    for once in ("html", "head", "title", "body", "main", "h1", "footer"):
        assert names.count(once) == 1
    assert names.count("figure") == names.count("figcaption") == 9  # gaps, confidence, 5 curves, 2 images
    assert "script" not in names


def test_nothing_is_fetched(text):
    for _, attributes in Reader(text).tags:
        for name in ("src", "href", "xlink:href", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert all(target.startswith("#") for target in re.findall(r"url\([\"']?([^)]*)", text))
    assert "@import" not in text
    assert not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink)\")", text)


def test_the_divergence_of_the_forget_rows_is_told_where_it_is_known(result, history, confidence, text):
    assert "Per row" not in text
    figures = {name: {"js_forget": js} for name, js in (("unlearned", 0.1234), ("original", 0.5), ("retrain", None))}
    told = page.render_report(result | {"closeness": figures}, history, confidence)
    assert "in bits: Original 0.500, ltu 0.123.</p>" in told


def test_the_table_holds_the_numbers_of_the_result(text):
    reader = Reader(text)
    assert reader.row("Retrain") == ["5.33", "99.91", "94.17", "13.34", "-", "4.00"]
    assert reader.row("ltu") == ["6.67 (1.34)", "99.63 (0.28)", "93.06 (1.11)", "16.68 (3.35)", "1.52", "0.50"]
    assert reader.row("Original")[:4] == ["0.11 (5.22)", "100.00 (0.09)", "94.72 (0.55)", "0.22 (13.12)"]
    assert reader.row("Between two Retrain models")[:4] == ["(1.31)", "(0.07)", "(0.83)", "(2.69)"]
    assert reader.row("sorted") == ["0.701", "0.713", "0.521", ""]
    assert reader.row("classwise") == ["0.549", "0.532", "0.493", "gives no guidance"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_came_from_outside_is_text(result, history, evil):
    result |= {"method": evil, "dataset": evil, "model": evil, "warnings": [evil], "rho": evil}
    result["seeds"] = {evil: evil, "split": 0}
    result["forget"] = {"kind": evil, "count": evil, "sha256": evil}
    result["attackers"][0]["name"] = evil
    result["provenance"] = {"commit": evil, "versions": {evil: evil}, "device": evil, evil: evil}
    for number, scores in enumerate((result["original"], result["retrain"], result["scores"])):
        scores["ta_forgotten"] = float(number)
    history = [row | {f"{evil}/{evil}": 1.0, evil: 1.0} for row in history]
    changed = [(evil, np.zeros((4, 4, 3), np.uint8), evil, 0.5, 0.5)]
    reader = Reader(page.render_report(result, history, {evil: np.array([0.5])}, changed))
    tags = [tag for tag, _ in reader.tags]
    assert "script" not in tags
    assert tags.count("img") == 1
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    # In the title, the heading, the warning, the table, the attackers, the footer, the figures ...
    assert "".join(reader.words).count(evil) >= 15


def test_warnings_stand_before_the_scores(text, result, history, confidence):
    assert 0 < text.index("it forgot too little") < text.index("<table>")
    assert "<aside" not in page.render_report(result | {"warnings": []}, history, confidence)


def test_a_result_of_nothing_is_a_page_of_dashes(with_nothing):
    text = page.render_report(with_nothing, [], {})
    reader = Reader(text)
    assert reader.row("ltu") == ["-"] * 6
    assert not re.search(r"\b(None|nan)\b", " ".join(reader.words))


def test_a_result_without_retrain_says_so(without_retrain, history, confidence):
    del confidence["Retrain"]
    text = page.render_report(without_retrain, history, confidence)
    reader = Reader(text)
    assert "There is no Retrain model to compare with" in text
    assert reader.row("ltu") == ["6.67", "99.63", "93.06", "16.68", "-", "0.50"]
    assert "under Retrain" not in " ".join(text.split())


def test_images_are_shown_only_when_given_and_pixel_for_pixel(text, result, history, confidence, changed):
    assert "<img" not in page.render_report(result, history, confidence)
    pngs = re.findall(r"data:image/png;base64,([^']*)'", text)
    for png, (_, image, *_) in zip(pngs, changed, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), image)
    assert "digits-0001" in text and "label seven" in text and "0.98 &rarr; 0.41" in text


def test_the_footer_says_where_the_result_is_from(result, history, confidence):
    result["provenance"]["config_sha256"] = "ab" * 32
    footer = page.render_report(result, history, confidence).split("<footer>")[1]
    for value in ("3f9c2ab", "jax 0.10.2", "2026-11-24", "9f" * 32, "ab" * 32):
        assert value in footer
