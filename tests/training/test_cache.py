"""An entry is made once, found by all that made it, and by nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training import cache
from ltu_jax.training.cache import cached, cached_numbers, under_way
from ltu_jax.training.checkpoint import CheckpointError


class Maker:
    """Counts how often it is asked, and makes something else each time."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"params": {"w": jnp.full(3, self.calls, jnp.float32)}, "model_state": {}}


KEY = {"config": {"epochs": 3, "milestones": [1, 2]}, "data": "abc", "unset": None}


def test_a_value_is_made_once_and_found_next_with_the_seconds_of_the_first_time(tmp_path, monkeypatch):
    clock = iter([10.0, 12.5])  # a third reading would be an error
    monkeypatch.setattr(cache.time, "perf_counter", lambda: next(clock))
    make, directory = Maker(), tmp_path / "deep" / "cache"
    first = cached(directory, "original", KEY, make)
    again = cached(directory, "original", dict(reversed(KEY.items())), make)
    assert (first.seconds, first.found) == (2.5, False)
    assert (again.seconds, again.found) == (2.5, True)
    assert make.calls == 1 and again.value["model_state"] == {}
    np.testing.assert_array_equal(again.value["params"]["w"], np.ones(3))
    [entry] = directory.iterdir()
    assert entry.name.startswith("original-")


def test_another_key_kind_or_recipe_makes_anew(tmp_path, monkeypatch):
    make = Maker()
    cached(tmp_path, "original", KEY, make)
    assert not cached(tmp_path, "original", {**KEY, "unset": 0}, make).found
    assert not cached(tmp_path, "original", {**KEY, "config": {"epochs": 4, "milestones": [1, 2]}}, make).found
    assert not cached(tmp_path, "retrain", KEY, make).found
    monkeypatch.setattr(cache, "RECIPE_VERSION", cache.RECIPE_VERSION + 1)
    assert not cached(tmp_path, "original", KEY, make).found
    assert make.calls == 5 == len(list(tmp_path.iterdir()))


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = Maker()
    assert [cached(None, "original", KEY, make).found for _ in range(2)] == [False, False]
    assert make.calls == 2 and not list(tmp_path.iterdir())


def test_a_maker_that_fails_leaves_nothing_to_be_found(tmp_path):
    def fails():
        raise FloatingPointError("diverged")

    with pytest.raises(FloatingPointError):
        cached(tmp_path, "original", KEY, fails)
    assert not cached(tmp_path, "original", KEY, Maker()).found


def test_a_damaged_entry_is_refused_and_named_not_made_over(tmp_path):
    make = Maker()
    cached(tmp_path, "original", KEY, make)
    [entry] = tmp_path.iterdir()
    [metadata] = entry.rglob("_METADATA")
    metadata.unlink()
    with pytest.raises(CheckpointError, match=entry.name):
        cached(tmp_path, "original", KEY, make)
    assert make.calls == 1


def test_numbers_are_kept_to_the_last_digit_and_made_once(tmp_path):
    value = {"ua": 100 / 3, "ta_forgotten": None}
    assert cached_numbers(tmp_path, "scores", KEY, lambda: value) == value
    assert cached_numbers(tmp_path, "scores", KEY, lambda: pytest.fail("made again")) == value
    assert cached_numbers(tmp_path, "scores", {**KEY, "data": "abd"}, lambda: {"ua": 1.0}) == {"ua": 1.0}
    assert len(list(tmp_path.iterdir())) == 2
    assert cached_numbers(None, "scores", KEY, lambda: {"ua": 2.0}) == {"ua": 2.0}


@pytest.mark.parametrize("damage", ["33.3", '{"value": {"ua": 1.0}}', None])
def test_damaged_numbers_are_named_and_not_believed(tmp_path, damage):
    cached_numbers(tmp_path, "scores", KEY, lambda: {"ua": 33.5})
    [entry] = tmp_path.iterdir()
    entry.write_text(damage or entry.read_text().replace("33.5", "34.5"))
    with pytest.raises(CheckpointError, match=f"{entry.name}.* delete it to make it anew"):
        cached_numbers(tmp_path, "scores", KEY, lambda: pytest.fail("made again"))


@pytest.mark.parametrize("ask", [cached, cached_numbers])
def test_while_an_entry_is_made_others_that_want_it_are_kept_waiting(tmp_path, ask):
    import fcntl

    def make():
        [lock] = tmp_path.glob("original-*.lock")
        with lock.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {"x": jnp.zeros(2)} if ask is cached else {"x": 0}

    ask(tmp_path, "original", KEY, make)
    assert not list(tmp_path.glob("*.lock"))


def test_what_was_under_way_goes_when_the_entry_is_there(tmp_path):
    folder, make = under_way(tmp_path, "original", KEY), Maker()
    assert under_way(None, "original", KEY) is None
    for _ in range(2):  # made, and found where a kill came between
        folder.mkdir()
        cached(tmp_path, "original", KEY, make)
        assert not folder.exists()
    assert make.calls == 1
