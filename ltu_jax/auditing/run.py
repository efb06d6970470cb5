"""The audits that need no more than Retrains, each made of a run's model, its original and Retrains.

Every figure is made for the model, for the original (ceiling) and for each Retrain against the others (floor). Where a
test over rows would call a Retrain guilty too, for rows of one model are no independent trainings, the p-value is that
of being one more Retrain (``intervals.one_more``). Recalibration and relearning show accuracies, as they are published,
but are tested by margins: of few rows that a Retrain has wrong accuracy sees nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ltu_jax.auditing import iam as iams
from ltu_jax.auditing import recalibration as statistics
from ltu_jax.auditing import relearning as training
from ltu_jax.auditing import retrain as retrains
from ltu_jax.auditing.audited import ORIGINAL, SETS, UNLEARNED, Audited, answers
from ltu_jax.auditing.findings import Finding, as_json, missing
from ltu_jax.auditing.held_out import HeldOut, held_out
from ltu_jax.auditing.intervals import POWER, Figure, one_more, spread_of_rows
from ltu_jax.auditing.rmia import Margins, Rmia, chosen_scale, rmia
from ltu_jax.evaluation.likeness import matched_weights, predictions

NO_RETRAIN = "it needs a Retrain to compare with"
QUANTILES = np.linspace(0, 1, 101)
MOST_POINTS = 200
"""Of a curve that is drawn."""
MOST_LOOKED_AT = 1000
SEED = 23
"""Of the resampling of rows; which numbers come of it does not depend on the run's own seeds."""


def held_out_audit(run: Audited) -> Finding:
    """``auditing.held_out``."""
    found = {
        name: held_out(run.predictions(name, "forget"), run.predictions(name, "test"), _rng("held_out"))
        for name in run.models
    }
    floor = [found[name].auc.value for name in run.of_retrains]
    main: HeldOut = found[UNLEARNED]
    forget = {name: run.predictions(name, "forget").margin for name in run.models}
    margins = {"forget": forget[UNLEARNED], "original": forget[ORIGINAL]}
    margins["held_out"] = run.predictions(UNLEARNED, "test").margin
    if floor:
        margins["retrain"] = np.concatenate([forget[name] for name in run.of_retrains])
    details = {
        **main._asdict(),
        "p_values": {name: one.p_value for name, one in found.items()},
        "margins": {name: np.quantile(values, QUANTILES) for name, values in margins.items()},
        "roc": _rocs(run, {name: (forget[name], run.predictions(name, "test").margin) for name in run.models}),
    }
    p_value = main.p_value if run.is_random else _of_one_more(main.auc.value, floor)[1]
    return Finding("held_out", main.auc, found[ORIGINAL].auc, _range(floor), p_value, as_json(details))


def retrain_audit(run: Audited) -> Finding:
    """``auditing.retrain``, on each set of rows."""
    if not run.retrains:
        return missing("retrain", NO_RETRAIN)

    def compared(model: str, of: str) -> retrains.ClosenessToRetrain:
        theirs = [run.logits[name][of] for name in run.of_retrains]
        return retrains.closeness_to_retrain(run.logits[model][of], theirs, run.labels(of), _rng("retrain"))

    found = {of: compared(UNLEARNED, of) for of in SETS}
    main, original = found["forget"], compared(ORIGINAL, "forget")
    details = {**found, "original": original}
    figure = _found_over_seeds(main.margin.figure, main.over_seeds)
    return Finding("retrain", figure, original.margin.figure, main.margin.floor, main.p_value, as_json(details))


def recalibration_audit(run: Audited) -> Finding:
    """``auditing.recalibration``, with statistics measured on the remaining rows that a method may see."""
    visible, fitted = run.source.rows(run.splits.visible), None
    sets: dict[str, dict[str, Any]] = {of: {} for of in SETS}
    aucs, margins = {}, {}
    for name, state in run.models.items():
        fitted = statistics.recalibrate(
            state.apply_fn, state.params, state.model_state, visible, jax.random.key(SEED), progress=run.progress
        )
        if fitted is None:
            return missing("recalibration", "the model has no running averages: nothing to measure, which is not 0")
        logits = answers(
            state.replace(model_state=fitted.model_state), run.source, run.rows, run.config.evaluation.batch_size
        )
        before = {of: run.predictions(name, of) for of in SETS}
        after = {of: predictions(logits[of], run.labels(of)) for of in SETS}
        for of in SETS:
            sets[of][name] = statistics.accuracy_change(before[of].correct, after[of].correct)
        aucs[name] = statistics.auc_change(*([one["forget"], one["test"]] for one in (before, after)), seed=SEED)
        margins[name] = after["forget"].margin - before["forget"].margin
    floor = [sets["forget"][name].change.value for name in run.of_retrains]
    main = sets["forget"][UNLEARNED].change
    assert fitted is not None
    over_seeds = p_value = None
    if len(floor) > 1:
        theirs = np.array([margins[name] for name in run.of_retrains])
        over_seeds, p_value = one_more(margins[UNLEARNED].mean(), theirs.mean(axis=1), least=spread_of_rows(theirs))
    means = {name: float(of_rows.mean()) for name, of_rows in margins.items()}
    details = {
        "sets": {of: _by_kind(run, changes) for of, changes in sets.items()},
        "auc": _by_kind(run, aucs),
        "margin": {**_by_kind(run, means), "over_seeds": over_seeds},
        "rows": fitted.num_rows,
        "batch_size": fitted.batch_size,
        "batches": fitted.num_batches,
        "augment": fitted.augment,
    }
    return Finding("recalibration", main, sets["forget"][ORIGINAL].change, _range(floor), p_value, as_json(details))


def relearning_audit(run: Audited) -> Finding:
    """``auditing.relearning``: original, model and Retrains are trained alike, and then attacked by RMIA."""
    if not run.retrains:
        return missing("relearning", NO_RETRAIN)
    recipe, key = training.relearning_recipe(run.config.training), jax.random.key(SEED)
    looked_at = {of: rows if of == "forget" else _some(rows) for of, rows in run.rows.items()}
    curves = {
        name: training.relearn(
            state,
            run.source,
            run.splits.visible,
            looked_at,
            recipe,
            key,
            augment=run.config.data.augment,
            progress=run.progress,
            label=f"relearning, {name}",
        )
        for name, state in run.models.items()
    }
    theirs = [curves[name] for name in run.of_retrains]
    main = training.relearned(curves[UNLEARNED], theirs, curves[ORIGINAL], seed=SEED)
    ceiling = training.relearned(curves[ORIGINAL], theirs, seed=SEED)
    floor = [training.relearned(one, rest, seed=SEED).largest.value for one, rest in _one_out(theirs)]
    labels = {of: run.source.labels[rows] for of, rows in looked_at.items()}

    def at_end(model: str, of: str, references: Sequence[str]) -> Margins:
        return Margins(curves[model].at_end[of], np.array([curves[name].at_end[of] for name in references]), labels[of])

    attack, _, _, p_value = _attacked(run, at_end)
    details = {
        "steps": curves[UNLEARNED].steps,
        **{of: _by_kind(run, {name: getattr(curve, of) for name, curve in curves.items()}) for of in SETS},
        **main._asdict(),
        "rmia": attack,
    }
    return Finding("relearning", main.largest, ceiling.largest, _range(floor), p_value, as_json(details))


def rmia_audit(run: Audited) -> Finding:
    """``auditing.rmia``; its a is chosen on the original, with the same references, and kept for all other models."""
    if not run.of_retrains:
        return missing("rmia", NO_RETRAIN)
    main, ceiling, floor, p_value = _attacked(run, run.margins)
    details = {**main._asdict(), "references": len(run.of_retrains)}
    return Finding("rmia", main.auc, ceiling.auc, _range(floor), p_value, as_json(details))


def iam_audit(run: Audited) -> Finding:
    """``auditing.iam``, on the forget rows."""
    margins = {name: run.predictions(name, "forget").margin for name in run.models}
    names, classes = run.of_retrains, run.labels("forget")
    if len(names) < 2:
        return missing("iam", "it needs two Retrains, one to compare with and one as the reference")

    def compared(model: str, others: Sequence[str]) -> iams.Iam:
        theirs = np.array([margins[name] for name in others])
        return iams.iam(margins[model], margins[ORIGINAL], theirs, classes, _rng("iam"))

    main, ceiling = compared(UNLEARNED, names), compared(ORIGINAL, names)
    others = [compared(one, rest) for one, rest in _one_out(names)]
    assert main.auc is not None
    floor = [one.auc.value for one in others if one.auc is not None]
    of_rows = {
        UNLEARNED: main.of_rows,
        ORIGINAL: ceiling.of_rows,
        "retrain": np.concatenate([o.of_rows for o in others]),
    }
    details = {
        "confidence": main.confidence,
        ORIGINAL: ceiling.confidence.value,
        "retrain": [one.confidence.value for one in others],
        "quantiles": {name: np.quantile(values, QUANTILES) for name, values in of_rows.items()},
        "references": main.references,
    }
    over_rows = main.auc.smallest / POWER / math.sqrt(1 + 1 / len(names))  # of a single Retrain
    over_seeds, p_value = _of_one_more(main.auc.value, floor, each_other=True, least=over_rows)
    figure = _found_over_seeds(main.auc, over_seeds)
    return Finding("iam", figure, ceiling.auc, _range(floor), p_value, as_json(details))


AUDIT_OF: Mapping[str, Callable[[Audited], Finding]] = {
    "held_out": held_out_audit,
    "retrain": retrain_audit,
    "recalibration": recalibration_audit,
    "relearning": relearning_audit,
    "rmia": rmia_audit,
    "iam": iam_audit,
}


def _rng(audit: str) -> np.random.Generator:
    """The same resamples for all models of an audit, so that they are compared on the same rows."""
    return np.random.default_rng([SEED, *audit.encode()])


def _some(rows: np.ndarray) -> np.ndarray:
    """At most ``MOST_LOOKED_AT`` of them, evenly spread: their accuracy is looked at many times."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_LOOKED_AT)).round().astype(int)]


def _one_out(items: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Each of several with the others; nothing for a single one, which has none."""
    several = items if len(items) > 1 else ()
    return [(one, [*items[:k], *items[k + 1 :]]) for k, one in enumerate(several)]


def _range(floor: Sequence[float]) -> tuple[float, float] | None:
    return (min(floor), max(floor)) if floor else None


def _attacked(
    run: Audited, margins: Callable[[str, str, Sequence[str]], Margins]
) -> tuple[Rmia, Rmia, list[float], float | None]:
    """RMIA on the model and on the original; the AUC of each Retrain with the others as references; the p-value.

    Args:
      run: what is audited; it has at least one Retrain.
      margins: of a model and of references, by their names, on the ``forget`` or ``test`` rows.
    """
    names = run.of_retrains

    def both(model: str, references: Sequence[str]) -> tuple[Margins, Margins]:
        return margins(model, "forget", references), margins(model, "test", references)

    scale = chosen_scale(*both(ORIGINAL, names))
    main, ceiling = (rmia(*both(model, names), scale, _rng("rmia")) for model in (UNLEARNED, ORIGINAL))
    floor = [rmia(*both(one, rest), scale, _rng("rmia")).auc.value for one, rest in _one_out(names)]
    return main, ceiling, floor, main.p_value if run.is_random else _of_one_more(main.auc.value, floor)[1]


def _of_one_more(
    value: float, floor: Sequence[float], *, each_other: bool = False, least: float = 0.0
) -> tuple[Figure | None, float | None]:
    """``one_more``; None where fewer than two tell how much Retrains differ."""
    if len(floor) < 2:
        return None, None
    return one_more(value, np.array(floor), each_other=each_other, least=least)


def _found_over_seeds(figure: Figure, over_seeds: Figure | None) -> Figure:
    """A figure with an interval over rows, and the smallest effect that its test over seeds finds."""
    return figure if over_seeds is None else figure._replace(smallest=over_seeds.smallest)


def _by_kind(run: Audited, of_models: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of each model: of the run's and the original by their names, of Retrains as a list."""
    own = {name: of_models[name] for name in (UNLEARNED, ORIGINAL)}
    return {**own, "retrain": [of_models[name] for name in run.of_retrains]}


def _rocs(run: Audited, scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """ROC curves of forget rows (positive) against held-out rows; that of Retrains is the mean of theirs."""
    weights = matched_weights(run.labels("test"), run.labels("forget"))
    fpr = np.concatenate([[0], np.geomspace(1e-3, 1, MOST_POINTS)])
    curves = {name: _tpr(*both, weights, fpr) for name, both in scores.items()}
    kinds = {name: curves[name] for name in (UNLEARNED, ORIGINAL)}
    if run.retrains:
        kinds["retrain"] = np.mean([curves[name] for name in run.of_retrains], axis=0)
    return {name: {"fpr": fpr, "tpr": tpr} for name, tpr in kinds.items()}


def _tpr(positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """The largest TPR of a threshold whose measured FPR is at most each of ``fpr``, f64[.]."""
    order = np.argsort(negatives)
    above = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]]) / weights.sum()
    of_positives = np.sort(above[np.searchsorted(negatives[order], positives, "left")])
    return np.searchsorted(of_positives, fpr + 1e-12, "right") / len(positives)
