"""The pieces of HTML that every page is put together from: one file, no script, nothing fetched."""

import base64
import importlib.resources
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np


def document(title: str, body: Iterable[str], kind: str = "") -> str:
    """A whole page.

    Args:
      title: what the browser's tab says; escaped here.
      body: HTML of what stands in the page; empty pieces are left out.
      kind: CSS class of the page.

    Returns:
      HTML that carries its style with it.
    """
    style = importlib.resources.files("ltu_jax.reporting").joinpath("page.css").read_text(encoding="utf-8")
    page = (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body class='{kind}'>\n"
        f"{chr(10).join(filter(None, body))}\n</body>\n</html>\n"
    )
    return page.encode(errors="replace").decode()  # names of files need not be UTF-8, a page is


def section(head: str, *content: str) -> str:
    """A part of the page under its heading, both HTML."""
    return f"<section>\n<h2>{head}</h2>\n{chr(10).join(filter(None, content))}\n</section>"


def figure(picture: str, caption: str, kind: str = "") -> str:
    """A picture (``<svg>`` or ``<img>``) over its caption, both HTML."""
    box = f"<div class='scroll'>{picture}</div>"
    return f"<figure class='{kind}'>\n{box}\n<figcaption>{caption}</figcaption>\n</figure>"


def image(pixels: np.ndarray, words: str = "") -> str:
    """An image u8[H,W,3] with what is read out in its place; plain text, escaped here."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{escape(words)}' src='data:image/png;base64,{png}'>"


def facts(lines: Iterable[tuple[str, str, str]]) -> str:
    """The numbers that a reader looks for first: name, value and a note each; plain text, escaped here."""
    told = (
        f"<div><dt>{escape(name)}</dt><dd class='big'>{escape(value)}</dd><dd class='soft'>{escape(note)}</dd></div>"
        for name, value, note in lines
    )
    return f"<dl class='facts'>\n{chr(10).join(told)}\n</dl>"


def definitions(kind: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """Names and what they mean or are, as a list; plain text, escaped here."""
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(str(told))}</dd>" for name, told in pairs]
    return f"<dl class='{kind}'>\n{chr(10).join(lines)}\n</dl>"


def warnings(lines: Iterable[Any]) -> str:
    """What the reader must know before the numbers; plain text, escaped here; nothing of no lines."""
    items = "\n".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f"<aside class='warnings' aria-label='Warnings'>\n<ul>\n{items}\n</ul>\n</aside>" if items else ""


def table(heads: Sequence[str], lines: Sequence[str], caption: str) -> str:
    """Rows of ``row`` under their heads, in a box that scrolls sideways where the screen is narrow; all HTML."""
    head = "".join(f"<th scope='col'>{head}</th>" if head else "<td></td>" for head in heads)
    return (
        f"<div class='scroll'><table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table></div>\n<p class='caption'>{caption}</p>"
    )


def row(name: str, cells: Iterable[str], kind: str = "") -> str:
    """One row of a table: its name and its cells, HTML."""
    told = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr class='{kind}'><th scope='row'>{name}</th>{told}</tr>"
