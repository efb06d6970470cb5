"""The notice in a real browser: it asks for nothing, complains of nothing, fits a phone, and prints."""

import browser
import numpy as np
import pytest
from made_notice import made_images, made_receipt

from ltu_jax.deletion.notice import render_images, render_notice

pytestmark = pytest.mark.skipif(browser.find() is None, reason=f"no browser here: {', '.join(browser.NAMES)}")
# Elements that reach beyond the window and lie in no box that scrolls.
BEYOND = """
[...document.body.querySelectorAll('*')].filter(one => !one.closest('.scroll')
    && one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(one => one.outerHTML)
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    with browser.Browser(browser.find(), tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A notice with all that it may hold, and with words that no line holds."""
    receipt = made_receipt() | {"warnings": ["x" * 200], "calibration": "y" * 200, "method": "z" * 200}
    receipt["evidence"]["classes"][0]["name"] = "a_class_of_a_long_name_" * 8
    receipt["code"]["device"] = "w" * 200
    images = [*made_images(), ("v" * 200, np.zeros((8, 8, 3), np.uint8), 0, 0.5, 0.5)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_notice(receipt), encoding="utf-8")
    path.with_name("images.html").write_text(render_images(receipt, images), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 360, 1280])
def test_it_fits_the_window_and_asks_for_nothing(shown, page, width, dark):
    shown.open(page, width, dark=dark)
    assert shown.run("document.documentElement.scrollWidth") <= width == shown.run("innerWidth")
    assert shown.run(BEYOND) == []
    assert shown.requests() == [page.as_uri()]
    assert shown.complaints() == []
    assert shown.run("document.querySelectorAll('svg').length") == 3
    light = shown.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (not dark)


@pytest.mark.parametrize("width", [320, 1280])
def test_forgotten_images_fit_the_window(shown, page, width):
    shown.open(page.with_name("images.html"), width)
    assert shown.run("document.documentElement.scrollWidth") <= width and shown.run(BEYOND) == []
    assert shown.run("document.images.length") == 5 and shown.complaints() == []
    assert shown.run("[...document.images].every(image => image.naturalWidth === 8)")


def test_figures_are_seen_whole_on_a_phone(shown, page):
    shown.open(page, 360)
    wide = "[...document.querySelectorAll('figure .scroll')].map(box => box.scrollWidth - box.clientWidth)"
    assert max(shown.run(wide)) == 0
    small = "Math.min(...[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height))"
    assert shown.run(small) >= 9  # pixels


def test_it_prints(shown, page):
    shown.open(page, 1280)
    pdf = shown.pdf()
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 3


def test_a_page_that_asks_and_complains_is_found_out(shown, tmp_path):
    """The tests above would see it: the browser does report such things."""
    path = tmp_path / "bad.html"
    path.write_text("<img src='nothing.png'><script>console.log(1); undefinedName</script><p style='width: 2000px'>x")
    shown.open(path, 360)
    assert len(shown.requests()) == 2 and len(shown.complaints()) >= 2
    assert shown.run("document.documentElement.scrollWidth") > 360 and shown.run(BEYOND)
