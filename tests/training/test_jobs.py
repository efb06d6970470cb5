"""Training a list of models: each once, several in one program, continued after a stop."""

import chex
import jax
import numpy as np
import pytest
from progress_recorder import Killed, recording
from small import small_config

from ltu_jax.training import cache, checkpoint
from ltu_jax.training.jobs import Trainer, TrainingJob, train_or_find, train_together
from ltu_jax.training.supervised import num_train_steps, train
from ltu_jax.types import silent
from ltu_jax.unlearning.problem import load_problem

MINE = 100  # a stream of keys for this test's purpose


@pytest.fixture(scope="module")
def loaded():
    return load_problem(small_config())


def trainer(loaded, cache=None, labels=None):
    progress = silent if labels is None else recording([], labels=labels)
    return Trainer(small_config(), loaded.source, loaded.spec, cache, progress)


def jobs(loaded, count=3, size=60):
    """Audits' kind of list: random rows for each model."""
    rows = [np.sort(np.random.default_rng(i).permutation(loaded.splits.train)[:size]) for i in range(count)]
    return [TrainingJob(f"audit {i}", index, MINE, i) for i, index in enumerate(rows)]


def test_a_model_is_what_train_makes_of_its_rows_by_a_key_of_its_stream_and_index(loaded):
    job, config = jobs(loaded)[2], small_config()
    (found,) = train_or_find(trainer(loaded), [job])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed_for("train")), MINE), 2)
    init_key, train_key = jax.random.split(key)
    rows, start = loaded.source.rows(job.rows), loaded.spec.init(init_key)
    wanted = train(loaded.spec.apply_fn, *start, rows, config.training, train_key, augment=config.data.augment)
    chex.assert_trees_all_equal(found["params"], wanted.state.params)


def test_a_list_is_trained_once_and_goes_on_where_it_was_stopped(loaded, tmp_path):
    labels, wanted = [], jobs(loaded)
    first = train_or_find(trainer(loaded, tmp_path, labels), [wanted[1]])
    again = train_or_find(trainer(loaded, tmp_path, labels), wanted)
    assert labels == ["audit 1", "audit 0", "audit 2"]
    chex.assert_trees_all_equal(again[1], first[0])
    train_or_find(trainer(loaded, tmp_path, labels), wanted)
    assert len(labels) == 3


def test_a_traced_model_is_the_model_with_the_losses_of_its_rows_and_is_found_again(loaded, tmp_path):
    labels, (one, other) = [], jobs(loaded, 2)
    first = trainer(loaded, tmp_path, labels).traced(one)
    for name in ("params", "model_state"):
        chex.assert_trees_all_equal(first[name], trainer(loaded).model(one)[name])
    assert first["losses"].shape == (small_config().training.epochs, len(one.rows))
    # A program of several plain models trains none of those that are traced.
    (placed,) = train_together([(trainer(loaded, tmp_path, labels), [one, other])], at_once=2)
    chex.assert_trees_all_equal(placed.traced(one)["losses"], first["losses"])
    assert labels == ["audit 0, recorded", "2 models"]


def test_without_a_cache_each_is_trained_once_too(loaded):
    labels = []
    train_or_find(trainer(loaded, None, labels), jobs(loaded, 2))
    assert labels == ["audit 0", "audit 1"]


@pytest.mark.slow
def test_models_of_one_program_are_those_made_one_by_one(loaded, tmp_path):
    labels, wanted = [], [*jobs(loaded), *jobs(loaded, 1, size=40)]
    one = trainer(loaded, tmp_path, labels)
    together = train_or_find(one, wanted, at_once=2)
    assert labels == ["2 models", "audit 2", "audit 0"]  # as many rows in one program
    for one, job in zip(together, wanted, strict=True):
        alone = trainer(loaded).model(job)
        chex.assert_trees_all_close(one["params"], alone["params"], rtol=1e-4, atol=1e-5)


def test_a_model_of_a_program_of_several_is_no_model_trained_alone_and_each_is_trained_once(loaded, tmp_path):
    labels, wanted = [], jobs(loaded)
    one = trainer(loaded, tmp_path, labels)
    for _ in range(2):
        train_or_find(one, wanted, at_once=2)  # two together and one alone
        train_or_find(one, wanted)
    assert labels == ["2 models", "audit 2", "audit 0", "audit 1"]
    (together,) = train_together([(one, wanted)], 2)
    assert [together.key(job)["in_program"] for job in wanted] == [[0, 2], [1, 2], [0, 1]]
    assert [one.key(job)["in_program"] for job in wanted] == [[0, 1]] * 3
    (again,) = train_together([(together, wanted[::-1])], 3)  # of the last list alone
    assert [again.key(job)["in_program"] for job in wanted] == [[2, 3], [1, 3], [0, 3]]
    both = train_together([(again, wanted[:1]), (one, wanted[:1])], 2)  # one model, wherever it was before
    assert [trainer.key(wanted[0])["in_program"] for trainer in both] == [[0, 1]] * 2


def test_a_model_at_another_place_of_its_program_is_another(loaded, tmp_path):
    """On digits with ResNet-8 the second of two does not have the bits that it has as the first."""
    labels, wanted = [], jobs(loaded, 2)
    for order in (wanted, wanted[::-1]):
        (one,) = train_together([(trainer(loaded, tmp_path, labels), order)], at_once=2)
    assert labels == ["2 models"] * 2
    assert [one.key(job)["in_program"] for job in wanted] == [[1, 2], [0, 2]]


def test_models_that_differ_in_their_keys_alone_have_places_of_their_own(loaded, tmp_path):
    labels, (one,) = [], jobs(loaded, 1)
    both = [one, one._replace(stream=MINE + 1)]
    (placed,) = train_together([(trainer(loaded, tmp_path, labels), both)], at_once=2)
    assert labels == ["2 models"] and [placed.key(job)["in_program"] for job in both] == [[0, 2], [1, 2]]


def test_programs_are_cut_from_the_whole_list_and_two_kinds_share_none(loaded, tmp_path):
    labels, wanted = [], jobs(loaded)
    others = [job._replace(label=f"other {job.index}", index=10 + job.index) for job in wanted[:1]]
    train_or_find(trainer(loaded, tmp_path, labels), [*others, *wanted[:2]], at_once=3)
    assert labels == ["other 0", "2 models"]
    twice = [(trainer(loaded, tmp_path, labels), wanted[:1]) for _ in range(2)]  # two trainers that want the same model
    both = train_together(twice, at_once=2)
    assert labels[2:] == ["audit 0"] and [one.key(wanted[0])["in_program"] for one in both] == [[0, 1]] * 2


@pytest.mark.slow
def test_a_program_that_lacks_a_model_is_trained_again_to_the_same_bits(loaded, tmp_path):
    labels, wanted = [], jobs(loaded, 2)
    whole = train_or_find(trainer(loaded, tmp_path, labels), wanted, at_once=2)
    (first,) = train_together([(trainer(loaded, tmp_path, labels), wanted)], at_once=2)
    times = {path: path.stat().st_ctime_ns for path in first.entry(wanted[0]).path.rglob("*")}
    cache.remove(first.entry(wanted[1]).path)
    again = train_or_find(trainer(loaded, tmp_path, labels), wanted, at_once=2)
    assert labels == ["2 models"] * 2
    assert times == {path: path.stat().st_ctime_ns for path in first.entry(wanted[0]).path.rglob("*")}  # it stays
    for one, other in zip(whole, again, strict=True):
        chex.assert_trees_all_equal(one["params"], other["params"])


@pytest.mark.slow
def test_a_kill_between_two_entries_of_one_program_changes_no_bit(loaded, tmp_path, monkeypatch):
    wanted, saved = jobs(loaded, 2), []
    whole = train_or_find(trainer(loaded, tmp_path / "whole"), wanted, at_once=2)

    def save_first(path, tree, metadata):
        if saved:
            raise Killed
        saved.append(path)
        checkpoint.save_tree(path, tree, metadata)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(cache, "save_tree", save_first)
        train_or_find(trainer(loaded, tmp_path / "killed"), wanted, at_once=2)
    counts, config = [], small_config()
    second = Trainer(config, loaded.source, loaded.spec, tmp_path / "killed", recording(counts))
    again = train_or_find(second, wanted, at_once=2)
    assert counts == [2 * num_train_steps(config.training, 60)]  # they had been saved at their end: no step is taken
    for one, other in zip(whole, again, strict=True):
        chex.assert_trees_all_equal(one["params"], other["params"])
    assert not list((tmp_path / "killed").glob("*.under_way"))
