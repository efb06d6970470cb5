"""The pieces of a page."""

import numpy as np
from html_reader import Reader

from ltu_jax.reporting import markup

EVIL = "<script>'\"&</script>"


def test_plain_text_is_escaped():
    image = markup.image(np.zeros((2, 2, 3)), EVIL)
    lists = [markup.definitions("k", [(EVIL, EVIL)]), markup.facts([(EVIL, EVIL, EVIL)])]
    text = markup.document(EVIL, [*lists, markup.warnings([EVIL]), image])
    reader = Reader(text)
    assert "script" not in [tag for tag, _ in reader.tags]
    assert "".join(reader.words).count(EVIL) == 7
    assert [attributes["alt"] for tag, attributes in reader.tags if tag == "img"] == [EVIL]


def test_half_a_character_is_a_question_mark():
    assert "<p>a?</p>" in markup.document("\ud800", ["<p>a\udcff</p>"]).encode().decode()


def test_empty_pieces_leave_nothing_behind():
    assert markup.warnings([]) == ""
    assert markup.document("t", ["", "<p>a</p>", ""]).endswith("<body class=''>\n<p>a</p>\n</body>\n</html>\n")
    assert markup.section("h", "", "<p>a</p>") == "<section>\n<h2>h</h2>\n<p>a</p>\n</section>"


def test_a_table_has_a_cell_for_each_head_and_names_its_rows():
    reader = Reader(markup.table(["", "a", "b"], [markup.row("one", ["1", "2"], "method")], "what it is"))
    assert reader.rows == [["", "a", "b"], ["one", "1", "2"]]
    assert ("th", {"scope": "row"}) in reader.tags and ("th", {"scope": "col"}) in reader.tags
    assert "what it is" in reader.words
