"""Many devices give what one gives: a run on 8 of them, and on two processes, against one (``on_devices.py``)."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.devices import agreed, first_alone, num_devices, read_sharded, replicate, shard, writes_files

SCRIPT = pathlib.Path(__file__).parent / "on_devices.py"
LONG = ("--steps", 20, "--float64")


def start(out, *words):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SCRIPT.parent), str(SCRIPT.parents[1])))}
    words = [sys.executable, str(SCRIPT), str(out), *map(str, words)]
    return subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)


def finish(process, out):
    """The numbers that a run left, the share of a batch that one device held, and what was read from the host."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    if out is None:
        return None
    with np.load(out) as found:
        numbers = [found[name] for name in found.files if name.startswith("arr")]
        return numbers, float(found["share"]), set(found["read"].tolist())


def run(folder, name, *words):
    return finish(start(folder / f"{name}.npz", *words), folder / f"{name}.npz")


def run_two_processes(folder, *words):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"localhost:{free.getsockname()[1]}"
    outs = [folder / f"process{i}.npz" for i in range(2)]
    both = [start(out, "--coordinator", where, "--process_id", i, *words) for i, out in enumerate(outs)]
    finish(both[1], None)
    assert not outs[1].exists()  # one process writes
    return finish(both[0], outs[0])


def assert_close(found, wanted, relative):
    assert len(found) == len(wanted) > 10
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=relative * max(np.abs(y).max(), 1e-3))


@pytest.fixture(scope="module", params=["attackers", "margins"])
def one_step(request, tmp_path_factory):
    folder, words = tmp_path_factory.mktemp("devices"), ("--forget_by", request.param)
    return folder, words, run(folder, "one", *words)


@pytest.mark.slow
def test_one_step_on_eight_devices_is_that_on_one(one_step):
    folder, words, (wanted, whole, _) = one_step
    found, share, _ = run(folder, "eight", "--devices", 8, *words)
    assert (whole, share) == (1, 1 / 8)
    assert_close(found, wanted, 1e-5)


@pytest.mark.slow
def test_one_step_on_two_processes_that_each_read_their_share_is_that_on_one(one_step):
    folder, words, (wanted, _, _) = one_step
    found, share, read = run_two_processes(folder, "--streamed", *words)
    assert share == 1 / 2
    # Batches of 32 to train, of 16 to forget, 3 x 16 queries; features of 64 and 16; 8 at a time to predict.
    assert read == {"(16,)", "(8,)", "(3, 8)", "(32,)", "(4,)"}
    assert_close(found, wanted, 1e-5)


@pytest.fixture(scope="module")
def twenty_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twenty")
    return folder, run(folder, "one", *LONG)[0]


@pytest.mark.slow
def test_twenty_steps_in_float64_on_eight_devices_are_those_on_one(twenty_steps):
    folder, wanted = twenty_steps
    assert_close(run(folder, "eight", "--devices", 8, *LONG)[0], wanted, 1e-8)


@pytest.mark.slow
def test_twenty_steps_in_float64_on_two_processes_are_those_on_one(twenty_steps):
    folder, wanted = twenty_steps
    assert_close(run_two_processes(folder, *LONG)[0], wanted, 1e-8)


def test_without_a_mesh_nothing_is_done():
    x = jnp.arange(6.0).reshape(2, 3)
    assert num_devices() == 1 and shard(x, 0) is x and replicate(x) is x
    chex.assert_trees_all_equal(read_sharded((2, 3), 1, None, lambda part: np.asarray(x)[:, part]), x)
    assert writes_files() and agreed(lambda: 3) == 3 and first_alone(lambda: "made") == "made"
    text = jax.jit(lambda x: replicate(shard(x, 0))).lower(x).as_text()
    assert "sharding" not in text


def told(*, threads=None, flags=None, config=None, **variables):
    """What a process of its own says about where it computes."""
    env = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC", "NPROC")}
    env |= {"PYTHONPATH": str(SCRIPT.parents[1]), "JAX_PLATFORMS": "cpu", **variables}
    env |= {} if flags is None else {"XLA_FLAGS": flags}
    env |= {} if threads is None else {"PJRT_NPROC": threads}
    program = f"import json, jax\n{config or ''}\nfrom ltu_jax import devices\nprint(json.dumps(devices.environment()))"
    found = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_the_environment_is_what_rounds_and_nothing_else():
    here = told()
    assert here == told(flags="--xla_gpu_deterministic_ops=true")  # of another device
    assert here["versions"]["jax"] == jax.__version__ and here["backend"] == "cpu" and here["processes"] == 1
    one, other = "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_enable_fast_math=false"
    assert told(flags=f"{one} {other}") == told(flags=f" {other}   {one}")
    without = "0" if "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ else "1"
    changed = {
        "flags": told(flags=one),
        "threads": told(threads="7"),
        "devices": told(JAX_NUM_CPU_DEVICES="2"),
        "precision": told(config="jax.config.update('jax_default_matmul_precision', 'float32')"),
        "optimizations": told(JAX_DISABLE_MOST_OPTIMIZATIONS=without),
    }
    assert [name for name, value in changed.items() if value == here] == []
    assert changed["threads"]["threads"] == 7 and changed["devices"]["devices"][0] == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_the_cores_are_those_that_the_process_may_use():
    here, pin = told(), "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    pinned = told(config=pin)
    assert pinned["cores"] == pinned["threads"] == 1 and here["cores"] == len(os.sched_getaffinity(0))
    assert {name for name in here if here[name] != pinned[name]} == {"cores", "threads"}
