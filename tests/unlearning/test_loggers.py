"""Rows of a run are told as they are made: to a file of times, to TensorBoard, to a function."""

import json
import subprocess
import sys

import jax
import mlp
import numpy as np
import pytest

from ltu_jax.methods.base import Method
from ltu_jax.setting import ConfigError
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Splits, make_state
from ltu_jax.unlearning import loggers
from ltu_jax.unlearning.loop import run_unlearning


def row(step, **more):
    return {"step": step, "loss": 0.5 / step, "seconds": 2.0 * step, **more}


def written(folder):
    return [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]


def test_each_row_is_told_once_with_the_seconds_so_far():
    source, empty, told = mlp.toy_source(), np.arange(0), []
    splits = Splits(np.arange(10), np.arange(10, 50), np.arange(60, 90), np.arange(120, 160), empty, empty)
    spec = mlp.build(None, 4, (4, 4, 3))
    state = make_state(spec.apply_fn, *spec.init(jax.random.key(0)), SGD, jax.random.key(0))
    step = lambda state, context, draw: (state, {"x": 1.0})  # noqa: E731
    method = Method(lambda key, state, visible: (state, ()), lambda *args: (), step, lambda visible: 4)
    _, history = run_unlearning(method, state, splits, source, log_every=2, log=told.append)
    assert [{name: one[name] for name in ("step", "x")} for one in told] == history.rows
    assert "seconds" not in history.rows[0]
    seconds = [one["seconds"] for one in told]
    assert 0 < seconds[0] <= seconds[1] == pytest.approx(60 * history.ut_minutes)  # steps of one call end together


def test_times_of_steps_that_are_taken_again_are_written_once(tmp_path):
    for steps in ((1, 2, 3), (2, 3, 4)):  # stopped after 3, and gone on with from 1
        log = loggers.times(tmp_path)
        for step in steps:
            log(row(step))
    assert written(tmp_path) == [{"step": step, "seconds": 2.0 * step} for step in (1, 2, 3, 4)]


def test_a_logger_of_ones_own_is_found_before_anything_is_trained():
    assert loggers.find_logger(None) is None
    assert loggers.find_logger("test_loggers:row") is row
    with pytest.raises(ConfigError, match="^config.logger: 'test_loggers:nothing' cannot be imported"):
        loggers.find_logger("test_loggers:nothing")


def test_without_its_package_tensorboard_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="^config.logger: 'tensorboard' needs a package; .* pip install 'ltu-jax.tens"
    ):
        loggers.find_logger("tensorboard")


def test_tensorboard_has_each_number_at_its_step(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    code = "import pathlib, sys; from ltu_jax.unlearning.loggers import find_logger"
    code += "; log = find_logger('tensorboard')(pathlib.Path(sys.argv[1]), {'seed': 1})"
    code += "; log({'step': 1, 'loss': 0.5, 'seconds': 2.0})"
    code += "; log({'step': 2, 'loss': 0.25, 'seconds': 4.0, 'eval/distance': 3.0})"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)  # all of it is there once it ended
    [file] = (tmp_path / "tensorboard").iterdir()
    data, found = file.read_bytes(), {}
    while data:  # length u64, its checksum, the event, its checksum
        size = int.from_bytes(data[:8], "little")
        event, data = Event.FromString(data[12 : 12 + size]), data[16 + size :]
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    wanted = {("loss", 1): 0.5, ("loss", 2): 0.25, ("seconds", 1): 2.0, ("seconds", 2): 4.0, ("eval/distance", 2): 3.0}
    assert {key: value for key, value in found.items() if not key[0].startswith("config")} == wanted
