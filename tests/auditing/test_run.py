"""The audits that pass models forward again or train them on: each model alike, and what is reported of it."""

import jax
import numpy as np
import pytest
from scipy.stats import ttest_ind
from small import small_config

from auditing.test_recalibration import model
from ltu_jax.auditing import relearning
from ltu_jax.auditing.audited import Audited
from ltu_jax.auditing.recalibration import recalibrate
from ltu_jax.auditing.run import AUDIT_OF, relearning_audit
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.training.jobs import RELEARN
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Source, Splits, make_state

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 2400).astype(np.int32)
IMAGES = (RNG.integers(0, 200, (2400, 2, 2, 3)) + 20 * LABELS[:, None, None, None]).astype(np.uint8)
SOURCE = Source("toy", IMAGES, LABELS, np.array([f"toy_{i}" for i in range(2400)]), 3, 1200)
SPLITS = Splits(
    *(np.arange(i, j) for i, j in ((0, 40), (40, 1100), (1100, 1110), (1200, 2350), (1110, 1120), (2390, 2390)))
)
CONFIG = small_config()


def state(seed, shift=0.0):
    """A network with BatchNorm, its weights moved a little by a seed, its running means by a shift."""
    apply_fn, params, statistics = model()
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params)))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(jax.tree.leaves(params), keys, strict=True)]
    params = jax.tree.unflatten(jax.tree.structure(params), leaves)
    statistics = jax.tree.map(lambda x: x + shift, statistics)
    return make_state(apply_fn, params, statistics, SGD, jax.random.key(0))


def run_of(unlearned, retrains=(2, 3, 4)):
    return Audited(CONFIG, SOURCE, SPLITS, unlearned, state(1), tuple(map(state, retrains)))


def accuracy(one, model_state, rows):
    z, _ = one.apply_fn(one.params, model_state, IMAGES[rows] / np.float32(255), train=False)
    return 100 * np.mean(np.asarray(z).argmax(axis=1) == LABELS[rows])


def test_statistics_are_measured_anew_on_visible_rows_for_each_model():
    run = run_of(state(0, shift=2.0))
    finding, changes = AUDIT_OF["recalibration"](run), {}
    moved = {}
    for name, one in run.models.items():
        rows, key = SOURCE.rows(SPLITS.remain), jax.random.key(23)
        fitted = recalibrate(one.apply_fn, one.params, one.model_state, rows, key)
        logits = [
            one.apply_fn(one.params, of, IMAGES[SPLITS.forget] / np.float32(255), train=False)[0]
            for of in (one.model_state, fitted.model_state)
        ]
        before, after = (predictions(np.asarray(z), LABELS[SPLITS.forget]).margin.mean() for z in logits)
        moved[name] = float(after - before)
        for of, index in (("forget", SPLITS.forget), ("remain", SPLITS.remain), ("test", SPLITS.test)):
            before, after = accuracy(one, one.model_state, index), accuracy(one, fitted.model_state, index)
            changes[name, of] = after - before
            kind, _, place = name.partition(" ")
            found = finding.details["sets"][of][kind]
            found = found[int(place)] if place else found
            np.testing.assert_allclose([found.before, found.after], [before, after], atol=0.1)
    assert finding.unlearned.value == pytest.approx(changes["unlearned", "forget"], abs=0.1)
    assert finding.original.value == pytest.approx(changes["original", "forget"], abs=0.1)
    floor = [changes[f"retrain {k}", "forget"] for k in range(3)]
    np.testing.assert_allclose(finding.floor, (min(floor), max(floor)), atol=0.1)
    of_retrains = [moved[name] for name in run.of_retrains]  # what is tested, for accuracy of few rows sees little
    assert finding.p_value == pytest.approx(ttest_ind([moved["unlearned"]], of_retrains).pvalue, rel=1e-2)
    np.testing.assert_allclose(finding.details["margin"]["retrain"], of_retrains, rtol=1e-3, atol=1e-4)
    assert finding.details["rows"] == 1060 and set(finding.details["auc"]) == {"unlearned", "original", "retrain"}


def test_relearning_is_that_of_each_model_alike_and_looks_at_a_thousand_rows_on_its_way_and_at_all_in_the_end():
    run = run_of(state(0))
    finding = relearning_audit(run)
    details, looked_at = finding.details, dict(run.rows)
    for of in ("remain", "test"):
        looked_at[of] = run.rows[of][np.linspace(0, len(run.rows[of]) - 1, 1000).round().astype(int)]
    recipe = relearning.relearning_recipe(CONFIG.training)
    shown = details["forget"]
    for one, found in ((run.unlearned, shown["unlearned"]), (run.retrains[1], shown["retrain"][1])):
        key = jax.random.fold_in(jax.random.key(23), RELEARN)
        curve = relearning.relearn(one, SOURCE, SPLITS.remain, looked_at, recipe, key, augment="none")
        np.testing.assert_allclose(found, curve.forget)
    shares = np.bincount(LABELS[run.rows["forget"]]) / np.bincount(LABELS[run.rows["test"]])
    weights = shares[LABELS[run.rows["test"]]]  # each held-out row counts as its class does among the forget rows
    rows = weights.sum() ** 2 / (weights**2).sum()
    assert details["rmia"]["auc"].smallest == pytest.approx(2.8 * np.sqrt((40 + rows + 1) / (12 * 40 * rows)))
    excess = np.array(details["forget"]["unlearned"]) - np.mean(details["forget"]["retrain"], axis=0)
    np.testing.assert_allclose(details["excess"], excess, atol=1e-9)
    at_start = accuracy(state(1), state(1).model_state, looked_at["test"])
    np.testing.assert_allclose(details["test"]["original"][0], at_start, atol=0.1)
    assert finding.unlearned.value == pytest.approx(max(excess))
