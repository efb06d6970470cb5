"""Every row has the same number of finished trials, on seeds of their own, whatever stopped the search in between."""

import contextlib
import inspect
import json
import math
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

import optuna
import pytest
import refused
import toy

from ltu_jax import tune
from ltu_jax.files import locked, write_whole
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import grid
from ltu_jax.sweeping.grid import Row, Sweep, cells
from ltu_jax.sweeping.pool import Pool
from ltu_jax.training import steps

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = str(ROOT / "experiments" / "configs" / "digits.py")
RATE = {"method.learning_rate": (1e-5, 0.1, "log")}


def sweep(*rows, **changes):
    return Sweep(**{"config": DIGITS, "rows": rows, "seeds": (0, 1), "tuning_seeds": (10, 11), **changes})


ROWS = (
    Row("FT", "finetune", {"method.learning_rate": 0.02}, space=RATE),
    Row("GA", "gradient_ascent", space={"method.epochs": (1.0, 9.0), "method.batch_size": (8, 600)}),
    Row("RandL", "random_label", space={**RATE, "method.relabel_when": ["once", "epoch", "batch"]}),
    Row("SSD", "ssd"),
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which jobs run at once in this process, by the toy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pool, "run", run_toy)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "toy.log"))
    return tmp_path


def run_toy(pool, label, jobs, finished=lambda job: None):
    for job in jobs:
        with pool.log(job.slug).open("w") as log, contextlib.redirect_stdout(log):
            try:
                status = toy.main(job.command[3:])
            except KeyError:
                print("Traceback\nKeyError: 'a fault of the program'")
                status = 1
        write_whole(pool.log(job.slug).with_suffix(".json"), json.dumps({"status": status, "seconds": 2.0}))
        finished(job)


def run(monkeypatch, *rows, arguments=(), out="out/tuned.json", **changes):
    monkeypatch.setattr(tune, "load_sweep", lambda path: sweep(*(rows or ROWS), **changes))
    return tune.main(["file.py", "--out", out, "--trials", "5", *arguments])


def tuned(out="out/tuned.json"):
    return json.loads(pathlib.Path(out).read_text())


def ended(here):
    events = [json.loads(line) for line in (here / "toy.log").read_text().splitlines()]
    return [event["name"] for event in events if event["event"] == "end" and "prepare" not in event["name"]]


def test_every_row_with_a_space_has_the_same_number_of_trials_its_own_settings_first(here, monkeypatch):
    assert run(monkeypatch) == 0
    rows = tuned()["rows"]
    assert {label: len(row["search"]) for label, row in rows.items()} == {"FT": 5, "GA": 5, "RandL": 5}
    assert rows["FT"]["search"][0]["settings"] == {"method.learning_rate": 0.02}
    assert rows["GA"]["search"][0]["settings"] == {"method.epochs": 5.0, "method.batch_size": 256}  # the presets
    assert len(ended(here)) == len(set(ended(here))) == 3 * 5 * 2


@pytest.mark.parametrize(
    ("lock", "flag", "arguments"),
    [("out/tuned.json.lock", "--out", ["--runs", "elsewhere"]), ("out/tuned.search.lock", "--runs", [])],
)
def test_a_second_search_with_the_same_file_or_journal_is_refused(here, monkeypatch, lock, flag, arguments):
    with locked(here / lock), pytest.raises(ConfigError, match=f"{flag}: .* is in use by another process"):
        run(monkeypatch, arguments=arguments)
    assert not (here / "toy.log").exists() and not (here / "out" / "tuned.json").exists()
    assert run(monkeypatch, ROWS[0]) == 0 and not list(here.rglob("*.lock"))


@pytest.mark.smoke
def test_settings_stay_inside_the_space_and_whole_numbers_stay_whole(here, monkeypatch):
    assert run(monkeypatch) == 0
    rows = {label: [trial["settings"] for trial in row["search"]] for label, row in tuned()["rows"].items()}
    assert all(1e-5 <= s["method.learning_rate"] <= 0.1 for s in rows["FT"] + rows["RandL"])
    assert all(type(s["method.batch_size"]) is int and 8 <= s["method.batch_size"] <= 600 for s in rows["GA"])
    assert all(type(s["method.epochs"]) is float and 1 <= s["method.epochs"] <= 9 for s in rows["GA"])
    assert {s["method.relabel_when"] for s in rows["RandL"]} <= {"once", "epoch", "batch"}
    assert len({s["method.learning_rate"] for s in rows["FT"]}) == 5


def gap_by_seed(workdir, learning_rate):
    """Nineteen times as large at seed 11 as at seed 10."""
    gap = abs(math.log10(learning_rate) + 3) * (19 if "seed11" in workdir.name else 1)
    scores = {"ua": gap, "ra": 90.0, "ta": 80.0, "mi": 20.0}
    workdir.mkdir(parents=True)
    result = {"scores": scores, "gap": {"mean": gap}, "provenance": {"commit": "0123", "device": "CPU"}}
    (workdir / "result.json").write_text(json.dumps(result))


def test_the_best_settings_have_the_smallest_mean_gap_over_the_tuning_seeds(here, monkeypatch):
    monkeypatch.setattr(toy, "write_result", gap_by_seed)
    assert run(monkeypatch, ROWS[0]) == 0
    row, gaps = tuned()["rows"]["FT"], []
    for trial in row["search"]:
        expected = 10 * abs(math.log10(trial["settings"]["method.learning_rate"]) + 3)  # the mean of 1 and 19 times
        assert trial["gap"] == pytest.approx(expected) and trial["scores"]["ua"] == pytest.approx(expected)
        assert trial["scores"]["ta"] == 80.0 and trial["seconds"] == 4.0
        gaps.append((expected, trial["settings"]))
    assert (row["gap"], row["best"]) == (
        pytest.approx(min(gaps, key=lambda g: g[0])[0]),
        min(gaps, key=lambda g: g[0])[1],
    )
    assert tuned()["tuning_seeds"] == [10, 11] and tuned()["trials"] == 5
    assert tuned()["provenance"]["commit"] == "0123" and tuned()["provenance"]["device"] == "CPU"


def test_a_trial_that_falls_behind_is_given_up_before_its_last_seed_and_is_never_the_best(here, monkeypatch):
    monkeypatch.setattr(toy, "write_result", gap_by_seed)
    assert run(monkeypatch, ROWS[0], arguments=("--prune", "--trials", "16")) == 0
    row, whole, first_of_best = tuned()["rows"]["FT"], [], []
    for trial in row["search"]:
        first = abs(math.log10(trial["settings"]["method.learning_rate"]) + 3)  # the gap at seed 10
        if whole and first > min(whole):
            assert (trial["gap"], trial["given_up_after_seeds"], trial["seconds"]) == (None, 1, 2.0)
        else:
            assert trial["gap"] == pytest.approx(10 * first)
            whole.append(10 * first)
            first_of_best.append(first)
    # The made-up search holds both kinds, and one that is behind the best so far at seed 10 and goes on.
    assert len(row["search"]) == 16 and 1 < len(whole) < 16
    assert any(first > min(first_of_best[:i]) for i, first in enumerate(first_of_best) if i)
    assert row["gap"] == pytest.approx(min(whole))
    assert len(ended(here)) == 16 + len(whole)


def lucky_at_first(workdir, learning_rate):
    """One rate is near at seed 10 and far at seed 11; all others are in between at both."""
    steady = 5 + abs(math.log10(learning_rate) + 3)
    gap = steady if learning_rate != 0.02 else 1.0 if "seed10" in workdir.name else 50.0
    scores = {"ua": gap, "ra": 90.0, "ta": 80.0, "mi": 20.0}
    workdir.mkdir(parents=True)
    result = {"scores": scores, "gap": {"mean": gap}, "provenance": {"commit": "0123", "device": "CPU"}}
    (workdir / "result.json").write_text(json.dumps(result))


def test_one_that_was_lucky_on_the_first_seed_does_not_have_steadier_ones_given_up(here, monkeypatch):
    monkeypatch.setattr(toy, "write_result", lucky_at_first)
    assert run(monkeypatch, ROWS[0], arguments=("--prune", "--trials", "3")) == 0
    row = tuned()["rows"]["FT"]
    assert row["search"][0]["gap"] == 25.5 and row["search"][1]["gap"] is not None
    assert row["gap"] < 10 and row["best"]["method.learning_rate"] != 0.02


@pytest.mark.slow
def test_a_search_learns_from_its_trials(here, monkeypatch):
    assert run(monkeypatch, ROWS[0], arguments=("--trials", "24")) == 0
    gaps = [trial["gap"] for trial in tuned()["rows"]["FT"]["search"]]
    # A random rate of 1e-5 .. 1e-1 misses 1e-3 by one power of ten on average.
    assert statistics.mean(gaps[12:]) < 0.75


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stopped_after", "arguments"), [(1, ()), (4, ()), (9, ()), (1, ["--prune"]), (9, ["--prune"])]
)
def test_a_search_that_was_stopped_ends_as_one_that_was_not(here, monkeypatch, stopped_after, arguments):
    assert run(monkeypatch, out="whole/tuned.json", arguments=arguments) == 0
    runs = len(ended(here))
    assert runs == 3 * 5 * 2 or arguments
    (here / "toy.log").unlink()
    left = [stopped_after]

    def stop_in_time(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments)

    whole = toy.main
    monkeypatch.setattr(toy, "main", lambda argv: whole(argv) if "--prepare" in argv else stop_in_time(argv))
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, arguments=arguments)
    monkeypatch.setattr(toy, "main", whole)
    assert run(monkeypatch, arguments=arguments) == 0
    assert tuned()["rows"] == tuned("whole/tuned.json")["rows"]
    assert len(ended(here)) == len(set(ended(here))) == runs
    assert run(monkeypatch, arguments=arguments) == 0  # nothing is left to do
    assert len(ended(here)) == runs


def test_a_search_stopped_while_a_trial_is_drawn_draws_it_again(here, monkeypatch):
    def stop_half_way(study, distributions):
        ask(study)
        raise KeyboardInterrupt

    ask = optuna.Study.ask
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "ask", stop_half_way)
        run(monkeypatch, ROWS[0])
    assert run(monkeypatch, ROWS[0]) == 0
    search = tuned()["rows"]["FT"]["search"]
    assert len(search) == 5 and search[0]["settings"] == {"method.learning_rate": 0.02}


def test_more_trials_go_on_from_those_that_are_there(here, monkeypatch):
    assert run(monkeypatch, ROWS[0], arguments=("--trials", "3")) == 0
    first = tuned()["rows"]["FT"]["search"]
    assert run(monkeypatch, ROWS[0], arguments=("--trials", "6")) == 0
    assert tuned()["rows"]["FT"]["search"][:3] == first and len(ended(here)) == 6 * 2
    # The same number for every row: what was tried beyond it does not count.
    assert run(monkeypatch, ROWS[0], arguments=("--trials", "2")) == 0
    assert tuned()["rows"]["FT"]["search"] == first[:2]


def test_a_run_that_diverges_is_a_finished_trial_and_never_the_best(here, monkeypatch):
    def diverges(argv):
        rates = [float(word.partition("=")[2]) for word in argv if "learning_rate" in word]
        if "--prepare" not in argv and rates[0] > 0.015:
            print("error: loss not finite in steps 1..2")
            return 1
        return whole(argv)

    whole = toy.main
    monkeypatch.setattr(toy, "main", diverges)
    assert run(monkeypatch, ROWS[0], arguments=("--trials", "8")) == 0
    row = tuned()["rows"]["FT"]
    assert len(row["search"]) == 8 and row["search"][0]["gap"] is None and row["search"][0]["diverged"]
    assert row["best"]["method.learning_rate"] <= 0.015 and math.isfinite(row["gap"])


def test_the_program_says_in_these_words_that_it_diverged(here):
    raised = [line for line in inspect.getsource(steps).splitlines() if "not finite in steps" in line]
    assert raised
    job = grid.Job("a", [])
    (here / "logs").mkdir()
    for text, status, expected in ((raised[0], 1, True), (raised[0], 0, False), ("error: cannot be read", 1, False)):
        (here / "logs" / "a.txt").write_text(f"{text}\n\n")
        (here / "logs" / "a.json").write_text(json.dumps({"status": status, "seconds": 1.0}))
        assert tune.diverged(Pool(here, 1), job) is expected


def test_a_row_whose_every_trial_diverges_is_reported_and_the_others_go_on(here, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAILS", "finetune")
    assert run(monkeypatch) == 1
    assert "failed: FT: every trial diverged" in capsys.readouterr().err
    assert set(tuned()["rows"]) == {"GA", "RandL"}


@pytest.mark.slow
def test_a_crash_is_no_trial_and_is_tried_again(here, monkeypatch, capsys):
    monkeypatch.setenv("TOY_CRASHES", "finetune")
    assert run(monkeypatch) == 1
    assert "failed: FT: KeyError: 'a fault of the program'" in capsys.readouterr().err
    assert set(tuned()["rows"]) == {"GA", "RandL"}
    monkeypatch.delenv("TOY_CRASHES")
    assert run(monkeypatch) == 0
    assert {label: len(row["search"]) for label, row in tuned()["rows"].items()} == {"GA": 5, "RandL": 5, "FT": 5}
    assert tuned()["rows"]["FT"]["search"][0]["settings"] == {"method.learning_rate": 0.02}


def test_rows_tuned_one_after_the_other_stand_in_one_file_and_a_sweep_takes_their_best(here, monkeypatch):
    assert run(monkeypatch, arguments=("--rows", "FT,GA")) == 0
    assert run(monkeypatch, arguments=("--rows", "RandL")) == 0
    assert set(tuned()["rows"]) == {"FT", "GA", "RandL"}
    made = cells(sweep(*ROWS, tuned="out/tuned.json"), pathlib.Path("cells"), pathlib.Path("cache"))
    best = {label: row["best"] for label, row in tuned()["rows"].items()}
    assert made[0].config.method.learning_rate == best["FT"]["method.learning_rate"]
    assert made[2].config.method.batch_size == best["GA"]["method.batch_size"]
    assert made[4].config.method.relabel_when == best["RandL"]["method.relabel_when"]


def test_tuning_runs_on_the_tuning_seeds_alone(here, monkeypatch):
    changes = {"remain_fractions": (1.0, 0.1), "forget_fractions": (0.1, 0.5)}
    ltu = Row("LTU", "ltu", remain_fraction=0.3, space=RATE)
    assert run(monkeypatch, *ROWS, ltu, **changes) == 0
    assert len(ended(here)) == 4 * 5 * 2
    for name in ended(here):
        assert ("-forget0.1-rho0.3-" if name.startswith("ltu") else "-forget0.1-rho1-") in name
        assert "-seed10-" in name or "-seed11-" in name


@pytest.mark.parametrize(
    ("rows", "changes", "arguments", "named"),
    [
        (ROWS, {"tuning_seeds": ()}, (), "Sweep.tuning_seeds"),
        (ROWS, {"tuning_seeds": (1, 2)}, (), "Sweep.tuning_seeds: split seed 1"),
        (ROWS[3:], {}, (), "Row.space"),
        (ROWS, {}, ("--rows", "FTT"), "did you mean 'FT'"),
        (ROWS, {}, ("--rows", "SSD"), "--rows: 'SSD'"),
        (ROWS, {}, ("--trials", "0"), "--trials: 0"),
        (ROWS, {"settings": {"evaluation.num_retrain": 0}}, (), "num_retrain"),
        ([Row("FT", "finetune", {"method.learning_rate": 0.5}, space=RATE)], {}, (), "0.5 is not in its space"),
        ([Row("FT", "finetune", space={"method.rate": (0.0, 1.0)})], {}, (), "method.rate"),
        ([Row("FT", "finetune", space={"method.momentum": (0.0, 2.0)})], {}, (), "method.momentum: 2.0"),
        ([Row("RandL", "random_label", space={"method.relabel_when": ["onec"]})], {}, (), "'onec'"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(here, monkeypatch, rows, changes, arguments, named):
    with pytest.raises(ConfigError, match=named) as caught:
        run(monkeypatch, *rows, arguments=arguments, **changes)
    assert "\n" not in str(caught.value) and "allowed: " in str(caught.value)
    assert not list(here.rglob("trials")) and not list(here.rglob("*.txt"))


def test_help_and_a_mistake_wait_for_neither_jax_nor_optuna(tmp_path):
    shown = refused.command("ltu_jax.tune", tmp_path, "--help")
    assert shown.returncode == 0 and "--prune" in shown.stdout and not refused.imports(shown, "jax", "optuna")
    line, done = refused.refusal("ltu_jax.tune", tmp_path, "nowhere.py", "--out", "tuned.json")
    assert line.startswith("error: FILE: 'nowhere.py' cannot be read") and not refused.imports(done, "jax", "optuna")


@pytest.mark.slow
def test_as_a_program_it_leaves_the_runs_where_it_is_told(tmp_path, monkeypatch):
    (tmp_path / "file.py").write_text(
        "from ltu_jax.sweeping import Row, Sweep\n"
        f"def get_sweep(): return Sweep({DIGITS!r}, [Row('FT', 'finetune', space={RATE!r})], (0,), tuning_seeds=(5,))\n"
    )
    program = str(pathlib.Path(toy.__file__))
    code = (
        "from ltu_jax import tune; from ltu_jax.sweeping import grid, program;"
        f" grid.PROGRAM = ('python', {program!r}); program.start(tune.main)"
    )
    arguments = ["file.py", "--out", "kept/tuned.json", "--runs", "runs", "--trials", "2"]
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, cwd=tmp_path, env=os.environ, check=True, capture_output=True)
    record = tuned(tmp_path / "kept" / "tuned.json")
    assert len(record["rows"]["FT"]["search"]) == 2
    assert record["provenance"]["command"] == shlex.join(["python", "-m", "ltu_jax.tune", *arguments])
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["tuned.json"]
    assert grid.PROGRAM[0] == "python"
