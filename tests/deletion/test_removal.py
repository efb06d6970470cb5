"""The models from before a request go when it is done, and only then; a kill in between is made good."""

import shutil

import pytest
from small_request import request_settings

from ltu_jax.deletion import ledger, removal
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.deletion.verification import check_hashes, open_request

SETTINGS = request_settings(trials=0)


def folders(path):
    """Of what is kept: models are folders by Orbax."""
    return sorted(p.parent.relative_to(path).as_posix() for p in path.rglob("_METADATA"))


@pytest.mark.slow
def test_an_original_that_was_trained_here_goes_with_the_ledgers_line(tmp_path, source, spec, ids):
    home, cache = tmp_path / "out", tmp_path / "cache"
    done = fulfil(Request(SETTINGS, ids[:30], home), source, spec, cache=cache)
    assert done.is_new and not folders(cache)
    assert {path.name for path in home.iterdir()} == {"ledger.jsonl", "salt", "request-1"}
    assert [name.partition("/model")[0] for name in folders(home)] == ["request-1"]


@pytest.mark.slow
def test_it_is_kept_where_that_is_asked_and_goes_with_the_next_request(tmp_path, source, spec, ids):
    home, cache = tmp_path / "out", tmp_path / "cache"
    fulfil(Request(SETTINGS, ids[:30], home, keep_original=True), source, spec, cache=cache)
    assert len(folders(cache)) == 1 and not list(home.rglob("work"))
    fulfil(Request(SETTINGS, ids[30:40], home, keep_original=True), source, spec, cache=cache)
    assert len(folders(cache)) == 1 and (home / "request-1" / "model").is_dir()
    fulfil(Request(SETTINGS, ids[40:50], home), source, spec, cache=cache)
    assert not folders(cache) and [path.name for path in home.glob("*/model")] == ["model"]
    assert (home / "request-3" / "model").is_dir() and not (home / "original").exists()


@pytest.mark.slow
def test_a_research_runs_other_entries_stay(tmp_path, source, spec, ids):
    cache = tmp_path / "cache"
    for name in ("original-0123", "retrain-0123", "compiled"):
        (cache / name).mkdir(parents=True)
    fulfil(Request(SETTINGS, ids[:30], tmp_path / "out"), source, spec, cache=cache)
    assert {path.name for path in cache.iterdir()} == {"original-0123", "retrain-0123", "compiled"}


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["finish", "_remove_models", "rmtree"])
def test_a_kill_after_the_line_is_made_good_by_the_same_command(tmp_path, source, spec, ids, monkeypatch, killed_at):
    home, cache = tmp_path / "out", tmp_path / "cache"
    fulfil(Request(SETTINGS, ids[:30], home, keep_original=True), source, spec, cache=cache)

    where = shutil if killed_at == "rmtree" else removal
    whole = getattr(where, killed_at)

    def killed(*args, **kwargs):
        if removal.is_due(home):
            raise InterruptedError
        return whole(*args, **kwargs)

    request = Request(SETTINGS, ids[30:40], home)
    with monkeypatch.context() as patch:
        patch.setattr(where, killed_at, killed)
        with pytest.raises(InterruptedError):
            fulfil(request, source, spec, cache=cache)
    assert len(ledger.read_ledger(home)) == 2 and removal.is_due(home)
    again = fulfil(request, source, spec, cache=cache)
    assert not again.is_new and not removal.is_due(home)
    assert not folders(cache) and not (home / "request-1" / "model").exists()
    for number in (1, 2):
        assert check_hashes(open_request(home / f"request-{number}" / "receipt.json")) == []


@pytest.mark.slow
def test_the_next_request_makes_it_good_too(tmp_path, source, spec, ids, monkeypatch):
    home, cache = tmp_path / "out", tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(removal, "_remove_models", lambda *args: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            fulfil(Request(SETTINGS, ids[:30], home), source, spec, cache=cache)
    assert len(folders(cache)) == 1
    fulfil(Request(SETTINGS, ids[30:40], home, keep_original=True), source, spec, cache=cache)
    assert not removal.is_due(home)


def test_before_the_line_nothing_goes(tmp_path, source, spec, ids, monkeypatch):
    """What was trained is found by the second start, and gone after it."""
    home, cache = tmp_path / "out", tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", lambda *args: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            fulfil(Request(SETTINGS, ids[:30], home), source, spec, cache=cache)
    assert len(folders(cache)) == 1 and not ledger.read_ledger(home)
    half = next(cache.glob("original-*")).with_suffix(".partial")  # a kill while it was saved
    half.mkdir()
    half.with_suffix(".lock").touch()  # and while it was trained
    fulfil(Request(SETTINGS, ids[:30], home), source, spec, cache=cache)
    assert not list(cache.glob("original-*")) and not list(home.rglob("work"))


@pytest.mark.parametrize("line", ["../cache", "../cache/", "../cache/original-", "../cache/retrain-0123", ".."])
def test_nothing_but_an_original_is_removed_whatever_the_note_says(tmp_path, line):
    cache, home = tmp_path / "cache", tmp_path / "out"
    for folder in (cache / "original-0123", cache / "retrain-0123", home / "request-1" / "work"):
        folder.mkdir(parents=True)
    (home / "original").write_text(line)
    removal._remove_models(home, 1, home / "request-1" / "work")
    assert (cache / "original-0123").exists() and (cache / "retrain-0123").exists() and home.exists()


@pytest.mark.slow
def test_weights_of_the_users_own_stay(tmp_path, source, spec, original, ids):
    import dataclasses

    import flax.serialization
    import jax
    import numpy as np

    given = tmp_path / "mine.msgpack"
    given.write_bytes(flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, original["params"])}))
    settings = dataclasses.replace(SETTINGS, weights=str(given))
    for asked in (ids[:30], ids[30:40]):
        fulfil(Request(settings, asked, tmp_path / "out"), source, spec, original)
    assert given.exists()
    assert [path.parent.name for path in (tmp_path / "out").rglob("mine.msgpack")] == ["weights"]
    assert (tmp_path / "out" / "request-2" / "weights" / "mine.msgpack").exists()
