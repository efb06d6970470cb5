"""The command as two processes: one result, one voice; and what happens when one of them is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import chex
import jax
import pytest
from absl import logging
from test_end_to_end import CONFIG, LONG, run, start

from ltu_jax.commands import processes
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree

SAVED = ["--config.training.epochs=100", "--config.save_seconds=1"]
TWO = ["--config.training.batch_size=20", "--config.data.stream=host", *SAVED, *LONG]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    (path / "small.py").write_text(CONFIG)
    return path


def together(folder, *words):
    """Two processes of the same command."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"--coordinator=localhost:{free.getsockname()[1]}"
    return [start(folder, where, "--num_processes=2", f"--process_id={i}", *words) for i in range(2)]


@pytest.fixture(scope="module")
def undisturbed(folder):
    """Output of each of two processes that ran to the end, in the folder "both"."""
    both = together(folder, "--workdir", "both", "--cache", "c2", *TWO)
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    return outputs


@pytest.mark.slow
def test_two_processes_make_one_result_and_one_is_silent(folder, undisturbed):
    code, _, err = run(folder, "--workdir", "alone", "--cache", "c1", *TWO)
    assert code == 0, err
    assert "UA" in undisturbed[0][0] and "UA" not in undisturbed[1][0] and "unlearning" not in undisturbed[1][1]
    found, wanted = (json.loads((folder / name / "result.json").read_text()) for name in ("both", "alone"))
    for scores in ("scores", "original", "retrain"):
        for measure in ("ua", "ra", "ta", "mi"):
            assert found[scores][measure] == pytest.approx(wanted[scores][measure], abs=1.01 * 100 / 20)
    assert found["provenance"]["device"].startswith("2 x") and found["steps"] == wanted["steps"]


def in_training(folder):
    return any(path.name.isdigit() for path in folder.glob("c3/original-*.under_way/checkpoints/*"))


def in_unlearning(folder):
    metrics = folder / "killed" / "metrics.jsonl"
    return metrics.exists() and len(metrics.read_text().splitlines()) >= 10


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_when_a_process_is_killed_the_other_says_so_and_both_go_on_to_the_same_bits(folder, undisturbed):
    words = ["--workdir", "killed", "--cache", "c3", *TWO]
    for started in (in_training, in_unlearning):
        both, deadline = together(folder, *words), time.time() + 200
        while time.time() < deadline and not started(folder):
            assert both[0].poll() is None, both[0].communicate()
            time.sleep(0.01)
        both[1].send_signal(signal.SIGKILL)
        both[1].communicate()
        _, err = both[0].communicate(timeout=60)  # else a failure: it is to stop within a minute
        assert both[0].returncode == 1
        assert "error: process 0 of 2 lost another one" in err and "Traceback" not in err
        assert started(folder) and not (folder / "killed" / "result.json").exists(), "it was done before it was killed"
    first, *others = rows_of(folder / "killed")
    marked = [{**first, "marked": 1.0}, *others]  # a run that began anew would have nothing to compare it with
    (folder / "killed" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    both = together(folder, *words)
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert any("metrics.jsonl is not what was saved" in err for _, err in outputs), outputs
    assert rows_of(folder / "killed") == rows_of(folder / "both")
    killed, wanted = (load_tree(folder / name / "model") for name in ("killed", "both"))
    chex.assert_trees_all_equal(killed, wanted)


@pytest.mark.parametrize(
    "words, line",
    [
        (["--coordinator=localhost:1"], "--num_processes: None; allowed: all of --coordinator, --num_processes"),
        (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "--process_id: 2; allowed: 0..1"),
        (["--distributed"], "--distributed: the other processes are not found"),
    ],
)
def test_half_an_answer_to_where_the_others_are_is_refused(folder, words, line):
    code, _, err = run(folder, "--workdir", "refused", *words)
    assert code == 2 and line in err and len(err.splitlines()) == 1
    assert not (folder / "refused").exists()


@pytest.mark.parametrize(
    "error, status, message",
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), 1, "lost another one"),
        (RuntimeError("INTERNAL: Barrier failed because a task is set to ERROR"), 1, "lost another one"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), 1, "RuntimeError: RESOURCE_EXHAUSTED"),
        (ConfigError("config.seed: -1; allowed: >= 0"), 2, "error: config.seed: -1"),
    ],
)
def test_only_a_lost_process_is_reported_as_one(error, status, message, capsys):
    assert processes._say_why(error) == status
    err = capsys.readouterr().err
    assert message in err and ("lost" in err) == ("lost" in message)


def test_what_others_log_of_a_loss_is_not_printed_beside_the_line(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    before, printed = logging.get_verbosity(), []
    try:
        logging.set_verbosity(logging.ERROR)  # as the command does
        assert processes.stop_if_one_is_lost(lambda: printed.append(logging.level_error()) or 0) == 0
    finally:
        logging.set_verbosity(before)
    assert printed == [False]


def test_importing_the_runners_leaves_jax_to_be_set_up_by_use_devices():
    """XLA_FLAGS and other processes count before the first array: JAX refuses another number of devices after it."""
    program = (
        "import ltu_jax.commands.run, ltu_jax.commands.request, jax;"
        "jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    assert done.stdout.split() == ["3"], done.stderr[-500:]
