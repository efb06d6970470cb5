"""Numbers and times as a notice writes them, for people."""

import datetime


def when(time: str) -> str:
    """A time as people write it; as it stands where it is none."""
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
    told = f"{change:+.1f}".replace("-", "−")
    return "0.0" if told[1:] == "0.0" else told


def percent(share: float | None) -> str:
    """A share as whole percent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.0f} %"


FILTERS = {
    "count_of": count_of,
    "images": images,
    "percent": percent,
    "signed": signed,
    "were": were,
    "when": when,
}
"""What the templates of a notice may call."""
