"""Folders that Orbax's own calls wrote, read, and written so that the call which read the old one reads the new one."""

import gc
import os
import pickle
import socket
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint import v1
from own_models import MODELS, template, weights

from ltu_jax.interop import orbax_folder
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.setting import ConfigError
from ltu_jax.training import checkpoint

FIELD = "config.weights"


def standard(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def composite(path, tree):
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = {"state": ocp.args.StandardSave(tree), "about": ocp.args.JsonSave({"accuracy": 0.5})}
        checkpointer.save(path, args=ocp.args.Composite(**items))


def managed(path, tree):
    with ocp.CheckpointManager(path.parent) as manager:
        manager.save(int(path.name), args=ocp.args.StandardSave(tree), metrics={"accuracy": 0.5})


def read_managed(path):
    with ocp.CheckpointManager(path.parent) as manager:
        return manager.restore(int(path.name), args=ocp.args.StandardRestore())


# Who writes a folder, and the call with which its reader reads it.
CALLS = {
    "standard": (standard, lambda path: ocp.StandardCheckpointer().restore(path)),
    "pytree": (
        lambda path, tree: ocp.PyTreeCheckpointer().save(path, tree),
        lambda path: ocp.PyTreeCheckpointer().restore(path),
    ),
    "a file an array": (
        lambda path, tree: ocp.PyTreeCheckpointer(use_ocdbt=False).save(path, tree),
        lambda path: ocp.PyTreeCheckpointer(use_ocdbt=False).restore(path),
    ),
    "zarr3": (
        lambda path, tree: ocp.PyTreeCheckpointer(use_zarr3=True).save(path, tree),
        lambda path: ocp.PyTreeCheckpointer(use_zarr3=True).restore(path),
    ),
    "v1": (lambda path, tree: v1.save(path, tree, custom_metadata={"by": "me"}), v1.load),
    "v1 under a name": (
        lambda path, tree: v1.save_checkpointables(path, {"net": tree}),
        lambda path: v1.load_checkpointables(path)["net"],
    ),
    "composite": (composite, lambda path: ocp.Checkpointer(ocp.CompositeCheckpointHandler()).restore(path).state),
    "managed": (managed, read_managed),
}


def with_more(tree):
    """What training code keeps beside weights that tells nothing of them; types of every kind."""
    more = {"step": 7, "rng": jax.random.key(5), "rows": jnp.arange(3), "best": 0.25, "nothing": None, "empty": {}}
    return {"state": {**jax.tree.map(jnp.asarray, tree), **more}, "seen": [np.arange(4), np.array([True, False])]}


def bytes_of(tree):
    """Every leaf by its path: type, dtype, shape and bytes."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        kind = "jax" if isinstance(leaf, jax.Array) else type(leaf).__name__
        if kind == "jax" and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind, leaf = "key", jax.random.key_data(leaf)
        leaf = np.asarray(leaf)
        found[jax.tree_util.keystr(path)] = (kind, leaf.dtype.name, leaf.shape, leaf.tobytes())
    return found


def folder(tmp_path, name="3"):
    (tmp_path / "given").mkdir()
    return tmp_path / "given" / name


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # readers here name no devices
@pytest.mark.parametrize("call", CALLS)
def test_who_read_the_old_folder_reads_the_new_one_by_the_same_call(tmp_path, call):
    save, restore = CALLS[call]
    old, new = weights("linen"), weights("linen", seed=9)
    path, target = folder(tmp_path), tmp_path / "weights" / "3"
    target.parent.mkdir()
    save(path, with_more(old))
    chex.assert_trees_all_equal(load_weights(path, template("linen")), old)
    before = bytes_of(restore(path))
    for one in (old, new):  # the second time over the first
        save_weights(path, target, one)
        after = bytes_of(restore(target))
        assert after.keys() == before.keys()
        leaves = bytes_of({"state": jax.tree.map(jnp.asarray, one)})
        for name, found in after.items():
            assert found == leaves.get(name, before[name]), name
    assert bytes_of(restore(path)) == before
    chex.assert_trees_all_equal(load_weights(target, template("linen")), new)


@pytest.mark.parametrize("call", CALLS)
def test_all_else_in_the_folder_stays_as_it_was(tmp_path, call):
    path, target = folder(tmp_path), tmp_path / "4"
    CALLS[call][0](path, with_more(weights("plain")))
    save_weights(path, target, weights("plain", seed=9))

    def around(folder):
        """All files but the blocks of arrays, which have random names."""
        files = [file for file in folder.rglob("*") if file.is_file() and file.parent.name != "d"]
        return {file.relative_to(folder): file.read_bytes() for file in files}

    before, after = around(path), around(target)
    assert after.keys() == before.keys()
    changed = {file.name for file, content in before.items() if after[file] != content}
    assert changed and changed <= {"manifest.ocdbt", "0", "0.0"}  # where blocks are, or an array's only block


def held(path):
    """All bytes of a folder's files."""
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def test_the_old_numbers_are_nowhere_in_the_new_folder(tmp_path):
    secret = np.frombuffer(np.random.default_rng(0).bytes(48), np.float32)  # nothing that could be compressed
    path, target = folder(tmp_path), tmp_path / "4"
    standard(path, {"params": {"w": secret}})
    assert secret.tobytes() in held(path)
    save_weights(path, target, {"params": {"w": np.zeros_like(secret)}})
    assert secret.tobytes() not in held(target)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_numbers_of_another_width_are_computed_with_in_float32_and_keep_it_in_the_folder(tmp_path, dtype):
    path, target = folder(tmp_path), tmp_path / "4"
    tree = jax.tree.map(lambda x: x.astype(dtype), weights("plain"))
    standard(path, tree)
    found = load_weights(path, template("plain"))
    chex.assert_trees_all_equal(found, jax.tree.map(lambda x: x.astype(np.float32), tree))
    save_weights(path, target, found)
    kept = jax.tree.map(lambda x: x.astype(np.float32).astype(dtype), tree)
    assert bytes_of(ocp.StandardCheckpointer().restore(target)) == bytes_of(kept)


def test_arrays_of_64_bits_that_jax_wrote_keep_their_width(tmp_path):
    path, target = folder(tmp_path), tmp_path / "4"
    with jax.enable_x64(True):
        tree = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) / 3, weights("plain"))
        standard(path, {**tree, "rows": jnp.arange(3) + 2**40})
    save_weights(path, target, load_weights(path, template("plain")))
    found = orbax_folder.read_arrays(target, FIELD)
    assert found["rows"].tolist() == [2**40, 2**40 + 1, 2**40 + 2]
    third = np.asarray(tree["params"]["layer"]["w"]).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(found["params.layer.w"], third, strict=True)


def saved(tmp_path, name="linen"):
    """A folder of this package's own."""
    path, given = folder(tmp_path, "model"), dict(weights(name))
    params = given.pop("params")
    tree = jax.tree.map(jnp.asarray, {"params": params, "model_state": given})
    checkpoint.save_tree(path, tree, {"method": "ltu"})
    return path


@pytest.mark.smoke
@pytest.mark.parametrize("name", MODELS)
def test_our_own_folder_is_read_and_the_new_one_is_sound_to_us(tmp_path, name):
    path, target = saved(tmp_path, name), tmp_path / "again"
    chex.assert_trees_all_equal(load_weights(path, template(name)), weights(name))
    new = weights(name, seed=9)
    save_weights(path, target, new)
    tree, metadata = checkpoint.load_tree(target)  # by the new checksum
    chex.assert_trees_all_equal({"params": tree["params"], **tree["model_state"]}, new)
    assert metadata["method"] == "ltu" and metadata["tree_sha256"] == checkpoint.tree_sha256(tree)


def test_flipped_bytes_in_our_own_folder_are_refused(tmp_path):
    path, target = folder(tmp_path, "model"), tmp_path / "again"
    values = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    wanted = {"params": {"w": jax.ShapeDtypeStruct(values.shape, values.dtype)}}
    checkpoint.save_tree(path, {"params": {"w": jnp.asarray(values)}, "model_state": {}}, {})
    file = max((file for file in path.rglob("d/*")), key=lambda file: file.stat().st_size)
    sound, noticed = file.read_bytes(), []
    for at in range(len(sound) // 2, len(sound), 37):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(ConfigError, match=f"^{FIELD}: .*; allowed: a whole ") as error:
            load_weights(path, wanted)
        noticed.append(str(error.value))
        if "does not match its checksum" in noticed[-1]:
            break
    assert "does not match its checksum" in noticed[-1]  # what Orbax let through
    with pytest.raises(ConfigError, match="does not match its checksum"):
        save_weights(path, target, {"params": {"w": values}})
    assert not target.exists()


# Orbax abandons reads when one fails, and now and then they complain of it once they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("file", ["_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"])
def test_half_a_folder_is_refused_in_one_line(tmp_path, file):
    path = folder(tmp_path)
    standard(path, {"params": {"w": np.ones(3)}})
    (path / file).write_bytes((path / file).read_bytes()[:20])
    with pytest.raises(ConfigError, match=f"^{FIELD}: .*cannot be read .*; allowed: a whole folder by Orbax$") as error:
        load_weights(path, template("plain"))
    assert "\n" not in str(error.value)
    del error
    gc.collect()


def test_folders_without_one_tree_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    managed(tmp_path / "run" / "1", weights("plain"))
    v1.save_checkpointables(tmp_path / "two", {"net": weights("plain"), "opt_state": {"mu": jnp.ones(3)}})
    for name, words in {
        "empty": "holds no trees by Orbax; allowed: one",
        "run": "holds no trees by Orbax; .*a step's folder of CheckpointManager$",
        "two": r"holds 2 trees by Orbax \(net, opt_state\); allowed: one",
        "two/..": "has no name to write back to",
    }.items():
        with pytest.raises(ConfigError, match=f"^{FIELD}: .*{words}"):
            load_weights(tmp_path / name, template("plain"))


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_lies_beside_the_weights_is_json_or_refused_and_never_run(tmp_path):
    path = folder(tmp_path)
    composite(path, weights("plain"))
    load_weights(path, template("plain"))
    (path / "extra").mkdir()
    (path / "extra" / "data").write_bytes(pickle.dumps(Attack(tmp_path / "made")))
    with pytest.raises(ConfigError, match=f"^{FIELD}: .*holds 'extra' beside the weights; allowed: JSON"):
        load_weights(path, template("plain"))
    assert not (tmp_path / "made").exists()


ONE_OF_TWO = """
import sys, pathlib, jax, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from ltu_jax.interop.weights import load_weights, save_weights
path = pathlib.Path(sys.argv[3])
wanted = {"params": {"w": jax.ShapeDtypeStruct((3,), np.float32)}}
found = load_weights(path, wanted)
if jax.process_index() == 0:
    save_weights(path, path.parent / "new", {"params": {"w": found["params"]["w"] * 2}})
"""


@pytest.mark.slow
def test_the_first_of_two_processes_writes_alone(tmp_path):
    path = folder(tmp_path)
    standard(path, {"params": {"w": jnp.arange(3.0)}})
    with socket.socket() as one:
        one.bind(("localhost", 0))
        where = f"localhost:{one.getsockname()[1]}"
    code = [sys.executable, "-c", ONE_OF_TWO, where]
    both = [subprocess.Popen([*code, str(i), str(path)], env={**os.environ, "JAX_PLATFORMS": "cpu"}) for i in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert np.asarray(ocp.StandardCheckpointer().restore(path.parent / "new")["params"]["w"]).tolist() == [0, 2, 4]
