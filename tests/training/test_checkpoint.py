"""What is saved comes back bit for bit, or not at all."""

import contextlib
import gc
import json
import os
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax import files
from ltu_jax.files import DiskFullError
from ltu_jax.interop import orbax_folder
from ltu_jax.interop.sealing import seal
from ltu_jax.setting import ConfigError
from ltu_jax.training import checkpoint
from ltu_jax.training.checkpoint import CheckpointError, load_tree, open_checkpoints, save_tree, tree_sha256


def tree(seed=0):
    """Nested dicts, an empty one, a scalar step and halves whose low bits matter; large enough to have payloads."""
    values = jax.random.normal(jax.random.key(seed), (40, 30))
    half = (values[0] / 3).astype(jnp.bfloat16)
    return {"params": {"w": values, "half": half}, "batch_stats": {}, "step": jnp.int32(7)}


def one_leaf():
    """For damage: Orbax abandons the reads of the other leaves, and they complain later, from threads of their own."""
    return {"w": tree()["params"]["w"]}


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert isinstance(b, jax.Array) and a.dtype == b.dtype and a.shape == b.shape
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


HARM = {
    "truncated": lambda raw: raw[: len(raw) // 2],
    "flipped": lambda raw: raw[:-1] + bytes(byte ^ 1 for byte in raw[-1:]),
    "emptied": lambda raw: b"",
    "longer": lambda raw: raw + b"\0",
    "deleted": None,
}


@contextlib.contextmanager
def changed_metadata(folder):
    """Yields the metadata of a checkpoint to be changed, then writes and seals it again."""
    [path] = folder.rglob("_CHECKPOINT_METADATA")
    content = json.loads(path.read_text())
    yield content["custom_metadata"]
    path.write_text(json.dumps(content))
    seal(folder)


def harmed(folder, ways=tuple(HARM)):
    """Damages each file of a folder in each way, yields its path, and restores it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 5
    for path in files:
        sound = path.read_bytes()
        for harm in map(HARM.__getitem__, ways):
            if harm is None:
                path.unlink()
            elif harm(sound) == sound:  # empty already
                continue
            else:
                path.write_bytes(harm(sound))
            yield path
            path.write_bytes(sound)


@pytest.mark.smoke
def test_what_is_saved_comes_back_bit_for_bit_with_its_metadata(tmp_path):
    save_tree(tmp_path / "x", tree(), {"seconds": 1.5, "key": ["a", 2]})
    loaded, metadata = load_tree(tmp_path / "x")
    assert_same(tree(), loaded)
    assert metadata["seconds"] == 1.5 and metadata["key"] == ["a", 2]


def test_saving_again_replaces(tmp_path):
    for seed in (0, 1):
        save_tree(tmp_path / "x", tree(seed), {})
    assert_same(tree(1), load_tree(tmp_path / "x")[0])


@pytest.mark.smoke
def test_what_a_device_wrote_that_is_not_here_can_be_read(tmp_path):
    save_tree(tmp_path / "x", tree(), {})
    [sharding] = (tmp_path / "x").rglob("_sharding")  # as a GPU would have left it
    assert "TFRT_CPU_0" in sharding.read_text() or "cpu:0" in sharding.read_text()
    sharding.write_text(sharding.read_text().replace("TFRT_CPU_0", "cuda:0").replace("cpu:0", "cuda:0"))
    seal(tmp_path / "x")
    assert_same(tree(), load_tree(tmp_path / "x")[0])


@pytest.mark.smoke
def test_what_was_saved_without_its_shapes_comes_back_as_well(tmp_path):
    """As older versions did it."""
    save_tree(tmp_path / "x", tree(), {})
    with changed_metadata(tmp_path / "x") as metadata:
        del metadata["arrays"]
    assert_same(tree(), load_tree(tmp_path / "x")[0])


@pytest.mark.parametrize("what", ["load", "metadata of a step"])
def test_what_a_look_leaves_in_the_process_does_not_grow_with_the_arrays(tmp_path, what):
    """TensorStore keeps the objects in which it describes an array that is opened: some 10 kB at each."""

    def left(count):
        path, arrays = tmp_path / str(count), {str(i): jnp.ones((3, 3)) for i in range(count)}
        save_tree(path, arrays, {})
        with open_checkpoints(tmp_path / f"steps {count}") as checkpoints:
            checkpoints.save(1, arrays, {})
            look = {"load": lambda: load_tree(path), "metadata of a step": lambda: checkpoints.metadata(1)}[what]
            look()
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(3):
                look()
            gc.collect()
            return (sys.getallocatedblocks() - before) / 3

    left(3)  # and with it what is made once
    assert left(12) - left(2) < 10 * 20


def test_harm_to_any_file_is_seen_and_the_checkpoint_named(tmp_path):
    save_tree(tmp_path / "x", one_leaf(), {})
    for path in harmed(tmp_path / "x"):
        with pytest.raises(CheckpointError) as error:
            load_tree(tmp_path / "x")
        line = str(error.value)
        assert line.startswith(f"{tmp_path / 'x'} is damaged: {path.relative_to(tmp_path / 'x')} ") and "\n" not in line
    assert_same(one_leaf(), load_tree(tmp_path / "x")[0])
    (tmp_path / "x" / "more").write_text("")
    with pytest.raises(CheckpointError, match="x is damaged: more was altered"):
        load_tree(tmp_path / "x")
    with pytest.raises(CheckpointError, match="nowhere is not there"):
        load_tree(tmp_path / "nowhere")


def test_what_is_loaded_is_what_was_given_whatever_the_files_say(tmp_path):
    """The files are undamaged, but the arrays that Orbax reads from them differ from those that were saved."""
    save_tree(tmp_path / "x", one_leaf(), {})
    with changed_metadata(tmp_path / "x") as metadata:
        metadata["tree_sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match="its contents do not match its checksum"):
        load_tree(tmp_path / "x")


@pytest.mark.smoke
def test_arrays_that_are_said_to_be_larger_than_the_memory_are_not_made_up(tmp_path):
    """Zarr fills missing chunks with zeros, so changing the shape is enough to claim 36 TB of them."""
    import tensorstore

    save_tree(tmp_path / "x", {"w": jnp.ones((3, 3))}, {})
    database = {"driver": "ocdbt", "base": f"file://{tmp_path / 'x' / 'state'}/", "path": "w/"}
    array = {"driver": "zarr3", "kvstore": database}
    zarr = tensorstore.open(array, open=True).result().spec().to_json()["metadata"]
    zarr["shape"] = [3_000_000, 3_000_000]
    tensorstore.open({**array, "metadata": zarr}, create=True, delete_existing=True).result()
    seal(tmp_path / "x")
    with pytest.raises(
        CheckpointError, match=r"x cannot be read .*\(3, 3\) is not compatible with .*\(3000000, 3000000\)"
    ):
        load_tree(tmp_path / "x")
    with changed_metadata(tmp_path / "x") as metadata:
        metadata["arrays"]["w"][1] = zarr["shape"]
    with pytest.raises(CheckpointError, match="x cannot be read .*its arrays are said to have 36000000000000 bytes"):
        load_tree(tmp_path / "x")
    with pytest.raises(ConfigError, match="x' cannot be read .*its arrays are said to have 36000000000000 bytes"):
        orbax_folder.read_arrays(tmp_path / "x", "config.weights")


def test_a_save_that_was_stopped_leaves_what_was_there(tmp_path, monkeypatch):
    save_tree(tmp_path / "x", tree(0), {})
    for step in ("seal", "writes_files"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, step, lambda *a: (_ for _ in ()).throw(InterruptedError))
            with pytest.raises(InterruptedError):
                save_tree(tmp_path / "x", tree(1), {})
        assert_same(tree(0), load_tree(tmp_path / "x")[0])
    save_tree(tmp_path / "x", tree(1), {})
    assert_same(tree(1), load_tree(tmp_path / "x")[0])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {**t, "step": jnp.int32(8)},
        lambda t: {**t, "step": jnp.uint32(7)},
        lambda t: {**t, "step": jnp.full(1, 7, jnp.int32)},
        lambda t: {"steps" if name == "step" else name: value for name, value in t.items()},
        lambda t: {**t, "params": {**t["params"], "w": t["params"]["w"].at[3, 4].multiply(-1)}},
        lambda t: {**t, "rng": jax.random.key(1)},
    ],
    ids=["value", "dtype", "shape", "path", "sign", "key"],
)
def test_the_hash_covers_path_dtype_shape_and_bytes(change):
    assert tree_sha256(tree()) == tree_sha256(jax.tree.map(np.asarray, tree()))
    base = {**tree(), "rng": jax.random.key(0)} if "rng" in change(tree()) else tree()
    assert tree_sha256(base) != tree_sha256(change(tree()))


def with_key(seed):
    return {**tree(seed), "rng": jax.random.key(seed)}


@pytest.mark.smoke
def test_steps_come_back_bit_for_bit_with_typed_keys_and_two_are_kept(tmp_path):
    with open_checkpoints(tmp_path / "steps") as checkpoints:
        assert checkpoints.latest_step() is None
        for step in (10, 11, 25):
            checkpoints.save(step, with_key(step), {"best": step / 2})
    with open_checkpoints(tmp_path / "steps") as checkpoints:
        assert checkpoints.latest_step() == 25
        for step in (11, 25):
            loaded, metadata = checkpoints.load(step, with_key(0))
            assert_same(with_key(step), loaded)
            assert metadata["best"] == checkpoints.metadata(step)["best"] == step / 2
        with pytest.raises(CheckpointError, match="steps/10 cannot be read"):
            checkpoints.load(10, with_key(0))


@pytest.mark.smoke
def test_a_saved_step_survives_that_its_buffers_are_donated(tmp_path):
    state = with_key(1)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        jax.tree.map(lambda leaf: leaf.delete(), state)
        assert_same(with_key(1), checkpoints.load(1, with_key(0))[0])


def test_steps_go_on_from_the_newest_that_is_intact_and_say_so(tmp_path, caplog):
    with open_checkpoints(tmp_path / "steps") as checkpoints:
        for step in (3, 5):
            checkpoints.save(step, one_leaf(), {})
    for path in harmed(tmp_path / "steps" / "5", ("flipped", "deleted")):  # the others are seen alike
        harmed_copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "steps", harmed_copy)
        caplog.clear()
        with open_checkpoints(harmed_copy) as checkpoints:
            assert checkpoints.latest_step() == 3, path
            assert_same(one_leaf(), checkpoints.load(3, one_leaf())[0])
            checkpoints.save(5, one_leaf(), {})
            assert checkpoints.latest_step() == 5
        assert f"{harmed_copy / '5'} is damaged (" in caplog.text and "going on without it" in caplog.text
        shutil.rmtree(harmed_copy)
    with open_checkpoints(tmp_path / "steps") as checkpoints:
        assert checkpoints.latest_step() == 5


@pytest.mark.smoke
def test_a_step_that_was_not_sealed_was_not_written_to_its_end(tmp_path, monkeypatch):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, one_leaf(), {})
        monkeypatch.setattr(checkpoint, "seal", lambda folder: None)
        checkpoints.save(4, one_leaf(), {})
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 3 and not (tmp_path / "4").exists()


class Disk:
    """A disk that has so much room as the test says."""

    def __init__(self, monkeypatch):
        self.free = 10**12
        monkeypatch.setattr(files.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=self.free))


def test_without_room_nothing_is_written_and_what_is_needed_is_said(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    save_tree(tmp_path / "x", tree(0), {})
    with open_checkpoints(tmp_path / "steps") as steps:
        steps.save(1, one_leaf(), {})
        disk.free = 4800 + checkpoint.SMALL_BYTES  # of the 4,800 bytes of one leaf and a tenth of it
        for again in (lambda: steps.save(2, one_leaf(), {}), lambda: save_tree(tmp_path / "x", tree(1), {})):
            with pytest.raises(
                DiskFullError, match=r"MB are needed and 0\.1 MB are free; what was saved before is int"
            ):
                again()
        disk.free += 1000
        assert steps.latest_step() == 1
        steps.save(2, one_leaf(), {})
    assert_same(tree(0), load_tree(tmp_path / "x")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps", "x"]


@pytest.mark.parametrize("at", ["arrays", "seal"])
def test_a_disk_that_fills_while_something_is_saved_leaves_what_was_there_and_no_half(tmp_path, monkeypatch, at):
    save_tree(tmp_path / "x", tree(0), {})
    with open_checkpoints(tmp_path / "steps") as steps:
        steps.save(1, one_leaf(), {})

    def full(*args, **more):
        raise ValueError("UNKNOWN: Error writing: No space left on device")  # as tensorstore says it

    with monkeypatch.context() as broken, open_checkpoints(tmp_path / "steps") as steps:
        if at == "seal":
            broken.setattr(checkpoint, "seal", full)
        else:
            broken.setattr(checkpoint._orbax(), "save", full)
            broken.setattr(steps._checkpointer, "save", full)
        for again in (lambda: steps.save(2, one_leaf(), {}), lambda: save_tree(tmp_path / "x", tree(1), {})):
            with pytest.raises(DiskFullError, match="no space is left on the disk, 0.1 MB were needed"):
                again()
    with open_checkpoints(tmp_path / "steps") as steps:  # as the next start does
        assert steps.latest_step() == 1
        assert_same(one_leaf(), steps.load(1, one_leaf())[0])
    assert_same(tree(0), load_tree(tmp_path / "x")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps", "x"]


@pytest.fixture
def flushed(monkeypatch):
    """Inodes of the files and folders that were flushed to the disk so far; ``at_rename`` has those by then."""
    done, fsync, rename = types.SimpleNamespace(inodes=set(), at_rename=set()), os.fsync, os.rename

    def noted(descriptor):
        fsync(descriptor)
        done.inodes.add(os.fstat(descriptor).st_ino)

    def renamed(old, new):
        done.at_rename = set(done.inodes)
        done.inodes.clear()
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "rename", renamed)
    return done


def inodes(folder):
    return {path.stat().st_ino for path in (folder, *folder.rglob("*"))}


def test_all_of_a_tree_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, flushed):
    save_tree(tmp_path / "x", tree(), {})
    assert inodes(tmp_path / "x") <= flushed.at_rename and tmp_path.stat().st_ino in flushed.inodes


def test_all_of_a_step_is_on_the_disk_when_it_is_saved(tmp_path, flushed):
    with open_checkpoints(tmp_path / "in" / "steps") as checkpoints:
        assert {path.stat().st_ino for path in (tmp_path, tmp_path / "in")} <= flushed.inodes
        flushed.inodes.clear()
        checkpoints.save(1, tree(), {})
        assert inodes(tmp_path / "in" / "steps") <= flushed.inodes


def test_a_folder_in_which_orbax_would_lose_its_files_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="which Orbax takes for a pattern"):
        save_tree(tmp_path / "[v2]", tree(), {})
    with pytest.raises(ConfigError, match="which Orbax takes for a pattern"):
        with open_checkpoints(tmp_path / "a*b"):
            pass
    with pytest.raises(ConfigError, match="config.weights: .* which Orbax takes for a pattern"):
        orbax_folder.read_arrays(tmp_path / "a?b", "config.weights")
    assert not list(tmp_path.iterdir())
    save_tree(tmp_path / "x", one_leaf(), {})
    (tmp_path / "a\\b").mkdir()
    (tmp_path / "x").rename(tmp_path / "a\\b" / "x")
    with pytest.raises(ConfigError, match="which Orbax takes for a pattern"):  # not "delete it to make it anew"
        load_tree(tmp_path / "a\\b" / "x")
