"""Calibration: what it looks at, what it keeps, that it goes on where it was stopped."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from numbered import watched
from small_request import by_margins, request_settings

from ltu_jax.config import Retrain
from ltu_jax.deletion import calibration, rows
from ltu_jax.deletion.calibration import calibrate, check_calibration, make_calibrator
from ltu_jax.evaluation.likeness import attack_auc, ks_distance, predictions
from ltu_jax.setting import ConfigError
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import silent
from ltu_jax.unlearning.monitor import make_monitor
from ltu_jax.unlearning.problem import Loaded, cut, prepare


def problem_of(source, spec, original, settings):
    splits = cut(settings, source, [str(name) for name in source.ids[:30]])
    return prepare(settings, loaded=Loaded(source, splits, spec, original))


@pytest.fixture(scope="module")
def problem(source, spec, original):
    return problem_of(source, spec, original, request_settings())


@pytest.fixture(scope="module")
def calibrated(problem):
    return calibrate(problem)


def seen(problem, state, rows):
    logits = predict(
        EvalForward(problem.spec.apply_fn), state.params, state.model_state, problem.source.stored(rows), batch_size=64
    )
    return predictions(logits, problem.source.labels[rows])


def test_the_model_kept_is_the_one_that_was_looked_at(problem, calibrated):
    trial = calibrated.trials[calibrated.chosen]
    look = trial.looks[trial.best]
    measured = {
        name: seen(problem, calibrated.state, getattr(problem.splits, name)) for name in ("forget", "validation")
    }
    both = measured["forget"], measured["validation"]
    assert np.isclose(look["ks"], ks_distance(*both)) and np.isclose(look["auc"], attack_auc(*both))
    assert np.isclose(look["forget"], 100 * measured["forget"].correct.mean())
    assert int(calibrated.state.step) == look["step"]


def test_it_reads_forget_visible_and_validation_rows_and_no_others(problem):
    source, seen = watched(problem.source)
    calibrate(dataclasses.replace(problem, source=source))
    splits = problem.splits
    assert len(splits.visible) < len(splits.remain)
    assert seen == {*splits.forget, *splits.visible, *splits.validation}


def test_where_enough_rows_are_held_back_it_looks_at_half_of_them_and_the_evidence_has_the_others(problem, monkeypatch):
    monkeypatch.setattr(rows, "ENOUGH", 13)  # 26 of 130 are held back
    splits, seed = problem.splits, problem.config.seed_for("split")
    unseen = {*splits.remain} - {*splits.visible}
    source, seen = watched(problem.source)
    one_trial = dataclasses.replace(problem.config, calibration=request_settings(trials=1).calibration)
    calibrate(dataclasses.replace(problem, source=source, config=one_trial))
    looked_at = seen & unseen
    assert (len(unseen), len(looked_at)) == (26, 13)
    assert {*rows.rows_to_measure(splits, splits.forget[:0], seed)["remain"]} == unseen - looked_at
    assert {*make_calibrator(problem).rows["unseen"]} == looked_at


def test_why_a_point_was_chosen_tells_what_unseen_rows_lost_where_that_counted(problem, calibrated):
    trial = calibrated.trials[0]
    looks = [look | {"lost_unseen": 1.25} for look in trial.looks]
    counted = calibrated._replace(trials=[trial._replace(looks=looks)], chosen=0).why
    assert (
        "and least is lost on rows that stay and are not trained on" in counted and "and 1.2 on those rows" in counted
    )
    assert "not trained on" not in calibrated.why


def test_by_margins_it_reads_rows_of_the_reserve_too(problem):
    source, seen = watched(problem.source)
    settings = by_margins(request_settings(trials=1))
    calibrate(dataclasses.replace(problem, source=source, config=settings))
    splits = problem.splits
    assert seen == {*splits.forget, *splits.visible, *splits.validation, *splits.reserve}


def test_it_is_the_least_distance_of_all_looks_and_no_worse_than_doing_nothing(problem, calibrated):
    distances = [look["distance"] for trial in calibrated.trials for look in trial.looks]
    trial = calibrated.trials[calibrated.chosen]
    assert trial.looks[trial.best]["distance"] == min(distances)
    assert min(distances) <= make_calibrator(problem).score(problem.original)["distance"]


def test_points_lost_beyond_the_tolerance_weigh_more_than_any_likeness(problem):
    judge = make_calibrator(problem)
    ruined = problem.original.replace(params=jax.tree.map(np.zeros_like, problem.original.params))
    scores = judge.score(ruined)
    labels = problem.source.labels[problem.splits.validation]
    assert scores["validation"] == 100 * np.mean(labels == 0)  # zero weights call everything class 0
    assert scores["lost"] > 5
    assert np.isclose(scores["distance"], scores["ks"] + 10 * (scores["lost"] - 2))
    assert any("points of accuracy are lost beyond noise" in line for line in judge.warnings(ruined))


def test_it_is_the_judge_of_every_run_with_the_tolerance_and_patience_of_the_request(problem):
    settings = dataclasses.replace(problem.config.calibration, tolerance=0.5, patience=7)
    asked = dataclasses.replace(problem, config=dataclasses.replace(problem.config, calibration=settings))
    judge = make_calibrator(asked)
    plain = make_monitor(problem.original, problem.source, problem.splits, problem.config.evaluation.batch_size)
    assert (judge.tolerance, judge.patience, plain.patience) == (0.5, 7, None)
    assert judge._replace(tolerance=2.0).score(problem.original) == plain.score(problem.original)


def test_a_search_that_was_stopped_goes_on_to_the_same_model(problem, calibrated, tmp_path, monkeypatch, caplog):
    calls = []
    run = calibration.run_problem

    def stops(*args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 2:
            raise InterruptedError
        return run(*args, **kwargs)

    monkeypatch.setattr(calibration, "run_problem", stops)
    with pytest.raises(InterruptedError):
        calibrate(problem, tmp_path)
    again = calibrate(problem, tmp_path)
    assert again.trials == calibrated.trials and again.chosen == calibrated.chosen
    jax.tree.map(np.testing.assert_array_equal, again.state.params, calibrated.state.params)
    # and once more: of the two only the best is read back, and takes no step
    steps = []
    monkeypatch.setattr(calibration, "run_problem", lambda *a, **k: steps.append(run(*a, **k)) or steps[-1])
    third = calibrate(problem, tmp_path)
    assert third.trials == calibrated.trials and third.chosen == calibrated.chosen
    jax.tree.map(np.testing.assert_array_equal, third.state.params, calibrated.state.params)
    assert len(steps) == 1 and len(list(tmp_path.glob("trial-*/checkpoints"))) == 1
    saved = json.loads((tmp_path / "trial-1" / "trial.json").read_text())["trial"]
    assert saved["looks"] == calibrated.trials[0].looks
    # What is not as it was written does not steer the choice: that trial is run again.
    for number, harm in enumerate((lambda text: text.replace('"distance": ', '"distance": -9'), lambda text: ""), 1):
        beaten = tmp_path / f"trial-{2 - calibrated.chosen}" / "trial.json"
        before = beaten.read_text()
        beaten.write_text(harm(before))
        assert beaten.read_text() != before
        again = calibrate(problem, tmp_path)
        assert again.trials == calibrated.trials and again.chosen == calibrated.chosen
        assert beaten.read_text() == before and caplog.text.count("trial.json") == number


def test_a_trial_of_another_run_or_one_that_was_altered_is_run_again(tmp_path, caplog):
    trial = calibration.Trial(0.1, 8, [{"step": 8, "distance": 0.5}], 0)
    file = tmp_path / "trial.json"
    file.write_text(calibration._trial_text(trial, "this run"))
    assert calibration._read_trial(file, "this run") == trial and not caplog.messages
    assert calibration._read_trial(file, "another run") is None
    file.write_text(file.read_text().replace("0.5", "0.4"))
    assert calibration._read_trial(file, "this run") is None
    assert [line.partition(" is ")[2] for line in caplog.messages] == [
        "that of another run or was altered: the trial is run again"
    ] * 2


def test_a_trial_is_known_by_its_problem_its_rate_and_how_it_is_calibrated(problem, tmp_path, monkeypatch):
    asked, saved = [], calibration.Trial(0.1, 8, [], 0)
    monkeypatch.setattr(calibration, "_read_trial", lambda file, identity: asked.append(identity) or saved)
    other = dataclasses.replace(problem.config.calibration, tolerance=1.5)
    others = dataclasses.replace(problem, config=dataclasses.replace(problem.config, calibration=other))
    later = dataclasses.replace(problem, original=problem.original.replace(params={"w1": np.zeros(1)}))
    for one, rate in ((problem, 0.1), (problem, 0.1), (problem, 0.2), (others, 0.1), (later, 0.1)):
        assert calibration._run_trial(one, None, rate, tmp_path, None, silent) == (saved, None)
    assert asked[0] == asked[1] and len(set(asked)) == 4


def test_a_trial_that_diverges_is_passed_over(problem, monkeypatch):
    run = calibration.run_problem

    def diverges(method, *args, **kwargs):
        diverges.count += 1
        if diverges.count == 1:
            raise FloatingPointError("not finite")
        return run(method, *args, **kwargs)

    diverges.count = 0
    monkeypatch.setattr(calibration, "run_problem", diverges)
    found = calibrate(problem)
    assert found.chosen == 1 and found.trials[0].looks == []
    monkeypatch.setattr(calibration, "run_problem", lambda *a, **k: (_ for _ in ()).throw(FloatingPointError("no")))
    with pytest.raises(FloatingPointError, match="all 2 trials diverged"):
        calibrate(problem)


def test_a_trial_with_a_look_that_is_not_finite_has_diverged(problem):
    looks = iter([np.nan, 1.0, 1.0, 1.0])

    class Judge:
        def score(self, state):
            return {"lost": 0.0, "ks": 1.0, "distance": next(looks, 2.0)}

        def is_hopeless(self, distances):
            return False

        def warnings(self, state):
            return []

    found = calibrate(problem, judge=Judge())
    assert found.chosen == 1 and found.trials[0].looks == [] and found.trials[1].distance == 2.0


def test_larger_rates_are_tried_after_the_own_one(problem, calibrated):
    assert [trial.learning_rate for trial in calibrated.trials] == [0.02, 0.0632]


def test_smaller_rates_are_tried_where_few_rows_are_forgotten(source, spec, original):
    """A step of Adam's is as long for one row as for a thousand, and one row has few of them."""
    settings = by_margins(request_settings(evaluations=2, trials=7))
    splits = cut(settings, source, [str(name) for name in source.ids[:3]])
    found = calibrate(prepare(settings, loaded=Loaded(source, splits, spec, original)))
    rates = [trial.learning_rate for trial in found.trials]
    assert rates[:3] == [0.02, 0.00632, 0.002] and len(rates) == 7 and max(rates) == 0.02
    assert found.tolerance == 0  # what chance makes of so few is worth no accuracy
    assert all(np.isclose(x["distance"], x["ks"] + 10 * x["lost"]) for one in found.trials for x in one.looks)


def test_the_curve_says_which_point_was_chosen_and_why(calibrated):
    curve = json.loads(json.dumps(calibrated.as_json()))
    trial = curve["trials"][curve["chosen"]]
    look = trial["looks"][trial["best"]]
    assert f"learning rate {trial['learning_rate']:.3g}, stopped at step {look['step']:.0f}" in curve["why"]
    assert f"({look['ks']:.1f} points apart" in curve["why"]


def test_what_cannot_be_calibrated_is_refused(problem):
    retrain = dataclasses.replace(problem.config, method=Retrain())
    with pytest.raises(ConfigError, match="config.calibration.trials: 2, but retrain has no learning rate"):
        check_calibration(retrain, problem.splits)
    nothing = dataclasses.replace(problem.splits, validation=problem.splits.validation[:0])
    with pytest.raises(ConfigError, match="leaves no held-out rows to calibrate by"):
        check_calibration(problem.config, nothing)
