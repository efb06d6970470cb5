"""Renders the templates in ``templates/``, which hold all markup and text of the pages.

All values are escaped, except our own figures (``plots.inline_svg``).
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
"""Filters for numbers: ``{{ value|number }}``."""


def template_environment(
    package: str | None = None, filters: Mapping[str, Callable[..., str]] | None = None
) -> "Environment":
    """The Jinja environment of all templates; undefined values are errors.

    Args:
      package: a package with more templates.
      filters: more filters.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=ChoiceLoader([PackageLoader(name) for name in ("ltu_jax.reporting", package) if name]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({**FILTERS, **(filters or {})}, png=png)
    return environment


def render_page(name: str, /, environment: "Environment | None" = None, **values: Any) -> str:
    """Renders the template ``<name>.html.jinja`` as HTML."""
    text = (environment or template_environment()).get_template(f"{name}.html.jinja").render(values)
    return text.encode(errors="replace").decode()  # a page is UTF-8, file names need not be


def png(pixels: np.ndarray) -> str:
    """An image u8[H,W,3] as PNG in base64, for a data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
