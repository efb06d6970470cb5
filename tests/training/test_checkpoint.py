"""What is saved comes back bit for bit, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training.checkpoint import CheckpointError, load, open_checkpoints, save, tree_sha256

pytestmark = pytest.mark.smoke


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


def payloads(path):
    """The files that hold the arrays."""
    return [
        file for file in path.rglob("*") if file.is_file() and file.parent.name == "d" and file.stat().st_size > 2000
    ]


def flip_a_byte_that_nobody_notices(path, read):
    """Flips bytes of the largest payload until one is read without Orbax's complaint."""
    file = max(payloads(path), key=lambda file: file.stat().st_size)
    sound = file.read_bytes()
    for at in range(len(sound) // 2, len(sound), 37):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(CheckpointError) as error:
            read()
        if "do not match its checksum" in str(error.value):
            return str(error.value)
    raise AssertionError("Orbax noticed every flipped byte by itself")


def test_what_is_saved_comes_back_bit_for_bit_with_its_metadata(tmp_path):
    save(tmp_path / "x", tree(), {"seconds": 1.5, "key": ["a", 2]})
    loaded, metadata = load(tmp_path / "x")
    assert_same(tree(), loaded)
    assert metadata["seconds"] == 1.5 and metadata["key"] == ["a", 2]


def test_saving_again_replaces(tmp_path):
    for seed in (0, 1):
        save(tmp_path / "x", tree(seed), {})
    assert_same(tree(1), load(tmp_path / "x")[0])


def test_what_a_device_wrote_that_is_not_here_can_be_read(tmp_path):
    save(tmp_path / "x", tree(), {})
    [sharding] = (tmp_path / "x").rglob("_sharding")  # as a GPU would have left it
    assert "TFRT_CPU_0" in sharding.read_text() or "cpu:0" in sharding.read_text()
    sharding.write_text(sharding.read_text().replace("TFRT_CPU_0", "cuda:0").replace("cpu:0", "cuda:0"))
    assert_same(tree(), load(tmp_path / "x")[0])


def test_a_flipped_byte_is_found_and_the_checkpoint_named(tmp_path):
    save(tmp_path / "x", one_leaf(), {})
    message = flip_a_byte_that_nobody_notices(tmp_path / "x", lambda: load(tmp_path / "x"))
    assert message.startswith(f"{tmp_path / 'x'} is damaged") and "\n" not in message


# Orbax abandons reads when one fails, and now and then they complain of it once they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_missing_file_is_found_and_the_checkpoint_named(tmp_path):
    for name in ("payload", "_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"):
        path = tmp_path / name
        save(path, one_leaf(), {})
        for file in payloads(path) if name == "payload" else path.rglob(name):
            file.unlink()
        with pytest.raises(CheckpointError) as error:
            load(path)
        assert str(error.value).startswith(f"{path} ") and "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="nowhere cannot be read"):
        load(tmp_path / "nowhere")


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


def test_a_saved_step_survives_that_its_buffers_are_donated(tmp_path):
    state = with_key(1)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        jax.tree.map(lambda leaf: leaf.delete(), state)
        assert_same(with_key(1), checkpoints.load(1, with_key(0))[0])


def test_a_damaged_step_is_found_and_named(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, one_leaf(), {})
        message = flip_a_byte_that_nobody_notices(tmp_path / "3", lambda: checkpoints.load(3, one_leaf()))
        assert message.startswith(f"{tmp_path / '3'} is damaged")
        for file in payloads(tmp_path / "3"):
            file.unlink()
        with pytest.raises(CheckpointError, match="3 cannot be read"):
            checkpoints.load(3, one_leaf())
