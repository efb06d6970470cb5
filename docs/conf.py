"""The site: ``sphinx-build -W -c docs . SITE``.

Its source is the root of the repository, so that a link leads to the same page there and here.
"""

import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import ltu_jax

ROOT = Path(__file__).parents[1]
INDEX = "docs/index"

project = "ltu_jax"
release = version = ltu_jax.__version__
root_doc = "README"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
include_patterns = ["*.md", "docs/**.md", "docs/**.ipynb", "experiments/**.md"]

html_theme = "sphinx_book_theme"
html_title = "ltu_jax"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark; unset it is an error on the console
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}

html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
suppress_warnings = ["toc.not_included"]  # the index itself, and result files that pages link to
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

autodoc_typehints = "description"
autodoc_member_order = "bysource"


def add_contents(app: Sphinx, name: str, text: list[str]) -> None:
    """Gives the site the tables of the index as its contents: GitHub shows no directives."""
    if name == root_doc:
        text[0] += contents((ROOT / f"{INDEX}.md").read_text())


def contents(index: str) -> str:
    """A ``toctree`` for each section of the index, from the links in the first column of its table."""
    trees = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        pages = re.findall(r"^\| \[[^\]]*\]\(([^)#]*)\)", section, flags=re.MULTILINE)
        paths = [(ROOT / "docs" / page).resolve().relative_to(ROOT).as_posix() for page in pages]
        lines = "\n".join(f"/{path}" for path in paths if path != f"{root_doc}.md")
        if lines:
            trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{lines}\n```\n")
    return "".join(trees)


def add_math(translator: nodes.NodeVisitor, node: nodes.math | nodes.math_block) -> None:
    """Writes an equation as MathML, which browsers draw by themselves: the site loads nothing from elsewhere."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (add_math, None), (add_math, None))
    app.connect("source-read", add_contents)
