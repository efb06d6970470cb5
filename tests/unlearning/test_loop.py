"""The loop: a function of its arguments, exact in resuming, blind to what it must not see."""

import dataclasses
import time
import types

import chex
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from numbered import numbered_source, numbers, watched
from progress_recorder import Killed, recording

from ltu_jax.config import Config, Data
from ltu_jax.data.splits import see
from ltu_jax.methods import build_method
from ltu_jax.methods.base import Method, MethodCost, one_shot
from ltu_jax.setting import ConfigError
from ltu_jax.training import steps
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.saving import Saving, WrongRunError, read_metrics
from ltu_jax.types import Splits, make_state, silent
from ltu_jax.unlearning import loop
from ltu_jax.unlearning.loop import RunOptions, Start, run_problem, run_together, run_unlearning

SPEC = mlp.build(None, 4, (4, 4, 3))
SOURCE = mlp.toy_source()
EMPTY = np.arange(0)
SPLITS = Splits(np.arange(20), np.arange(20, 80), np.arange(80, 110), np.arange(120, 160), np.arange(110, 120), EMPTY)


def original(seed=0):
    return make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(seed)), SGD, jax.random.key(seed + 1))


def test_an_init_need_not_copy_what_it_returns():
    method = noisy_ascent()
    context = lambda state: {"key": jax.random.key_data(jax.random.key(0)), "start": state.params}  # noqa: E731
    kept = lambda key, state, visible: (state, context(state))  # noqa: E731
    copied = lambda key, state, visible: (jax.tree.map(jnp.copy, state), context(state))  # noqa: E731
    sample = lambda key, step, context, visible: method.sample(key, step, context["key"], visible)  # noqa: E731
    step = lambda state, context, draw: method.step(state, context["key"], draw)  # noqa: E731
    first, ended = original(), []
    for init in (kept, copied, kept):
        state, _ = run_unlearning(Method(init, sample, step, method.num_steps), first, SPLITS, SOURCE)
        ended.append(state.params)
    chex.assert_trees_all_equal(*ended)
    chex.assert_trees_all_equal(first.params, original().params)


@pytest.mark.parametrize("count", [2.5, -1, None])
def test_a_number_of_steps_is_whole(count):
    method = noisy_ascent().replace(num_steps=lambda visible: count)
    with pytest.raises(ConfigError, match=f"^num_steps: it returned {count}; allowed: a whole number, 0 or more$"):
        run_unlearning(method, original(), SPLITS, SOURCE)


def test_an_init_returns_a_state_and_a_context():
    method = noisy_ascent().replace(init=lambda key, state, visible: state)
    with pytest.raises(ConfigError, match=r"^init: it returned UnlearnState; allowed: \(state, context\)$"):
        run_unlearning(method, original(), SPLITS, SOURCE)


def noisy_ascent(num_steps=7, explode_at=None, seen=None):
    """Ascends the forget loss with noise: cheap, and wholly a function of its draws."""

    def init(key, state, visible):
        if seen is not None:
            seen.append((np.asarray(visible.forget.images), np.asarray(visible.remain.images)))
        return jax.tree.map(jnp.copy, state), jax.random.key_data(key)

    def sample(key, step, context, visible):
        row = jax.random.randint(key, (), 0, len(visible.forget.labels))
        return visible.forget.images[row].astype(jnp.float32) / 255, jax.random.normal(key, ())

    def step(state, context, draw):
        image, noise = draw
        grads = jax.grad(lambda p: (1 + noise) * SPEC.features(p, {}, image[None]).sum())(state.params)
        params = jax.tree.map(lambda p, g: p + 0.01 * g, state.params, grads)
        metric = noise if explode_at is None else jnp.where(state.step == explode_at, jnp.nan, noise)
        return state.replace(step=state.step + 1, params=params), {"noise": metric}

    return Method(init, sample, step, lambda visible: num_steps)


def saving(path, every=2, identity="a"):
    return Saving(path, identity, every)


@pytest.mark.parametrize("stop", [2, 3, pytest.param(6, marks=pytest.mark.slow)])  # at a checkpoint, and between two
def test_a_run_stopped_and_resumed_equals_one_run_through(tmp_path, stop):
    whole, history = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path / "whole"))
    run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, num_steps=stop, saving=saving(tmp_path / "cut"))
    resumed, again = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path / "cut"))
    chex.assert_trees_all_equal(whole.params, resumed.params)
    chex.assert_trees_all_equal(jax.random.key_data(whole.rng), jax.random.key_data(resumed.rng))
    assert int(resumed.step) == 7 and again.rows == history.rows
    assert read_metrics(tmp_path / "cut" / "metrics.jsonl") == read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert again.steps_s > 0


def test_a_run_that_died_loses_nothing_that_was_saved(tmp_path):
    whole, wanted = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE)
    with pytest.raises(Killed):
        run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path), progress=recording([], 5))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["4", "6"]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "noise": 0.0}\n{"step": 8')  # rows past the checkpoint, as a crash leaves them
    resumed, history = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path))
    chex.assert_trees_all_equal(whole.params, resumed.params)
    assert history.rows == wanted.rows == read_metrics(tmp_path / "metrics.jsonl")


def test_whoever_looks_on_may_stop_a_run_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 1)
    whole, _ = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE)
    seldom = saving(tmp_path, every=100)
    with pytest.raises(Killed):
        run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=seldom, progress=recording([], 3))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()] == ["3"]
    resumed, history = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=seldom)
    chex.assert_trees_all_equal(whole.params, resumed.params)
    assert [row["step"] for row in history.rows] == list(range(1, 8))


@pytest.mark.parametrize("every_s, kept", [(0.0, ["6", "7"]), (1e9, ["7"])])
def test_a_run_is_saved_by_the_clock_too(tmp_path, monkeypatch, every_s, kept):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 1)
    run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=Saving(tmp_path, "a", 100, every_s))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == kept


def test_parameters_that_are_not_finite_are_found_before_they_are_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 1)
    method = noisy_ascent()

    def step(state, context, draw):
        after, metrics = method.step(state, context, draw)
        broken = jax.tree.map(lambda p: jnp.where(state.step == 4, jnp.nan, p), after.params)
        return after.replace(params=broken), metrics  # which are finite

    with pytest.raises(
        FloatingPointError, match=r"parameters not finite in steps 5\.\.5; the last checkpoint is of step 4"
    ):
        run_unlearning(method.replace(step=step), original(), SPLITS, SOURCE, saving=Saving(tmp_path, "a", 1))


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path))
    with pytest.raises(WrongRunError, match="holds the checkpoints of another run"):
        run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, saving=saving(tmp_path, identity="b"))


def test_a_run_traces_its_step_once():
    method = noisy_ascent(num_steps=60)
    method = method.replace(step=chex.assert_max_traces(method.step, n=1))
    state, _ = run_unlearning(method, original(), SPLITS, SOURCE, eval_every=25)
    assert int(state.step) in (25, 50, 60)


def test_a_resumed_run_traces_its_step_once_too(tmp_path):
    run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, num_steps=2, saving=saving(tmp_path))
    method = noisy_ascent()
    method = method.replace(step=chex.assert_max_traces(method.step, n=1))
    run_unlearning(method, original(), SPLITS, SOURCE, saving=saving(tmp_path))


@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_a_method_sees_the_forget_rows_and_rho_of_the_rest_and_nothing_else(rho):
    seen = []
    run_unlearning(noisy_ascent(seen=seen), original(), SPLITS, SOURCE, remain_fraction=rho, split_seed=3)
    forget, remain = seen[-1]
    np.testing.assert_array_equal(forget, SOURCE.images[SPLITS.forget])
    assert len(remain) == round(rho * 60)
    allowed = {SOURCE.images[i].tobytes() for i in SPLITS.remain}
    assert {image.tobytes() for image in remain} <= allowed
    assert len({image.tobytes() for image in remain}) == len(remain)


@pytest.mark.parametrize("forget_by", ["attackers", "margins"])
def test_neither_ltu_nor_what_scores_it_reads_hidden_or_test_rows(problem, forget_by):
    """Of the reserve, attackers have learned before; margins are compared with some of its rows."""
    source, seen = watched(problem.source)
    changes = {"relabel": "never", "order": "none"} if forget_by == "margins" else {}
    method = build_method(dataclasses.replace(problem.config.method, forget_by=forget_by, **changes), problem.parts)
    _, history = run_problem(dataclasses.replace(problem, source=source), method, eval_every=2)
    assert "eval/distance" in history.rows[-1]
    splits = problem.splits
    assert len(splits.visible) < len(splits.remain)
    held_out = splits.reserve if forget_by == "margins" else ()
    assert seen == {*splits.forget, *splits.visible, *splits.validation, *held_out}


def held_out_of(source, splits):
    """What a method that asks for held-out rows sees."""
    seen = []

    def init(key, state, visible):
        seen.append(visible.held_out)
        return state, ()

    method = one_shot(init).replace(sees_held_out=True)
    state = original().replace(apply_fn=lambda params, model_state, images, train: (images[:, 0, 0, :], model_state))
    run_unlearning(method, state, splits, source)
    return seen[0]


def test_held_out_rows_are_some_thousand_of_the_reserve_spread_over_it_for_methods_that_ask():
    source = numbered_source(5000)
    splits = Splits(np.arange(20), np.arange(20, 100), EMPTY, np.arange(100, 120), np.arange(120, 4620), EMPTY)
    held_out = held_out_of(source, splits)
    rows = np.asarray(numbers(jnp.asarray(held_out.images) / 255))
    assert len(rows) == len(set(rows)) == 1000 and rows.min() == 120 and rows.max() == 4619
    assert set(np.diff(np.sort(rows))) == {4, 5}
    np.testing.assert_array_equal(held_out.labels, source.labels[rows])
    few = held_out_of(source, dataclasses.replace(splits, reserve=np.arange(120, 150)))
    np.testing.assert_array_equal(np.sort(numbers(jnp.asarray(few.images) / 255)), np.arange(120, 150))
    seen = []
    method = noisy_ascent()
    watch = method.replace(init=lambda key, state, visible: seen.append(visible) or method.init(key, state, visible))
    run_unlearning(watch, original(), SPLITS, SOURCE)
    assert seen[0].held_out is None


def test_of_a_class_forgotten_whole_held_out_rows_are_those_of_others_that_bear_its_label():
    """The label of row r is r % 4, and class 1 is forgotten: no model that never saw it knows rows of class 1."""
    source = numbered_source(400)
    train, test, reserve = np.arange(200), np.arange(200, 300), np.arange(300, 400)
    gone, gone_test = source.labels[train] == 1, source.labels[test] == 1
    splits = Splits(train[gone], train[~gone], EMPTY, test[~gone_test], reserve, test[gone_test])
    held_out = held_out_of(source, splits)
    rows = np.asarray(numbers(jnp.asarray(held_out.images) / 255))
    np.testing.assert_array_equal(rows, reserve[source.labels[reserve] != 1])
    assert (held_out.labels == 1).all() and held_out.labels.dtype == np.int32

    by_ids = dataclasses.replace(splits, test=test, test_forgotten=EMPTY)  # the sample of what remains may lack a class
    fine = Splits(
        train[gone][1:], np.setdiff1d(train, train[gone][1:]), EMPTY, test[~gone_test], reserve, test[gone_test]
    )
    for as_they_are in (by_ids, fine):
        held_out = held_out_of(source, as_they_are)
        np.testing.assert_array_equal(np.asarray(numbers(jnp.asarray(held_out.images) / 255)), reserve)
        np.testing.assert_array_equal(held_out.labels, source.labels[reserve])


def test_retrain_alone_sees_all_of_it():
    seen = []
    run_unlearning(noisy_ascent(seen=seen).replace(sees_all=True), original(), SPLITS, SOURCE, remain_fraction=0.1)
    assert len(seen[-1][1]) == 60


def test_ut_is_the_time_of_init_and_steps_without_that_of_compiling_them():
    def long_to_trace(fn):
        def traced(*args):
            time.sleep(0.5)
            return fn(*args)

        return traced

    method = noisy_ascent(3)
    copy = jax.jit(long_to_trace(lambda state: jax.tree.map(jnp.copy, state)))

    def init(key, state, visible):
        time.sleep(0.1)  # work of its own
        return copy(state), jax.random.key_data(key)

    method = method.replace(init=init, step=long_to_trace(method.step))
    _, history = run_unlearning(method, original(), SPLITS, SOURCE)
    assert history.compile_s >= 1.0
    assert 0.1 <= history.init_s < 0.5 and 0 < history.steps_s < 0.5
    assert np.isclose(history.ut_minutes * 60, history.init_s + history.steps_s)


def test_runs_differ_by_their_key_and_the_original_is_left_alone():
    state = original()
    params = jax.tree.map(np.array, state.params)
    one, _ = run_unlearning(noisy_ascent(), state, SPLITS, SOURCE)
    two, _ = run_unlearning(noisy_ascent(), state, SPLITS, SOURCE)
    other, _ = run_unlearning(noisy_ascent(), state.replace(rng=jax.random.key(99)), SPLITS, SOURCE)
    chex.assert_trees_all_equal(one.params, two.params)
    chex.assert_trees_all_equal(state.params, params)
    assert not np.array_equal(one.params["w1"], other.params["w1"])


def test_metrics_that_are_not_finite_stop_the_run_and_name_the_steps(tmp_path):
    with pytest.raises(FloatingPointError, match=r"noise not finite in steps 5\.\.6; the last checkpoint is of step 4"):
        run_unlearning(noisy_ascent(explode_at=4), original(), SPLITS, SOURCE, saving=saving(tmp_path))
    with pytest.raises(FloatingPointError, match="no checkpoint was saved"):
        run_unlearning(noisy_ascent(explode_at=4), original(), SPLITS, SOURCE)


def test_with_eval_every_the_state_of_the_smallest_distance_is_returned_also_after_a_resume(tmp_path):
    run = lambda **kwargs: run_unlearning(noisy_ascent(30), original(), SPLITS, SOURCE, eval_every=3, **kwargs)  # noqa: E731
    state, history = run()
    scored = {row["step"]: row["eval/distance"] for row in history.rows if "eval/distance" in row}
    assert list(scored) == list(range(3, 31, 3))
    assert history.best_step == min(scored, key=scored.get) == int(state.step)
    for stop in (history.best_step, history.best_step + 3):
        run(num_steps=min(stop, 30), saving=saving(tmp_path / str(stop), every=3))
        resumed, again = run(saving=saving(tmp_path / str(stop), every=3))
        assert again.best_step == history.best_step
        chex.assert_trees_all_equal(resumed.params, state.params)


def test_scoring_itself_needs_validation_rows():
    blind = Splits(SPLITS.forget, SPLITS.remain, EMPTY, SPLITS.test, SPLITS.reserve, EMPTY)
    with pytest.raises(ValueError, match="eval_every: needs validation rows"):
        run_unlearning(noisy_ascent(), original(), blind, SOURCE, eval_every=2)
    assert run_unlearning(noisy_ascent(), original(), blind, SOURCE)[1].warnings == []


def test_a_run_on_rows_that_no_held_out_row_is_like_does_not_judge_itself_by_any(monkeypatch):
    judge = types.SimpleNamespace(warnings=lambda state: ["unlike validation rows"])
    monkeypatch.setattr(loop, "make_monitor", lambda *args: judge)
    start, config = Start(noisy_ascent(), original(), SPLITS, SOURCE), Config()
    for kind, judged in {"random": True, "ids": True, "hard": False, "easy": False, "canaries": False}.items():
        options = loop.run_options(dataclasses.replace(config, data=Data(forget_kind=kind)))
        (_, history), *_ = run_together([start], options)
        assert bool(history.warnings) == judged
    with pytest.raises(ValueError, match="eval_every: needs validation rows"):
        run_together([start], dataclasses.replace(options, eval_every=1))


def test_log_every_thins_the_history_and_keeps_the_last_step():
    _, history = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, log_every=3)
    assert [row["step"] for row in history.rows] == [3, 6, 7]


OTHER = Splits(np.arange(5, 25), np.arange(30, 90), np.arange(90, 120), np.arange(120, 160), np.arange(5), EMPTY)


def two_starts(tmp_path=None, rho=0.5):
    """Two seeds: another model, another key, other rows."""
    kept = [tmp_path and saving(tmp_path / name) for name in ("first", "second")]
    splits = (SPLITS, OTHER)
    return [Start(noisy_ascent(), original(5 * i), see(splits[i], rho, i), SOURCE, kept[i]) for i in range(2)]


def alone(start, seed, **more):
    return run_unlearning(*start[:4], split_seed=seed, remain_fraction=0.5, **more)


def assert_same_run(found, wanted):
    (state, history), (other, others) = found, wanted
    chex.assert_trees_all_close(state.params, other.params, rtol=1e-5, atol=1e-6)
    assert [set(row) for row in history.rows] == [set(row) for row in others.rows]
    for row, wanted_row in zip(history.rows, others.rows, strict=True):
        np.testing.assert_allclose(list(row.values()), list(wanted_row.values()), rtol=1e-4, atol=1e-4)
    assert (history.best_step, history.rho) == (others.best_step, others.rho)


def test_runs_together_are_the_runs_alone(tmp_path):
    found = run_together(two_starts(tmp_path), RunOptions(eval_every=3))
    assert found[0][1].steps_s == found[1][1].steps_s > 0
    for i, start in enumerate(two_starts()):
        assert_same_run(found[i], alone(start, i, eval_every=3))
        metrics = tmp_path / ("first", "second")[i] / "metrics.jsonl"
        assert read_metrics(metrics) == found[i][1].rows


def test_a_run_that_was_stopped_earlier_catches_up_with_the_others(tmp_path):
    for start, num_steps in zip(two_starts(tmp_path), (2, 4), strict=True):
        run_together([start], RunOptions(num_steps))
    found = run_together(two_starts(tmp_path))
    for i, start in enumerate(two_starts()):
        assert_same_run(found[i], alone(start, i))
        assert found[i][1].steps == 7


def test_runs_of_different_lengths_do_not_run_together():
    by_rows = noisy_ascent().replace(num_steps=lambda visible: len(visible.remain.labels))
    starts = [start._replace(method=by_rows) for start in two_starts(rho=1.0)]
    splits = Splits(np.arange(20), np.arange(20, 70), EMPTY, np.arange(120, 160), EMPTY, EMPTY)
    starts = [starts[0], starts[1]._replace(splits=splits)]
    with pytest.raises(ValueError, match="runs of 50, 60 steps; allowed: of one number of steps"):
        run_together(starts)


class Counting:
    """A judge that returns the given distances and gives up after the third."""

    def __init__(self, distances):
        self.distances, self.calls = iter(distances), []

    def score(self, state):
        return {"distance": next(self.distances)}

    def is_hopeless(self, distances):
        self.calls.append(list(distances))
        return len(distances) == 3

    def warnings(self, state):
        return [f"a warning of step {state.step}"]


def test_a_score_that_is_not_finite_is_never_the_best():
    for distances, best in (([np.nan, 3.0, np.nan], 4), ([3.0, np.nan, 4.0], 2), ([np.nan, 5.0, 4.0], 6)):
        judge = Counting(distances)
        judge.is_hopeless = lambda so_far: False
        _, history = run_unlearning(noisy_ascent(6), original(), SPLITS, SOURCE, eval_every=2, judge=judge)
        assert history.best_step == best, distances


def test_a_judge_of_ones_own_says_which_state_is_kept_and_when_to_stop(tmp_path):
    judge = Counting([3.0, 1.0, 2.0])
    state, history = run_unlearning(
        noisy_ascent(12), original(), SPLITS, SOURCE, eval_every=2, judge=judge, saving=saving(tmp_path, every=5)
    )
    assert judge.calls == [[3.0], [3.0, 1.0], [3.0, 1.0, 2.0]]
    assert (history.steps, history.best_step, history.stopped_early) == (6, 4, True) and int(state.step) == 4
    assert history.warnings == ["a warning of step 4"]  # of the state that is kept
    plain, _ = run_unlearning(noisy_ascent(12), original(), SPLITS, SOURCE, num_steps=4)
    chex.assert_trees_all_equal(state.params, plain.params)
    # started again it does not go on, and asks nobody
    again, after = run_unlearning(
        noisy_ascent(12), original(), SPLITS, SOURCE, eval_every=2, judge=Counting([]), saving=saving(tmp_path, every=5)
    )
    chex.assert_trees_all_equal(again.params, state.params)
    assert (after.steps, after.stopped_early) == (6, True)


def test_of_two_runs_one_may_stop_and_the_other_goes_on():
    judges = Counting([1.0] * 6), Counting([1.0] * 6)
    judges[1].is_hopeless = lambda distances: False
    starts = [start._replace(judge=judge) for start, judge in zip(two_starts(), judges, strict=True)]
    (_, first), (state, second) = run_together(starts, RunOptions(eval_every=2))
    assert (first.steps, first.stopped_early) == (6, True)
    assert (second.steps, second.stopped_early) == (7, False)


def test_without_more_arguments_a_run_sees_all_that_remains_logs_every_step_and_scores_none():
    state, history = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE)
    given = {"remain_fraction": 1.0, "split_seed": 0, "log_every": 1, "eval_every": 0, "num_steps": 7}
    same, again = run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE, **given)
    chex.assert_trees_all_equal(state.params, same.params)
    assert history.rows == again.rows and len(history.rows) == 7 and "eval/distance" not in history.rows[-1]
    (_, together) = run_together([Start(noisy_ascent(), original(), see(SPLITS, 1.0, 0), SOURCE)])[0]
    assert together.rows == history.rows and together.rho == history.rho == 1.0
    seen = [[], []]
    for rows, kwargs in zip(seen, ({}, {"split_seed": 0}), strict=True):
        run_unlearning(noisy_ascent(seen=rows), original(), SPLITS, SOURCE, remain_fraction=0.5, **kwargs)
    np.testing.assert_array_equal(seen[0][-1][1], seen[1][-1][1])


def test_what_diverges_is_named_with_the_settings_to_turn():
    message = "^unlearning: noise not finite in .* config.method.learning_rate or config.method.inner_learning_rate$"
    with pytest.raises(FloatingPointError, match=message):
        run_unlearning(noisy_ascent(explode_at=4), original(), SPLITS, SOURCE)


def test_the_account_of_a_run_is_of_its_init_and_of_the_steps_that_it_took():
    cost = lambda visible: MethodCost(Cost(5, 0, 1), Cost(2, 3, len(visible.remain.labels), len(visible.forget.labels)))  # noqa: E731
    _, history = run_unlearning(noisy_ascent().replace(cost=cost), original(), SPLITS, SOURCE, num_steps=4)
    assert history.cost == {"forward": 5 + 4 * 2, "backward": 4 * 3, "remain": 1 + 4 * 60, "forget": 4 * 20}
    assert run_unlearning(noisy_ascent(), original(), SPLITS, SOURCE)[1].cost is None


def test_a_run_on_a_problem_goes_as_its_configuration_says(problem, tmp_path, monkeypatch):
    evaluation = dataclasses.replace(problem.config.evaluation, batch_size=33)
    numbers = {"log_every": 3, "eval_every": 5, "save_every": 7, "save_seconds": 11.0}
    own = dataclasses.replace(problem, config=dataclasses.replace(problem.config, evaluation=evaluation, **numbers))
    asked = []
    monkeypatch.setattr(loop, "run_together", lambda *args: asked.append(args) or [("state", "history")])
    assert loop.run_problem(own) == ("state", "history")
    method, judge, progress = noisy_ascent(), Counting([]), recording([])
    loop.run_problem(own, method, folder=tmp_path, identity="i", eval_every=0, judge=judge, progress=progress)
    ([first], plain), ([second], options) = asked
    assert plain == RunOptions(None, 3, 5, 33, silent)
    assert options == RunOptions(None, 3, 0, 33, progress)
    assert first.saving is None and first.judge is None and first.method.settings == own.config.method
    assert second.saving == Saving(tmp_path, "i", 7, 11.0) and second.judge is judge and second.method is method
    for start in (first, second):
        assert (start.state, start.splits, start.source) == (own.original, own.splits, own.source)
    assert loop.start_from_problem(own, folder=tmp_path).saving.identity == own.identity


def test_of_two_states_as_good_as_each_other_the_first_is_kept_and_a_run_at_its_end_was_not_given_up():
    judge = Counting([3.0, 1.0, 1.0])
    state, history = run_unlearning(noisy_ascent(6), original(), SPLITS, SOURCE, eval_every=2, judge=judge)
    assert (history.best_step, int(state.step), len(judge.calls)) == (4, 4, 3)
    assert (history.steps, history.stopped_early) == (6, False)  # hopeless at the third look, which is the last
