"""Every finished cell of a sweep is audited once, with its own settings; the table has figures, ceiling and floor."""

import json
import pathlib

import pytest

from experiments import audit_sweep
from experiments.sweeps import audits as of_methods
from ltu_jax import sweep
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import grid
from ltu_jax.sweeping.grid import cells, load_sweep

ROOT = pathlib.Path(__file__).parents[2]

TOY = str(ROOT / "tests" / "toy.py")
FILE = """
from ltu_jax.sweeping import Row, Sweep

def get_sweep():
    rows = [Row("FT", "finetune"), Row("GA", "gradient_ascent", {"method.learning_rate": 0.1})]
    return Sweep(%r, rows, (0, 1), settings=%r)
"""
DIGITS = str(ROOT / "experiments" / "configs" / "digits.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a sweep file, where both programs are a toy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "PROGRAM", ("python", TOY))
    monkeypatch.setattr(audit_sweep, "PROGRAM", ("python", TOY))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "toy.log"))
    pathlib.Path("file.py").write_text(FILE % (DIGITS, {}))
    assert sweep.main(["file.py", "--out", "out", "--workers", "1"]) == 0
    return tmp_path


def audited(here):
    logged = [json.loads(line) for line in (here / "toy.log").read_text().splitlines()]
    return [event["name"].split()[1] for event in logged if event["event"] == "end" and event["name"][:6] == "audit "]


def run(*words):
    return audit_sweep.main(["file.py", "--out", "out", "--workers", "1", *words])


def test_each_cell_is_audited_once_a_level_by_the_command_that_made_it(here, capsys):
    assert run() == 0
    names = [
        cell.job.slug for cell in cells(load_sweep(pathlib.Path("file.py")), here / "out/cells", here / "out/cache")
    ]
    assert audited(here) == names
    assert run() == run("--level", "0") == 0 and len(audited(here)) == 4
    lines = [json.loads(line) for line in pathlib.Path("out/audits.jsonl").read_text().splitlines()]
    made = {line["label"]: line for line in map(json.loads, pathlib.Path("out/results.jsonl").read_text().splitlines())}
    assert [line["label"] for line in lines] == ["FT", "FT", "GA", "GA"]
    assert lines[3]["command"].replace(" --level=0", "") == made["GA"]["command"]
    assert lines[0]["audit"]["level"] == 1 and all("details" not in of for of in lines[0]["audit"]["findings"])
    (here / "out" / "cells" / names[2] / "audit.json").unlink()
    assert run() == 0 and audited(here)[4:] == [names[2]]
    capsys.readouterr()
    assert run("--level", "2") == 0 and audited(here)[5:] == names
    assert capsys.readouterr().out.splitlines()[0] == "|  | rmia | iam |"  # canaries were not made


def test_the_table_has_means_over_seeds_with_ceiling_and_floor(here, capsys):
    capsys.readouterr()
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| --- | --- | --- |"
    # rmia .5 and .6, found at one of two seeds; the toy's UA is 10 + |log10(rate) + 3|
    assert lines[2] == "| FT | 0.550 [0.425, 0.800] 1/2 | 11.000 [10.875, 11.250] |"
    assert lines[3] == "| GA | 0.550 [0.425, 0.800] 1/2 | 12.000 [11.875, 12.250] |"
    assert lines[4] == "| original (ceiling) | 0.875 |  |"
    assert lines[5] == "| Retrains (floor) | 0.410 to 0.500 | 0.410 to 0.500 |"


def test_a_cell_without_a_result_or_whose_audit_fails_is_named_and_stops_nothing(here, capsys, monkeypatch):
    *_, last = cells(load_sweep(pathlib.Path("file.py")), here / "out/cells", here / "out/cache")
    (here / last.result).unlink()
    monkeypatch.setenv("TOY_FAILS", "finetune")
    assert run() == 1
    found = capsys.readouterr()
    failed = [line for line in found.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 3 and "error: loss not finite" in failed[0] and "ft-seed0" in failed[0]
    assert "ga-seed1" in failed[2] and "no result.json; ltu_jax.sweep first" in failed[2]
    assert len(audited(here)) == 1 and "| GA | 0.500" in found.out
    monkeypatch.delenv("TOY_FAILS")
    assert run() == 1 and len(audited(here)) == 3


def test_a_dry_run_prints_the_commands_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file.py").write_text(FILE % (DIGITS, {}))
    assert run("--dry_run", "--level", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and not pathlib.Path("out").exists()
    assert f"python -m ltu_jax.audit --config {DIGITS}:finetune --workdir out/cells/ft-seed0-" in lines[0]
    assert lines[0].endswith("--config.seed=0 --level=2") and "--config.method.learning_rate=0.1" in lines[2]
    with pytest.raises(SystemExit):
        run("--level", "3")


def test_methods_have_what_a_search_found_and_see_two_remaining_rows_for_one_to_forget(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    planned = cells(load_sweep(ROOT / "experiments" / "sweeps" / "audits.py"), tmp_path, tmp_path)
    labels = ["Retrain", "LTU", "SalUn", "BadT", "RandL", "Amnesiac (relabel)", "NegGrad+", "FT"]
    assert [cell.label for cell in planned] == [label for label in labels for _ in (0, 1)]
    assert {(c.config.seed, c.config.data.forget_fraction, c.config.data.remain_fraction) for c in planned} == {
        (0, 0.1, 0.3),
        (1, 0.1, 0.3),
    }
    found = json.loads((ROOT / "experiments/results/cifar10_jpeg/tuned.json").read_text())["rows"]
    for cell in planned[4:]:
        method, best = cell.config.method, found[cell.label]["best"]
        assert method.learning_rate == best["method.learning_rate"] and method.batch_size == 100
        both = cell.label not in ("NegGrad+", "FT")
        assert method.remain_per_forget == (2.0 if both else None)
        assert method.epochs == (best["method.epochs"] if both else 10.0)
    assert planned[12].config.method.remain_weight == found["NegGrad+"]["best"]["method.remain_weight"]
    assert not any("config.method" in word for cell in planned[:4] for word in cell.job.command)
    assert of_methods.SHOWN == tuple(labels[2:])


@pytest.mark.slow
def test_a_small_sweep_is_audited_by_the_program_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    small = {"data.train_size": 160, "model.name": "mlp:build", "training.epochs": 5}
    pathlib.Path("file.py").write_text((FILE % (DIGITS, small)).replace("(0, 1)", "(0,)").replace("0.1}", "1e-3}"))
    assert sweep.main(["file.py", "--out", "out", "--workers", "1"]) == 0
    before = {path.name for path in pathlib.Path("out/cache").iterdir()}
    capsys.readouterr()
    assert run("--level", "0") == 0
    assert "held_out" in capsys.readouterr().out.splitlines()[0]
    assert {path.name for path in pathlib.Path("out/cache").iterdir()} == before  # nothing is trained
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(name in lines[0] for name in ("retrain", "relearning", "rmia", "iam", "strata"))
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["FT", "GA", "original (ceiling)", "Retrains (floor)"]
    made = [path.name.rpartition("-")[0] for path in pathlib.Path("out/cache").iterdir()]
    assert (made.count("original"), made.count("retrain"), made.count("traced")) == (1, 3, 1)


def test_a_sweep_that_is_no_sweep_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="FILE"):
        run()
