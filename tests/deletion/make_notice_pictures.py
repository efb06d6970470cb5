"""Makes docs/notice-desktop.png and docs/notice-phone.png: a notice of an INVENTED request, see ``made_notice``.

    python tests/deletion/make_notice_pictures.py

Needs a Chromium. The figures are made up to look like those of a real request; no model was trained for them.
"""

import io
import sys
import tempfile
from pathlib import Path

import browser
from made_notice import made_receipt
from PIL import Image

from ltu_jax.deletion.notice import render_notice

DOCS = Path(__file__).parents[2] / "docs"
SIZES = {"desktop": (1280, 5600), "phone": (390, 8000)}
"""Width and largest height: below it a picture is cut off, as all of the page would be too many bytes."""
LARGEST = 200_000
"""Bytes."""
COLOURS = 20
"""Of a picture: enough for text and four colours of bars."""


def main():
    """Writes both pictures.

    Returns:
      What to tell the shell: nothing, or why there are no pictures.
    """
    program = browser.find()
    if program is None:
        return f"none of these browsers is on this machine: {', '.join(browser.NAMES)}"
    with tempfile.TemporaryDirectory() as folder, browser.Browser(program, f"{folder}/profile") as shown:
        page = Path(folder) / "report.html"
        receipt = made_receipt() | {
            "claim": {"shown": True, "findings": [], "numbers": {"old_head_ks": 9.1, "copied": 0.0}}
        }
        receipt["about"] = {"operator": "Example Ltd", "model": "resnet18, model.pth"}
        page.write_text(render_notice(receipt), encoding="utf-8")
        for name, (width, longest) in SIZES.items():
            shown.open(page, width)
            picture = Image.open(io.BytesIO(shown.picture())).convert("RGB")
            picture = picture.crop((0, 0, width, min(picture.height, longest)))
            few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            path = DOCS / f"notice-{name}.png"
            few.save(path, optimize=True)
            print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")
            if path.stat().st_size > LARGEST:
                return f"{path} is larger than {LARGEST / 1000:g} kB"
    return None


if __name__ == "__main__":
    sys.exit(main())
