"""The audits of answers: each figure of the right model, with ceiling, floor and p-value; on models trained here."""

import dataclasses
import math

import jax
import mlp
import numpy as np
import pytest
from scipy.stats import nct, t
from small import small_config

from ltu_jax.auditing import by_answers, relearning
from ltu_jax.auditing.audited import Audited
from ltu_jax.auditing.findings import verdict
from ltu_jax.auditing.iam import iam
from ltu_jax.auditing.intervals import one_more
from ltu_jax.auditing.rmia import Margins, chosen_scale, rmia
from ltu_jax.auditing.run import AUDIT_OF
from ltu_jax.config import Training
from ltu_jax.training.jobs import RELEARN
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.supervised import train
from ltu_jax.types import Splits, make_state

SOURCE = mlp.toy_source(num_rows=240, num_test=160, side=4)
SPEC = mlp.build(None, 4, (4, 4, 3))
SPLITS = Splits(*(np.arange(i, j) for i, j in ((0, 60), (60, 220), (220, 230), (240, 400), (230, 240), (400, 400))))
BASE = small_config()
CONFIG = dataclasses.replace(BASE, training=dataclasses.replace(BASE.training, epochs=80, learning_rate=0.5))
KEY = jax.random.fold_in(jax.random.key(23), RELEARN)  # of training on


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


def margins(run, model, of, references):
    theirs = np.array([run.outputs[name].rows[of].margin for name in references])
    return Margins(run.outputs[model].rows[of].margin, theirs, run.labels(of))


def aucs_by_hand(run):
    """Of each model: P[margin of a forget row > of a held-out one], held-out rows weighted to the forget classes."""
    found, labels = {}, {of: run.labels(of) for of in ("forget", "test")}
    shares = np.bincount(labels["forget"], minlength=4) / np.bincount(labels["test"], minlength=4)
    for name in run.models:
        one, other = (run.outputs[name].rows[of].margin for of in ("forget", "test"))
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
    np.testing.assert_allclose(quantiles["forget"][50], np.sort(run.outputs["unlearned"].rows["forget"].margin)[29])
    np.testing.assert_allclose(quantiles["original"][0], run.outputs["original"].rows["forget"].margin.min())
    np.testing.assert_allclose(quantiles["held_out"][100], run.outputs["unlearned"].rows["test"].margin.max())


def test_a_roc_is_the_largest_tpr_at_a_measured_fpr(models):
    run = run_of(models, 0)
    roc = AUDIT_OF["held_out"](run).details["roc"]["unlearned"]
    one, other = (run.outputs["unlearned"].rows[of].margin for of in ("forget", "test"))
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


@pytest.mark.parametrize("name", ["iam", "relearning"])
def test_the_floor_is_each_retrain_as_the_model_with_the_others(models, of_retrain, name):
    floor = [AUDIT_OF[name](run_of(models, k, [i for i in (1, 2, 3) if i != k])).unlearned.value for k in (1, 2, 3)]
    np.testing.assert_allclose(of_retrain[name].floor, (min(floor), max(floor)))
    if name == "iam":
        own = run_of(models, 4)
        theirs = [own.outputs[one].rows["forget"].margin for one in own.of_retrains]
        both = (own.outputs[one].rows["forget"].margin for one in ("unlearned", "original"))
        drawn = iam(*both, theirs, own.labels("forget"), np.random.default_rng([23, *b"iam"])).auc.smallest / 2.8
        spread = max(np.std(floor, ddof=1) * 2 / 3, drawn / (4 / 3) ** 0.5)
        over_seeds, wanted = one_more(of_retrain[name].unlearned.value, np.array(floor), least=spread, each_other=True)
        assert of_retrain[name].p_value == pytest.approx(wanted)
        assert of_retrain[name].unlearned.smallest == pytest.approx(over_seeds.smallest)


def test_what_retrains_differ_by_says_how_small_an_effect_closeness_to_retrain_finds(of_retrain):
    found = of_retrain["retrain"]
    assert found.unlearned.smallest == found.details["forget"].over_seeds.smallest
    assert found.unlearned.smallest > found.details["forget"].margin.figure.smallest  # over rows


def test_rmia_chooses_its_scale_on_the_original_alone(models, monkeypatch):
    run, asked = run_of(models, 4), []
    monkeypatch.setattr(by_answers, "chosen_scale", lambda forget, others: asked.append((forget, others)) or 0.3)
    found = AUDIT_OF["rmia"](run)
    [(forget, others)] = asked
    for one, of in ((forget, "forget"), (others, "test")):
        np.testing.assert_array_equal(one.target, run.outputs["original"].rows[of].margin)
    assert found.details["scale"] == 0.3
    both = (margins(run, "unlearned", of, run.of_retrains) for of in ("forget", "test"))
    assert found.unlearned.value == rmia(*both, 0.3, np.random.default_rng(0), resamples=10).auc.value


def test_relearning_is_tested_by_rmia_on_the_models_that_were_trained_on(models, of_original, of_retrain):
    def after(state):
        recipe, rows = relearning.relearning_recipe(CONFIG.training), SOURCE.rows(SPLITS.remain)
        params = train(SPEC.apply_fn, state.params, {}, rows, recipe, KEY).state.params
        return make_state(SPEC.apply_fn, params, {}, SGD, jax.random.key(0))

    again = run_of([after(state) for state in models], 4)
    both = [margins(again, "unlearned", of, again.of_retrains) for of in ("forget", "test")]
    scale = chosen_scale(*(margins(again, "original", of, again.of_retrains) for of in ("forget", "test")))
    wanted, found = rmia(*both, scale, np.random.default_rng(0)), of_retrain["relearning"]
    assert found.details["rmia"]["auc"].value == pytest.approx(wanted.auc.value)
    assert found.p_value == pytest.approx(wanted.p_value, abs=0.08)  # other permutations
    assert of_original["relearning"].p_value < 0.01  # of accuracy's spread over three Retrains nothing would follow


def test_the_floor_of_rmia_keeps_the_scale_of_all(models, of_retrain):
    scale, floor, run = of_retrain["rmia"].details["scale"], [], run_of(models, 4)
    both = (margins(run, "original", of, run.of_retrains) for of in ("forget", "test"))
    assert scale == chosen_scale(*both)
    for k in (1, 2, 3):
        others = [f"retrain {i - 1}" for i in (1, 2, 3) if i != k]
        run = run_of(models, 4)
        both = (margins(run, f"retrain {k - 1}", of, others) for of in ("forget", "test"))
        floor.append(rmia(*both, scale, np.random.default_rng(0), resamples=10).auc.value)
    np.testing.assert_allclose(of_retrain["rmia"].floor, (min(floor), max(floor)))


def test_what_needs_retrains_says_so(models):
    none, single = run_of(models, 0, ()), run_of(models, 0, (1,))
    assert {name for name, audit in AUDIT_OF.items() if audit(none).not_done} == {*AUDIT_OF} - {"held_out"}
    assert {name for name, audit in AUDIT_OF.items() if audit(single).not_done} == {"iam", "recalibration"}
    assert AUDIT_OF["held_out"](single).floor is None  # one Retrain is no range
    assert AUDIT_OF["rmia"](single).floor is None and AUDIT_OF["retrain"](single).p_value is None
    assert AUDIT_OF["held_out"](none).p_value < 0.05


def test_of_chosen_rows_p_value_and_smallest_effect_are_those_of_one_more_retrain(models):
    chosen = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, forget_kind="class"))
    run = run_of(models, 0, config=chosen)
    for name in ("held_out", "rmia"):
        finding = AUDIT_OF[name](run)
        own = [finding.unlearned.value, *finding.floor]
        assert finding.p_value != AUDIT_OF[name](run_of(models, 0)).p_value
        mean = finding.unlearned.value - finding.tested  # of Retrains, whatever lies beyond 1/2
        assert finding.floor[0] <= mean <= finding.floor[1] and 0 < finding.p_value < 1, own
        errors = finding.unlearned.smallest * t.isf(finding.p_value / 2, 2) / abs(finding.tested)
        assert nct.sf(t.isf(0.025, 2), 2, errors) == pytest.approx(0.8)  # of the smallest effect, by Student's test
    single = run_of(models, 0, (1,), config=chosen)
    assert math.isnan(AUDIT_OF["held_out"](single).unlearned.smallest)  # one Retrain: no test
