"""Template filters of a notice: numbers and times as text."""

import datetime


def when(time: str) -> str:
    """An ISO 8601 time as ``3 May 2024, 14:00 UTC``; other text unchanged."""
    try:
        at = datetime.datetime.fromisoformat(time)
    except (TypeError, ValueError):
        return str(time)
    return f"{at.day} {at:%B %Y}, {at:%H:%M} {at:%Z}".strip()


def count_of(number: int, one: str) -> str:
    """``3 classes``."""
    plural = f"{one}es" if one.endswith("s") else f"{one}s"
    return f"{number} {one if number == 1 else plural}"


def images(number: int) -> str:
    """``1 image``."""
    return count_of(number, "image")


def were(number: int, one: str) -> str:
    """``3 ids were``."""
    return f"{count_of(number, one)} {'was' if number == 1 else 'were'}"


def signed(change: float) -> str:
    """Points with their sign, and a minus as wide as a plus."""
    text = f"{change:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def percent(share: float | None) -> str:
    """A share as whole percent; a dash for None."""
    return "-" if share is None else f"{100 * share:.0f} %"


FILTERS = {function.__name__: function for function in (count_of, images, percent, signed, were, when)}
