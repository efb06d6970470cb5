"""Files are written whole; a lock stops a second process, but not after its owner has died."""

import os
import subprocess
import sys

import pytest

from ltu_jax.files import DiskFullError, free_bytes, locked, room, write_whole
from ltu_jax.setting import ConfigError

HOLDS = """
import pathlib, sys, time
from ltu_jax.files import locked
with locked(pathlib.Path(sys.argv[1]) / "lock"):
    print("in", flush=True)
    time.sleep(60)
"""


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
    with locked(tmp_path / "lock"):
        pass
    assert "cannot be locked" in caplog.text


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_half_of_the_new(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no space is left on the disk; what was saved before is intact"):
        write_whole(path, "new", durable=True)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
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
