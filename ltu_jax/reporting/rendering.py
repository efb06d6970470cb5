"""Pages out of the templates beside this file, which hold all of the markup and the words that a reader sees.

Whatever is put into a template is escaped, but for pictures of our own (``plots.inline_svg``).
"""

import base64
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ltu_jax.reporting import table

if TYPE_CHECKING:
    from jinja2 import Environment

FILTERS = {"duration": table.duration, "minutes": table.minutes, "number": table.number}
"""What templates may call to write a number: ``{{ value|number }}``."""


def templates(package: str | None = None, filters: Mapping[str, Callable[..., str]] | None = None) -> "Environment":
    """Every template by its file's name; a value that a template asks for and does not get is an error.

    Args:
      package: of a room that has templates of its own, beside those of this one.
      filters: what these may call beside ``FILTERS``.

    Returns:
      The environment of Jinja.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=ChoiceLoader([PackageLoader(name) for name in ("ltu_jax.reporting", package) if name]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update({**FILTERS, **(filters or {})}, png=png)
    return made


def page(name: str, /, found: "Environment | None" = None, **values: Any) -> str:
    """The page that the template ``<name>.html.jinja`` makes of the values, as HTML; ``found``: among these."""
    text = (found or templates()).get_template(f"{name}.html.jinja").render(values)
    return text.encode(errors="replace").decode()  # names of files need not be UTF-8, a page is


def png(pixels: np.ndarray) -> str:
    """An image u8[H,W,3] as PNG in base64, for the address of an image that is fetched from nowhere."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
