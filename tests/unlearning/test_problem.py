"""prepare: what a run starts from is made once, of the right rows, and found again."""

import contextlib
import dataclasses
import shutil

import chex
import flax.serialization
import jax
import numpy as np
import pytest
from numbered import numbered_source, state_of, tells
from small import BY_ATTACKERS, small_config

from ltu_jax import config
from ltu_jax.evaluation.scores import accuracy
from ltu_jax.methods import build_method
from ltu_jax.setting import ConfigError
from ltu_jax.training.jobs import Trainer
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import silent
from ltu_jax.unlearning import preparation
from ltu_jax.unlearning import problem as module
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.preparation import original_job, retrain_jobs
from ltu_jax.unlearning.problem import Loaded, load_problem, prepare, prepare_together


class Labels:
    """Notes what was trained."""

    def __init__(self):
        self.seen = []

    @contextlib.contextmanager
    def __call__(self, label, total):
        self.seen.append(label)
        yield lambda n: None


@pytest.fixture
def own_cache(problem, cache, tmp_path):
    """What is there for the problem, for a test that adds to it: no other test finds that."""
    return shutil.copytree(cache, tmp_path / "cache")


def trained(settings, cache):
    labels = Labels()
    found = prepare(settings, cache=cache, progress=labels)
    return found, [label for label in labels.seen if not label.startswith("reading")]


def test_a_second_method_on_the_same_problem_trains_nothing(problem, cache):
    again, labels = trained(small_config(method=config.LTU(**{**BY_ATTACKERS, "learning_rate": 0.5})), cache)
    assert labels == []
    chex.assert_trees_all_equal(again.original.params, problem.original.params)
    chex.assert_trees_all_equal(again.bank.params, problem.bank.params)
    assert again.attackers == problem.attackers
    assert again.seconds == problem.seconds  # what each cost once


def test_another_request_keeps_the_original_and_the_attackers_but_not_retrain(problem, own_cache):
    data = dataclasses.replace(small_config().data, forget_fraction=0.3)
    other, labels = trained(small_config(data=data), own_cache)
    assert labels == ["retrain 0", "retrain 1"]
    chex.assert_trees_all_equal(other.original.params, problem.original.params)


def test_another_recipe_or_seed_finds_nothing(own_cache):
    for changes in ({"training": config.Training(epochs=4, batch_size=20)}, {"seed": 1}):
        assert trained(small_config(**changes), own_cache)[1][0] == "original"


@pytest.mark.parametrize("method", [config.Retrain(), config.LTU(forget_by="margins")], ids=["retrain", "ltu"])
def test_neither_retraining_nor_forgetting_by_margins_needs_attackers(method):
    settings = small_config(method=method)
    found, labels = trained(settings, None)
    assert found.bank is None and found.attackers == () and not any("shadow" in label for label in labels)


def test_every_model_is_trained_on_its_own_rows(problem):
    assert len(problem.splits.train) == 80 and len(problem.splits.forget) == 16
    know = lambda state, rows: accuracy(  # noqa: E731
        predict(EvalForward(problem.spec.apply_fn), state.params, {}, problem.source.images[rows], batch_size=100),
        problem.source.labels[rows],
    )
    assert know(problem.original, problem.splits.forget) > know(problem.retrains[0], problem.splits.forget)
    assert problem.retrains[0].params["w1"][0, 0] != problem.retrains[1].params["w1"][0, 0]
    assert problem.score(problem.original).ra == know(problem.original, problem.splits.remain)


def test_the_attackers_are_reported(problem):
    assert [row["name"] for row in problem.attackers] == ["sorted", "metrics"]
    for row in problem.attackers:
        assert 0 <= row["auc_shadow"] <= 1 and 0 <= row["auc_original"] <= 1
    assert set(problem.attackers_on(problem.original)) == {"sorted", "metrics"}


def test_attackers_are_asked_who_of_forget_and_validation_rows_is_a_member(problem, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "attacker_auc", lambda bank, outputs: asked.append(outputs) or {})
    augment = dataclasses.replace(problem.config, data=dataclasses.replace(problem.config.data, augment="flip"))
    numbered = dataclasses.replace(problem, config=augment, source=numbered_source(len(problem.source.labels)))
    numbered.attackers_on(state_of(tells, own=0))
    (outputs,) = asked
    row, mirrored, train, _ = np.asarray(outputs.logits).astype(int).T
    is_member = np.asarray(outputs.is_member) == 1
    assert sorted(row[is_member]) == list(problem.splits.forget)
    assert len(set(row[~is_member])) == 16 and np.isin(row[~is_member], problem.splits.validation).all()
    assert train.all() and 0 < mirrored.mean() < 1  # as LTU asks them


def test_subclasses_are_forgotten_of_a_model_of_the_coarse_classes(monkeypatch):
    source = module.load_source(config.Data())
    coarse = dataclasses.replace(source, coarse=(source.labels // 2).astype(np.int32))
    monkeypatch.setattr(module, "load_source", lambda data, progress: coarse)
    data = dataclasses.replace(small_config().data, forget_kind="subclass", forget_class=3)
    found, splits, *_ = load_problem(small_config(data=data))
    assert found.num_classes == 5
    assert set(found.labels[splits.forget]) == {1} and set(source.labels[splits.forget]) == {3}
    assert set(source.labels[splits.test_forgotten]) == {3} and 3 not in source.labels[splits.test]


def canary_config(**changes):
    data = dataclasses.replace(small_config().data, forget_kind="canaries", canaries=20)
    return small_config(data=data, method=config.Retrain(), **changes)


def test_canaries_are_trained_on_with_their_wrong_labels_and_the_hash_of_the_data_follows(own_cache):
    settings, source = canary_config(), module.load_source(config.Data())
    found, drawn = prepare(settings, cache=own_cache), module.canaries(settings, source)
    np.testing.assert_array_equal(found.source.labels[drawn.rows], drawn.labels)
    others = np.setdiff1d(np.arange(len(source.labels)), drawn.rows)
    np.testing.assert_array_equal(found.source.labels[others], source.labels[others])
    assert np.all(drawn.labels != source.labels[drawn.rows]) and found.source.sha256() != source.sha256()
    np.testing.assert_array_equal(found.splits.forget, drawn.rows[drawn.is_in])
    trainer = Trainer(settings, found.source, found.spec, None, silent)
    assert trainer.key(original_job(found.splits))["data"] == found.source.sha256()
    knows = lambda state: accuracy(  # noqa: E731, by the wrong labels: what 100 - UA is
        predict(EvalForward(state.apply_fn), state.params, {}, source.images[found.splits.forget], batch_size=100),
        drawn.labels[drawn.is_in],
    )
    assert found.original_scores.ua == 100 - knows(found.original) < 100 - knows(found.retrains[0])


def test_rows_that_no_held_out_row_is_like_are_not_scored_against_any(problem, own_cache):
    with pytest.raises(ConfigError, match="config.eval_every: 3 needs .* a request of single rows like them"):
        load_problem(canary_config(eval_every=3))
    settings = canary_config()
    found = prepare(settings, cache=own_cache)
    assert dataclasses.replace(found, bank=problem.bank).attackers_on(found.original) == {}
    kinds = {"random": True, "ids": True, "hard": False, "easy": False, "canaries": False}
    for kind, wanted in kinds.items():
        data = dataclasses.replace(settings.data, forget_kind=kind)
        assert module.has_like_rows(dataclasses.replace(settings, data=data), problem.splits) == wanted


def test_a_class_forgotten_whole_is_not_scored_against_held_out_rows(problem):
    data = dataclasses.replace(small_config().data, forget_kind="class", forget_class=3)
    with pytest.raises(ConfigError, match="config.eval_every: 3 needs .* a request of single rows"):
        load_problem(small_config(data=data, eval_every=3))
    settings = small_config(data=data, method=config.Retrain())
    found = prepare(settings)
    scores = found.score(found.retrains[0])
    assert scores.ua == 100 and scores.ta_forgotten == 0
    assert dataclasses.replace(found, bank=problem.bank).attackers_on(found.original) == {}
    _, history = run_unlearning(build_method(config.Retrain(), found.parts), found.original, found.splits, found.source)
    assert history.warnings == []


def test_a_model_of_ones_own_is_another_model_once_its_file_is_edited(tmp_path, monkeypatch):
    code = "from mlp import build\n"
    (tmp_path / "edited_model.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    settings = small_config(model=config.Model("edited_model:build"), method=config.Retrain())
    cache = tmp_path / "cache"
    assert trained(settings, cache)[1][0] == "original"
    assert trained(settings, cache)[1] == []
    (tmp_path / "edited_model.py").write_text(code + "# edited\n")
    assert trained(settings, cache)[1][0] == "original"


def test_given_weights_are_part_of_what_was_asked_for_and_need_no_recording(tmp_path):
    path = tmp_path / "w.msgpack"
    data = dataclasses.replace(small_config().data, held_out="train")
    settings = small_config(weights=str(path), data=data)
    hashes = set()
    for value in (0.0, 1.0):
        params = {"w1": np.full((192, 16), value, np.float32), "w2": np.zeros((16, 10), np.float32)}
        path.write_bytes(flax.serialization.msgpack_serialize({"params": params}))
        hashes.add(module.request_sha256(settings, load_problem(settings)))
    hashes.add(module.request_sha256(settings, load_problem(small_config(data=data))))
    assert len(hashes) == 3
    with pytest.raises(ConfigError, match="config.weights: .* amnesiac needs what is recorded in training; allowed"):
        load_problem(small_config(weights=str(path), data=data, method=config.Amnesiac("amnesiac")))
    with pytest.raises(ConfigError, match="config.data.held_out: 'auto' with config.weights, and 'digits' has no test"):
        load_problem(small_config(weights=str(path)))


def test_scoring_itself_without_validation_rows_is_a_mistake_of_the_settings():
    data = dataclasses.replace(small_config().data, validation_fraction=0.0)
    with pytest.raises(ConfigError, match="config.eval_every"):
        load_problem(small_config(data=data, eval_every=3))


def test_the_scores_of_what_is_compared_with_are_those_of_the_models_and_made_once(problem, cache, monkeypatch):
    assert problem.original_scores == problem.score(problem.original)
    assert problem.retrain_scores == tuple(problem.score(state) for state in problem.retrains)
    for name in ("evaluate", "compare"):
        monkeypatch.setattr(preparation, name, lambda *a, **k: pytest.fail("scored again"))
    again = trained(small_config(), cache)[0]
    assert again.retrain_scores == problem.retrain_scores and again.closeness == problem.closeness


def test_a_recorded_original_is_the_original_and_belongs_to_its_forget_set(problem, own_cache):
    settings = small_config(method=config.Amnesiac("amnesiac", recorded_epochs=2.0))
    found, labels = trained(settings, own_cache)
    assert labels == ["original, recorded"]
    chex.assert_trees_all_close(found.original.params, problem.original.params, rtol=1e-5)
    assert max(abs(x).max() for x in jax.tree.leaves(found.updates)) > 0
    assert trained(settings, own_cache)[1] == []
    other = dataclasses.replace(settings.data, forget_fraction=0.3)
    assert "original, recorded" in trained(small_config(data=other, method=settings.method), own_cache)[1]
    chex.assert_trees_all_equal(found.parts.updates, found.updates)


@pytest.mark.parametrize("name", ["training", "method"])
def test_more_images_than_32_bits_count_are_refused(name, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 400)  # 5 epochs over 80 rows
    load_problem(small_config())
    group = dataclasses.replace(getattr(small_config(), name), epochs=6)
    message = f"^config.{name}.epochs: 6 over 80 rows are too many images; allowed: <= 5$"
    with pytest.raises(ConfigError, match=message):
        load_problem(small_config(**{name: group}))


def test_what_a_problem_cost_is_what_its_models_cost(problem, cache):
    trainer = Trainer(small_config(), problem.source, problem.spec, cache, silent)
    jobs = [original_job(problem.splits), *retrain_jobs(small_config(), problem.splits)]
    original, *retrains = (float(trainer.model(job)["seconds"]) for job in jobs)
    assert problem.seconds["original_s"] == original > 0
    assert np.isclose(problem.seconds["retrain_s"], np.mean(retrains), rtol=1e-6) and retrains[0] != retrains[1]
    assert problem.seconds["attackers_s"] > 0
    evaluation = config.Evaluation(num_retrain=0)
    alone = prepare(small_config(method=config.Retrain(), evaluation=evaluation), cache=cache)
    assert alone.seconds == {"original_s": original, "retrain_s": 0.0, "attackers_s": 0.0}


def test_the_hash_of_a_request_follows_settings_splits_and_data_and_the_identity_the_models_too(problem):
    loaded = Loaded(problem.source, problem.splits, problem.spec)
    sha256 = lambda settings=problem.config, **changes: module.request_sha256(settings, loaded._replace(**changes))  # noqa: E731
    labels = problem.source.labels.copy()
    labels[0] += 1
    others = [
        sha256(dataclasses.replace(problem.config, log_every=7)),
        sha256(splits=dataclasses.replace(problem.splits, forget=problem.splits.forget[1:])),
        sha256(source=dataclasses.replace(problem.source, labels=labels)),
    ]
    assert problem.request_sha256 == sha256() and len({sha256(), *others}) == 4
    assert sha256(dataclasses.replace(problem.config, at_once=3)) == sha256()  # says how, not what
    params = {name: value + 1 for name, value in problem.original.params.items()}
    changed = [
        dataclasses.replace(problem, **change).identity
        for change in (
            {"original": problem.original.replace(params=params)},
            {"original": problem.original.replace(model_state={"mean": np.ones(1)})},
            {"bank": problem.bank.replace(params=params)},
            {"bank": None},
            {"updates": params},
            {"splits": dataclasses.replace(problem.splits, forget=problem.splits.forget[1:])},
        )
    ]
    assert len({problem.identity, *changed}) == 7
    assert dataclasses.replace(problem, seconds={}).identity == problem.identity


def test_given_weights_count_as_they_are_and_statistics_with_them(problem):
    """A problem hashes its original where it was given, and nothing of it where it was trained."""
    settings = dataclasses.replace(problem.config, weights="w.msgpack")
    state = problem.original.replace(model_state={"batch_stats": {"mean": np.ones(2)}})
    given = dataclasses.replace(problem, config=settings, original=state)
    weights = {"params": state.params, **state.model_state}
    assert given.request_sha256 == module.request_sha256(
        settings, Loaded(problem.source, problem.splits, problem.spec, weights)
    )
    trained = dataclasses.replace(given, config=problem.config)
    assert trained.request_sha256 == problem.request_sha256


def together(cache, weights=None, **how):
    """What was trained for two seeds, without attackers; the weights of the second may be given."""
    fields = {
        "data": config.Data(train_size=40, forget_fraction=0.2),
        "training": config.Training(epochs=1, batch_size=20),
    }
    fields |= {"method": config.Retrain(), "evaluation": config.Evaluation(num_retrain=1)}
    configs = [small_config(seed=seed, **fields) for seed in (0, 1)]
    loaded = [load_problem(one) for one in configs]
    loaded[1] = loaded[1]._replace(weights=weights)
    labels = Labels()
    found = prepare_together(configs, loaded, cache=cache, progress=labels, **how)
    assert [(one.config, one.source) for one in found] == [
        (c, one.source) for c, one in zip(configs, loaded, strict=True)
    ]
    return found, labels.seen


def test_the_models_of_several_seeds_are_trained_in_one_program_where_that_is_asked_for(problem, tmp_path):
    assert together(tmp_path / "one")[1] == ["original", "retrain 0"] * 2
    (first, second), labels = together(tmp_path / "two", at_once=2)
    assert labels == ["2 models"] * 2
    assert not np.array_equal(first.original.params["w1"], second.original.params["w1"])
    given = {"params": problem.original.params}
    found, labels = together(tmp_path / "given", given, at_once=2)
    assert sorted(labels) == ["2 models", "original"]
    chex.assert_trees_all_equal(found[1].original.params, given["params"])


def test_a_method_of_ones_own_that_is_not_there_is_told_before_anything_is_trained():
    method = dataclasses.replace(config.LTU(), name="nowhere:build")
    with pytest.raises(ConfigError, match="^config.method.name: 'nowhere:build'"):
        load_problem(small_config(method=method))
