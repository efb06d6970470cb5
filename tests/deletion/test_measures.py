"""The figures of the evidence, against NumPy."""

import json

import numpy as np
import pytest

from ltu_jax.deletion.measures import evidence, figures
from ltu_jax.evaluation.likeness import Predictions, attack_auc


def made(count, right, seed, num_classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count)
    return Predictions(labels, rng.random(count) < right, rng.random(count), rng.normal(right, 1, count))


@pytest.fixture
def after():
    return {"forget": made(60, 0.7, 0), "remain": made(150, 0.95, 1), "held_out": made(200, 0.8, 2)}


def test_each_figure_stands_with_an_interval_that_binomial_sampling_would_give(after):
    found = figures(after)
    for name, count in (("forget", 60), ("remain", 150), ("held_out", 200)):
        value, low, high = found[f"{name}_accuracy"]
        assert np.isclose(value, 100 * after[name].correct.mean())  # in whole rows as it is
        p = value / 100
        assert np.isclose((high - low) / 2, 196 * np.sqrt(p * (1 - p) / count), rtol=0.15)
        assert low < value < high
    assert np.isclose(found["attack_auc"][0], attack_auc(after["forget"], after["held_out"]), atol=0.5 / 60)


def test_a_figure_is_told_no_finer_than_one_row_counts(after):
    """Who has the old model could else try which of the rows they know give this very figure."""
    for name, (value, low, high) in figures(after).items():
        count = {"remain": 150, "held_out": 200}.get(name.rsplit("_", 1)[0], 60)
        unit = 1 if name.endswith("auc") else 100
        steps = np.array([value, low, high]) * count / unit
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=name)
    alone = {**after, "forget": after["forget"].at(np.array([0]))}
    found = figures(alone)
    assert {found[name][0] for name in ("forget_confidence", "attack_ks")} <= {0.0, 100.0}
    assert found["attack_auc"][0] in (0.0, 1.0)


def test_what_chance_makes_of_the_attacker_is_told_to_a_tenth(after):
    """Smirnov's critical value: 1.36 times the root of 1/50 + 1/200, in percent."""
    fifty = {**after, "forget": after["forget"].at(np.arange(50))}
    assert evidence(None, fifty)["chance_ks"] == pytest.approx(136 * np.sqrt(1 / 50 + 1 / 200), abs=0.051)
    few = {name: one.at(np.arange(3)) for name, one in after.items()}
    assert evidence(None, few)["chance_ks"] == 100.0


def test_few_rows_of_a_class_are_not_counted_and_those_without_a_stranger_are(after):
    few = after["forget"].at(np.flatnonzero(after["forget"].labels != 2)[:20])
    few = few._replace(labels=np.where(np.arange(20) < 3, 2, few.labels))
    nobody = after["held_out"].at(np.flatnonzero(after["held_out"].labels != 2))
    shown = evidence(None, {**after, "forget": few, "held_out": nobody})
    counts = np.bincount(few.labels)
    # the total would tell of one that is left out alone, so another is left out too
    assert counts[2] == 3 and sorted(counts)[1] >= 5 and shown["not_compared"] == 3
    assert [row["forgotten"] for row in shown["classes"]] == [c if c == counts.max() else None for c in counts]
    same = evidence(None, {**after, "forget": few.at(np.arange(3, 20)), "held_out": nobody})
    assert np.isclose(shown["after"]["attack_auc"][0], same["after"]["attack_auc"][0], atol=1 / 17)


@pytest.mark.slow
def test_the_interval_of_the_auc_covers_the_truth_as_often_as_it_says():
    """Against normal samples whose AUC is known: Phi(shift / sqrt 2)."""
    from scipy.stats import norm

    hit = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one = [
            Predictions(np.zeros(n, int), np.ones(n, bool), np.ones(n), rng.normal(m, 1, n))
            for n, m in ((40, 0.5), (80, 0.0))
        ]
        _, low, high = figures({"forget": one[0], "held_out": one[1]})["attack_auc"]
        hit += low <= norm.cdf(0.5 / 2**0.5) <= high
    assert hit >= 34  # 38 expected


def test_evidence_is_the_same_every_time_and_fit_for_json(after):
    before = {name: made(len(one.labels), 1.0, 9) for name, one in after.items()}
    one, two = (evidence(before, after, ("cat", "dog", "eel")) for _ in range(2))
    assert one == two and json.loads(json.dumps(one)) == one
    assert one["rows"] == {"forget": 60, "remain": 150, "held_out": 200}
    assert [row["name"] for row in one["classes"]] == ["cat", "dog", "eel"]
    here = after["held_out"].labels == 1
    assert one["classes"][1]["held_out"][1] == round(100 * after["held_out"].correct[here].mean())  # in whole points
    assert one["classes"][1]["forgotten"] == np.sum(after["forget"].labels == 1)


def test_without_the_model_before_its_figures_are_empty(after):
    found = evidence(None, after)
    assert found["before"] is None and all(row["remain"][0] is None for row in found["classes"])


def test_a_class_is_not_told_of_for_a_forgotten_row_alone(after):
    nowhere = {name: one.at(np.flatnonzero(one.labels != 2)) for name, one in after.items() if name != "forget"}
    assert [row["label"] for row in evidence(None, {**after, **nowhere})["classes"]] == [0, 1]


def test_what_chance_alone_makes_says_nothing_of_the_classes(after):
    rare = after["forget"]._replace(labels=np.zeros(60, int))
    one, two = (evidence(None, {**after, "forget": forget})["chance_ks"] for forget in (after["forget"], rare))
    assert one == two == round(136 * np.sqrt(1 / 60 + 1 / 200), 1)
    alone = evidence(None, {**after, "forget": after["forget"].at(np.array([0]))})
    assert alone["chance_ks"] == 100


def test_earlier_requests_are_measured_again(after):
    found = figures({**after, "earlier": made(30, 0.9, 5)})
    assert {"earlier_accuracy", "earlier_attack_auc", "earlier_attack_ks"} <= set(found)
