"""Pages out of the templates beside this file, which hold all of the markup and the words that a reader sees.

Whatever is put into a template is escaped, but for pictures of our own (``plots.inline_svg``).
"""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ltu_jax.reporting import notice_words, table

if TYPE_CHECKING:
    from jinja2 import Environment

FILTERS = {
    "count_of": notice_words.count_of,
    "duration": table.duration,
    "images": notice_words.images,
    "minutes": table.minutes,
    "number": table.number,
    "percent": notice_words.percent,
    "signed": notice_words.signed,
    "were": notice_words.were,
    "when": notice_words.when,
}
"""What templates may call to write a number: ``{{ value|number }}``."""


def templates() -> "Environment":
    """Every template by its file's name; a value that a template asks for and does not get is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ltu_jax.reporting")
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(FILTERS, png=png)
    return made


def page(name: str, /, **values: Any) -> str:
    """The page that ``templates/<name>.html.jinja`` makes of the values, as HTML."""
    text = templates().get_template(f"{name}.html.jinja").render(values)
    return text.encode(errors="replace").decode()  # names of files need not be UTF-8, a page is


def png(pixels: np.ndarray) -> str:
    """An image u8[H,W,3] as PNG in base64, for the address of an image that is fetched from nowhere."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
