"""Audits of a model that was not made here, from its answers and those of Retrains: no model is run, and no JAX."""

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltu_jax.auditing.answers import Given, check_together, read_outputs
from ltu_jax.auditing.by_answers import BY_ANSWERS, Models
from ltu_jax.auditing.findings import SCHEMA_VERSION, as_json, verdict
from ltu_jax.auditing.intervals import RESAMPLES
from ltu_jax.evaluation.likeness import comparable
from ltu_jax.setting import ConfigError

LEAST_RESAMPLES = 100
NOTES = (
    "Files cannot show that held-out rows were in no reserve, validation or calibration of the target, nor that the"
    " references saw neither them nor the forget rows.",
    "The p-values of held_out and rmia hold for forget rows drawn at random within their classes. Of rows that were"
    " chosen only the differences to the Retrains count.",
)


def audit_outputs(
    target: Given,
    references: Sequence[Given] = (),
    original: Given | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Audits a model by its answers, with every audit that needs no training.

    A file holds the answers on the sets of rows ``forget`` and ``held_out`` (never seen by any of these models) and, if
    you like, ``remain`` and ``test``: logits f[M, C], or margins log p - log(1 - p) of the true label f[M], with labels
    i[M]. As ``.npz``: arrays ``forget`` and ``forget_labels``, ``held_out`` and ``held_out_labels``, and so on. As
    ``.parquet``: columns ``set``, ``label``, and ``margin`` or ``logit_0`` to ``logit_{C-1}``. The rows of a set stand
    in one order in all files. Instead of a file, a dictionary of its arrays does::

        import json, ltu_jax
        from ltu_jax.reporting.audit_page import render_audit

        audit = ltu_jax.audit_outputs("unlearned.npz", ["retrain_0.npz", "retrain_1.npz"], "original.npz")
        print(audit["verdict"])
        json.dump(audit, open("audit.json", "w"))
        open("audit.html", "w", encoding="utf-8").write(render_audit(audit))

    Args:
      target: the unlearned model.
      references: Retrains, models of the same recipe that saw neither forget nor held-out rows. Without any only
        ``held_out`` is made; of one alone there is no floor, and no comparison of IAM.
      original: the model before unlearning: the ceiling of each figure, RMIA's scale, the far end of IAM.
      seed: of resamples and permutations.
      resamples: how many of each, at least 100; no p-value is below 1 / (resamples + 1).

    Returns:
      What ``audit.json`` holds, JSON-ready: ``findings``, ``verdict`` and more.

    Raises:
      ConfigError: for a file that cannot be read or is not as above, other rows or labels than the target's, or a
        model that is given twice.
    """
    for field, value, least in (("seed", seed, 0), ("resamples", resamples, LEAST_RESAMPLES)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{field}: {value!r} is out of range; allowed: a whole number >= {least}")
    if isinstance(references, str | Path | Mapping):
        raise ConfigError(f"references: {str(references)[:80]!r} is one model; allowed: a list, of one or more")
    models = Models(
        read_outputs(target, "target"),
        [read_outputs(one, f"references[{place}]") for place, one in enumerate(references)],
        None if original is None else read_outputs(original, "original"),
        seed=seed,
        resamples=resamples,
    )
    check_together(models.target, models.references, models.original)
    start, findings, seconds = time.monotonic(), [], {}
    for name, audit in BY_ANSWERS.items():
        began = time.monotonic()
        findings.append(audit(models))
        seconds[name] = time.monotonic() - began
    versions = {name: importlib.metadata.version(name) for name in ("ltu-jax", "numpy", "scipy")}
    return as_json(
        {
            "schema_version": SCHEMA_VERSION,
            "run": {
                "method": "arrays" if isinstance(target, Mapping) else Path(target).name,
                **dict.fromkeys(("dataset", "model", "seeds", "request_sha256")),
                "forget": {"kind": None, "count": len(models.target.rows["forget"].labels)},
            },
            "level": int(bool(models.references)),
            "models": [],
            "rows": {name: len(rows.labels) for name, rows in models.target.rows.items()},
            "findings": findings,
            "verdict": verdict(findings),
            "notes": _notes(models),
            "seconds": {"trainings": 0.0, "audits": seconds, "total": time.monotonic() - start},
            "provenance": {
                "versions": {"python": platform.python_version(), **versions},
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "seed": seed,
                "resamples": resamples,
                "files": [f"{one.name}, sha256 {one.sha256()}" for of in models.named().values() for one in of],
            },
        }
    )


def _notes(models: Models) -> list[str]:
    notes, forget = list(NOTES), models.target.rows["forget"]
    if models.original is None:
        notes.append("No original was given: figures have no ceiling, RMIA's a is 1, IAM's far end is certainty.")
    if left_out := len(forget.labels) - len(comparable(forget, models.target.rows["held_out"]).labels):
        notes.append(f"held_out and rmia leave out {left_out} forget rows, of classes without a held-out row.")
    return notes
