"""The audits of a run: those of answers, and those that pass the models forward or train them on.

Of the latter, too, each figure is made for the model, for the original (ceiling) and for each Retrain against the
others (floor). They show accuracies, as they are published, but are tested by margins: of few rows that a Retrain has
wrong accuracy sees nothing.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ltu_jax.auditing import recalibration as statistics
from ltu_jax.auditing import relearning as training
from ltu_jax.auditing.answers import Outputs, margins_alone
from ltu_jax.auditing.audited import ORIGINAL, SEED, SETS, UNLEARNED, Audited
from ltu_jax.auditing.by_answers import BY_ANSWERS, NO_RETRAIN, Models, one_out, rmia_audit
from ltu_jax.auditing.findings import Finding, missing
from ltu_jax.auditing.intervals import one_more, span, spread_of_rows
from ltu_jax.evaluation.scores import measure
from ltu_jax.training.jobs import RELEARN

MOST_LOOKED_AT = 1000


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
        before = run.outputs[name].rows
        renewed = state.replace(model_state=fitted.model_state)
        after = measure(renewed, run.source, run.rows, run.config.evaluation.batch_size)
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
    ceiling, tested = sets["forget"][ORIGINAL].change, None if over_seeds is None else over_seeds.value
    main, ceiling = (one._replace(smallest=math.nan) for one in (main, ceiling))  # margins are tested, not accuracy
    return Finding("recalibration", main, ceiling, span(floor), p_value, tested, details)


def relearning_audit(run: Audited) -> Finding:
    """``auditing.relearning``: original, model and Retrains are trained alike, and then attacked by RMIA."""
    if not run.retrains:
        return missing("relearning", NO_RETRAIN)
    recipe = training.relearning_recipe(run.config.training)
    key = jax.random.fold_in(jax.random.key(SEED), RELEARN)
    attacked = {of: run.rows[of] for of in ("forget", "test")}
    looked_at = {of: rows if of == "forget" else _some(rows) for of, rows in run.rows.items()}
    curves = {
        name: training.relearn(
            state,
            run.source,
            run.splits.visible,
            looked_at,
            recipe,
            key,
            attacked=attacked,
            augment=run.config.data.augment,
            progress=run.progress,
            label=f"relearning, {name}",
        )
        for name, state in run.models.items()
    }
    theirs = [curves[name] for name in run.of_retrains]
    main = training.relearned(curves[UNLEARNED], theirs, curves[ORIGINAL], seed=SEED)
    ceiling = training.relearned(curves[ORIGINAL], theirs, seed=SEED)
    floor = [training.relearned(one, rest, seed=SEED).largest.value for one, rest in one_out(theirs)]
    attack = rmia_audit(_at_end(run, curves))
    details = {
        "steps": curves[UNLEARNED].steps,
        **{of: _by_kind(run, {name: getattr(curve, of) for name, curve in curves.items()}) for of in SETS},
        **main._asdict(),
        "rmia": {"auc": attack.unlearned, "original": attack.original, "floor": attack.floor},
    }
    largest, before = (one.largest._replace(smallest=math.nan) for one in (main, ceiling))  # RMIA is tested, not this
    return Finding("relearning", largest, before, span(floor), attack.p_value, attack.tested, details)


def _at_end(run: Audited, curves: Mapping[str, training.Curve]) -> Models:
    """The margins of the models after they were trained on, of which no logits are kept."""
    found = {}
    for name, curve in curves.items():
        rows = {
            held: margins_alone(curve.at_end[of], run.source.labels[run.rows[of]])
            for held, of in (("forget", "forget"), ("held_out", "test"))
        }
        found[name] = Outputs(name, rows, {})
    return run.answered._replace(
        target=found[UNLEARNED], references=[found[name] for name in run.of_retrains], original=found[ORIGINAL]
    )


def _of_answers(audit: Callable[[Models], Finding], run: Audited) -> Finding:
    return audit(run.answered)


AUDIT_OF: dict[str, Callable[[Audited], Finding]] = {
    **{name: functools.partial(_of_answers, audit) for name, audit in BY_ANSWERS.items()},
    "recalibration": recalibration_audit,
    "relearning": relearning_audit,
}


def _some(rows: np.ndarray) -> np.ndarray:
    """At most ``MOST_LOOKED_AT`` of them, evenly spread: their accuracy is looked at many times."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_LOOKED_AT)).round().astype(int)]


def _by_kind(run: Audited, of_models: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of each model: of the run's and the original by their names, of Retrains as a list."""
    own = {name: of_models[name] for name in (UNLEARNED, ORIGINAL)}
    return {**own, "retrain": [of_models[name] for name in run.of_retrains]}
