"""The audits of a run: each figure of the right model, with ceiling, floor and p-value; on models trained here."""

import dataclasses
import json

import jax
import mlp
import numpy as np
import pytest
from scipy.stats import t
from small import small_config

from ltu_jax.auditing import relearning
from ltu_jax.auditing.audited import Audited
from ltu_jax.auditing.findings import AUDITS, Finding, as_json, missing, verdict
from ltu_jax.auditing.iam import iam
from ltu_jax.auditing.intervals import Figure, one_more
from ltu_jax.auditing.recalibration import recalibrate
from ltu_jax.auditing.rmia import chosen_scale, rmia
from ltu_jax.auditing.run import AUDIT_OF
from ltu_jax.config import Training
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import train
from ltu_jax.types import Splits, make_state

SOURCE = mlp.toy_source(num_rows=240, num_test=160, side=4)
SPEC = mlp.build(None, 4, (4, 4, 3))
SPLITS = Splits(*(np.arange(i, j) for i, j in ((0, 60), (60, 220), (220, 230), (240, 400), (230, 240), (400, 400))))
BASE = small_config()
CONFIG = dataclasses.replace(BASE, training=dataclasses.replace(BASE.training, epochs=80, learning_rate=0.5))


def trained(rows, seed):
    recipe = Training(epochs=80, batch_size=20, learning_rate=0.5)
    start = SPEC.init(jax.random.key(seed))
    found = train(SPEC.apply_fn, *start, SOURCE.rows(rows), recipe, jax.random.key(100 + seed)).state
    return make_state(SPEC.apply_fn, found.params, {}, SGD, jax.random.key(0))


@pytest.fixture(scope="module")
def models():
    """The original, three Retrains, and one more that is no reference."""
    return [trained(SPLITS.train, 0)] + [trained(SPLITS.remain, seed) for seed in range(1, 5)]


def run_of(models, unlearned, retrains=(1, 2, 3), config=CONFIG):
    return Audited(config, SOURCE, SPLITS, models[unlearned], models[0], tuple(models[i] for i in retrains))


@pytest.fixture(scope="module")
def of_original(models):
    run = run_of(models, 0)
    return {name: audit(run) for name, audit in AUDIT_OF.items()}


@pytest.fixture(scope="module")
def of_retrain(models):
    run = run_of(models, 4)
    return {name: audit(run) for name, audit in AUDIT_OF.items()}


def aucs_by_hand(run):
    """Of each model: P[margin of a forget row > of a held-out one], held-out rows weighted to the forget classes."""
    found, labels = {}, {of: run.labels(of) for of in ("forget", "test")}
    shares = np.bincount(labels["forget"], minlength=4) / np.bincount(labels["test"], minlength=4)
    for name in run.models:
        one, other = (run.predictions(name, of).margin for of in ("forget", "test"))
        won = (one[:, None] > other[None]) + 0.5 * (one[:, None] == other[None])
        found[name] = np.average(won.mean(axis=0), weights=shares[labels["test"]])
    return found


def test_held_out_has_model_ceiling_and_floor(models):
    run = run_of(models, 4)
    finding, wanted = AUDIT_OF["held_out"](run), aucs_by_hand(run)
    np.testing.assert_allclose(finding.unlearned.value, wanted["unlearned"])
    np.testing.assert_allclose(finding.original.value, wanted["original"])
    floor = [wanted[f"retrain {k}"] for k in range(3)]
    np.testing.assert_allclose(finding.floor, (min(floor), max(floor)))
    quantiles = finding.details["margins"]
    np.testing.assert_allclose(quantiles["forget"][50], np.median(run.predictions("unlearned", "forget").margin))
    np.testing.assert_allclose(quantiles["original"][0], run.predictions("original", "forget").margin.min())
    np.testing.assert_allclose(quantiles["held_out"][100], run.predictions("unlearned", "test").margin.max())


def test_a_roc_is_the_largest_tpr_at_a_measured_fpr(models):
    run = run_of(models, 0)
    roc = AUDIT_OF["held_out"](run).details["roc"]["unlearned"]
    one, other = (run.predictions("unlearned", of).margin for of in ("forget", "test"))
    labels = run.labels("forget"), run.labels("test")
    weights = (np.bincount(labels[0], minlength=4) / np.bincount(labels[1], minlength=4))[labels[1]] / len(labels[0])
    thresholds = np.append(np.unique(np.concatenate([one, other])), np.inf)
    points = [(weights[other >= t].sum(), np.mean(one >= t)) for t in thresholds]
    for fpr, tpr in zip(roc["fpr"], roc["tpr"], strict=True):
        assert tpr == pytest.approx(max(found for at, found in points if at <= fpr + 1e-9))


def test_the_untouched_original_is_caught_and_one_more_retrain_is_not(of_original, of_retrain):
    for name in ("held_out", "retrain", "relearning", "rmia", "iam"):
        assert of_original[name].p_value < 0.05, name
    assert all(verdict(list(of_original.values()))[name] for name in ("held_out", "rmia"))
    assert not any(verdict(list(of_retrain.values())).values())
    for name in ("held_out", "rmia", "iam"):
        assert of_original[name].unlearned.low > 0.5
        assert of_original[name].unlearned.value == pytest.approx(of_original[name].original.value)


def test_of_the_original_as_the_model_ceiling_and_figure_are_one(of_original):
    for name in ("held_out", "retrain", "relearning", "rmia", "iam"):
        assert of_original[name].unlearned.value == pytest.approx(of_original[name].original.value), name


def iam_of(models, retrains, unlearned):
    run = run_of(models, unlearned, retrains)
    margins = {name: run.predictions(name, "forget").margin for name in run.models}
    theirs = [margins[name] for name in run.of_retrains]
    rng = np.random.default_rng([23, *b"iam"])
    return iam(margins["unlearned"], margins["original"], theirs, run.labels("forget"), rng)


@pytest.mark.parametrize("name", ["iam", "relearning"])
def test_the_floor_is_each_retrain_as_the_model_with_the_others(models, of_retrain, name):
    floor = [AUDIT_OF[name](run_of(models, k, [i for i in (1, 2, 3) if i != k])).unlearned.value for k in (1, 2, 3)]
    np.testing.assert_allclose(of_retrain[name].floor, (min(floor), max(floor)))
    if name == "iam":
        drawn = iam_of(models, (1, 2, 3), 4).auc.smallest / 2.8
        spread = max(np.std(floor, ddof=1) * 2 / 3, drawn / (4 / 3) ** 0.5)
        over_seeds, wanted = one_more(of_retrain[name].unlearned.value, np.array(floor), least=spread, each_other=True)
        assert of_retrain[name].p_value == pytest.approx(wanted)
        assert of_retrain[name].unlearned.smallest == pytest.approx(over_seeds.smallest)


def test_what_retrains_differ_by_says_how_small_an_effect_closeness_to_retrain_finds(of_retrain):
    found = of_retrain["retrain"]
    assert found.unlearned.smallest == found.details["forget"]["over_seeds"]["smallest"]
    assert found.unlearned.smallest > found.details["forget"]["margin"]["figure"]["smallest"]  # over rows


def test_the_floor_of_rmia_keeps_the_scale_of_all(models, of_retrain):
    scale, floor = of_retrain["rmia"].details["scale"], []
    for k in (1, 2, 3):
        others = [f"retrain {i - 1}" for i in (1, 2, 3) if i != k]
        run = run_of(models, 4)
        both = (run.margins(f"retrain {k - 1}", of, others) for of in ("forget", "test"))
        floor.append(rmia(*both, scale, np.random.default_rng(0), resamples=10).auc.value)
    np.testing.assert_allclose(of_retrain["rmia"].floor, (min(floor), max(floor)))


def test_relearning_is_that_of_each_model_alike(models, of_retrain):
    details = of_retrain["relearning"].details
    recipe = relearning.relearning_recipe(CONFIG.training)
    for state, found in ((models[4], details["forget"]["unlearned"]), (models[2], details["forget"]["retrain"][1])):
        curve = relearning.relearn(
            state, SOURCE, SPLITS.remain, run_of(models, 4).rows, recipe, jax.random.key(23), augment="none"
        )
        np.testing.assert_allclose(found, curve.forget)
    excess = np.array(details["forget"]["unlearned"]) - np.mean(details["forget"]["retrain"], axis=0)
    np.testing.assert_allclose(details["excess"], excess, atol=1e-9)


def test_relearning_is_tested_by_rmia_on_the_models_that_were_trained_on(models, of_original, of_retrain):
    def after(state):
        recipe, rows = relearning.relearning_recipe(CONFIG.training), SOURCE.rows(SPLITS.remain)
        params = train(SPEC.apply_fn, state.params, {}, rows, recipe, jax.random.key(23)).state.params
        return make_state(SPEC.apply_fn, params, {}, SGD, jax.random.key(0))

    again = run_of([after(state) for state in models], 4)
    names = again.of_retrains
    both = [again.margins("unlearned", of, names) for of in ("forget", "test")]
    scale = chosen_scale(*(again.margins("original", of, names) for of in ("forget", "test")))
    wanted = rmia(*both, scale, np.random.default_rng(0))
    found = of_retrain["relearning"]
    assert found.details["rmia"]["auc"]["value"] == pytest.approx(wanted.auc.value)
    assert found.p_value == pytest.approx(wanted.p_value, abs=0.08)  # other permutations
    assert of_original["relearning"].p_value < 0.01  # of accuracy's spread over three Retrains nothing would follow


def normalising(params, model_state, images, train):
    """The small model, of images less their running mean."""
    mean = images.mean() if train else model_state["mean"]
    after = {"mean": 0.9 * model_state["mean"] + 0.1 * images.mean()} if train else model_state
    return SPEC.apply_fn(params, {}, images - mean + 0.5, train)[0], after


def test_recalibration_is_tested_by_the_change_of_the_margin_over_seeds(models):
    states = [
        make_state(normalising, model.params, {"mean": np.float32(mean)}, SGD, jax.random.key(0))
        for model, mean in zip(models, (0.5, 0.5, 0.53, 0.56, 0.8), strict=True)
    ]
    run, images = run_of(states, 4), SOURCE.images[SPLITS.forget] / np.float32(255)
    finding, changes = AUDIT_OF["recalibration"](run), {}
    for name, state in run.models.items():
        rows, labels = SOURCE.rows(SPLITS.remain), SOURCE.labels[SPLITS.forget]
        refit = recalibrate(normalising, state.params, state.model_state, rows, jax.random.key(23))
        logits = [normalising(state.params, one, images, False)[0] for one in (state.model_state, refit.model_state)]
        before, after = (predictions(np.asarray(one), labels).margin for one in logits)
        changes[name] = after - before
    theirs, found = np.array([changes[name] for name in run.of_retrains]), finding.details["margin"]
    means = [changes["unlearned"].mean(), *theirs.mean(axis=1)]
    np.testing.assert_allclose([found["unlearned"], *found["retrain"]], means, atol=1e-5)
    spread = np.std(means[1:], ddof=1), (theirs.var(axis=0, ddof=1).mean() / 60) ** 0.5
    statistic = (means[0] - np.mean(means[1:])) / max(spread) / (4 / 3) ** 0.5
    assert finding.p_value == pytest.approx(2 * t.sf(abs(statistic), 2), rel=1e-2)
    sets = finding.details["sets"]["forget"]
    assert finding.unlearned.value == sets["unlearned"]["change"]["value"]


def test_what_needs_retrains_says_so(models):
    none, single = run_of(models, 0, ()), run_of(models, 0, (1,))
    assert {name for name, audit in AUDIT_OF.items() if audit(none).not_done} == {*AUDIT_OF} - {"held_out"}
    assert {name for name, audit in AUDIT_OF.items() if audit(single).not_done} == {"iam", "recalibration"}
    assert AUDIT_OF["rmia"](single).floor is None and AUDIT_OF["retrain"](single).p_value is None
    assert AUDIT_OF["held_out"](none).p_value < 0.05


def test_of_chosen_rows_the_p_value_is_that_of_one_more_retrain(models):
    chosen = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, forget_kind="class"))
    run = run_of(models, 0, config=chosen)
    for name in ("held_out", "rmia"):
        finding = AUDIT_OF[name](run)
        own = [finding.unlearned.value, *finding.floor]
        assert finding.p_value != AUDIT_OF[name](run_of(models, 0)).p_value
        assert 0 < finding.p_value < 1, own


def test_findings_are_json(of_original):
    for finding in of_original.values():
        text = json.dumps(as_json(finding), allow_nan=False)
        assert json.loads(text)["audit"] == finding.audit


@pytest.mark.parametrize(
    "values, rejected",
    [
        ((0.012, 0.016, 0.024, 0.2), (True, True, True, False)),
        ((0.013, 0.014, 0.015, 0.016), (False, False, False, False)),  # the smallest is above 5 % / 4
        ((0.2, 0.017, 0.024, 0.001), (False, False, False, True)),  # .017 is above 5 % / 3, so .024 is not looked at
        ((0.049, 0.0001, 0.0001, 0.0001), (True, True, True, True)),
    ],
)
def test_a_verdict_is_holms_and_has_nothing_to_say_without_a_p_value(values, rejected):
    names = ["held_out", "rmia", "iam", "retrain"]
    findings = [Finding(name, Figure(0.5, 0.4, 0.6, 0.1), p_value=p) for name, p in zip(names, values, strict=True)]
    found = verdict([missing("canaries", "no"), *findings])
    assert found == {"canaries": None, **dict(zip(names, rejected, strict=True))}


def test_every_audit_says_what_it_claims_and_what_not():
    for name, audit in AUDITS.items():
        assert audit.claims.endswith(".") and audit.does_not.endswith("."), name
        assert audit.level in (0, 1, 2)
