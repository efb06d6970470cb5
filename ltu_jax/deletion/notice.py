"""The notice of a deletion request: one HTML page made of the receipt, which loads nothing; text is in the template."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.deletion import notice_measured, notice_plots, notice_words, rates
from ltu_jax.methods.registry import BUILT_IN
from ltu_jax.reporting import rendering, table


def templates() -> Any:
    """The Jinja environment of the notice."""
    return rendering.template_environment("ltu_jax.deletion", notice_words.FILTERS)


def shown_tries(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What a notice shows of a calibration, for ``receipt["report"]["tries"]``.

    Args:
      calibration: ``Calibrated.as_json(in_rows=...)``: the receipt is handed out.
    """
    trials = [
        {
            "learning_rate": trial["learning_rate"],
            "best": trial["best"],
            "looks": [{name: look[name] for name in notice_plots.OF_A_LOOK} for look in trial["looks"]],
        }
        for trial in calibration["trials"]
    ]
    return {name: calibration[name] for name in ("original", "tolerance", "chosen")} | {"trials": trials}


def drawn_with() -> dict[str, str]:
    """The versions of what a notice is made with, beside this package: others may draw other bytes."""
    return {name: importlib.metadata.version(name) for name in ("jinja2", "matplotlib", "numpy")}


def render_notice(receipt: Mapping[str, Any]) -> str:
    """The notice as HTML, a function of the receipt alone, with all external text escaped.

    Args:
      receipt: the contents of ``receipt.json`` as read; seal, signature, files and the hash of the notice may still be
        missing.
    """
    request, time = receipt["request"], receipt["time"]
    method, report = receipt["method"], receipt["report"]
    return rendering.render_page(
        "notice",
        templates(),
        number=request["number"],
        count=request["count"],
        repeated=request["repeated"],
        started=time["started"],
        finished=time["finished"],
        took=table.duration(time["unlearn_s"]).replace(" ", "\u00a0"),  # no line break between 52 and s
        warning_texts=receipt.get("warnings"),
        method=method,
        sentence=BUILT_IN[method].sentence if method in BUILT_IN else None,
        approximate=method != "retrain",
        chosen=report["tries"] and _chosen(report["tries"]),
        why=receipt.get("calibration"),
        guided_by_original=receipt.get("guidance") == "original",
        remain_seen=receipt["remain_seen"],
        claim=receipt.get("claim"),
        rates=rates,
        version=(receipt["code"].get("versions") or {}).get("ltu-jax"),
        about=receipt.get("about", {"operator": None, "model": None}),
        fingerprints=_fingerprints(receipt),
        **notice_measured.figures(receipt["evidence"]),
        **notice_measured.classes(receipt["evidence"]),
        histograms=report["sureness"] and notice_plots.sureness_histograms(report["sureness"]),
    )


def render_images(receipt: Mapping[str, Any], changed: Sequence[tuple[str, np.ndarray, Any, float, float]]) -> str:
    """The page of ``--show_images``, a file of its own: the notice is handed out and is made of the receipt alone.

    Args:
      receipt: as for ``render_notice``.
      changed: ``(id, image u8[H,W,3], label, probability before, after)`` of the forget rows to show.
    """
    names = {row["label"]: row["name"] for row in receipt["evidence"]["classes"]}
    return rendering.render_page(
        "images",
        templates(),
        number=receipt["request"]["number"],
        changed=[(name, pixels, names.get(label, label), *rest) for name, pixels, label, *rest in changed],
    )


def _chosen(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """The trials, and whether even the chosen point lost more than the tolerance."""
    trials, chosen, tolerance = (calibration[name] for name in ("trials", "chosen", "tolerance"))
    tries = []
    for number, trial in enumerate(trials):
        looks = trial["looks"]
        row = {
            "step_size": f"{trial['learning_rate']:.3g}",
            "looks": len(looks),
            "taken": bool(looks) and number == chosen,
        }
        if looks:  # none if the trial diverged
            best = looks[trial["best"]]
            row |= {"unlike": best["ks"], "change": -notice_plots.points_lost(best, calibration["original"])}
        tries.append(row)
    return {
        "tries": tries,
        "tolerance": f"{tolerance:g}",
        "counts_unseen": "unseen" in calibration["original"],
        "over": trials[chosen]["looks"][trials[chosen]["best"]]["lost"] > tolerance,
        "curve": notice_plots.tries_curve(calibration),
    }


def _fingerprints(receipt: Mapping[str, Any]) -> list[tuple[str, str]]:
    before, after, code = receipt["model"]["before"], receipt["model"]["after"], receipt["code"]
    salted = "mixed with a secret (salt)"
    rows = [
        (f"ids, {salted}", receipt["request"]["ids_sha256"]),
        ("model before", before["tree_sha256"])
        if "tree_sha256" in before
        else (f"model before, {salted}", before["salted_sha256"]),
        ("file of the model before", before.get("file_sha256")),
        (f"model after, {salted}", after["salted_sha256"]),
        ("method", receipt["method"]),
        ("code, commit", code.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in (code.get("versions") or {}).items())),
        ("computed on", code.get("device")),
    ]
    return [(name, value or "-") for name, value in rows]
