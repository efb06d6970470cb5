"""The words of a notice: what each method did, and numbers as people write them."""

import datetime
from html import escape

METHODS = {
    "ltu": "Its weights were changed in small steps so that programs which try to tell images it was trained on from"
    " others no longer pick out the images to be forgotten, and so that its answers on images that stay are kept.",
    "retrain": "A new model was trained from nothing, on images that stay alone.",
    "partial_retrain": "A new model was trained from nothing, on images that stay alone, with less work than before.",
    "finetune": "It was trained further on images that stay alone, so that what it knew of the others fades.",
    "random_label": "It was trained further, with labels drawn at random on the images to be forgotten and with the"
    " right ones on images that stay.",
    "gradient_ascent": "Its weights were changed so that its answers on the images to be forgotten became worse.",
    "amnesiac": "What the images to be forgotten changed in its weights had been recorded, and was taken back.",
    "amnesiac_relabel": "It was trained further, with wrong labels on the images to be forgotten and with the right"
    " ones on images that stay.",
    "fisher": "Its weights were blurred with noise, most of all those that images that stay need least.",
    "ssd": "Those of its weights that matter far more for the images to be forgotten than for all others were made"
    " smaller.",
    "bad_teacher": "It was trained to answer like a model that knows nothing on the images to be forgotten, and as it"
    " did before on images that stay.",
    "salun": "Those of its weights that matter most for the images to be forgotten were trained further, with labels"
    " drawn at random on these images and with the right ones on images that stay.",
    "neggrad_plus": "Its weights were changed so that its answers on the images to be forgotten became worse, and so"
    " that its answers on images that stay are kept.",
    "scrub": "Its weights were changed so that its answers on the images to be forgotten moved away from what they"
    " were, and so that its answers on images that stay are kept.",
}
"""What each method did to the model, in one sentence."""
OWN_METHOD = "Its weights were changed by a method that who runs the model wrote."


def paragraphs(*texts: str) -> str:
    """Plain text, escaped here; empty ones are left out."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts if text)


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
