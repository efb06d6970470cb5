"""The notice of a deletion request: it agrees with the receipt, and states what it does not show."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from html_reader import EVIL, Reader
from made_notice import made_calibration, made_receipt
from read_notice import part, rendered, words

from ltu_jax.deletion import notice_measured, rates
from ltu_jax.deletion.notice import drawn_with, render_images, render_notice, shown_tries
from ltu_jax.methods.registry import BUILT_IN

pytestmark = pytest.mark.usefixtures("drawn_once")


def test_tags_balance_and_headings_are_in_order(page):
    reader = Reader(page)
    names = [tag for tag, _ in reader.tags]
    for once in ("html", "head", "title", "body", "main", "h1", "footer"):
        assert names.count(once) == 1
    assert ("html", {"lang": "en"}) in reader.tags
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    numbered = re.findall(r"<h2>(\d)\. ", page)
    assert numbered == list("1234567")
    assert names.count("figure") == names.count("figcaption") == 3


def test_nothing_runs_and_nothing_is_fetched(page):
    reader = Reader(page)
    assert not {"script", "link", "iframe", "img", "object", "a"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("src", "href", "xlink:href"))
    assert all(target.startswith("#") for target in re.findall(r"url\([\"']?([^)]*)", page))
    assert not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink)\")", page)


def test_pictures_are_told_in_words(page):
    titles = [attributes["aria-label"] for tag, attributes in Reader(page).tags if tag == "svg"]
    assert len(titles) == len(set(titles)) == 3
    assert "before: 73.6, 69.2 to 77.9" in titles[2]


def test_the_verdict_of_the_receipt_is_said_in_plain_words():
    heads = {"old_head_ks": 1.0}
    for numbers, looked, unlooked in ((heads, True, False), ({}, False, True)):
        text = words(rendered(claim={"shown": True, "findings": [], "numbers": numbers}))
        assert "Is it shown that the images were forgotten? Yes, as far as the test goes." in text
        assert ("The test looks below the surface too" in text) is looked
        assert ("was not found, so what a model could hide behind a new one was not looked for" in text) is unlooked
    text = words(rendered(claim={"shown": False, "findings": ["too few rows", *EVIL], "numbers": {}}))
    assert all(said in text for said in ("No, it is not shown.", "too few rows", *(" ".join(e.split()) for e in EVIL)))
    assert "Yes, as far" not in text
    assert "Is it shown" not in words(rendered())  # a receipt of an earlier version


def test_what_was_asked(page):
    text = part(page, 1)
    assert "forget 120 images" in text and "request number 3 on this model" in text
    assert "4 further ids were named" in text
    assert "began on 26 November 2026, 08:49 UTC and ended on 26 November 2026, 10:02 UTC" in text


def test_one_image_is_one_and_no_id_is_repeated():
    receipt = made_receipt()
    receipt["request"] |= {"count": 1, "repeated": 0}
    receipt["evidence"]["rows"]["forget"] = 1
    page = rendered(receipt)
    assert "forget 1 image that" in part(page, 1) and "No image was asked for that an earlier request" in part(page, 1)
    assert "Only this image was to be forgotten." in part(page, 6)
    assert "1 images" not in words(page)
    receipt["request"]["repeated"] = 1
    assert "1 further id was named" in part(rendered(receipt), 1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_is_told_in_one_sentence(name):
    text = BUILT_IN[name].sentence
    assert text.endswith(".") and text.count(". ") == 0
    assert f"{text} The method is called {name}." in part(rendered(method=name), 2)


def test_a_method_of_ones_own_is_text_as_such():
    text = part(rendered(method="mine.methods:build"), 2)
    assert "a method that the operator of the model wrote." in text and "called mine.methods:build" in text


def test_how_hard_to_forget_has_every_try_and_the_one_chosen(page):
    calibration = made_calibration()
    rows = [row for row in Reader(page).rows if row[0].startswith("Try ")]
    for number, (row, trial) in enumerate(zip(rows, calibration["trials"], strict=True)):
        best = min(trial["looks"], key=lambda look: look["distance"])
        change = min(best["remain"] - 99.4, best["validation"] - 83.0)
        assert row[1:3] == [f"{trial['learning_rate']:.3g}", str(len(trial["looks"]))]
        assert float(row[3]) == pytest.approx(best["ks"], abs=0.05)
        assert float(row[4].replace("−", "-")) == pytest.approx(change, abs=0.05)
        assert ("chosen" in row[0]) == (number == calibration["chosen"])
    text = part(page, 2)
    assert made_receipt()["calibration"] in text and "tried 4 step sizes" in text and "6 min 52 s" in text
    assert "more than the 2 points allowed" in text


def test_that_unseen_images_counted_is_said_where_they_did():
    calibration = made_calibration()
    without = part(rendered(calibration=calibration), 2)
    calibration["original"]["unseen"] = 99.0
    counted = part(rendered(calibration=calibration), 2)
    for told in ("that the method did not train on", "without being trained on", "counted too, and is not drawn"):
        assert told in counted and told not in without


def test_a_choice_that_cost_more_than_allowed_says_so(page):
    calibration = made_calibration()
    trial = calibration["trials"][calibration["chosen"]]
    trial["looks"][trial["best"]]["lost"] = 2.1
    assert "The moment taken lost more than these 2 points" in part(rendered(calibration=calibration), 2)
    assert "The moment taken lost" not in words(page)


def test_a_try_that_diverged_failed():
    calibration = made_calibration()
    calibration["trials"][2] |= {"looks": [], "best": 0}
    calibration["trials"][2].pop("distance")
    assert Reader(rendered(calibration=calibration)).row("Try 3") == ["0.03", "failed", "-", "-"]


def test_without_calibration_it_was_set_by_hand():
    receipt = made_receipt() | {"calibration": None}
    receipt["report"]["tries"] = None
    page = render_notice(receipt)
    assert "set by hand" in part(page, 2) and "<q>" not in page.split("7. How")[0]
    assert not [row for row in Reader(page).rows if row[0].startswith("Try ")]


def test_limits_are_told(page):
    text = part(page, 6)
    for sentence in (
        "no proof",
        "attacks of part 5",
        "Backups, logs, caches, the training data",
        "copies of the old model",
    ):
        assert sentence in text
    assert "95 of 100 cases" in text and "these 120 images" in text
    assert "not from separate models trained for the purpose (shadow models)" in text
    assert "shadow" not in words(rendered(guidance="shadows")) + words(rendered(guidance=None))


def test_a_model_trained_anew_is_not_called_approximate(page):
    assert "This is no proof" in page.split("<h2>1.")[0]
    text = rendered(method="retrain", guidance=None)
    assert "no proof" not in words(text) and "approximate" not in words(text)


@pytest.mark.parametrize("shown", [True, False])
def test_a_verdict_comes_with_how_often_such_are_wrong(shown, monkeypatch):
    monkeypatch.setattr(rates, "GENUINE", (400, 31))
    monkeypatch.setattr(rates, "FAKES", (500, 480))
    text = words(rendered(claim={"shown": shown, "findings": [] if shown else ["x"], "numbers": {}}))
    assert "it did not pass 31 of 400 that had forgotten, and passed 20 of 500 that had not." in text


def test_copies_are_told_of_where_they_were_looked_for():
    for numbers, looked in (({}, False), ({"copied": 0.0}, True)):
        page = rendered(claim={"shown": True, "findings": [], "numbers": numbers})
        assert ("Of at most 5 in 100 of the forgotten images a copy was found" in words(page)) == looked
        assert ("Copies were looked for among the images that stay" in part(page, 6)) == looked


def test_few_images_are_said_to_say_little(page):
    receipt = made_receipt()
    receipt["evidence"]["rows"]["forget"] = notice_measured.FEWEST_DRAWN - 1
    assert f"So few images ({notice_measured.FEWEST_DRAWN - 1})" in part(rendered(receipt), 6)
    assert "So few images" not in words(page)


def test_how_to_check_names_command_and_hashes(page):
    text = part(page, 7)
    assert "python -m ltu_jax.verify receipt.json --report report.html --public_key public.pem" in text
    assert "python -m ltu_jax.verify request-3/receipt.json --hashes --public_key public.pem" in text
    first = part(rendered(made_receipt(earlier=False)), 7)
    for name, fingerprint, salted in (("ids", "5d", True), ("model after", "3c", True), ("model before", "1a", False)):
        secret = ", mixed with a secret (salt)"
        assert f"{name}{secret if salted else ''}{fingerprint * 32}" in first
        assert f"{name}{secret}{fingerprint * 32}" in text  # what a later request starts from knows forgotten ids too
    assert "2b" * 32 in first
    assert "dc79a5619fd6" in text and "jax 0.10.2" in text and "1 x NVIDIA H100" in text


def test_what_is_not_known_is_a_dash():
    receipt = made_receipt(earlier=False)
    receipt["model"]["before"]["file_sha256"] = receipt["code"]["commit"] = None
    for name in ("guidance", "warnings", "calibration"):
        del receipt[name]
    page = rendered(receipt)
    assert "file of the model before</dt><dd>-</dd>" in page and "None" not in words(page)


def test_the_sealed_receipt_reads_the_same(page):
    sealed = json.loads(json.dumps(made_receipt())) | {"receipt_sha256": "77" * 32, "signature": None, "files": {}}
    assert rendered(sealed) == page


def test_warnings_stand_before_all_numbers(page):
    text = rendered(warnings=["2.3 points of accuracy are lost <b>"])
    assert 0 < text.index("2.3 points of accuracy are lost &lt;b&gt;") < text.index("In short")
    assert "<aside" not in page and "in its own words" not in page.split("In short")[0]


@pytest.mark.parametrize("evil", EVIL)
def test_what_came_from_outside_is_text(evil):
    receipt = made_receipt()
    receipt["request"] |= {"number": evil, "count": 120, "ids_sha256": evil}
    receipt["model"] = {"before": {"tree_sha256": evil, "file_sha256": evil}, "after": {"salted_sha256": evil}}
    receipt |= {"method": evil, "calibration": evil, "warnings": [evil], "guidance": evil}
    receipt["code"] = {"commit": evil, "versions": {evil: evil}, "device": evil}
    receipt["time"] |= {"started": evil, "finished": evil}
    receipt["evidence"]["classes"][0]["name"] = receipt["evidence"]["classes"][3]["name"] = evil
    receipt["report"]["sureness"][evil] = {"shares": evil, "median": evil}
    images = [(evil, np.zeros((4, 4, 3), np.uint8), label, 0.5, None) for label in (0, evil)]
    reader, pictures = Reader(render_notice(receipt)), Reader(render_images(receipt, images))
    for one, count in ((reader, 0), (pictures, 2)):
        tags = [tag for tag, _ in one.tags]
        assert "script" not in tags and tags.count("img") == count and tags.count("style") == 1 + tags.count("svg")
        assert not any("onerror" in attributes for _, attributes in one.tags)
    assert [attributes["alt"] for tag, attributes in pictures.tags if tag == "img"] == [f"{evil}, {evil}"] * 2
    # Title, heading, part 1 (number, times), facts, method, calibration, classes, part 7 ...
    assert "".join(reader.words).count(evil) >= 20 and "".join(pictures.words).count(evil) == 6


DRAW = """
import json, sys
from ltu_jax.deletion.notice import render_notice
print(render_notice(json.load(sys.stdin)), end="")
assert "jax" not in sys.modules
"""


def test_a_notice_is_a_function_of_the_receipt_as_its_file_has_it():
    """Drawn by another process, with its own order of hashes, from the receipt's text alone, without JAX."""
    text = json.dumps(made_receipt(), sort_keys=True)
    other = subprocess.run([sys.executable, "-c", DRAW], input=text, capture_output=True, text=True, check=True)
    assert other.stdout == render_notice(json.loads(text))
    assert set(drawn_with()) == {"jinja2", "matplotlib", "numpy"}


def test_the_receipt_has_no_more_of_a_calibration_than_is_shown():
    """Of a look how well the forget rows are known is not drawn, and is not handed out."""
    shown = shown_tries(made_calibration())
    assert all(set(look) == {"remain", "validation", "lost", "ks"} for one in shown["trials"] for look in one["looks"])
    assert [set(one) for one in shown["trials"]] == [{"learning_rate", "best", "looks"}] * 4
