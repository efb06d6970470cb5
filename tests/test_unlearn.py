"""The command line: a mistake gives one line at once, and nothing is written."""

import json
import os
import re
import subprocess
import sys

import pytest

BAD = {
    "unknown field": (["--config.data.remain_fractoin=0.3"], "config.data.remain_fractoin: no such field; allowed: "),
    "unknown group": (["--config.dta.name=digits"], "config.dta.name: no such field"),
    "wrong type": (["--config.training.epochs=many"], "config.training.epochs: 'many' is no whole number"),
    "wrong bool": (["--config.method.forget=perhaps"], "config.method.forget: 'perhaps' is neither true nor false"),
    "missing file": (["--config=nowhere.py"], "--config: .*nowhere.py.*; allowed: a Python file with get_config"),
    "no get_config": (["--config=empty.py"], "--config: .*get_config.*; allowed: a Python file with get_config"),
    "broken file": (["--config=broken.py"], "--config: .*; allowed: a Python file with get_config"),
    "not a config": (["--config=dict.py"], "--config: 'dict.py': get_config returned dict; allowed: a Python file"),
    "rho 0": (["--config.data.remain_fraction=0"], "config.data.remain_fraction: 0.0 is out of range; allowed: > 0"),
    "rho 1.5": (["--config.data.remain_fraction=1.5"], "config.data.remain_fraction: 1.5 is out of range"),
    "unknown method": (
        ["--config=good.py:ltuu"],
        "--config: method 'ltuu' is unknown; allowed: .*; did you mean 'ltu'",
    ),
    "no number, a method of its own fields": (
        ["--config=good.py:salun", "--config.method.keep_fraction=half"],
        "config.method.keep_fraction: 'half' is no number; allowed: a number",
    ),
    "prepare and dry run": (["--prepare", "--dry_run"], "--prepare: it trains and --dry_run trains nothing; allowed:"),
    "unknown method name": (
        ["--config.method.name=slaun"],
        "config.method.name: 'slaun' is unknown; allowed: .*; did you mean 'salun'",
    ),
    "unknown data set": (["--config.data.name=digit"], "config.data.name: 'digit' .* did you mean 'digits'"),
    "strange id": (
        ["--config.data.forget_kind=ids", "--config.data.forget_ids=ids.txt"],
        "config.data.forget_ids: 1 of 1 ids are not in the training set: 'nobody' .unknown.; allowed: ids of the 900",
    ),
    "no id file": (
        ["--config.data.forget_kind=ids", "--config.data.forget_ids=none.txt"],
        "config.data.forget_ids: 'none.txt' cannot be read .No such file",
    ),
    "workdir under a file": (["--workdir=good.py/run"], "--workdir: 'good.py/run' cannot be made"),
    "unknown flag": (["--wrkdir=x"], "--wrkdir: no such flag; allowed: .*; did you mean 'workdir'"),
    "no samplers": (["--config.method.samplers="], "config.method.samplers: "),
    "own method": (["--config.method.name=no.such:build"], "config.method.name: 'no.such:build' cannot be imported"),
    "field of a file's method": (
        ["--config=good.py", "--config.method.epoch=3"],
        "config.method.epoch: no such field; .*",
    ),
    "files that are no run": (["--workdir=."], "--workdir: '.' holds files that are no run; allowed: a new or empty"),
    "stray word": (["digits"], "argument 'digits' is unexpected"),
    "late config": (["--config.seed=1", "--config=good.py"], "--config: .*; allowed: --config before every"),
    "too many rows": (["--config.data.train_size=5000"], "config.data.train_size: 5000 is more than the"),
    "patch size": (["--config.model.name=vit_micro", "--config.model.patch_size=3"], "config.model.patch_size: 3"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "dict.py").write_text("def get_config(method='ltu'):\n    return {}\n")
    (tmp_path / "good.py").write_text(
        "from ltu_jax.config import Config, method_config\n"
        "def get_config(method='ltu'):\n    return Config(method=method_config(method))\n"
    )
    (tmp_path / "ids.txt").write_text("nobody\n")
    return tmp_path


def command(folder, *args, **env):
    return subprocess.run(
        [sys.executable, "-m", "ltu_jax.unlearn", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


LATE = ("no id file", "too many rows", "patch size", "own method")
"""Noticed only when JAX is there and data are read, seconds each; "strange id" stands for them in the quick suite."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LATE else ()) for n in BAD])
def test_a_mistake_is_one_line_on_standard_error_status_2_and_nothing_written(folder, name):
    args, message = BAD[name]
    before = sorted(folder.rglob("*"))
    done = command(folder, *args)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("reading ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert re.search(message, lines[0]), lines[0]
    after = [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts]
    assert after == before and done.stdout == ""


@pytest.mark.smoke
def test_help_shows_every_field_with_its_default_and_meaning_at_once(folder):
    from ltu_jax import config, setting

    done = command(folder, "--help")
    assert done.returncode == 0 and done.stderr == ""
    for name, _, field in setting.settings(config.Config()):
        assert f"--{name}" in done.stdout and field.metadata["doc"][:40] in " ".join(done.stdout.split())
    assert "--config.data.remain_fraction=0.3" in done.stdout


@pytest.mark.smoke
@pytest.mark.parametrize("word", ["--help", "--config.seed=-1", "--config.data.remain_fractoin=0.3", "--workdir=."])
def test_what_is_answered_at_once_does_not_wait_for_jax(folder, word):
    import_log = command(folder, word, PYTHONPROFILEIMPORTTIME="1").stderr
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", import_log, re.M))
    assert {"absl.flags", "ltu_jax.config"} <= imported and not {"jax", "numpy"} & imported


def test_a_dry_run_prints_the_configuration_and_the_cost_and_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    done = command(folder, "--dry_run", "--config.data.train_size=100", "--config.seed=4")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["config"]["data"]["train_size"] == 100 and found["config"]["seeds"]["split"] == 4
    assert found["rows"]["forget"] == 10 and found["steps"]["original"] > 0 and found["flops"]["unlearning"] > 0
    assert sorted(folder.rglob("*")) == before
