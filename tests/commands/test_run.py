"""Runs together: what becomes of the others where one fails; whole commands are in ``test_end_to_end.py``."""

import json
import pathlib
import types

import pytest

from ltu_jax.commands import run
from ltu_jax.config import Config
from ltu_jax.files import DiskFullError
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import CheckpointError


@pytest.fixture
def failing(monkeypatch):
    """Runs whose training or unlearning fails where one called b takes part; what was prepared and what was run."""
    prepared, done, fails_in = [], [], ["run"]

    def prepare(runs, group, at_once, options, progress):
        prepared.append("".join(one.workdir.name for one in group))
        if fails_in[0] == "prepare" and "b" in prepared[-1]:
            raise FloatingPointError("training not finite")
        return [object()] * len(runs)

    def run_or_diverge(runs, problems, started, options, progress):
        if fails_in[0] == "run" and any(one.workdir.name == "b" for one in runs):
            raise FloatingPointError("loss not finite")
        done.extend(one.workdir.name for one in runs)

    monkeypatch.setattr(run, "_prepare", prepare)
    monkeypatch.setattr(run, "_run", run_or_diverge)
    return prepared, done, fails_in


RUNS = [run.Job(None, pathlib.Path(name), None) for name in "abc"]
OPTIONS = types.SimpleNamespace(debug=False, prepare=False)


def test_where_one_of_several_seeds_diverges_the_others_are_run_without_it_from_their_models(failing, capsys):
    prepared, done, _ = failing
    assert not run._attempt(RUNS, RUNS, 3, OPTIONS, None)
    assert done == ["a", "c"] and "error: b: loss not finite" in capsys.readouterr().err
    assert set(prepared) == {"abc"}  # no model is trained again alone
    assert run._attempt(RUNS[:1], RUNS[:1], 3, OPTIONS, None)


def test_where_a_training_diverges_each_trains_its_own(failing, capsys):
    prepared, done, fails_in = failing
    fails_in[0] = "prepare"
    assert not run._attempt(RUNS, RUNS, 3, OPTIONS, None)
    assert prepared == ["abc", "a", "b", "c"] and done == ["a", "c"]
    assert "error: b: training not finite" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["_prepare", "_run"])
@pytest.mark.parametrize("error", [DiskFullError("full"), CheckpointError("damaged")])
def test_where_anything_else_fails_nothing_is_trained_or_run_alone(monkeypatch, capsys, where, error):
    called = []

    def fail(*args):
        called.append(args)
        raise error

    monkeypatch.setattr(run, "_prepare", lambda runs, *rest: [object()] * len(runs))
    monkeypatch.setattr(run, where, fail)
    assert not run._attempt(RUNS, RUNS, 3, OPTIONS, None)
    assert len(called) == 1 and f"error: one of a, b, c: {error}" in capsys.readouterr().err


def test_a_run_that_is_left_of_several_is_prepared_with_those_that_are_done(failing):
    prepared, done, _ = failing
    assert run._attempt([RUNS[2]], RUNS, 3, OPTIONS, None) and run._attempt([], RUNS, 3, OPTIONS, None)
    assert prepared == ["abc"] and done == ["c"]


@pytest.mark.parametrize(("begun", "fits"), [(2, True), (1, False), (None, True)])
def test_a_run_goes_on_with_the_programs_that_it_was_begun_with(tmp_path, begun, fits):
    (tmp_path / "config.json").write_text(json.dumps({"at_once": begun}))
    todo = [run.Job(None, tmp_path, None), run.Job(None, tmp_path / "new", None)]
    if fits:
        return run._check_begun(todo, 2)
    with pytest.raises(ConfigError, match="was begun with 1 models in one program, now it is 2; allowed"):
        run._check_begun(todo, 2)


def make_own_log(workdir, config):
    """A logger of one's own."""
    return lambda row: (workdir / "own.jsonl").write_text(json.dumps([config["seed"], row]))


def test_a_logger_of_ones_own_gets_the_rows_beside_the_file_of_times(tmp_path):
    log = run._log_of(run.Job(Config(seed=7, logger="test_run:make_own_log"), tmp_path, None))
    log({"step": 1, "seconds": 2.5, "loss": 0.5})
    assert json.loads((tmp_path / "own.jsonl").read_text()) == [7, {"step": 1, "seconds": 2.5, "loss": 0.5}]
    assert json.loads((tmp_path / "times.jsonl").read_text())["seconds"] == 2.5


def test_a_logger_that_is_not_there_is_told_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "read_source", lambda config: pytest.fail("the data were read"))
    with pytest.raises(ConfigError, match="^config.logger: 'test_run:nothing' cannot be imported"):
        run._unlearn([(Config(logger="test_run:nothing"), tmp_path)], OPTIONS, None)
