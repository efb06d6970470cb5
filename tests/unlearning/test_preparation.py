"""The models of a problem: several in one program are those made one by one, and lie where prepare finds them."""

import contextlib
import dataclasses
import functools
import types

import chex
import numpy as np
import pytest
from numbered import watched
from progress_recorder import recording
from scipy.spatial.distance import jensenshannon
from scipy.special import logit, softmax
from sklearn.metrics import roc_auc_score
from small import BY_ATTACKERS, small_config

from ltu_jax import config
from ltu_jax.attackers import shadows
from ltu_jax.attackers.shadows import shadow
from ltu_jax.training import jobs
from ltu_jax.training.jobs import Trainer, train_together
from ltu_jax.types import silent
from ltu_jax.unlearning import preparation
from ltu_jax.unlearning.preparation import jobs_of, original, original_job, retrain_jobs
from ltu_jax.unlearning.problem import load_problem, prepare, prepare_together


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Seeds 0 and 1 prepared with two models at a time: the problems, the progress labels, and the cache folder."""
    labels, folder = [], tmp_path_factory.mktemp("together")

    configs = [small_config(seed=seed) for seed in (0, 1)]
    loaded = [load_problem(one) for one in configs]
    return (
        prepare_together(configs, loaded, cache=folder, at_once=2, progress=recording([], labels=labels)),
        labels,
        folder,
    )


@pytest.mark.slow
def test_models_of_one_program_are_those_made_one_by_one(together, problem):
    (first, second), labels, _ = together
    # Two originals, four Retrain models and four shadows, two of one kind at a time; nothing after.
    assert labels == ["2 models"] * 5
    chex.assert_trees_all_close(first.original.params, problem.original.params, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(first.retrains[1].params, problem.retrains[1].params, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(first.bank.params, problem.bank.params, rtol=1e-2, atol=1e-3)
    alone = prepare(small_config(seed=1))
    chex.assert_trees_all_close(second.original.params, alone.original.params, rtol=1e-4, atol=1e-5)
    assert second.splits.sha256() == alone.splits.sha256()


@pytest.mark.slow
def test_a_model_that_two_runs_want_is_trained_once(tmp_path):
    labels = []

    same_models = [small_config(seed=seed, seeds=config.Seeds(train=0, split=0)) for seed in (0, 1)]
    loaded, progress = [load_problem(one) for one in same_models], recording([], labels=labels)
    prepare_together(same_models, loaded, cache=tmp_path, at_once=4, progress=progress)
    assert sorted(labels) == ["2 models", "2 models", "original"]  # Retrain, and two shadows


@pytest.mark.slow
def test_attackers_cost_what_their_shadows_took_also_when_these_were_found(together):
    problems, _, folder = together
    wanted = [
        (Trainer(p.config, p.source, p.spec, folder, silent), jobs_of(p.config, p.splits, is_given=False))
        for p in problems
    ]
    trainer, _ = train_together(wanted, 2)
    models = [trainer.model(shadow(small_config(), problems[0].splits.reserve, i).job) for i in range(2)]
    steps = sum(float(model["seconds"]) for model in models)
    assert len(list(folder.glob("shadow-*"))) == 4  # found, not trained anew
    assert problems[0].seconds["attackers_s"] > steps > 0


def test_attackers_cost_the_steps_of_their_shadows_and_what_follows_but_not_the_finding_of_them(problem, monkeypatch):
    """Of two shadows of 100 s each, found in 7 s: 200 s, 3 s for the outputs of each, 5 s for the fit."""
    clock = types.SimpleNamespace(now=0.0)

    def takes(seconds, fn):
        def timed(*args):
            clock.now += seconds
            return fn(*args)

        return timed

    trainer = Trainer(small_config(), problem.source, problem.spec, None, silent)
    found = {"params": problem.original.params, "model_state": {}, "seconds": np.float32(100)}
    object.__setattr__(trainer, "model", takes(7, lambda job: found))
    monkeypatch.setattr(shadows, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(shadows, "outputs_of", takes(3, shadows.outputs_of))
    monkeypatch.setattr(shadows, "fit_bank", takes(5, lambda *args: problem.bank))
    assert shadows.fit_on_shadows(trainer, problem.splits.reserve)["seconds"] == 2 * 100 + 2 * 3 + 5
    known, held_out = problem.splits.visible, problem.splits.reserve
    assert shadows.fit_on_original(trainer, problem.original, known, held_out)["seconds"] == 2 * 3 + 5


def test_of_a_few_rows_one_of_each_side_is_kept_to_measure_the_attackers(problem, monkeypatch):
    seen = []
    monkeypatch.setattr(shadows, "outputs_of", lambda *args: seen.append([len(rows) for rows in args[3:5]]))
    monkeypatch.setattr(shadows, "_fitted", lambda *args: None)
    trainer = Trainer(small_config(), problem.source, problem.spec, None, silent)
    for few in (4, 11):
        shadows.fit_on_original(trainer, problem.original, np.arange(few), np.arange(few))
    assert seen == [[1, 1], [3, 3], [2, 2], [9, 9]]


def test_what_a_problem_needs_is_told_by_its_method():
    source, splits, spec, _ = load_problem(small_config())
    kinds = lambda method: [job.kind for job in jobs_of(small_config(method=method), splits, is_given=False)]  # noqa: E731
    by_attackers = config.LTU(**BY_ATTACKERS)
    assert kinds(by_attackers) == ["original", "retrain", "retrain", "shadow", "shadow"]
    assert kinds(config.LTU(forget_by="margins")) == ["original", "retrain", "retrain"]
    labels = [job.label for job in jobs_of(small_config(), splits, is_given=False)]
    assert labels == ["original", "retrain 0", "retrain 1", "shadow 1/2", "shadow 2/2"]
    assert kinds(config.Retrain()) == ["original", "retrain", "retrain"]
    assert kinds(config.Amnesiac("amnesiac", recorded_epochs=1.0)) == ["retrain", "retrain"]
    retrain = small_config(method=config.Retrain())
    assert [job.kind for job in jobs_of(retrain, splits, is_given=True)] == ["retrain", "retrain"]
    given = original(Trainer(retrain, source, spec, None, silent), splits, {"params": {"w": np.ones(2)}})
    np.testing.assert_array_equal(given["params"]["w"], np.ones(2))
    assert given["model_state"] == {} and given["seconds"] == 0


def test_every_model_is_trained_on_the_rows_that_its_name_says():
    settings = small_config()
    loaded = load_problem(settings)
    source, seen = watched(loaded.source)
    splits, trainer = loaded.splits, Trainer(settings, source, loaded.spec, None, silent)
    assert len(splits.visible) < len(splits.remain)

    def read_by(make):
        seen.clear()
        return make(), seen.copy()

    model, rows = read_by(lambda: original(trainer, splits))
    assert rows == {*splits.forget, *splits.remain}
    _, rows = read_by(lambda: trainer.model(retrain_jobs(settings, splits)[0]))
    assert rows == set(splits.remain)  # not the rho subset: Retrain is what would have been without the forget rows
    state = trainer.state_of(model)
    (_, auc, _), rows = read_by(lambda: preparation.attackers(trainer, splits, state))
    assert rows == set(splits.reserve) and set(auc) == {"sorted", "metrics"}


def test_the_key_of_a_model_is_what_it_is_a_function_of():
    def keys(**changes):
        settings = small_config(**changes)
        source, splits, spec, _ = load_problem(settings)
        trainer = Trainer(settings, source, spec, None, silent)
        return [str(trainer.key(job)) for job in jobs_of(settings, splits, is_given=False)]

    base = keys()
    assert len(set(base)) == len(base)
    assert keys(method=config.LTU(**{**BY_ATTACKERS, "learning_rate": 0.5})) == base
    assert keys(method=config.LTU(forget_by="margins")) == base[:3]
    assert set(keys(seed=1)).isdisjoint(base)
    assert set(keys(training=config.Training(epochs=6, batch_size=20))).isdisjoint(base)
    assert jobs.AUDIT == 6  # a stream of keys of its own for each purpose: none may move


@pytest.fixture
def asked_of_the_cache(monkeypatch):
    """The entries that were asked for, and what would make each; nothing is made."""
    asked = []
    bank = {"params": {"sorted": 1}, "auc": dict.fromkeys(("sorted", "metrics", "labelled"), 0.5), "seconds": 3.0}
    scores = dict.fromkeys(("ua", "ra", "ta", "mi"), 1.0)
    monkeypatch.setattr(preparation, "cached", lambda *args: asked.append(args) or bank)
    monkeypatch.setattr(preparation, "cached_numbers", lambda *args: asked.append(args) or scores)
    return asked


def other_params(state):
    return state.replace(params={name: value + 1 for name, value in state.params.items()})


@pytest.mark.parametrize("fitted_on", ["shadows", "original"])
def test_attackers_are_found_by_everything_that_they_are_a_function_of(problem, asked_of_the_cache, fitted_on):
    names = ("sorted", "metrics")

    def ask(splits=problem.splits, original=problem.original, seed=0, **settings):
        fields = {"names": names, "num_shadows": 2, "fitted_on": fitted_on} | settings
        trainer = Trainer(
            small_config(seed=seed, attackers=config.Attackers(**fields)), problem.source, problem.spec, "cache", silent
        )
        bank, auc, seconds = preparation.attackers(trainer, splits, original)
        assert bank.names == tuple(auc) == fields["names"] and bank.params == {"sorted": 1} and seconds == 3.0
        entry, make = asked_of_the_cache[-1]
        assert (entry.directory, entry.kind) == ("cache", "attackers")
        if fitted_on == "shadows":
            assert make.func is shadows.fit_on_shadows and make.args == (trainer, splits.reserve)
        else:
            assert make.func is shadows.fit_on_original
            assert make.args == (trainer, original, splits.visible, splits.reserve)
        return str(entry.key)

    fewer = lambda name: dataclasses.replace(problem.splits, **{name: getattr(problem.splits, name)[1:]})  # noqa: E731
    same = [ask(), ask(splits=fewer("validation")), ask(splits=fewer("forget"))]
    others = [ask(seed=1), ask(epochs=7), ask(names=(*names, "labelled")), ask(splits=fewer("reserve"))]
    of_the_original = [ask(splits=fewer("seen")), ask(original=other_params(problem.original))]
    of_the_original += [ask(original=problem.original.replace(model_state={"mean": np.ones(1)}))]
    assert len(set(same)) == 1 and len({same[0], *others}) == 5
    assert len({same[0], *of_the_original}) == (1 if fitted_on == "shadows" else 4)


def test_an_edited_file_of_ones_own_attackers_is_another_entry(problem, asked_of_the_cache, tmp_path, monkeypatch):
    (tmp_path / "own_attacker.py").write_text("network = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for _ in range(2):
        settings = small_config(attackers=config.Attackers(names=("sorted", "own_attacker:network")))
        trainer = Trainer(settings, problem.source, problem.spec, "cache", silent)
        with contextlib.suppress(KeyError):  # the AUC that the stand-in of the cache lacks
            preparation.attackers(trainer, problem.splits, problem.original)
        keys.append(str(asked_of_the_cache[-1][0].key))
        (tmp_path / "own_attacker.py").write_text("network = 2\n")
    assert keys[0] != keys[1]


def test_scores_are_found_by_the_model_the_data_the_splits_and_the_batch_size(problem, asked_of_the_cache):
    def ask(state=problem.original, source=problem.source, splits=problem.splits, batch_size=500):
        evaluation = config.Evaluation(batch_size=batch_size)
        trainer = Trainer(small_config(evaluation=evaluation), source, problem.spec, "cache", silent)
        assert preparation.cached_scores(trainer, state, splits).ua == 1.0
        entry, make = asked_of_the_cache[-1]
        assert (entry.directory, entry.kind) == ("cache", "scores")
        return str(entry.key), make

    (key, make), (again, _) = ask(), ask()
    labels = problem.source.labels[::-1].copy()
    others = [
        ask(state=other_params(problem.original)),
        ask(state=problem.original.replace(model_state={"mean": np.ones(1)})),
        ask(source=dataclasses.replace(problem.source, labels=labels)),
        ask(splits=dataclasses.replace(problem.splits, test=problem.splits.test[1:])),
        ask(batch_size=7),
    ]
    assert key == again and len({key, *(other for other, _ in others)}) == 6
    assert make() == dataclasses.asdict(problem.score(problem.original))


def test_closeness_is_found_by_the_models_the_data_and_the_splits(problem, asked_of_the_cache):
    def ask(original=problem.original, retrains=problem.retrains, splits=problem.splits):
        trainer = Trainer(small_config(), problem.source, problem.spec, "cache", silent)
        assert preparation.cached_closeness(trainer, splits, original, retrains)["ua"] == 1.0
        entry, make = asked_of_the_cache[-1]
        assert (entry.directory, entry.kind) == ("cache", "closeness")
        return str(entry.key), make

    (key, make), (again, _) = ask(), ask()
    one, two = problem.retrains
    others = [
        ask(original=other_params(problem.original)),
        ask(retrains=(one, other_params(two))),
        ask(retrains=(one,)),
        ask(splits=dataclasses.replace(problem.splits, test=problem.splits.test[1:])),
    ]
    assert key == again and len({key, *(other for other, _ in others)}) == 5
    assert make() == problem.closeness
    trainer = Trainer(small_config(), problem.source, problem.spec, "cache", silent)
    assert preparation.cached_closeness(trainer, problem.splits, problem.original, ()) is None


def test_closeness_is_that_of_the_models_answers_on_the_rows_of_each_set(problem):
    source, forgotten, rest = problem.source, problem.splits.test[:30], problem.splits.test[30:]
    rows = {"forget": problem.splits.forget, "remain": problem.splits.remain, "test": problem.splits.test}

    def answers(model, index):
        images = source.images[index] / np.float32(255)
        logits, _ = problem.spec.apply_fn(model.params, model.model_state, images, train=False)
        return softmax(np.asarray(logits, float), axis=1)

    def apart(model, retrains, index):
        pairs = [(answers(model, index), answers(one, index)) for one in retrains]
        return np.mean([jensenshannon(*pair, 2, axis=1) ** 2 for pair in pairs])

    def margins(model, index):
        return logit(answers(model, index)[np.arange(len(index)), source.labels[index]])

    original, (one, two) = problem.original, problem.retrains
    unlearned = other_params(original)
    found = {"unlearned": problem.closeness_of(unlearned), **problem.closeness}
    for name, index in rows.items():
        for model, wanted in (
            ("unlearned", apart(unlearned, (one, two), index)),
            ("original", apart(original, (one, two), index)),
            ("retrain", apart(one, (two,), index)),
        ):
            assert np.isclose(found[model][f"js_{name}"], wanted, rtol=1e-4)
        margin = np.mean(abs(margins(one, index) - margins(two, index)))
        assert np.isclose(found["retrain"][f"margin_{name}"], margin, rtol=1e-4)
    # Rows of a class that is forgotten whole are seen by no model either; with them every class weighs as it should.
    split = dataclasses.replace(problem.splits, test=rest, test_forgotten=forgotten)
    assert dataclasses.replace(problem, splits=split).closeness_of(unlearned) == pytest.approx(found["unlearned"])

    alike = dataclasses.replace(source, labels=np.zeros_like(source.labels))
    p = answers(unlearned, np.concatenate([rows["forget"], rows["test"]]))[:, 0]
    auc = roc_auc_score([1] * len(rows["forget"]) + [0] * len(rows["test"]), np.log(p / (1 - p)))
    assert np.isclose(dataclasses.replace(problem, source=alike).closeness_of(unlearned)["auc"], auc)


def test_retrains_whose_answers_are_kept_are_asked_no_more(problem):
    kept = [functools.cache(answers) for answers in problem.retrained]
    wanted = problem.closeness_of(problem.original, kept)
    blind = dataclasses.replace(problem, retrains=(None, None))  # nothing to ask
    assert blind.closeness_of(problem.original, kept) == wanted == problem.closeness_of(problem.original)
    assert wanted == problem.closeness["original"]
    assert dataclasses.replace(problem, retrains=()).closeness_of(problem.original) is None


def test_without_shadows_the_attackers_learn_from_the_original_itself(tmp_path):
    """The rho subset against the reserve, a fifth of each kept: no other rows are read, and no shadow is trained."""
    labels = []

    attackers = config.Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original")
    settings = small_config(attackers=attackers, training=config.Training(epochs=60, batch_size=20))
    loaded = load_problem(settings)
    indices = []
    rows = loaded.source.rows
    seen = dataclasses.replace(loaded.source)
    object.__setattr__(seen, "rows", lambda index: indices.append(np.asarray(index)) or rows(index))
    trainer = Trainer(settings, seen, loaded.spec, tmp_path, recording([], labels=labels))
    state = trainer.state_of(original(trainer, loaded.splits))
    indices.clear()
    bank, auc, _ = preparation.attackers(trainer, loaded.splits, state)
    known = loaded.splits.visible
    kept, others, fitted, reserve = indices
    assert sorted([*kept, *fitted]) == list(known) and len(kept) == len(known) // 5
    assert sorted([*others, *reserve]) == sorted(loaded.splits.reserve) and len(others) == len(reserve) // 4
    assert not [label for label in labels if "shadow" in label]
    assert bank.names == ("sorted", "metrics") and set(auc) == set(bank.names)
    # another original has other attackers
    other = state.replace(params={name: value + 0.1 for name, value in state.params.items()})
    again, _, _ = preparation.attackers(trainer, loaded.splits, other)
    assert not np.array_equal(np.asarray(again.params["sorted"]["params"]["Dense_0"]["kernel"]), _first(bank))


def _first(bank):
    return np.asarray(bank.params["sorted"]["params"]["Dense_0"]["kernel"])


def test_an_original_is_found_where_it_was_trained_before(tmp_path):
    settings = small_config()
    loaded = load_problem(settings)
    trainer, job = Trainer(settings, loaded.source, loaded.spec, tmp_path, silent), original_job(loaded.splits)
    assert not trainer.entry(job).is_there() and not trainer.entry(job).path.exists()
    made = original(trainer, loaded.splits)
    assert trainer.entry(job).is_there() and trainer.entry(job).path.exists()
    chex.assert_trees_all_equal(trainer.model(job), made)
