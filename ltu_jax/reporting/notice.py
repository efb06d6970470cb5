"""What became of a deletion request, for who asked, a lawyer or an auditor: plain words, one page, nothing fetched.

It says of itself what it does not show; the figures are those of the receipt, and no verdict is added to them.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ltu_jax.reporting import markup, notice_measured, notice_plots, table
from ltu_jax.reporting.notice_words import (
    METHODS,
    OWN_METHOD,
    count_of,
    images,
    paragraphs,
    signed,
    were,
    when,
)


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
        notice_measured.cost(receipt),
        notice_measured.look(receipt["evidence"], confidence, changed or ()),
        notice_measured.attack(receipt["evidence"]),
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
    verdict = notice_measured.verdict(shown, "attack_auc", "the images that were forgotten")
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
        if forget < notice_measured.FEW
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


def _from_to(shown: Mapping[str, Any], name: str, words: Any) -> str:
    """``before → after``, or what is after alone."""
    now = words(shown["after"][name][0])
    return f"{words(shown['before'][name][0])} → {now}" if shown["before"] else now
