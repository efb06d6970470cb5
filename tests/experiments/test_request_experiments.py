"""The experiments on requests and judges: their fakes are what they say, and their tables count right."""

import json
import types

import jax
import mlp
import numpy as np
import pytest
from scipy.stats import beta

from experiments import calibration, eval_every, evidence_power, few_images, requests_in_a_row
from ltu_jax.config import LTU, Config, Model
from ltu_jax.deletion.claim import moved_share
from ltu_jax.methods.base import Method
from ltu_jax.models.build import build_model
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Splits, make_state

SPEC = mlp.build(None, 4, (4, 4, 3))


def state():
    return make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(0)), SGD, jax.random.key(1))


def test_noise_is_in_deviations_of_its_tensor():
    before = state()
    after = evidence_power.noisy(before, 0.1, 0)
    for name, old in before.params.items():
        moved = np.std(np.asarray(after.params[name]) - np.asarray(old))
        assert np.isclose(moved, 0.1 * np.std(old), rtol=0.2), name
    assert moved_share(before.params, evidence_power.noisy(before, 1e-4, 0).params) == 0


def test_features_in_another_order_are_the_same_function_and_turned_labels_the_same_logits():
    spec = build_model(Model("resnet18", width=2), 3, (8, 8, 3))
    params, stats = spec.init(jax.random.key(0))
    stats = jax.tree.map(lambda x: jax.random.uniform(jax.random.key(2), x.shape) + 0.5, stats)
    leaves, tree = jax.tree.flatten(params)  # scales, shifts and the head's bias all begin at 1 or 0
    keys = jax.random.split(jax.random.key(4), len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    before = make_state(spec.apply_fn, tree.unflatten(leaves), stats, SGD, jax.random.key(1))
    images = jax.random.uniform(jax.random.key(3), (4, 8, 8, 3))
    logits = lambda one: np.asarray(spec.apply_fn(one.params, one.model_state, images, train=False)[0])  # noqa: E731
    after = evidence_power.with_features_turned(before)
    np.testing.assert_allclose(logits(after), logits(before), rtol=1e-4, atol=1e-4 * np.abs(logits(before)).max())
    assert moved_share(before.params, after.params) > 0.4
    turned = evidence_power.with_labels_turned(before)
    np.testing.assert_allclose(logits(turned), np.roll(logits(before), 1, axis=-1), rtol=1e-5, atol=1e-4)


def test_other_rows_are_forgotten_and_never_the_right_ones():
    empty = np.arange(0)
    splits = Splits(np.arange(20), np.arange(20, 80), empty, empty, empty, empty)
    problem = types.SimpleNamespace(splits=splits, config=Config(seed=3))
    with_others = _replaced(problem)
    assert len(with_others.forget) == 20 and not np.isin(with_others.forget, splits.forget).any()
    np.testing.assert_array_equal(np.sort(np.concatenate([with_others.forget, with_others.remain])), np.arange(80))


def _replaced(problem):
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Problem:
        splits: Splits
        config: object

    return evidence_power.others_instead(Problem(problem.splits, problem.config)).splits


def test_a_head_only_method_moves_nothing_but_the_head(monkeypatch):
    def build(settings, parts):
        def step(state, context, draw):
            return state.replace(params=jax.tree.map(lambda x: x + 1, state.params)), {}

        unused = lambda *_: None  # noqa: E731
        return Method(unused, unused, step, lambda visible: 1)

    monkeypatch.setitem(evidence_power.METHODS, "random_label", build)
    method = evidence_power.head_random_label(LTU(name="evidence_power:head_random_label"), None)
    before = types.SimpleNamespace(params={"head": np.zeros(2), "body": np.zeros(2)}, model_state={})
    before.replace = lambda **new: types.SimpleNamespace(**{**vars(before), **new})
    after, _ = method.step(before, None, None)
    np.testing.assert_array_equal(after.params["body"], 0)
    np.testing.assert_array_equal(after.params["head"], 1)


def test_the_table_of_the_power_counts_by_kind():
    rows = [
        {"genuine": genuine, "kind": kind, "accepted": accepted}
        for genuine, kind, accepted in (
            (True, "LTU", True),
            (True, "LTU", False),
            (True, "Retrain", True),
            (False, "nothing", False),
            (False, "noise", True),
        )
    ]
    lines = evidence_power.table_lines(rows)
    # of 3 one: Clopper and Pearson's interval is that of the binomial tails of 2.5 % each
    low, high = (100 * beta.ppf(share, *of) for share, of in ((0.025, (1, 3)), (0.975, (2, 2))))
    assert lines[2] == f"| **genuine unlearning, all** | **1 of 3 (95 %: {low:.0f} to {high:.0f} %)** |"
    assert lines[3:5] == ["| LTU | 1 of 2 |", "| Retrain | 0 of 1 |"]
    assert lines[5].startswith("| **fakes, all** | **1 of 2 ") and lines[6:] == [
        "| nothing | 1 of 1 |",
        "| noise | 0 of 1 |",
    ]


def test_the_columns_of_the_calibration_are_means_over_seeds(capsys):
    found = [{"seed": s, **{name: {"gap": s + i} for i, name in enumerate(calibration.COLUMNS)}} for s in (0, 2)]
    calibration.print_table(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[1:] == ["1.00", "2.00", "3.00", "4.00"] and lines[4].split()[1] == "1.41"


def test_requests_in_a_row_are_averaged_and_added_up(capsys):
    row = dict.fromkeys(
        ("gap", "nothing", "ua", "retrain_ua", "ra", "ta", "attack_auc", "earlier_attack_auc", "earlier_error"), 1.0
    )
    result = {"in_a_row": [{**row, "seconds": 10.0}] * 10, "at_once": {**row, "earlier_error": None, "seconds": 60.0}}
    requests_in_a_row.print_table([result, json.loads(json.dumps(result))])
    out = capsys.readouterr().out
    assert "all ten took 100 s" in out and "request 10" in out and "60.000" in out.splitlines()[-2]


def test_few_images_are_compared_row_by_row_and_told_by_their_number():
    def of(sure, right):
        one = lambda sure, right: types.SimpleNamespace(confidence=np.array(sure), correct=np.array(right))  # noqa: E731
        return {"forget": one(sure, [True, True]), "remain": one([1], right), "held_out": one([1], right[::-1])}

    models = of([1.0, 0.8], [1, 1, 1, 0]), of([0.5, 0.9], [1, 0, 1, 0]), of([0.7, 0.5], [1, 1, 1, 1])
    found = few_images.compare(*models)
    assert found == pytest.approx(
        {"before": 90, "after": 70, "retrain": 60, "apart": 30, "apart_before": 30, "remain": -25, "held_out": -25}
    )
    rows = [found | {"count": 1, "seconds": s, "shown": 1.0, "held_out": -s} for s in (10.0, 20.0)]
    _, _, one, thirty = few_images.table_lines([*rows, {**rows[0], "count": 30}])
    assert one == "| 1 | 2 | 90.0 | 70.0 | 60.0 | 30.0 | 30.0 | -25.0 (-25.0) | -15.0 (-20.0) | 15 | 2 |"
    assert thirty.startswith("| 30 | 1 |")


def test_what_accuracies_kept_is_shown_beside_what_is_kept(capsys):
    def look(step, forget, remain, validation, gap):
        other = {"ua": 100.0 - forget, "gap": gap, "test_ks": 10.0 * step, "test_auc": 0.5}
        return {"step": step, "forget": forget, "remain": remain, "validation": validation, **other}

    original = look(0, 100.0, 100.0, 90.0, 9.0)
    # 10 apart; 2 apart, 5 + 4 lost; 0 apart, 20 lost: a gain of accuracy would not count
    looks = [look(1, 100.0, 100.0, 90.0, 8.0), look(2, 88.0, 95.0, 86.0, 3.0), look(3, 70.0, 100.0, 70.0, 7.0)]
    assert [eval_every.by_accuracy(one, original) for one in looks] == [10.0, 11.0, 20.0]
    assert eval_every.by_accuracy(look(4, 92.0, 100.0, 92.0, 0.0), original) == 0
    eval_every.print_table([{"row": "BadT", "seed": 5, "looks": [original, *looks], "kept": 2}])
    shown = capsys.readouterr().out
    assert "| BadT | 5 | step 0: UA 0.0, gap 9.0, KS 0, AUC 0.50 | step 1:" in shown
    assert "| step 2: UA 12.0, gap 3.0, KS 20, AUC 0.50 | step 3:" in shown
    assert (
        "| **BadT** | mean | **gap 9.0, KS 0** | **gap 8.0, KS 10** | **gap 3.0, KS 20** | **gap 7.0, KS 30** |"
        in shown
    )
