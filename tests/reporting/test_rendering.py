"""The templates and the pieces of a page."""

import re
from pathlib import Path

import jinja2
import numpy as np
import pytest
from html_reader import Reader

import ltu_jax
from ltu_jax.deletion import notice
from ltu_jax.reporting import rendering

EVIL = "<script>'\"&</script>"
PACKAGE = Path(ltu_jax.__file__).parent


def made(source, **values):
    """What a template that imports every piece makes of the values."""
    pieces = "{% from 'pieces.html.jinja' import definitions, fact, figure, image, table, warnings %}"
    return rendering.template_environment().from_string(pieces + source).render(values)


def whole(body, monkeypatch, **values):
    """A page of this body."""
    layout = "{% extends 'layout.html.jinja' %}{% block title %}{{ title }}{% endblock %}{% block body %}"
    ours = jinja2.DictLoader({"made.html.jinja": layout + body + "{% endblock %}"})
    both = rendering.template_environment().overlay(
        loader=jinja2.ChoiceLoader([ours, rendering.template_environment().loader])
    )
    monkeypatch.setattr(rendering, "template_environment", lambda: both)
    return rendering.render_page("made", **values)


def test_plain_text_is_escaped():
    text = made(
        "<p>{{ evil }}</p>{{ definitions([(evil, evil)]) }}{{ fact(evil, evil, evil) }}{{ warnings([evil]) }}"
        "{% call image(pixels, evil) %}{{ evil }}{% endcall %}{% call figure(evil) %}{% endcall %}"
        "{% call table([evil]) %}{% endcall %}",
        evil=EVIL,
        pixels=np.zeros((2, 2, 3)),
    )
    reader = Reader(text)
    assert "script" not in [tag for tag, _ in reader.tags]
    assert "".join(reader.words).count(EVIL) == 10
    assert [attributes["alt"] for tag, attributes in reader.tags if tag == "img"] == [EVIL]


def test_no_template_and_one_line_of_python_says_that_text_is_markup():
    """Else what came from outside might be shown as it is."""
    for path in PACKAGE.rglob("*.jinja"):
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8")), path
    marked = [path.name for path in PACKAGE.rglob("*.py") for _ in re.findall(r"\bMarkup\(", path.read_text())]
    assert marked == ["plots.py"]


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'count' is undefined"):
        made("{{ count }}")


def test_half_a_character_is_a_question_mark(monkeypatch):
    text = whole("<p>{{ value }}</p>", monkeypatch, title="\ud800", value="a\udcff")
    assert "<p>a?</p>" in text.encode().decode() and "<title>?</title>" in text


def test_a_page_carries_its_style_with_it(monkeypatch):
    text = whole("<p>a</p>\n", monkeypatch, title="t")
    style = (PACKAGE / "reporting" / "templates" / "page.css").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and style in text
    assert text.endswith("<body class=''>\n<p>a</p>\n</body>\n</html>\n")


def test_no_warnings_leave_nothing_behind():
    assert made("{{ warnings([]) }}{{ warnings(None) }}") == ""


def test_a_table_has_a_cell_for_each_head_and_names_its_rows():
    row = "<tr><th scope='row'>one</th><td>1</td><td>2</td></tr>"
    reader = Reader(made("{% call table(['', 'a\nc', 'b']) %}" + row + "{% endcall %}"))
    assert reader.rows == [["", "ac", "b"], ["one", "1", "2"]]
    assert ("th", {"scope": "row"}) in reader.tags and ("th", {"scope": "col"}) in reader.tags
    assert ("br", {}) in reader.tags


@pytest.mark.parametrize("name", sorted(path.name for path in PACKAGE.rglob("*.jinja")))
def test_every_template_can_be_read(name):
    notice.templates().get_template(name)
