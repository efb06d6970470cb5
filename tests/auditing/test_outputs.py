"""Audits of files against NumPy and scikit-learn; what is caught and what is not; a fresh process without JAX."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from made_outputs import SIZES, C, made_outputs
from sklearn.metrics import roc_auc_score, roc_curve

import ltu_jax
from ltu_jax.auditing.by_answers import NO_RETRAIN
from ltu_jax.auditing.outputs import audit_outputs
from ltu_jax.setting import ConfigError

KEPT = 2.0
"""Nats that the original has on its forget rows above what a Retrain has."""


@pytest.fixture(scope="module")
def three():
    """An unlearned model of which a quarter is left, the original, three Retrains."""
    retrains = [made_outputs(model) for model in (1, 2, 3)]
    return audit_outputs(made_outputs(0, KEPT / 4), retrains, made_outputs(4, KEPT), resamples=200)


def of(audit, name):
    (found,) = [one for one in audit["findings"] if one["audit"] == name]
    return found


def margins(model, rows, shift=0.0):
    return made_outputs(model, shift, margins=True)[rows]


def log_p(margin):
    return scipy.special.log_expit(margin)


def weights_of_held_out():
    classes = [made_outputs(0)[f"{rows}_labels"] for rows in ("forget", "held_out")]
    counts = [np.bincount(one, minlength=C) for one in classes]
    return (counts[0] / counts[1])[classes[1]]


def weighted_auc(forget, held_out):
    """AUC of scores, held-out rows weighted so that each class has the share that it has of the forget rows."""
    weights = np.concatenate([np.ones(len(forget)), weights_of_held_out()])
    return roc_auc_score(
        np.repeat([1, 0], [len(forget), len(held_out)]), np.r_[forget, held_out], sample_weight=weights
    )


def test_forget_rows_are_compared_with_held_out_ones_under_each_model(three):
    found = of(three, "held_out")

    def expected(model, shift=0.0):
        return weighted_auc(margins(model, "forget", shift), margins(model, "held_out"))

    assert found["unlearned"]["value"] == pytest.approx(expected(0, KEPT / 4))
    assert found["original"]["value"] == pytest.approx(expected(4, KEPT))
    floor = [expected(model) for model in (1, 2, 3)]
    assert found["floor"] == pytest.approx([min(floor), max(floor)])
    details, arrays = found["details"], made_outputs(0, KEPT / 4)
    accuracy = [
        100 * np.average(arrays[rows].argmax(axis=1) == arrays[f"{rows}_labels"], weights=weights)
        for rows, weights in (("forget", None), ("held_out", weights_of_held_out()))
    ]
    assert details["accuracy"]["value"] == pytest.approx(accuracy[0] - accuracy[1])
    np.testing.assert_allclose(details["margins"]["forget"][50], np.median(margins(0, "forget", KEPT / 4)), atol=0.05)
    assert details["margins"]["retrain"][0] == pytest.approx(min(margins(model, "forget").min() for model in (1, 2, 3)))
    order = np.argsort(margins(0, "held_out"))
    below = np.cumsum(weights_of_held_out()[order]) / weights_of_held_out().sum()
    median = margins(0, "held_out")[order][np.searchsorted(below, 0.5)]
    assert details["margins"]["held_out"][50] == pytest.approx(median)
    assert len(details["margins"]["held_out"]) == len(details["margins"]["original"]) == 101
    for name, curve in details["roc"].items():  # the area under the thinned curve
        area = np.trapezoid(curve["tpr"], curve["fpr"])
        auc = {"unlearned": found["unlearned"], "original": found["original"]}.get(name, {"value": np.mean(floor)})
        assert area == pytest.approx(auc["value"], abs=0.02)


def test_answers_are_compared_with_those_of_retrains(three):
    found, retrains = of(three, "retrain"), [margins(model, "forget") for model in (1, 2, 3)]
    mean = np.mean([margins(0, "forget", KEPT / 4) - one for one in retrains])
    assert found["unlearned"]["value"] == pytest.approx(mean)
    assert found["original"]["value"] == pytest.approx(np.mean([margins(4, "forget", KEPT) - one for one in retrains]))
    pairs = [abs(np.mean(a - b)) for a, b in itertools.combinations(retrains, 2)]
    assert found["floor"] == pytest.approx([-max(pairs), max(pairs)])
    means = np.mean(retrains, axis=1)
    of_rows = np.sqrt(np.var(retrains, axis=0, ddof=1).mean() / len(retrains[0]))  # rows that move on their own
    spread = max(means.std(ddof=1), of_rows)
    t = (margins(0, "forget", KEPT / 4).mean() - means.mean()) / (spread * np.sqrt(4 / 3))
    assert found["p_value"] == pytest.approx(2 * scipy.special.stdtr(2, -abs(t)))
    assert set(found["details"]) == {"forget", "remain", "test"}
    right = [made_outputs(model)["test"].argmax(axis=1) for model in (0, 1, 2, 3)]
    same = [100 * np.mean(right[0] == one) for one in right[1:]]
    assert found["details"]["test"]["agreement"]["figure"]["value"] == pytest.approx(np.mean(same))


def test_rmia_takes_the_references_in_pairs(three):
    found = of(three, "rmia")
    a = found["details"]["scale"]

    def ratios(rows, target, references):
        """For each pair of references."""
        pairs = itertools.combinations(references, min(2, len(references)))
        p = np.array([np.mean([np.exp(log_p(margins(one, rows))) for one in pair], axis=0) for pair in pairs])
        return log_p(margins(target[0], rows, *target[1:])) - np.log(((1 + a) * p + 1 - a) / 2)

    def auc(*of):
        return np.mean(
            [weighted_auc(*both) for both in zip(ratios("forget", *of), ratios("held_out", *of), strict=True)]
        )

    assert found["unlearned"]["value"] == pytest.approx(auc((0, KEPT / 4), (1, 2, 3)))
    assert found["original"]["value"] == pytest.approx(auc((4, KEPT), (1, 2, 3)))
    retrains = [((one,), [other for other in (1, 2, 3) if other != one]) for one in (1, 2, 3)]
    floor = [auc(*one) for one in retrains]
    assert found["floor"] == pytest.approx([min(floor), max(floor)])
    mean = [np.concatenate([ratios(rows, *one).mean(axis=0) for one in retrains]) for rows in ("forget", "held_out")]
    weights = np.concatenate([np.ones(len(mean[0])), np.tile(weights_of_held_out(), 3)])
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], list(map(len, mean))), np.concatenate(mean), sample_weight=weights)
    curve = found["details"]["roc"]["retrain"]
    np.testing.assert_allclose(curve["tpr"], [tpr[fpr <= x + 1e-9].max() for x in curve["fpr"]])


def test_rmia_of_no_original_is_the_ratio_itself():
    found = of(audit_outputs(made_outputs(0, 1), [made_outputs(1)], resamples=100), "rmia")
    ratios = [log_p(margins(0, rows, 1)) - log_p(margins(1, rows)) for rows in ("forget", "held_out")]
    assert found["unlearned"]["value"] == pytest.approx(weighted_auc(*ratios))
    assert (found["original"], found["floor"], found["details"]["scale"]) == (None, None, 1.0)


def test_iam_lies_between_retrain_and_original(three):
    found = of(three, "iam")
    floor = found["floor"]
    assert floor[0] <= 0.5 <= floor[1] < found["unlearned"]["value"] < found["original"]["value"]
    details = found["details"]
    assert max(details["retrain"]) < details["confidence"]["value"] < details["original"]
    assert len(details["retrain"]) == 3 and set(details["quantiles"]) == {"unlearned", "original", "retrain"}


def test_the_verdict_is_holms_over_what_has_a_p_value(three):
    p_values = {one["audit"]: one["p_value"] for one in three["findings"] if one["p_value"] is not None}
    assert set(p_values) == {"held_out", "retrain", "rmia", "iam"}
    ranked = sorted(p_values, key=lambda name: p_values[name])
    is_small = [p_values[name] <= 0.05 / (4 - k) for k, name in enumerate(ranked)]
    assert three["verdict"] == {name: all(is_small[: k + 1]) for k, name in enumerate(ranked)}
    assert three["verdict"]["rmia"] is True  # half a nat of 120 rows
    assert three["rows"] == SIZES and three["run"]["forget"]["count"] == SIZES["forget"]


def test_a_retrain_is_not_told_and_a_model_that_forgot_too_much_is():
    retrains = [made_outputs(model) for model in (1, 2, 3)]
    fresh, below = (audit_outputs(made_outputs(9, shift), retrains, resamples=400) for shift in (0.0, -1.0))
    assert not any(fresh["verdict"].values()) and len(fresh["verdict"]) == 4
    assert all(below["verdict"].values()) and len(below["verdict"]) == 4
    assert of(below, "rmia")["unlearned"]["high"] < 0.5 and of(below, "retrain")["unlearned"]["high"] < 0


def test_what_is_not_there_is_not_made_and_says_why():
    alone = audit_outputs(made_outputs(0, sets=("forget", "held_out")), resamples=100)
    assert [one["not_done"] for one in alone["findings"]] == [None, *[NO_RETRAIN] * 3]
    assert alone["level"] == 0 and alone["verdict"] == {"held_out": False, "retrain": None, "rmia": None, "iam": None}
    retrains = [made_outputs(1), made_outputs(2, margins=True)]
    some = audit_outputs(made_outputs(0), retrains, resamples=100)
    assert of(some, "retrain")["not_done"] == "margins alone were given, and it needs the logits of all models"
    assert of(some, "iam")["unlearned"]["value"] and of(some, "iam")["floor"] is None
    one = audit_outputs(made_outputs(0), retrains[:1], resamples=100)
    assert of(one, "retrain")["p_value"] is None and of(one, "retrain")["floor"] is None
    assert "there is one alone" in of(one, "iam")["not_done"] and of(one, "iam")["details"]["confidence"]["value"]
    margins_alone = audit_outputs(made_outputs(0, margins=True), resamples=100)
    assert "accuracy" not in of(margins_alone, "held_out")["details"]


def test_forget_rows_of_a_class_that_is_not_held_out_are_left_out_and_counted():
    target = made_outputs(0)
    kept = target["held_out_labels"] != 2
    target |= {"held_out": target["held_out"][kept], "held_out_labels": target["held_out_labels"][kept]}
    count = int(np.sum(target["forget_labels"] == 2))
    audit = audit_outputs(target, resamples=100)
    assert f"held_out and rmia leave out {count} forget rows" in audit["notes"][-1]
    assert of(audit, "held_out")["details"]["forget_rows"] == SIZES["forget"] - count


def test_the_same_seed_is_the_same_and_json_holds_it(three):
    given = made_outputs(0, KEPT / 4), [made_outputs(model) for model in (1, 2, 3)], made_outputs(4, KEPT)
    again, other = (audit_outputs(*given, seed=seed, resamples=200) for seed in (0, 1))
    assert json.loads(json.dumps(again, allow_nan=False))["findings"] == three["findings"]
    assert of(other, "held_out")["unlearned"]["low"] != of(three, "held_out")["unlearned"]["low"]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"seed": -1}, "seed: -1 is out of range; allowed: a whole number >= 0"),
        ({"resamples": 99}, "resamples: 99 is out of range; allowed: a whole number >= 100"),
        ({"resamples": True}, "resamples: True is out of range; allowed: a whole number >= 100"),
        ({"references": "retrain.npz"}, "references: 'retrain.npz' is one model; allowed: a list, of one or more"),
        ({"original": "gone.npz"}, "original: 'gone.npz' cannot be read (no such file); allowed: a .npz"),
        (
            {"references": [made_outputs(0)]},
            "references[0]: arrays answers as target: arrays does, bit for bit; allowed",
        ),
    ],
)
def test_mistakes_are_one_line(given, message):
    with pytest.raises(ConfigError) as error:
        audit_outputs(made_outputs(0), **given)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_it_needs_no_jax(tmp_path):
    """A pair of files, from a fresh process where neither JAX nor Flax can be imported, up to the page."""
    for name, arrays in (("target", made_outputs(0)), ("retrain", made_outputs(1))):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    code = "import sys; sys.modules |= dict.fromkeys(('jax', 'flax', 'optax')); import json, ltu_jax; "
    code += "print(json.dumps(ltu_jax.audit_outputs('target.npz', ['retrain.npz'], resamples=100)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    audit = json.loads(done.stdout)
    assert audit["run"]["method"] == "target.npz" and audit["provenance"]["files"][1].startswith("references[0]: 'retr")
    assert audit["findings"] == ltu_jax.audit_outputs(made_outputs(0), [made_outputs(1)], resamples=100)["findings"]
