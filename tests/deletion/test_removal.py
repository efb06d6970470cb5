"""The models from before a request go when it is done, and only then; a kill in between is made good."""

import json
import shutil

import jax.numpy as jnp
import pytest
from small_request import request_settings

from ltu_jax.deletion import ledger, removal
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.deletion.verification import check_hashes, open_request
from ltu_jax.files import locked
from ltu_jax.training.cache import CacheEntry, cached
from ltu_jax.training.checkpoint import save_tree

SETTINGS = request_settings(trials=0)
shown_in = removal.shown_in


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """Each request counts as shown, whatever so small a one can show."""
    monkeypatch.setattr(removal, "shown_in", lambda folder: True)


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
def test_an_original_of_another_folder_stays_and_one_of_ones_own_goes_after_a_kill(tmp_path, source, spec, ids, caplog):
    homes, cache = [tmp_path / "one", tmp_path / "other"], tmp_path / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "append", lambda *args: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            fulfil(Request(SETTINGS, ids[:30], homes[0]), source, spec, cache=cache)
    fulfil(Request(SETTINGS, ids[:30], homes[1]), source, spec, cache=cache)
    assert len(folders(cache)) == 1 and "was not trained by a request of this folder: it is left" in caplog.text
    fulfil(Request(SETTINGS, ids[:30], homes[0]), source, spec, cache=cache)  # it finds what it had made
    assert not folders(cache)


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


@pytest.mark.parametrize("where", ["a link", "a line break"])
def test_an_original_is_found_again_by_its_note(tmp_path, where):
    home, directory = tmp_path / "out", tmp_path / "cache"
    if where == "a link":  # from where it leads to, ".." is another folder than from the link
        (tmp_path / "far" / "away").mkdir(parents=True)
        home.symlink_to(tmp_path / "far" / "away")
    else:
        home.mkdir()
        directory = tmp_path / "a\nb\u2028c" / "cache"
    ledger.make_salt(home)
    entry = CacheEntry(directory, "original", 1)
    for _ in range(2):  # as a command that is killed and started again does
        made_for = removal.note_original(home, entry.path)
    cached(entry, lambda: {"w": jnp.ones(2)}, made_for)
    (home / "request-1" / "work").mkdir(parents=True)
    removal._remove_models(home, 1, home / "request-1" / "work")
    assert not entry.path.exists() and not (home / "original").exists()


def test_what_an_older_version_wrote_down_is_read_and_its_original_is_left_with_the_reason(tmp_path, caplog):
    entry = tmp_path / "cache" / f"original-{'0' * 20}"
    save_tree(entry, {"w": jnp.ones(2)}, {"key": [1]})
    (tmp_path / "original").write_text(f"cache/original-{'0' * 20}")
    ledger.make_salt(tmp_path)
    removal._remove_models(tmp_path, 1, tmp_path / "request-1" / "work")
    assert entry.exists() and "is of an older version, which did not write down who trained it" in caplog.text


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


@pytest.fixture
def home(tmp_path):
    """A folder with a salt and a finished request."""
    home = tmp_path / "out"
    (home / "request-1" / "work").mkdir(parents=True)
    ledger.make_salt(home)
    return home


def made(home, directory, key=0, made_for=""):
    """An original in a cache, made by a request of a folder, or for anybody else; the folder has noted it."""
    entry = CacheEntry(directory, "original", key)
    own = removal.note_original(home, entry.path)
    cached(entry, lambda: {"params": {"w": jnp.zeros(2)}, "model_state": {}}, own if made_for == "" else made_for)
    return entry.path


def remove(home):
    removal._remove_models(home, 1, home / "request-1" / "work")


def test_an_original_that_a_request_made_goes_and_one_that_it_found_stays_and_is_named(tmp_path, home, caplog):
    own, found = made(home, tmp_path / "cache"), made(home, tmp_path / "cache", 1, made_for=None)
    other = tmp_path / "other"
    other.mkdir()
    ledger.make_salt(other)
    of_another = made(other, tmp_path / "cache", 2)
    made(home, tmp_path / "cache", 2)  # found
    remove(home)
    assert not own.exists() and found.exists() and of_another.exists() and not (home / "original").exists()
    assert [line.split(": it is left")[0] for line in caplog.messages] == [
        f"{path} was not trained by a request of this folder" for path in (found, of_another)
    ]
    assert all(f"python -m ltu_jax.cache {tmp_path / 'cache'} --purge original-" in line for line in caplog.messages)


def test_without_a_salt_no_original_is_taken_for_ones_own(tmp_path, home):
    found = made(home, tmp_path / "cache", made_for=None)
    (home / "salt").unlink()
    remove(home)
    assert found.exists()


def test_an_original_that_another_process_has_is_left_for_the_next_request(tmp_path, home, caplog):
    own = made(home, tmp_path / "cache")
    with locked(own.with_name(f"{own.name}.lock")):
        remove(home)
    assert own.exists() and "is in use by another process" in caplog.text
    remove(home)
    assert not own.exists() and not (home / "original").exists()


def half_trained(home, directory, key=0):
    """What a kill leaves of a training that a request of a folder had begun."""
    entry = CacheEntry(directory, "original", key)
    killed = lambda: (_ for _ in ()).throw(InterruptedError)  # noqa: E731
    with pytest.raises(InterruptedError):
        cached(entry, killed, removal.note_original(home, entry.path))
    return entry.saving(1.0).directory


def test_one_that_was_begun_and_never_finished_goes_and_that_of_another_stays(tmp_path, home, caplog):
    """As where a request was begun on one machine and finished on another one, whose original has another name."""
    own, other = half_trained(home, tmp_path / "cache"), tmp_path / "other"
    other.mkdir()
    ledger.make_salt(other)
    of_another = half_trained(other, tmp_path / "cache", 1)
    made(home, tmp_path / "cache", 2)
    (home / "original").write_text((home / "original").read_text() + f'\n"../cache/{of_another.stem}"')
    remove(home)
    assert not own.exists() and [path.name for path in (tmp_path / "cache").iterdir()] == [of_another.name]
    assert f"{of_another.stem} was not trained by a request of this folder: it is left" in caplog.text


def test_a_removal_that_was_killed_is_finished(tmp_path, home, monkeypatch):
    own = made(home, tmp_path / "cache")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(shutil, "rmtree", lambda *args: (_ for _ in ()).throw(InterruptedError))
        remove(home)
    assert not own.exists() and folders(tmp_path / "cache")
    shutil.copytree(home, tmp_path / "as it was")
    remove(home)
    assert not list((tmp_path / "cache").iterdir())
    own.with_name(f"{own.name}.old").mkdir()  # its last file had gone too
    own.with_name(f"{own.name}.lock").touch()
    (home / "original").write_bytes((tmp_path / "as it was" / "original").read_bytes())
    remove(home)
    assert not list((tmp_path / "cache").iterdir()) and not (home / "original").exists()


def test_files_that_are_called_alike_stay(tmp_path, home):
    own = made(home, tmp_path / "cache")
    for name in (f"{own.name}-mine", f"{own.name}.backup"):
        (tmp_path / "cache" / name).mkdir()
    remove(home)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {f"{own.name}-mine", f"{own.name}.backup"}


@pytest.mark.parametrize("line", ["../cache", "../cache/", "../cache/original-", "../cache/retrain-0123", ".."])
def test_nothing_but_an_original_is_removed_whatever_the_note_says(tmp_path, home, line):
    cache = tmp_path / "cache"
    for folder in (cache / "original-0123", cache / "retrain-0123"):
        folder.mkdir(parents=True)
    (home / "original").write_text(line)
    remove(home)
    assert (cache / "original-0123").exists() and (cache / "retrain-0123").exists() and home.exists()


def test_a_folder_or_link_that_is_called_like_an_original_stays(tmp_path, home, caplog):
    own, photos, name = made(home, tmp_path / "cache"), tmp_path / "x", f"original-{'0123' * 5}"
    (photos / name).mkdir(parents=True)
    (photos / name / "photo").touch()
    link = tmp_path / "cache" / f"original-{'4567' * 5}"
    link.symlink_to(photos / name)
    moved = shutil.copytree(own, photos / f"original-{'89ab' * 5}")  # whole, under another name
    (home / "original").write_text(
        "\n".join(f"../x/../{path.relative_to(tmp_path)}" for path in (photos / name, link, moved))
    )
    remove(home)
    assert (photos / name / "photo").exists() and link.is_symlink() and moved.exists() and own.exists()
    assert len(caplog.messages) == 3


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


def test_what_is_served_stays_where_a_request_is_not_shown(tmp_path, monkeypatch):
    """The last model that is shown, or the original; those of other requests that are not shown go."""
    monkeypatch.setattr(removal, "shown_in", shown_in)
    home, cache, left = tmp_path / "out", tmp_path / "cache", []
    home.mkdir()
    ledger.make_salt(home)
    own = made(home, cache)
    # Schema 2 without a claim is of an older version, which removed the models from before.
    for number, claim in enumerate((False, True, False, False, None, False), 1):
        folder = home / f"request-{number}"
        (folder / "work").mkdir(parents=True)
        (folder / "model").mkdir()
        receipt = {} if claim is None else {"claim": {"shown": claim}}
        (folder / "receipt.json").write_text(json.dumps(receipt))
        removal._remove_models(home, number, folder / "work")
        there = [int(path.parent.name.removeprefix("request-")) for path in home.glob("request-*/model")]
        left.append((own.exists(), sorted(there)))
        assert removal.models_before(home, number) == [
            *(home / f"request-{one}" for one in sorted(there) if one < number),
            *([home / "../cache" / own.name] if own.exists() else []),
        ]
    assert left == [(True, [1]), (False, [2]), (False, [2, 3]), (False, [2, 4]), (False, [5]), (False, [5, 6])]
