"""What became of a deletion request, as one page that fetches nothing: its words are in its template."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.deletion import notice_measured, notice_plots, notice_words
from ltu_jax.methods.registry import BUILT_IN
from ltu_jax.reporting import rendering, table


def templates() -> Any:
    """The templates of this room, beside those of all pages."""
    return rendering.templates("ltu_jax.deletion", notice_words.FILTERS)


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
    request, time = receipt["request"], receipt["time"]
    method = receipt["method"]
    return rendering.page(
        "notice",
        templates(),
        number=request["number"],
        count=request["count"],
        repeated=request["repeated"],
        started=time["started"],
        finished=time["finished"],
        took=table.duration(time["unlearn_s"]).replace(" ", "\u00a0"),  # no line ends between 52 and s
        told=receipt.get("warnings"),
        method=method,
        sentence=BUILT_IN[method].sentence if method in BUILT_IN else None,
        approximate=method != "retrain",
        chosen=None if calibration is None else _chosen(calibration),
        why=receipt.get("calibration"),
        guided_by_original=receipt.get("guidance") == "original",
        remain_seen=receipt["remain_seen"],
        fingerprints=_fingerprints(receipt),
        **notice_measured.figures(receipt["evidence"]),
        **notice_measured.classes(receipt["evidence"]),
        **notice_measured.look(receipt["evidence"], confidence, changed or ()),
    )


def _chosen(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """The tries, and whether even the moment that was taken lost more than allowed."""
    trials, chosen, tolerance = (calibration[name] for name in ("trials", "chosen", "tolerance"))
    tries = []
    for number, trial in enumerate(trials):
        looks, told = trial["looks"], {}
        if looks:  # of one that diverged there are none
            best = looks[trial["best"]]
            told = {"unlike": best["unlike"], "change": -notice_plots.points_lost(best, calibration["original"])}
        told |= {"step_size": f"{trial['learning_rate']:.3g}", "looks": len(looks)}
        tries.append(told | {"taken": bool(looks) and number == chosen})
    return {
        "tries": tries,
        "tolerance": f"{tolerance:g}",
        "over": trials[chosen]["looks"][trials[chosen]["best"]]["lost"] > tolerance,
        "curve": notice_plots.tries_curve(calibration),
    }


def _fingerprints(receipt: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, code = receipt["model"], receipt["code"]
    told = [
        ("ids, mixed with a secret (salt)", receipt["request"]["ids_sha256"]),
        ("model before", model["before"]["tree_sha256"]),
        ("file of the model before", model["before"].get("file_sha256")),
        ("model after", model["after"]["tree_sha256"]),
        ("method", receipt["method"]),
        ("code, commit", code.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in (code.get("versions") or {}).items())),
        ("computed on", code.get("device")),
    ]
    return [(name, value or "-") for name, value in told]
