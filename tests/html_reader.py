"""A page as a browser would take it."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


EVIL = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)> & </style>",
    "$\\frac{1$ x_$ ^ a\u2028b",  # what matplotlib would take for mathematics, and a line break of JavaScript's
)


class Reader(HTMLParser):
    """Collects tags, attributes and text, and fails where tags do not balance."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute given twice: {attrs}"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def row(self, name):
        (found,) = [cells for cells in self.rows if cells and cells[0] == name]
        return found[1:]
