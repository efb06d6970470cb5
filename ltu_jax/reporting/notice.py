"""What became of a deletion request, for who asked, a lawyer or an auditor: plain words, one page, nothing fetched.

It says of itself what it does not show; the figures are those of the receipt, and no verdict is added to them.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ltu_jax.reporting import markup, notice_plots, table
from ltu_jax.reporting.notice_words import (
    METHODS,
    OWN_METHOD,
    count_of,
    images,
    paragraphs,
    percent,
    signed,
    were,
    when,
)

MARKED = 5.0
"""Points lost from which a class is marked."""
AT_FIRST = 20
"""Classes shown before the others are folded."""
FEW = 100
"""Images below which the reader is warned of the ranges, and of which no histogram is drawn: each would show."""
Figure = Sequence[float]
"""``[value, low, high]``."""


def render_notice(
    receipt: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]] | None = None,
) -> str:
    """The whole notice, to be written to one file.

    Args:
      receipt: what ``receipt.json`` will hold; it is sealed later, so seal, signature and files may be missing.
      calibration: ``Calibrated.as_json()``; None where the strength was set by hand.
      confidence: probability of the true label, f[.]: ``before`` and ``after`` of the forget rows (``before`` may be
        missing), ``held out`` of the unlearned model on held-out rows.
      changed: ``(id, image u8[H,W,3], label, probability before, after)`` of the forget rows to show; None unless the
        user asked for them.

    Returns:
      HTML; all text that came from outside is escaped.
    """
    request = receipt["request"]
    title = f"Deletion request {request['number']}: what was done"
    lead = (
        "A model is a program that learned from images to name what is in an image. This page says what was done so"
        " that one model forgets some of the images it learned from, what that cost, and what it does not prove."
    )
    told = receipt.get("warnings") or ()
    body = [
        "<main>",
        f"<header><h1>{escape(title)}</h1>\n<p class='soft'>{lead}</p></header>",
        "<p>The program that did this warned, in its own words:</p>" if told else "",
        markup.warnings(told),
        _short(receipt),
        _asked(receipt),
        _done(receipt, calibration),
        _cost(receipt),
        _look(receipt["evidence"], confidence, changed or ()),
        _attack(receipt["evidence"]),
        _limits(receipt),
        _check(receipt),
        "</main>",
        "<footer>\n<p class='soft'>Written by ltu_jax. This file needs no network and runs no script.</p>\n</footer>",
    ]
    return markup.document(title, body, "notice")


def _short(receipt: Mapping[str, Any]) -> str:
    """The numbers that a reader looks for first."""
    shown = receipt["evidence"]
    hits = _from_to(shown, "attack_auc", lambda value: f"{100 * value:.1f}")
    right = _from_to(shown, "held_out_accuracy", "{:.1f}".format)
    verdict = _verdict(shown, "attack_auc", "the images that were forgotten")
    goal = "The attacker tries to tell the images that were forgotten from images that the model was never shown."
    limits = "This is no proof: what it does not show stands in part 6."
    if receipt["method"] == "retrain":
        limits = "What this does not show stands in part 6."
    facts = [
        ("Images to be forgotten", str(receipt["request"]["count"]), when(receipt["time"]["finished"])),
        ("The attacker is right, of 100 cases", hits, "50 is guessing; see part 5"),
        ("Right answers, of 100 images never shown", right, "what it cost; see part 3"),
    ]
    return markup.section("In short", markup.facts(facts), paragraphs(goal, verdict, limits))


def _asked(receipt: Mapping[str, Any]) -> str:
    request, time = receipt["request"], receipt["time"]
    count, repeated = request["count"], request["repeated"]
    asked = f"It was asked that the model forget {images(count)} that it was trained on."
    again = (
        f"{were(repeated, 'further id')} named in the request that an earlier request had forgotten already;"
        " nothing was done for those."
    )
    return markup.section(
        "1. What was asked",
        paragraphs(
            f"{asked} This is request number {request['number']} on this model.",
            again if repeated else "No image was asked for that an earlier request had forgotten already.",
            f"The work began on {when(time['started'])} and ended on {when(time['finished'])}."
            " When the request itself came in is not known to the program.",
            "The images are not named here. Part 7 has a fingerprint of their ids, their names in the data: who"
            " holds the list can check that it is the same.",
        ),
    )


def _done(receipt: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> str:
    took = table.duration(receipt["time"]["unlearn_s"]).replace(" ", "\u00a0")  # no line ends between 52 and s
    method = METHODS.get(receipt["method"], OWN_METHOD)
    why = receipt.get("calibration")
    return markup.section(
        "2. What was done to the model",
        paragraphs(
            f"What a model knows lies in its weights, a long list of numbers. {method} The method is called"
            f" {receipt['method']}. The change itself took {took}."
        ),
        "<h3>How hard to forget, and why</h3>",
        _chosen(calibration) if calibration is not None else "",
        _quoted(why) if why else "",
        "" if why or calibration else paragraphs("How hard to forget was set by hand. No other strength was tried."),
    )


def _chosen(calibration: Mapping[str, Any]) -> str:
    trials, chosen, tolerance = (calibration[name] for name in ("trials", "chosen", "tolerance"))
    over = trials[chosen]["looks"][trials[chosen]["best"]]["lost"] > tolerance
    lines = []
    for number, trial in enumerate(trials):
        size, looks = f"{trial['learning_rate']:.3g}", trial["looks"]
        if not looks:  # it diverged
            lines.append(markup.row(f"Try {number + 1}", [size, "failed", "-", "-"]))
            continue
        best = looks[trial["best"]]
        lost = signed(-notice_plots.points_lost(best, calibration["original"]))
        name = f"Try {number + 1}" + ("<span class='note'>chosen</span>" if number == chosen else "")
        lines.append(markup.row(name, [size, str(len(looks)), f"{best['unlike']:.1f}", lost]))
    svg = notice_plots.tries_curve(calibration)
    caption = (
        "Each dot is the model at one moment of one try. Low: the forgotten images look like images never shown."
        f" Left: little accuracy was lost. Hollow dots lost more than the {tolerance:g} points allowed,"
        " even when chance is discounted: such a one is taken only if there is no better. The ringed dot was taken."
    )
    heads = ("", "step size", "looks", "how unlike", "accuracy")
    note = (
        "Looks: how often the program looked. The other figures are those of the best moment of each try. Accuracy:"
        " the change in points, on images that stay or on images never shown, whichever is worse. One point is one"
        " image more or less in a hundred."
    )
    return "\n".join(
        [
            paragraphs(
                "Forgetting too little leaves traces. Forgetting too hard damages the model. So the program tried"
                f" {count_of(len(trials), 'step size')} (how far each step moves the weights), stopped now and then"
                " to look, and kept the moment at which the images to be forgotten looked most like images that the"
                f" model was never shown. Moments that lost more than {tolerance:g} points of accuracy counted less.",
                f"The moment taken lost more than these {tolerance:g} points: no better one was found." if over else "",
                "How unlike they are is told in points: the mean of the differences in how often the model is right,"
                " in how sure it is, and in how well the best cutoff between the two groups tells them apart. 0 would"
                " be no difference. The images never shown that this choice used are others than those measured below.",
            ),
            markup.figure(svg, caption, "single") if svg else "",
            markup.table(heads, lines, note),
        ]
    )


def _quoted(why: str) -> str:
    """The sentence of the program, with its words explained."""
    return (
        f"<p>In the words of the program: <q>{escape(why)}</q></p>\n<p class='soft'>Its words: the learning rate is the"
        " step size, forget rows are the images to be forgotten, held-out rows are images never shown.</p>"
    )


def _cost(receipt: Mapping[str, Any]) -> str:
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


def _look(
    shown: Mapping[str, Any],
    confidence: Mapping[str, np.ndarray],
    changed: Sequence[tuple[str, np.ndarray, Any, float, float]],
) -> str:
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


def _attack(shown: Mapping[str, Any]) -> str:
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
            _verdict(shown, "attack_auc", "the images that were forgotten"),
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
        _verdict(shown, "earlier_attack_auc", "the images of earlier requests"),
    )


def _limits(receipt: Mapping[str, Any]) -> str:
    shown = receipt["evidence"]
    level, forget = f"{shown['level']:g}", shown["rows"]["forget"]
    limits = [
        ""
        if receipt["method"] == "retrain"
        else "<strong>This is no proof of forgetting.</strong> The method is approximate: it changes a model that did"
        " see the images. Only a model that was trained anew without them is certain to know nothing from them. No"
        " such model was made to compare with.",
        "<strong>Only the attacks of part 5 were tried.</strong> Others exist. Who can read the weights, or has the"
        " model from before and from after to compare, may see more.",
        f"<strong>Only {'this image was' if forget == 1 else f'these {forget} images were'} to be forgotten.</strong>"
        " A copy under another id, or another image of the same person or thing, may still be among those that stay.",
        "<strong>The attackers that guided the method learned from the original model itself,</strong> and not from"
        " separate models trained for the purpose (shadow models). They may miss traces that others find."
        if receipt.get("guidance") == "original"
        else "",
        "<strong>Nothing outside this model was changed.</strong> Backups, logs, caches, the training data themselves,"
        " copies of the old model, and models made from it are not covered. Whoever keeps them must delete them.",
        "<strong>The ranges tell of chance in what was measured.</strong> Measured on other images of the same kind, a"
        f" figure would come out a little different. A {level} % range is made so that in about {level} of 100 cases it"
        " holds what endlessly many images would give. It says nothing of chance in the forgetting itself: a second"
        " run would leave another model. A range from 100 to 100 says that no measured image was wrong, and not that"
        " none could be.",
        f"<strong>So few images ({forget}) say little.</strong> The ranges are wide, and with few images they are"
        " rather too narrow still."
        if forget < FEW
        else "",
        "<strong>The figures are those of the operator,</strong> who runs the model. Part 7 says how others can check"
        " them.",
    ]
    items = "\n".join(f"<li>{limit}</li>" for limit in limits if limit)
    return markup.section("6. What this does not show", f"<ul>\n{items}\n</ul>")


def _check(receipt: Mapping[str, Any]) -> str:
    number, model, code = receipt["request"]["number"], receipt["model"], receipt["code"]
    folder = f"request-{number}"
    command = f"python -m ltu_jax.verify {folder}/receipt.json --model {folder}"
    versions = ", ".join(f"{name} {version}" for name, version in (code.get("versions") or {}).items())
    told = [
        ("ids, mixed with a secret (salt)", receipt["request"]["ids_sha256"]),
        ("model before", model["before"]["tree_sha256"]),
        ("file of the model before", model["before"].get("file_sha256")),
        ("model after", model["after"]["tree_sha256"]),
        ("method", receipt["method"]),
        ("code, commit", code.get("commit")),
        ("versions", versions),
        ("computed on", code.get("device")),
    ]
    return markup.section(
        "7. How to check this",
        paragraphs(
            "Beside this file lies receipt.json. It holds the tables of parts 3 and 4, the figures of part 5, and a"
            " fingerprint (SHA-256) of every file of the request, this page among them: one letter changed anywhere is"
            " found. If the operator signed it, it also shows who made it. Without a signature it could have been made"
            " up as a whole.",
            f"This command, run in the folder that holds {folder}, compares all of it and measures the figures anew:",
        ),
        f"<pre class='command'><code>{escape(command)}</code></pre>",
        "<ul>\n<li>It says <q>verified</q>, or what differs.</li>\n"
        "<li>It needs ltu_jax and the operator's data. With <code>--hashes</code> it needs no data and compares"
        " fingerprints alone.</li>\n"
        "<li>With <code>--evidence</code> it also tests the claim that the images were forgotten, by limits set"
        " beforehand.</li>\n"
        "<li>With <code>--forget IDS.txt</code> it checks that a list of ids is the one that was forgotten (this"
        " needs the file <code>salt</code>, which the operator keeps).</li>\n"
        "<li>With <code>--public_key KEY.pem</code> it checks whose signature it is.</li>\n</ul>",
        "<h3>Fingerprints</h3>",
        markup.definitions("meanings", [(name, value or "-") for name, value in told]),
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


def _verdict(shown: Mapping[str, Any], name: str, who: str) -> str:
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


def _from_to(shown: Mapping[str, Any], name: str, words: Any) -> str:
    """``before → after``, or what is after alone."""
    now = words(shown["after"][name][0])
    return f"{words(shown['before'][name][0])} → {now}" if shown["before"] else now
