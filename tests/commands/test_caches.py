"""What a cache is said to hold, and what a purge and a limit take of it and leave."""

import json
import os
import shutil

import jax.numpy as jnp
import pytest

from ltu_jax.commands.caches import list_cache, purge, read_cache
from ltu_jax.devices import environment
from ltu_jax.files import locked
from ltu_jax.training import cache
from ltu_jax.training.cache import CacheEntry, cached, cached_numbers


def made(directory, kind, key=0, used=None):
    """An entry of a cache, last used so many seconds after 1970."""
    entry = CacheEntry(directory, kind, key)
    if kind == "scores":
        cached_numbers(entry, lambda: {"ua": 1.0})
        path = entry.path.with_suffix(".json")
    else:
        cached(entry, lambda: {"x": jnp.zeros(1000)})
        path = entry.path
    if used is not None:
        os.utime(path, (used, used))
    return path


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A cache with an entry in each state, and files that are not of it."""
    paths = {kind: made(tmp_path, kind) for kind in ("original", "scores")}
    with monkeypatch.context() as patch:
        patch.setattr(cache, "RECIPE_VERSION", cache.RECIPE_VERSION - 1)
        paths["old"] = made(tmp_path, "shadow")
    paths["damaged"] = made(tmp_path, "retrain")
    next(paths["damaged"].rglob("d/*")).write_bytes(b"")
    paths["exchanged"] = made(tmp_path, "retrain", 1)
    shutil.rmtree(paths["exchanged"])
    shutil.copytree(paths["original"], paths["exchanged"])
    paths["unfinished"] = CacheEntry(tmp_path, "original", 5).path
    paths["unfinished"].with_name(f"{paths['unfinished'].name}.under_way").mkdir()
    (tmp_path / "compiled").mkdir()
    for name in ("jit_f-12-cache", "jit_f-12-atime", "mine"):
        (tmp_path / "compiled" / name).write_bytes(b"1234")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f"{paths['original'].name}.backup").mkdir()
    return tmp_path, paths


def test_a_lock_that_a_killed_process_left_is_an_unfinished_entry_once(tmp_path):
    name = f"attackers-{'0' * 20}"
    (tmp_path / f"{name}.lock").touch()
    (one,) = read_cache(tmp_path)
    assert (one.path, one.size, one.state) == (tmp_path / name, 0, "unfinished")
    assert read_cache(tmp_path) == []


def test_a_cache_is_listed_with_what_each_entry_is(full, capsys):
    directory, paths = full
    state = {entry.path: entry.state.partition(":")[0] for entry in read_cache(directory)}
    assert state == {
        paths["original"]: "whole",
        paths["scores"]: "whole",
        paths["old"]: "old",
        paths["damaged"]: "damaged",
        paths["exchanged"]: "damaged",
        paths["unfinished"]: "unfinished",
        directory / "compiled": "whole",
    }
    assert list_cache(directory) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[-1].startswith("7 entries, ")
    [line] = [line for line in lines if paths["original"].name in line and "whole" in line]
    assert f"jax {environment()['versions']['jax']}, cpu, {environment()['cores']} cores" in line


def test_sizes_are_those_of_the_files(full):
    directory, paths = full
    of = {entry.path: entry.size for entry in read_cache(directory)}
    assert of[directory / "compiled"] == 8
    files = [path for path in paths["original"].rglob("*") if path.is_file()]
    assert of[paths["original"]] == sum(path.stat().st_size for path in files) > 0


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["old"], ["old"]),
        (["damaged", "unfinished"], ["damaged", "exchanged", "unfinished"]),
        (["retrain"], ["damaged", "exchanged"]),
        (["scores"], ["scores"]),
    ],
)
def test_a_purge_takes_what_it_is_told_and_nothing_else(full, words, gone):
    directory, paths = full
    before = {path.name for path in directory.iterdir()}
    assert purge(directory, words, None) == 0
    names = {paths[name].name for name in gone} | {
        f"{paths['unfinished'].name}.under_way" for n in gone if n == "unfinished"
    }
    assert {path.name for path in directory.iterdir()} == before - names


def test_an_entry_goes_by_its_name_and_programs_by_those_that_jax_gives(full, capsys):
    directory, paths = full
    assert purge(directory, [paths["original"].name, "compiled"], None) == 0
    assert not paths["original"].exists() and paths["scores"].exists()
    assert [path.name for path in (directory / "compiled").iterdir()] == ["mine"]
    assert "2 of 7 entries removed" in capsys.readouterr().out


def test_what_a_process_makes_stays(full, capsys):
    directory, paths = full
    with locked(paths["original"].with_name(f"{paths['original'].name}.lock")):
        assert {entry.path: entry.state for entry in read_cache(directory)}[paths["original"]] == "in use"
        assert purge(directory, ["original"], None) == 1
    assert paths["original"].exists() and f"left: {paths['original'].name}" in (out := capsys.readouterr().out)
    assert "is in use by another process" in out


def test_a_limit_takes_what_was_not_used_for_longest(tmp_path):
    paths = [made(tmp_path, "original", key, used=1000 - key) for key in range(4)]
    one = read_cache(tmp_path)[0].size
    assert purge(tmp_path, [], 2.5 * one) == 0
    assert [path.exists() for path in paths] == [True, True, False, False]
    cached(CacheEntry(tmp_path, "original", 1), lambda: pytest.fail("made again"))  # used now
    assert purge(tmp_path, [], 1.5 * one) == 0
    assert [path.exists() for path in paths] == [False, True, False, False]


def test_a_link_is_removed_and_not_followed(tmp_path):
    path = made(tmp_path / "cache", "original")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    [entry] = read_cache(tmp_path / "cache")
    assert entry.state.startswith("damaged: is a link")
    assert purge(tmp_path / "cache", ["damaged"], None) == 0
    assert not os.path.lexists(path) and (tmp_path / "elsewhere" / "files.json").exists()


def test_metadata_from_outside_are_shown_on_one_line_or_not_at_all(tmp_path, capsys):
    path = made(tmp_path, "scores")
    found = json.loads(path.read_text())
    found["key"]["environment"]["device"] = "\x1b[31m\nwhole"
    path.write_text(json.dumps(found))
    list_cache(tmp_path)
    out = capsys.readouterr().out
    assert "damaged" in out and "\x1b" not in out and len(out.splitlines()) == 2
