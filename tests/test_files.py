"""Files are written whole; a lock stops a second process, but not after its owner has died."""

import hashlib
import os
import subprocess
import sys

import pytest

from ltu_jax import files
from ltu_jax.files import DiskFullError, check_folder, free_bytes, is_partial, locked, partial_of, room, write_whole
from ltu_jax.setting import ConfigError

HOLDS = """
import pathlib, sys, time
from ltu_jax.files import locked
with locked(pathlib.Path(sys.argv[1]) / "lock"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_hashes_are_those_of_the_bytes_by_path(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    wanted = {"empty": hashlib.sha256(b"").hexdigest(), "in/a": hashlib.sha256(b"abc").hexdigest()}
    assert files.files_sha256(tmp_path) == wanted and files.file_sha256(tmp_path / "in" / "a") == wanted["in/a"]
    assert list(files.files_sha256(tmp_path, lambda path: path.name == "a")) == ["in/a"]


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(holder, tmp_path):
    with pytest.raises(ConfigError, match="--workdir: .* is in use by another process"):
        with locked(tmp_path / "lock", "--workdir"):
            pass
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock").exists()  # it could not clean up
    with locked(tmp_path / "lock", "--workdir"):
        pass
    assert not (tmp_path / "lock").exists()


def test_whoever_may_wait_waits_for_the_other(holder, tmp_path):
    code = HOLDS.replace("time.sleep(60)", "")
    waiting = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=3)
    holder.kill()
    out, err = waiting.communicate(timeout=30)
    assert out == "in\n" and "waiting for another process" in err


def test_a_lock_whose_file_was_removed_meanwhile_locks_nobody_out_but_is_taken_anew(tmp_path, monkeypatch):
    import fcntl

    flock, path = fcntl.flock, tmp_path / "lock"

    def removed_before(file, how):
        if how & fcntl.LOCK_EX and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            path.unlink()  # its owner ends between our opening it and our locking it
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with locked(path), path.open() as file:
        with pytest.raises(BlockingIOError):  # the file that is there now is the one that is locked
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_locks_work_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    import fcntl

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(files, "_no_locks", set())
    stale = partial_of(tmp_path / "x")
    stale.touch()
    assert files.has_locks(tmp_path)
    for _ in range(2):
        with locked(tmp_path / "lock", "--workdir"):
            assert not files.has_locks(tmp_path) and stale.exists()  # another process may be writing it
    assert caplog.text.count("cannot be locked") == len(caplog.records) == 1


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_half_of_the_new(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no space is left on the disk; what was saved before is intact"):
        write_whole(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_whole(path, "\ud800 is half a character")
    assert path.read_text() == "? is half a character"


def full(descriptor):
    raise OSError(28, "No space left on device")


def test_less_room_than_is_needed_is_said_before_anything_is_written(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    with pytest.raises(DiskFullError, match=r"yet: .* MB are needed and .* MB are free"):
        with room(folder, free_bytes(folder) + 10**12):
            pytest.fail("it was written all the same")
    with room(folder, 1):
        pass


@pytest.mark.parametrize("number, full", [(28, True), (122, True), (13, False)])
@pytest.mark.parametrize("how", ["itself", "as a cause", "in words"])
def test_a_disk_that_fills_is_told_from_other_errors_whoever_raises_it(tmp_path, number, full, how):
    error = OSError(number, os.strerror(number))
    with pytest.raises(DiskFullError if full else Exception) as raised:
        with room(tmp_path):
            if how == "in words":
                raise ValueError(f"UNKNOWN: {os.strerror(number)} [writing a chunk]")
            if how == "itself":
                raise error
            raise ValueError("what a library makes of it") from error
    assert isinstance(raised.value, DiskFullError) == full


def test_two_writers_of_one_file_do_not_tear_each_others(tmp_path, monkeypatch):
    """The second begins and ends while the first is at its end, as without locks it may."""
    replace, texts = os.replace, ["second " * 1000]

    def meanwhile(partial, path):
        if texts:
            write_whole(path, texts.pop())
        replace(partial, path)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_whole(tmp_path / "a.json", "first")
    assert (tmp_path / "a.json").read_text() == "first" and list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_what_a_killed_process_left_half_written_goes_with_the_next_lock(tmp_path):
    for name in ("a.json", "model", "entry-1", "entry-1.json", "entry-2"):
        partial_of(tmp_path / name).touch()
    (tmp_path / "model.0123abcd.partial.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "of_the_user.partial").touch()
    assert sum(is_partial(path) for path in tmp_path.iterdir()) == 6
    with locked(tmp_path / "entry-1.lock"):  # of an entry of a cache: others may be under way
        left = {path.name.split(".")[0] for path in tmp_path.iterdir() if is_partial(path)}
        assert left == {"a", "model", "entry-2"}
    with locked(tmp_path / "lock"):
        assert {path.name for path in tmp_path.iterdir()} == {"lock", "of_the_user.partial"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "link to nowhere"])
def test_what_is_no_file_cannot_be_a_lock_and_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "in" / "lock"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
        if kind == "link":
            (tmp_path / "elsewhere").write_text("precious")
    with pytest.raises(ConfigError, match="--workdir: '.*lock' is no file: it keeps other processes out; allowed: "):
        with locked(path, "--workdir"):
            pass
    assert path.is_symlink() or path.exists()
    assert (tmp_path / "elsewhere").exists() == (kind == "link")


@pytest.fixture
def flushed(monkeypatch):
    """The names of the files and folders that were flushed to the disk, and of the renames between."""
    done, fsync, replace = [], os.fsync, os.replace

    def noted(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(old, new):
        replace(old, new)
        done.append("renamed")

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    return done


def test_a_file_is_flushed_before_it_is_renamed_and_its_name_after(tmp_path, flushed):
    write_whole(tmp_path / "a.json", "text")
    assert is_partial(files.Path(flushed[0])) and flushed[1:] == ["renamed", str(tmp_path)]


def test_a_folder_is_flushed_after_all_that_is_in_it(tmp_path, flushed):
    files.make_folder(tmp_path / "a" / "b")
    assert flushed == [str(tmp_path / "a"), str(tmp_path)]  # where the names of b and a are
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "nowhere")
    flushed.clear()
    files.sync_tree(tmp_path / "a")
    assert flushed == [str(tmp_path / "a" / name) for name in ("b/file", "b")] + [str(tmp_path / "a")]


def test_where_folders_cannot_be_flushed_files_still_are(tmp_path, monkeypatch):
    def no_folders(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", no_folders)
    files.sync(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "a", "text")


@pytest.mark.parametrize("name", ["[v2]", "a*b", "a?b", "a\\b", "gs:", "x" * 250 + "/" + "x" * 3600, "\udcff"])
def test_a_folder_in_which_orbax_would_lose_its_files_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="^--workdir: .*; allowed: "):
        check_folder(tmp_path / name / "out", "--workdir")


@pytest.mark.parametrize(
    "name", ["a b", " a ", "\u00e4\u65e5", "new\nline", "#%41{x}~", "-a", "a:b", "it's]", "gs:x", "~"]
)
def test_any_other_folder_is_fine(tmp_path, name):
    check_folder(tmp_path / name, "--workdir")
