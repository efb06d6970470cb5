"""Audits of a model that was not made here, from its answers and those of Retrains: no model is run, and no JAX."""

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing.answers import Given, Outputs, check_together, read_outputs
from ltu_jax.auditing.findings import SCHEMA_VERSION, Finding, as_json, missing, verdict
from ltu_jax.auditing.held_out import held_out
from ltu_jax.auditing.iam import confidence, iam
from ltu_jax.auditing.intervals import RESAMPLES, roc
from ltu_jax.auditing.retrain import ClosenessToRetrain, closeness_to_retrain
from ltu_jax.auditing.rmia import Margins, chosen_scale, rmia, scores
from ltu_jax.evaluation.likeness import Predictions, attack_auc, comparable, matched_weights
from ltu_jax.setting import ConfigError

SCALE = 1.0
"""RMIA's a where there is no original to choose it on: the ratio to the references' mean probability itself."""
FEW = 2
"""Resamples where the figure alone is read."""
LEAST_RESAMPLES = 100
NO_REFERENCES = "no references were given"
NOTES = (
    "Files cannot show that held-out rows were in no reserve, validation or calibration of the target, nor that the"
    " references saw neither them nor the forget rows.",
    "The p-values of held_out and rmia hold for forget rows drawn at random within their classes. Of rows that were"
    " chosen only the differences to the Retrains count.",
)


class _Models(NamedTuple):
    target: Outputs
    references: list[Outputs]
    original: Outputs | None

    def named(self) -> dict[str, list[Outputs]]:
        """Those that there are, as pages name them."""
        every = {"unlearned": [self.target], "original": [self.original] if self.original else []}
        return {name: models for name, models in (every | {"retrain": self.references}).items() if models}


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
    models = _Models(
        read_outputs(target, "target"),
        [read_outputs(one, f"references[{place}]") for place, one in enumerate(references)],
        None if original is None else read_outputs(original, "original"),
    )
    check_together(*models)
    audits, start = {"held_out": _held_out, "retrain": _retrain, "rmia": _rmia, "iam": _iam}, time.monotonic()
    findings, seconds = [], {}
    for place, (name, audit) in enumerate(audits.items()):
        began = time.monotonic()
        findings.append(audit(models, np.random.default_rng([seed, place]), resamples))
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


def _notes(models: _Models) -> list[str]:
    notes, forget = list(NOTES), models.target.rows["forget"].labels
    if models.original is None:
        notes.append("No original was given: figures have no ceiling, RMIA's a is 1, IAM's far end is certainty.")
    if left_out := len(forget) - len(_pair([models.target])[0].labels):
        notes.append(f"held_out and rmia leave out {left_out} forget rows, of classes without a held-out row.")
    return notes


def _held_out(models: _Models, rng: np.random.Generator, resamples: int) -> Finding:
    pairs = {name: _pair(of) for name, of in models.named().items()}
    (forget, others), weights = pairs["unlearned"], _weights(*pairs["unlearned"])
    found = held_out(forget, others, rng, resamples)
    details = {name: value for name, value in found._asdict().items() if name not in ("auc", "p_value")}
    if not models.target.logits:
        del details["accuracy"]  # margins do not tell which answer is the largest
    margins = {name: _quantiles(of[0].margin) for name, of in pairs.items() if name != "unlearned"}
    details["margins"] = {"forget": _quantiles(forget.margin), "held_out": _quantiles(others.margin, weights)} | margins
    details["roc"] = {name: roc(of[0].margin, of[1].margin, _weights(*of)) for name, of in pairs.items()}
    ceiling = held_out(*pairs["original"], rng=rng, resamples=resamples).auc if models.original else None
    floor = _range([attack_auc(*_pair([one])) for one in models.references])
    return Finding("held_out", found.auc, ceiling, floor, found.p_value, details)


def _retrain(models: _Models, rng: np.random.Generator, resamples: int) -> Finding:
    if not models.references:
        return missing("retrain", NO_REFERENCES)
    if not all(one.logits for of in models.named().values() for one in of):
        return missing("retrain", "margins alone were given, and it needs the logits of all models")

    def closeness(model: Outputs, name: str) -> ClosenessToRetrain:
        retrains = [one.logits[name] for one in models.references]
        return closeness_to_retrain(model.logits[name], retrains, model.rows[name].labels, rng, resamples)

    found = {name: closeness(models.target, name) for name in models.target.rows if name != "held_out"}
    main = found["forget"]
    ceiling = closeness(models.original, "forget").margin.figure if models.original else None
    return Finding("retrain", main.margin.figure, ceiling, main.margin.floor, main.p_value, found)


def _rmia(models: _Models, rng: np.random.Generator, resamples: int) -> Finding:
    if not models.references:
        return missing("rmia", NO_REFERENCES)
    attacked = {name: [_attacked(of[0], models.references)] for name, of in models.named().items() if name != "retrain"}
    scale = chosen_scale(*attacked["original"][0]) if models.original else SCALE
    if len(models.references) > 1:
        attacked["retrain"] = [_attacked(one, _without(models.references, one)) for one in models.references]
    found = rmia(*attacked["unlearned"][0], scale=scale, rng=rng, resamples=resamples)
    details = {name: value for name, value in found._asdict().items() if name not in ("auc", "p_value")}
    details |= {"references": len(models.references)}
    details["roc"] = {name: _roc_of_ratios(of, scale) for name, of in attacked.items()}
    ceiling = rmia(*attacked["original"][0], scale=scale, rng=rng, resamples=resamples).auc if models.original else None
    floor = _range([rmia(*one, scale=scale, rng=rng, resamples=FEW).auc.value for one in attacked.get("retrain", [])])
    return Finding("rmia", found.auc, ceiling, floor, found.p_value, details)


def _iam(models: _Models, rng: np.random.Generator, resamples: int) -> Finding:
    if not models.references:
        return missing("iam", NO_REFERENCES)
    labels = models.target.rows["forget"].labels
    margins = {name: np.array([one.rows["forget"].margin for one in of]) for name, of in models.named().items()}
    retrains, original = margins["retrain"], margins["original"][0] if models.original else None
    found = iam(margins["unlearned"][0], original, retrains, labels, rng, resamples)
    others = [(one, np.delete(retrains, k, axis=0)) for k, one in enumerate(retrains) if len(retrains) > 1]
    of_rows = {"unlearned": [found.of_rows], "retrain": [confidence(one, original, rest) for one, rest in others]}
    of_rows |= {} if original is None else {"original": [confidence(original, original, retrains)]}
    details = {
        "confidence": found.confidence,
        "original": float(of_rows["original"][0].mean()) if "original" in of_rows else None,
        "retrain": [float(one.mean()) for one in of_rows["retrain"]],
        "quantiles": {name: _quantiles(np.concatenate(of)) for name, of in of_rows.items() if of},
        "ks": found.ks,
        "references": found.references,
    }
    if found.auc is None:
        why = "it compares with one Retrain by means of the others, and one alone was given"
        return missing("iam", why)._replace(details=details)
    ceiling = None if original is None else iam(original, original, retrains, labels, rng, resamples).auc
    each = [iam(one, original, rest, labels, rng, FEW).auc for one, rest in others]
    return Finding("iam", found.auc, ceiling, _range([one.value for one in each if one]), None, details)


def _pair(models: Sequence[Outputs]) -> tuple[Predictions, Predictions]:
    """The forget rows, but for those whose class is not held out, and the held-out rows; models one after another."""
    rows = [[one.rows[name] for one in models] for name in ("forget", "held_out")]
    forget, others = (Predictions(*map(np.concatenate, zip(*of, strict=True))) for of in rows)
    return comparable(forget, others), others


def _attacked(target: Outputs, references: Sequence[Outputs]) -> tuple[Margins, Margins]:
    pairs = [_pair([one]) for one in (target, *references)]
    forget, others = ([pair[side] for pair in pairs] for side in (0, 1))
    return _margins(forget), _margins(others)


def _margins(rows: Sequence[Predictions]) -> Margins:
    return Margins(rows[0].margin, np.array([one.margin for one in rows[1:]]), rows[0].labels)


def _roc_of_ratios(targets: Sequence[tuple[Margins, Margins]], scale: float) -> dict[str, np.ndarray]:
    """RMIA's ROC of targets together; a row's score is its mean over the subsets of references."""
    forget, others = (np.concatenate([np.mean(scores(of[side], scale), axis=0) for of in targets]) for side in (0, 1))
    weights = matched_weights(targets[0][1].labels, targets[0][0].labels)
    return roc(forget, others, np.tile(weights, len(targets)))


def _weights(forget: Predictions, others: Predictions) -> np.ndarray:
    return matched_weights(others.labels, forget.labels)


def _without(models: Sequence[Outputs], one: Outputs) -> list[Outputs]:
    return [other for other in models if other is not one]


def _quantiles(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, 101), weights=weights, method="inverted_cdf")


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None
