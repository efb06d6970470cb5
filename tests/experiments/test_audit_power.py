"""Who is caught: targets are what they say, no Retrain is its own reference, and the table counts right."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from small import small_config

from experiments import audit_power
from ltu_jax.auditing.findings import Finding
from ltu_jax.auditing.intervals import Figure
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Splits, make_state

SOURCE = mlp.toy_source()
SPLITS = Splits(*(np.arange(i, j) for i, j in ((0, 40), (40, 100), (100, 110), (120, 160), (110, 120), (160, 160))))
SPEC = mlp.build(None, 4, (4, 4, 3))


def averaging(params, model_state, images, train):
    """A model whose running mean moves a tenth of the way to a batch's; in evaluation mode it is subtracted."""
    mean = images.mean() if train else model_state["mean"]
    after = {"mean": 0.9 * model_state["mean"] + 0.1 * mean} if train else model_state
    return SPEC.apply_fn(params, {}, images - mean, train)[0], after


def state(seed, mean=0.5):
    params, _ = SPEC.init(jax.random.key(seed))
    return make_state(averaging, params, {"mean": jnp.float32(mean)}, SGD, jax.random.key(9))


def problem():
    return types.SimpleNamespace(
        config=small_config(), source=SOURCE, splits=SPLITS, original=state(0), retrains=tuple(map(state, range(1, 5)))
    )


@pytest.fixture
def seen(monkeypatch):
    """The audited models in place of audits: (target, references)."""
    runs = []

    def audit(run):
        runs.append((run.unlearned, run.retrains))
        return Finding("held_out", Figure(0.6, 0.5, 0.7, 0.1), Figure(0.9, 0.8, 1, 0.1), (0.4, 0.5), 0.03)

    monkeypatch.setattr(audit_power, "AUDIT_OF", {"held_out": audit})
    monkeypatch.setattr(audit_power, "TARGETS", {"original": lambda of_method: of_method("ltu", {}).original})
    made = problem()
    monkeypatch.setattr(audit_power, "prepare", lambda config, **_: made)
    return made, runs


def test_a_retrain_is_compared_with_the_others_and_all_else_with_the_first_three(seen, tmp_path):
    made, runs = seen
    rows = [row for rows in audit_power.audited("experiments/configs/digits.py", 3, tmp_path, set()) for row in rows]
    assert [row["target"] for row in rows] == ["original", *(f"Retrain {k}" for k in range(4))]
    assert runs[0] == (made.original, made.retrains[:3])
    for k in range(4):
        others = [made.retrains[i] for i in range(4) if i != k]
        assert runs[1 + k][0] is made.retrains[k] and all(a is b for a, b in zip(runs[1 + k][1], others, strict=True))
    assert rows[0] | {"seconds": 0, "seconds_of_target": 0} == {
        "seed": 3, "target": "original", "audit": "held_out", "figure": 0.6, "interval": [0.5, 0.7], "ceiling": 0.9,
        "floor": (0.4, 0.5), "tested": 0.6, "smallest": 0.1, "p_value": 0.03, "seconds": 0, "seconds_of_target": 0,
    }  # fmt: skip


def test_what_is_there_is_not_made_again(seen, tmp_path):
    _, runs = seen
    done = {"original", "Retrain 0", "Retrain 2"}
    rows = [row for rows in audit_power.audited("experiments/configs/digits.py", 0, tmp_path, done) for row in rows]
    assert [row["target"] for row in rows] == ["Retrain 1", "Retrain 3"] and len(runs) == 2


def test_what_an_audit_tests_beside_its_main_figure_is_found_in_its_details():
    details = {
        "margin": {"over_seeds": Figure(1.5, 1, 2, 0.2)},
        "rmia": {"auc": {"value": 0.7, "smallest": 0.1}},  # as JSON
    }
    for audit, wanted in (("recalibration", (1.5, 0.2)), ("relearning", (0.7, 0.1)), ("retrain", (3.0, 4.0))):
        finding = Finding(audit, Figure(3.0, 2, 5, 4.0), Figure(0, 0, 0, 0), (0, 1), 0.5, details=details)
        row = audit_power.row_of(finding)
        assert (row["tested"], row["smallest"], row["figure"]) == (*wanted, 3.0)


def test_spoilt_statistics_are_those_of_so_many_batches_of_negatives_and_weights_stay(monkeypatch):
    made, asked = problem(), []
    made.source = dataclasses.replace(SOURCE, images=SOURCE.images // 2)  # dark, so that negatives are bright

    def third(of_method, states):
        asked.extend(one for _, one in zip(range(3), states, strict=False))
        return asked[-1]

    monkeypatch.setattr(audit_power, "_first", third)
    spoilt = audit_power.spoilt_statistics(lambda method, fields: made)
    assert all(np.array_equal(spoilt.params[name], made.original.params[name]) for name in spoilt.params)
    negatives = 1 - made.source.images[SPLITS.forget].mean(axis=(1, 2, 3)) / 255
    distance = [abs(float(one.model_state["mean"]) - negatives.mean()) for one in (made.original, *asked)]
    noise = negatives.std() / 20**0.5
    for before, after in zip(distance[:-1], distance[1:], strict=True):
        assert after == pytest.approx(0.9 * before, abs=0.1 * 4 * noise)


def test_the_first_state_that_forgets_enough_is_taken(monkeypatch):
    """Accuracies on the forget rows as they are given, on validation rows 80 %."""
    given = {0: 100.0, 1: 90.0, 2: 75.0, 3: 65.0, 4: 10.0}

    def measure(model, source, rows, batch_size):
        right = 80.0 if len(rows["rows"]) == 10 else given[model.place]
        labels, count = source.labels[rows["rows"]], round(right / 100 * len(rows["rows"]))
        told = np.where(np.arange(len(labels)) < count, labels, (labels + 1) % 4)
        return {"rows": predictions(np.eye(4)[told], labels)}

    monkeypatch.setattr(audit_power, "measure", measure)
    made = problem()
    made.original = types.SimpleNamespace(place=0)
    states = [types.SimpleNamespace(place=place) for place in range(1, 5)]

    def first(**given):
        return audit_power._first(lambda method, fields: made, iter(states), **given).place

    assert (first(), first(below=10.0), first(below=75.0)) == (2, 3, 4)


def test_a_fake_that_diverges_ends_the_search(monkeypatch):
    def unstopped(one):
        if one["method.learning_rate"] > 0.05:
            raise FloatingPointError
        return one["method.learning_rate"]

    monkeypatch.setattr(audit_power, "unstopped", unstopped)
    found = audit_power._ascended(lambda method, fields: fields, {}, "method.learning_rate", (0.01, 0.03, 0.1, 0.3))
    assert list(found) == [0.01, 0.03]


def test_the_table_counts_each_target_alone_and_by_holm(monkeypatch, capsys):
    monkeypatch.setattr(audit_power, "AUDIT_OF", dict.fromkeys(["held_out", "rmia"]))
    p_values = {(0, "original"): (0.03, 0.04), (1, "original"): (0.2, 0.02), (0, "Retrain 0"): (0.03, 0.9),
                (0, "Retrain 1"): (0.5, 0.9), (1, "Retrain 0"): (0.6, 0.05)}  # fmt: skip
    rows = [
        {"seed": seed, "target": target, "audit": audit, "p_value": p, "figure": p + 1, "tested": p + 2, "smallest": p}
        for (seed, target), both in p_values.items()
        for audit, p in zip(("held_out", "rmia"), both, strict=True)
    ]
    audit_power.print_table(rows)
    lines = capsys.readouterr().out.splitlines()
    assert "| original | 2 | 1 / 0 | 2 / 1 | 1 |" in lines  # of .03 and .04 Holm asks for .025 first
    assert "| Retrain | 3 | 1 / 0 | 1 / 0 | 0 |" in lines
    assert "| original | 1.115 | 1.030 |" in lines and "| Retrain | 2.500 | 2.900 |" in lines
    assert "| smallest effect found | 0.200 | 0.050 |" in lines
