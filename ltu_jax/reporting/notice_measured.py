"""Parts 3 to 5 of a notice: what a deletion request cost, how the images look now, what an attacker can still tell."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ltu_jax.reporting import markup, notice_plots
from ltu_jax.reporting.notice_words import count_of, images, paragraphs, percent, signed

MARKED = 5.0
"""Points lost from which a class is marked."""
AT_FIRST = 20
"""Classes shown before the others are folded."""
FEW = 100
"""Images below which the reader is warned of the ranges, and of which no histogram is drawn: each would show."""
Figure = Sequence[float]
"""``[value, low, high]``."""


def cost(receipt: Mapping[str, Any]) -> str:
    """Part 3: accuracy before and after, overall and class by class.

    Args:
      receipt: see ``notice.render_notice``, as for what follows.

    Returns:
      HTML of a section.
    """
    shown = receipt["evidence"]
    rows = shown["rows"]
    names = {"remain_accuracy": "Images that stay", "held_out_accuracy": "Images never shown"}
    return markup.section(
        "3. What it cost",
        paragraphs(
            f"Of 100 images, how many does the model name rightly? Measured on {images(rows['remain'])} that stay and"
            f" on {images(rows['held_out'])} that it was never shown. "
            + (
                "The second line is the stricter one: the images that stay were in use while the model was made to"
                " forget, the others had no part in it."
                if receipt["remain_seen"]
                else "The model had learned from the images that stay, but none of those measured here was in use"
                " while it was made to forget."
            ),
            "" if shown["before"] else "The model before was no longer there, so that its figures could not be taken.",
        ),
        _figures(shown, names),
        _classes(shown),
    )


def _classes(shown: Mapping[str, Any]) -> str:
    # Worst first; Python's sort keeps the order of the labels among equals.
    ordered = sorted(shown["classes"], key=_change)
    lines = [_class_row(row) for row in ordered]
    if not lines:
        return ""
    judged = sum(row["held_out"][1] is not None for row in ordered)
    caption = "Right answers in percent."
    if shown["before"]:
        caption = (
            "Right answers in percent, before and after, and the change in points. The classes that lost most stand"
            f" first; marked are those that lost {MARKED:g} points or more, on images that stay or on images never"
            " shown."
        )
    if judged and shown["rows"]["held_out"]:
        each = shown["rows"]["held_out"] / judged
        caption += (
            f" There are about {each:.0f} images never shown of a class: one image is about {100 / each:.1f} points."
        )
    if any(row["forgotten"] is None for row in ordered):
        caption += f" Few: fewer than {shown['fewest']}, or none; the number would nearly say which image it was."
    heads = ("Class", "to be forgotten", "images that stay", "images never shown")
    first = markup.table(heads, lines[:AT_FIRST], caption)
    rest = markup.table(heads, lines[AT_FIRST:], "") if lines[AT_FIRST:] else ""
    if rest:
        rest = f"<details><summary>The other {count_of(len(lines) - AT_FIRST, 'class')}</summary>\n{rest}\n</details>"
    what = "<p>A class is one of the names that the model can give to an image.</p>"
    return f"<h3>Class by class</h3>\n{what}\n{first}\n{rest}"


def _change(row: Mapping[str, Any]) -> float:
    """The worst change of a class, in points."""
    pairs = [row[name] for name in ("remain", "held_out") if None not in row[name]]
    return min((after - before for before, after in pairs), default=math.inf)


def _class_row(row: Mapping[str, Any]) -> str:
    name, worst = escape(str(row["name"])), _change(row)
    marked = worst <= -MARKED
    if marked:
        name += f"<span class='note'>lost {-worst:.1f} points</span>"
    cells = [_class_cell(row[which]) for which in ("remain", "held_out")]
    forgotten = "few" if row["forgotten"] is None else str(row["forgotten"])
    return markup.row(name, [forgotten, *cells], "worst" if marked else "")


def _class_cell(pair: Sequence[float | None]) -> str:
    before, after = pair
    if after is None:
        return "no image"
    if before is None:
        return f"{after:.1f}"
    return f"{before:.1f} &rarr; {after:.1f}<small>{signed(after - before)}</small>"


def look(
    shown: Mapping[str, Any],
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]],
) -> str:
    """Part 4: the forgotten images beside those never shown.

    Args:
      shown: the evidence of a receipt.
      confidence: see ``notice.render_notice``.
      changed: images to show, if any.

    Returns:
      HTML of a section.
    """
    names = {
        "forget_accuracy": "To be forgotten: right",
        "held_out_accuracy": "Never shown: right",
        "forget_confidence": "To be forgotten: sure",
        "held_out_confidence": "Never shown: sure",
    }
    many = shown["rows"]["forget"] >= FEW
    svg = notice_plots.sureness_histograms(confidence) if many else None
    caption = (
        "How sure the model is of the right answer. If it had never seen the images to be forgotten, the picture after"
        " would look like that of the images never shown: neither higher nor lower."
    )
    return markup.section(
        "4. How the forgotten images look to the model",
        paragraphs(
            "A model is not made to fail on the images it forgets. A model that was never shown them would still get"
            " many of them right, as it does with other images that it was never shown. That is the aim: the images to"
            " be forgotten should look to it like those.",
        ),
        markup.figure(svg, caption, "single") if svg else "",
        _figures(shown, names),
        "<p class='caption'>Right: how many of 100 the model names rightly. Sure: how sure it is of the right answer,"
        " on average.</p>",
        _thumbnails(shown, changed)
        if changed
        else "<p>This file holds none of the images that were to be forgotten.</p>",
    )


def _thumbnails(shown: Mapping[str, Any], changed: Sequence[tuple[str, np.ndarray, Any, float, float]]) -> str:
    names = {row["label"]: row["name"] for row in shown["classes"]}
    figures = []
    for name, pixels, label, before, after in changed:
        kind = str(names.get(label, label))
        sure = f"{percent(before)} &rarr; {percent(after)}"
        caption = f"<code>{escape(str(name))}</code><br>{escape(kind)}<br>{sure}"
        figures.append(markup.figure(markup.image(pixels, f"{name}, {kind}"), caption))
    return (
        "<h3>The images that changed most</h3>\n<p><strong>This file therefore holds images that were to be"
        " forgotten.</strong> Keep it as you would keep the images themselves, and delete it with them.</p>\n"
        f"<div class='images'>\n{chr(10).join(figures)}\n</div>\n"
        "<p class='caption'>Under each image: its id, its class, and how sure the model was of it before and after.</p>"
    )


def attack(shown: Mapping[str, Any]) -> str:
    """Part 5: the attacker, and images of earlier requests; ``shown`` is the evidence of a receipt.

    Returns:
      HTML of a section.
    """
    rows, before, after = shown["rows"], shown["before"], shown["after"]
    level = f"{shown['level']:g} % range"
    knew = ""
    if before:
        knew = f"Before, it was so {_hits(before['attack_auc'], level)}."
        if before["attack_auc"][1] <= 0.5 <= before["attack_auc"][2]:
            knew += (
                " That range holds 50 too: even the model before was not shown to give these images away, so the"
                " figure after shows little."
            )
    bars = [
        (f"{which}", [100 * x for x in told["attack_auc"]])
        for which, told in (("before", before), ("after", after))
        if told
    ]
    if "earlier_attack_auc" in after:
        bars.append(("earlier requests, after", [100 * x for x in after["earlier_attack_auc"]]))
    was = f" (before: {before['attack_ks'][0]:.1f})" if before else ""
    cutoff = (
        f"Even an attacker who is right half of the time may find some images that are known too well and others that"
        " are known too badly. So the two groups were also compared at the cutoff that parts them best: of how sure the"
        " model is, the shares above it differ by"
        f" {after['attack_ks'][0]:.1f} points of 100{was}. 0 would be no difference; with"
        f" {rows['forget']} and {rows['held_out']} images chance alone makes more than {shown['chance_ks']:.1f}"
        " once in twenty times, and more still where the classes are mixed unevenly. For that reason it has no range."
    )
    alone = (
        f"Of {images(shown['not_compared'])} to be forgotten nothing can be said here: no image never shown is of"
        " their class."
        if shown["not_compared"]
        else ""
    )
    return markup.section(
        "5. What an attacker can still tell",
        paragraphs(
            "An attacker is somebody who can ask the model for answers and wants to know which images it was trained"
            " on. The weakness that this uses: models tend to be surer of images they have seen.",
            "The test: shown one forgotten image and one never-seen image, the attacker points at the one that the"
            " model is surer of. Each class counts as much in one group as in the other.",
            f"After, the attacker points at the forgotten one {_hits(after['attack_auc'], level)}; 50 is guessing."
            f" {knew}",
            verdict(shown, "attack_auc", "the images that were forgotten"),
            "Both directions are traces. Far above 50, the images are still known too well. Far below 50, they are"
            " known worse than images never shown, and that gives them away just as much.",
        ),
        markup.figure(notice_plots.hits_ranges(bars), f"Dots: measured. Bars: {level}.", "single"),
        paragraphs(cutoff, alone),
        _earlier(shown, level),
    )


def _earlier(shown: Mapping[str, Any], level: str) -> str:
    before, after = shown["before"], shown["after"]
    if "earlier_attack_auc" not in after:
        return ""
    knew = f", before it {_hits(before['earlier_attack_auc'], level)}" if before else ""
    return "<h3>Images of earlier requests</h3>\n" + paragraphs(
        f"The {images(shown['rows']['earlier'])} that earlier requests had forgotten were measured again, to see"
        f" whether this request brought them back. After it the attacker points at such an image"
        f" {_hits(after['earlier_attack_auc'], level)}{knew}.",
        verdict(shown, "earlier_attack_auc", "the images of earlier requests"),
    )


def _figures(shown: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A table of figures in percent, before and after, with their ranges."""
    before, after = shown["before"], shown["after"]
    lines = []
    for name, words in names.items():
        then, now = (before or {}).get(name), after[name]
        change = "-" if then is None else signed(now[0] - then[0])
        lines.append(markup.row(words, [_figure_cell(then), _figure_cell(now), change]))
    caption = f"Percent, with the {shown['level']:g} % range below (see part 6); the change is in points."
    return markup.table(("", "before", "after", "change"), lines, caption)


def _figure_cell(figure: Figure | None) -> str:
    if figure is None:
        return "not measured"
    value, low, high = figure
    return f"{value:.1f} %<small>{low:.1f} to {high:.1f}</small>"


def verdict(shown: Mapping[str, Any], name: str, who: str) -> str:
    """What the attacker's figure after means, in words."""
    value, low, high = (100 * x for x in shown["after"][name])
    if low > 50:
        return f"The attacker does better than guessing: {who} are still known better than images never shown."
    if high < 50:
        return (
            f"The attacker does worse than guessing: {who} are known worse than images never shown. Who turns the rule"
            f" round is right in {100 - value:.1f} of 100 cases."
        )
    return (
        "The attacker was not shown to do better or worse than guessing. The range still allows anything from"
        f" {low:.1f} to {high:.1f} of 100 cases."
    )


def _hits(figure: Figure, level: str) -> str:
    value, low, high = (100 * x for x in figure)
    return f"in {value:.1f} of 100 cases ({level}: {low:.1f} to {high:.1f})"
