"""Parts 3 to 5 of a notice: its figures are those of the receipt, whichever way they point."""

import base64
import io
import re

import numpy as np
import pytest
from html_reader import Reader
from made_notice import CLASSES, made_images, made_receipt
from PIL import Image
from read_notice import part, rendered, words

from ltu_jax.deletion import notice_measured
from ltu_jax.deletion.notice import render_images, render_notice

pytestmark = pytest.mark.usefixtures("drawn_once")


def cell(figure):
    value, low, high = figure
    return f"{value:.1f} %{low:.1f} to {high:.1f}"


def test_what_it_cost_and_how_images_look_are_the_figures_of_the_receipt(page):
    shown, reader = made_receipt()["evidence"], Reader(page)
    lines = {
        "Images that stay": "remain_accuracy",
        "Images never shown": "held_out_accuracy",
        "To be forgotten: right": "forget_accuracy",
        "To be forgotten: sure": "forget_confidence",
        "Never shown: sure": "held_out_confidence",
    }
    for name, figure in lines.items():
        before, after = shown["before"][figure], shown["after"][figure]
        *cells, change = reader.row(name)
        assert cells == [cell(before), cell(after)]
        assert float(change.replace("−", "-")) == pytest.approx(after[0] - before[0], abs=0.0501)
    assert "1500 images that stay and on 900 images" in part(page, 3)


def test_classes_that_lost_most_stand_first_and_are_marked(page):
    rows = [row for row in Reader(page).rows if re.match("|".join(CLASSES), row[0])]
    assert [row[0] for row in rows[:3]] == ["catlost 10.0 points", "birdlost 7.8 points", "dog"]
    # Of 90 images never shown 59 were right before, and 50 after; of 150 that stay 147 and 138.
    assert rows[0][1:] == ["31", "98.0 → 92.0−6.0", "65.6 → 55.6−10.0"]
    assert dict((row[0], row[3]) for row in rows)["truck"] == "93.3 → 100.0+6.7"
    assert page.count("<tr class='worst'>") == 2
    assert sorted(re.sub("lost.*", "", row[0]) for row in rows) == sorted(CLASSES)
    assert "about 90 images never shown of a class: one image is about 1.1 points" in part(page, 3)


def test_a_class_without_an_image_says_so_and_many_classes_are_folded():
    receipt = made_receipt()
    row = receipt["evidence"]["classes"][0] | {"remain": [None, None], "held_out": [80.0, 79.0]}
    more = [row | {"name": f"kind {i:02d}", "label": 10 + i} for i in range(30)]
    receipt["evidence"]["classes"] += more
    page = rendered(receipt)
    assert Reader(page).row("kind 29") == ["9", "no image", "80.0 → 79.0−1.0"]
    shown, folded = page.split("<details>")
    assert len(re.findall("scope='row'>(kind|" + "|".join(CLASSES) + ")", shown)) == notice_measured.AT_FIRST
    assert len(re.findall("scope='row'>", folded.split("</details>")[0])) == 40 - notice_measured.AT_FIRST
    assert f"The other {40 - notice_measured.AT_FIRST} classes" in words(page)


def test_what_an_attacker_can_tell(page):
    text = part(page, 5)
    assert "points at the forgotten one in 50.8 of 100 cases (95 % range: 45.3 to 56.3); 50 is guessing" in text
    assert "in 73.6 of 100 cases (95 % range: 69.2 to 77.9)" in text
    assert "not shown to do better or worse than guessing. The range still allows anything from 45.3 to 56.3" in text
    assert "differ by 9.7 points of 100 (before: 36.8)" in text
    # The critical value of the two-sample Kolmogorov-Smirnov test at 5 % is 1.36 sqrt((n + m) / (n m)).
    assert "chance alone makes more than 13.2 once in twenty" in text
    assert "That range holds 50 too" not in text


@pytest.mark.parametrize(
    "auc, says, opposite",
    [
        ([0.61, 0.52, 0.68], "does better than guessing", "worse than guessing:"),
        ([0.31, 0.22, 0.4], "does worse than guessing", "better than guessing:"),
    ],
)
def test_both_directions_are_traces(auc, says, opposite):
    receipt = made_receipt(earlier=False)
    receipt["evidence"]["after"]["attack_auc"] = auc
    page = rendered(receipt)
    for text in (part(page, 5), page.split("<h2>1.")[0]):
        assert says in text and opposite not in text and "was not shown to do better" not in text
    assert ("reverses the rule is right in 69.0 of 100 cases" in part(page, 5)) == (auc[0] < 0.5)


def test_a_model_that_gave_nothing_away_before_shows_little():
    receipt = made_receipt()
    receipt["evidence"]["before"]["attack_auc"] = [0.53, 0.48, 0.59]
    assert "That range holds 50 too" in part(rendered(receipt), 5)


def test_earlier_requests_are_told_only_where_there_were_some(page):
    text = part(page, 5)
    assert "75 images that earlier requests had forgotten were measured again" in text
    assert "in 53.4 of 100 cases (95 % range: 46.6 to 60.4), before it in 52.2 of 100" in text
    assert "arlier requests" not in part(rendered(made_receipt(earlier=False)), 5)


def test_what_the_receipt_has_of_confidence_is_whole_percent_of_many_images():
    """One of 200 images, half a percent, is not told; of fewer than 100 nothing is."""
    values = np.r_[np.repeat(0.02, 99), np.repeat(0.51, 90), np.repeat(0.999, 10), 0.76]
    told = notice_measured.sureness({"before": values, "after": values[:100], "held out": values[:50]})
    assert told["before"]["shares"] == [50, *[0] * 9, 45, *[0] * 8, 5]  # one of 200 at 0.76 is not seen
    assert told["before"]["median"] == 51 and told["held out"] == {"shares": [100, *[0] * 19], "median": 2}
    assert notice_measured.sureness({"after": values[: notice_measured.FEWEST_DRAWN - 1], "held out": values}) is None


@pytest.mark.parametrize("earlier", [True, False])
def test_without_the_model_before_nothing_is_said_of_it(earlier):
    page = render_notice(made_receipt(earlier, before=False))
    reader = Reader(page)
    assert reader.row("Images never shown") == ["not measured", "81.9 %79.3 to 84.4", "-"]
    assert reader.row("cat") == ["31", "92.0", "55.6"]
    assert [row[0] for row in reader.rows if row[0] in CLASSES] == list(CLASSES)
    assert "The model before was no longer there" in part(page, 3)
    assert "in 50.8 of 100 cases" in part(page, 5) and "efore, it was so" not in part(page, 5)
    assert not re.search(r"\b(None|nan|inf)\b", " ".join(reader.words))
    assert "images to be forgotten, before" not in page


def test_no_image_is_in_the_notice_and_those_in_a_file_of_their_own_are_shown_pixel_for_pixel(page):
    assert "<img" not in page and "This file holds none of the images" in part(page, 4)
    images = made_images()
    shown = render_images(made_receipt(), images)
    assert "This file holds images that were to be forgotten." in words(shown)
    pngs = re.findall(r"data:image/png;base64,([^']*)'", shown)
    for png, (_, pixels, *_) in zip(pngs, images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), pixels)
    alts = [attributes["alt"] for tag, attributes in Reader(shown).tags if tag == "img"]
    assert alts[1] == "user-0001, automobile"
    assert "user-0001automobile98 % → 32 %" in words(shown)


def test_of_one_image_no_point_is_called_a_range():
    receipt = made_receipt(earlier=False)
    shown = receipt["evidence"]
    shown["rows"]["forget"] = receipt["request"]["count"] = 1
    for when in ("before", "after"):
        shown[when] |= {"forget_accuracy": [100.0] * 3, "forget_confidence": [99.8] * 3}
    page = rendered(receipt)
    reader = Reader(page)
    assert reader.row("To be forgotten: right")[1] == "100.0 %2.5 to 100.0"
    assert reader.row("To be forgotten: sure")[1] == "99.8 %too few"
    assert "100.0 to 100.0" not in words(page)
    assert "So few images cannot show whether the attacker does better or worse than guessing." in part(page, 5)
    assert re.search("The attacker is right, of 100 cases *too few", words(page))


@pytest.mark.parametrize(("measured", "says"), [(20.0, "is more than that"), (5.0, "is no more than that")])
def test_whether_chance_is_exceeded_is_said(measured, says):
    receipt = made_receipt()
    receipt["evidence"]["after"]["attack_ks"] = [measured, measured - 1, measured + 1]  # chance: 13.2
    assert f"What was measured {says}" in part(rendered(receipt), 5)
