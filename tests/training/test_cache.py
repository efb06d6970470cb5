"""An entry is made once, found by all that made it, and by nothing else."""

import fcntl
import os

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax import files
from ltu_jax.devices import environment
from ltu_jax.setting import ConfigError
from ltu_jax.training import cache
from ltu_jax.training.cache import CacheEntry, cached, cached_numbers, cached_together
from ltu_jax.training.checkpoint import CheckpointError, load_tree


class Maker:
    """Counts how often it is asked, and makes something else each time."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"params": {"w": jnp.full(3, self.calls, jnp.float32)}, "model_state": {}}


KEY = {"config": {"epochs": 3, "milestones": [1, 2]}, "data": "abc", "unset": None}


def test_a_value_is_made_once_and_found_next_and_says_what_it_cost(tmp_path, monkeypatch):
    clock = iter([10.0, 12.5, 20.0, 20.0])
    monkeypatch.setattr(cache.time, "perf_counter", lambda: next(clock))
    make, directory = Maker(), tmp_path / "deep" / "cache"
    cached(CacheEntry(directory, "original", KEY), make)
    again = cached(CacheEntry(directory, "original", dict(reversed(KEY.items()))), make)
    assert make.calls == 1 and again["model_state"] == {}
    np.testing.assert_array_equal(again["params"]["w"], np.ones(3))
    [folder] = directory.iterdir()
    assert folder.name.startswith("original-")
    assert load_tree(folder)[1]["seconds"] == 2.5


def test_another_key_kind_or_recipe_makes_anew(tmp_path, monkeypatch):
    make = Maker()
    cached(CacheEntry(tmp_path, "original", KEY), make)
    cached(CacheEntry(tmp_path, "original", {**KEY, "unset": 0}), make)
    cached(CacheEntry(tmp_path, "original", {**KEY, "config": {"epochs": 4, "milestones": [1, 2]}}), make)
    cached(CacheEntry(tmp_path, "retrain", KEY), make)
    monkeypatch.setattr(cache, "RECIPE_VERSION", cache.RECIPE_VERSION + 1)
    cached(CacheEntry(tmp_path, "original", KEY), make)
    assert make.calls == 5 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    "change", [{"cores": 99}, {"versions": {"jax": "0.0.1"}}, {"xla_flags": ["--xla_cpu_use_fusion_emitters=true"]}]
)
@pytest.mark.parametrize("ask", [cached, cached_numbers])
def test_what_computes_it_is_part_of_an_entry(tmp_path, monkeypatch, change, ask):
    calls, here = [], environment()
    make = lambda: calls.append(1) or ({"x": jnp.zeros(2)} if ask is cached else {"x": 0})  # noqa: E731
    for found in (here, here | change, here, here | change):
        monkeypatch.setattr(cache, "environment", lambda found=found: found)
        ask(CacheEntry(tmp_path, "original", KEY), make)
    assert len(calls) == 2


@pytest.mark.parametrize("ask", [cached, cached_numbers])
def test_entries_that_were_exchanged_are_refused_in_one_line(tmp_path, ask):
    entries = [CacheEntry(tmp_path, "original", key) for key in "ab"]
    for number, entry in enumerate(entries):
        ask(entry, lambda number=number: {"x": jnp.full(2, number)} if ask is cached else {"x": number})
    one, other = sorted(tmp_path.iterdir())
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    for entry in entries:
        with pytest.raises(
            CheckpointError, match=r"^[^\n]*original-[^\n]* holds another value than its name says[^\n]*$"
        ):
            ask(entry, lambda: pytest.fail("made again"))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("ask", [cached, cached_numbers])
def test_a_link_in_a_cache_is_refused(tmp_path, ask, inside):
    entry = CacheEntry(tmp_path / "cache", "original", KEY)
    make = lambda: {"x": jnp.zeros(2)} if ask is cached else {"x": 0}  # noqa: E731
    ask(entry, make)
    [path] = (tmp_path / "cache").iterdir()
    if inside and ask is cached:
        [path] = path.rglob("_CHECKPOINT_METADATA")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=f"{path.name} is a link, and a cache holds none"):
        ask(entry, make)


def test_a_cache_may_itself_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    make = Maker()
    for _ in range(2):
        cached(CacheEntry(tmp_path / "cache", "original", KEY), make)
    assert make.calls == 1


def test_an_entry_says_for_whom_it_was_made_and_when_it_was_used(tmp_path):
    entry = CacheEntry(tmp_path, "original", KEY)
    cached(entry, Maker(), made_for="me")
    [path] = tmp_path.iterdir()
    os.utime(path, (1, 1))
    cached(entry, Maker(), made_for="another")
    assert cache.metadata_of(path)["made_for"] == "me" and path.stat().st_mtime > 1


def test_what_goes_with_an_entry_is_its_own_and_no_other_file(tmp_path):
    entry = CacheEntry(tmp_path, "original", KEY)
    cached(entry, Maker())
    [path] = tmp_path.iterdir()
    own = [f"{path.name}{end}" for end in (".under_way", ".old", ".partial", ".0123abcd.partial", ".partial.orbax-1")]
    others = [f"{path.name}-mine", f"{path.name}.backup", f"{path.name[:-1]}", f"{path.name}0"]
    for name in own + others:
        (tmp_path / name).mkdir()
    cache.remove(path)
    assert {one.name for one in tmp_path.iterdir()} == set(others)


def test_what_another_process_makes_is_not_removed(tmp_path):
    entry = CacheEntry(tmp_path, "original", KEY)

    def make():
        assert cache.is_in_use(entry.path)
        with pytest.raises(files.InUseError):
            cache.remove(entry.path)
        return {"x": jnp.zeros(2)}

    cached(entry, make)
    assert entry.is_there() and not cache.is_in_use(entry.path)


def test_a_lock_that_cannot_be_opened_keeps_an_entry_and_is_no_use_of_it(tmp_path):
    entry = CacheEntry(tmp_path, "original", KEY)
    cached(entry, Maker())
    lock = entry.path.with_name(f"{entry.path.name}.lock")
    lock.mkdir()
    with pytest.raises(ConfigError, match="is no file: it keeps other processes out"):
        cache.remove(entry.path)
    assert entry.is_there() and not cache.is_in_use(entry.path)


def test_a_training_under_way_says_for_whom_it_is(tmp_path):
    entry = CacheEntry(tmp_path, "original", KEY)

    def make():
        assert cache.part_left(entry.path) == entry.saving(1.0).directory
        metadata = cache.metadata_of(entry.saving(1.0).directory)
        assert metadata == {"key": entry.identity, "made_for": "me"}
        return {"x": jnp.zeros(2)}

    cached(entry, make, made_for="me")
    assert cache.part_left(entry.path) == entry.path


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, entry = Maker(), CacheEntry(None, "original", KEY)
    for _ in range(2):
        cached(entry, make)
    assert make.calls == 2 and not list(tmp_path.iterdir())
    assert not entry.is_there() and entry.path is None and entry.saving(1.0) is None


def test_of_several_entries_all_are_made_where_one_is_missing_and_those_that_were_there_stay(tmp_path):
    entries, calls = [CacheEntry(tmp_path, "original", i) for i in range(3)], []

    def make():
        calls.append([path.name for path in tmp_path.glob("*.lock")])
        return [{"x": jnp.full(2, 10.0 + i)} for i in range(3)]

    cached(entries[1], lambda: {"x": jnp.full(2, 7.0)})
    for _ in range(2):
        values = cached_together(entries, make)
        np.testing.assert_array_equal([value["x"][0] for value in values], [10.0, 7.0, 12.0])
    assert len(calls) == 1 and len(calls[0]) == 3  # another process that wants the one that is there trains it too
    assert float(cached(entries[2], lambda: pytest.fail("made again"))["x"][0]) == 12.0


def test_entries_with_and_without_a_cache_are_made_together(tmp_path):
    entries, calls = [CacheEntry(folder, "original", i) for i, folder in enumerate((None, tmp_path))], []
    for _ in range(2):
        values = cached_together(entries, lambda: calls.append(0) or [{"x": jnp.full(2, 10.0 + i)} for i in range(2)])
        np.testing.assert_array_equal([value["x"][0] for value in values], [10.0, 11.0])
    assert len(calls) == 2 and entries[1].is_there()


def test_a_maker_that_fails_leaves_nothing_to_be_found(tmp_path):
    def fails():
        raise FloatingPointError("diverged")

    with pytest.raises(FloatingPointError):
        cached(CacheEntry(tmp_path, "original", KEY), fails)
    make = Maker()
    cached(CacheEntry(tmp_path, "original", KEY), make)
    assert make.calls == 1


def test_a_damaged_entry_is_refused_and_named_not_made_over(tmp_path):
    make = Maker()
    cached(CacheEntry(tmp_path, "original", KEY), make)
    [entry] = tmp_path.iterdir()
    [metadata] = entry.rglob("_METADATA")
    metadata.unlink()
    with pytest.raises(CheckpointError, match=entry.name):
        cached(CacheEntry(tmp_path, "original", KEY), make)
    assert make.calls == 1


def test_numbers_are_kept_to_the_last_digit_and_made_once(tmp_path):
    value = {"ua": 100 / 3, "ta_forgotten": None}
    assert cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: value) == value
    assert cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: pytest.fail("made again")) == value
    assert cached_numbers(CacheEntry(tmp_path, "scores", {**KEY, "data": "abd"}), lambda: {"ua": 1.0}) == {"ua": 1.0}
    assert len(list(tmp_path.iterdir())) == 2
    assert cached_numbers(CacheEntry(None, "scores", KEY), lambda: {"ua": 2.0}) == {"ua": 2.0}


@pytest.mark.parametrize("damage", ["33.3", '{"value": {"ua": 1.0}}', None])
def test_damaged_numbers_are_named_and_not_believed(tmp_path, damage):
    cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: {"ua": 33.5})
    [entry] = tmp_path.iterdir()
    entry.write_text(damage or entry.read_text().replace("33.5", "34.5"))
    with pytest.raises(CheckpointError, match=f"{entry.name}.* delete it to make it anew"):
        cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: pytest.fail("made again"))


@pytest.mark.parametrize("ask", [cached, cached_numbers])
def test_while_an_entry_is_made_others_that_want_it_are_kept_waiting(tmp_path, ask):
    def make():
        [lock] = tmp_path.glob("original-*.lock")
        with lock.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {"x": jnp.zeros(2)} if ask is cached else {"x": 0}

    ask(CacheEntry(tmp_path, "original", KEY), make)
    assert not list(tmp_path.glob("*.lock"))


def test_what_was_saved_of_an_unfinished_training_goes_when_the_entry_is_there(tmp_path):
    entry, make = CacheEntry(tmp_path, "original", KEY), Maker()
    folder = entry.saving(1.0).directory
    for _ in range(2):  # made, and found where a kill came between
        folder.mkdir(exist_ok=True)
        cached(entry, make)
        assert not folder.exists()
    assert make.calls == 1


@pytest.mark.parametrize("left", ["", '{"value": {"ua": 33'])
def test_numbers_that_a_power_cut_tore_are_made_anew(tmp_path, left, caplog):
    cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: {"ua": 33.5})
    [entry] = tmp_path.iterdir()
    before = entry.read_text()
    entry.write_text(left)
    assert cached_numbers(CacheEntry(tmp_path, "scores", KEY), lambda: {"ua": 33.5}) == {"ua": 33.5}
    assert entry.read_text() == before and f"{entry} cannot be read" in caplog.text


def test_without_locks_each_makes_its_own_in_no_shared_folder_and_the_first_that_is_whole_stays(tmp_path, monkeypatch):
    def no_locks(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(files, "_no_locks", set())
    entry, make = CacheEntry(tmp_path, "original", KEY), Maker()

    def meanwhile():
        assert entry.saving(1.0) is None  # else two trainings would save to one folder
        assert not list(tmp_path.glob("*.under_way"))  # and one would remove it while the other writes there
        np.testing.assert_array_equal(cached(entry, make)["params"]["w"], np.ones(3))  # another process
        return make()

    np.testing.assert_array_equal(cached(entry, meanwhile)["params"]["w"], np.full(3, 2.0))
    np.testing.assert_array_equal(load_tree(entry.path)[0]["params"]["w"], np.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == [entry.path.name]
    half = files.partial_of(entry.path)  # maybe of a process that writes it now
    half.mkdir()
    with pytest.raises(ConfigError, match="half written, maybe by a process that runs now"):
        cache.remove(entry.path)
    assert half.exists() and entry.is_there()
    half.rmdir()
    cache.remove(entry.path)
    assert not list(tmp_path.iterdir())


def test_whether_a_training_is_saved_under_way_is_what_the_first_process_says(tmp_path, monkeypatch):
    entry = CacheEntry(tmp_path, "original", 1)
    assert entry.saving(60.0) is not None
    monkeypatch.setattr(cache, "agreed", lambda ask: 0)  # it alone knows that there are no locks
    assert entry.saving(60.0) is None
