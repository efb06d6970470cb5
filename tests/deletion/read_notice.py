"""A rendered notice, and what a reader sees of it."""

import re

from html_reader import Reader
from made_notice import made_receipt

from ltu_jax.deletion.notice import render_notice, shown_tries


def remembering(draw):
    known = {}

    def drawn(data):
        key = repr(data)
        if key not in known:
            known[key] = draw(data)
        return known[key]

    return drawn


def words(page):
    """All that a reader sees of the text, as one line."""
    body = page[page.index("<main>") : page.index("</main>") + len("</main>")]
    return " ".join("".join(Reader(body).words).split())


def part(page, number):
    """The text of one numbered section."""
    (section,) = re.findall(rf"<section>\n<h2>{number}\. .*?</section>", page, re.DOTALL)
    return " ".join("".join(Reader(section).words).split())


def rendered(receipt=None, calibration=None, **changes):
    receipt = made_receipt() if receipt is None else receipt
    if calibration is not None:
        receipt["report"]["tries"] = shown_tries(calibration)
    return render_notice(receipt | changes)
