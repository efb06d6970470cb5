"""A sweep runs every cell once, goes on after whatever stopped it, and leaves nothing running."""

import collections
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import refused

from ltu_jax import sweep
from ltu_jax.files import locked
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import grid
from ltu_jax.sweeping.pool import Pool

ROOT = pathlib.Path(__file__).parents[1]
TOY = str(pathlib.Path(__file__).with_name("toy.py"))
FILE = """
from ltu_jax.sweeping import Row, Sweep

ATTACKERS = {"method.forget_by": "attackers"}

def get_sweep():
    ltu = Row("LTU", "ltu", ATTACKERS | {LTU})
    rows = [Row("FT", "finetune"), Row("GA", "gradient_ascent"), ltu, Row("SSD", "ssd")]
    return Sweep({CONFIG!r}, rows[:{ROWS}], {SEEDS})
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a sweep file, where the program is a toy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "PROGRAM", ("python", TOY))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "toy.log"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    write_file()
    return tmp_path


def write_file(ltu="{}", seeds="(0,)", rows="4"):
    text = FILE.replace("{CONFIG!r}", repr(str(ROOT / "experiments" / "configs" / "digits.py")))
    pathlib.Path("file.py").write_text(text.replace("{LTU}", ltu).replace("{SEEDS}", seeds).replace("{ROWS}", rows))


def events(here, kind="end"):
    path = here / "toy.log"
    logged = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [event for event in logged if event["event"] == kind]


def cells_of(logged):
    return [event for event in logged if "prepare" not in event["name"]]


def ended(here):
    return collections.Counter(event["name"] for event in events(here))


def lines(here):
    return [json.loads(line) for line in (here / "out" / "results.jsonl").read_text().splitlines()]


def run(*arguments):
    return sweep.main(["file.py", "--out", "out", *arguments])


def start(*arguments, **environment):
    """Starts the program as a process."""
    code = (
        "from ltu_jax import sweep; from ltu_jax.sweeping import grid, program;"
        f" grid.PROGRAM = ('python', {TOY!r}); program.start(sweep.main)"
    )
    command = [sys.executable, "-c", code, "file.py", "--out", "out", *arguments]
    with open("stderr.txt", "w") as stderr:
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.Popen(command, env=variables, stderr=stderr, start_new_session=True)


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(event):
    """Whether the process of an event runs; one that has ended and waits to be reaped does not."""
    try:
        os.kill(event["pid"], 0)
        stat = pathlib.Path(f"/proc/{event['pid']}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_failed_cell_is_reported_stops_nothing_and_is_tried_again(here, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAILS", "gradient_ascent")
    assert run("--workers", "2") == 1
    errors = capsys.readouterr().err
    failed = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1 and "ga-seed0-" in failed[0] and "error: loss not finite in steps 1..2" in failed[0]
    log = pathlib.Path(failed[0].rpartition("(")[2].rstrip(")"))
    assert "error: loss not finite in steps 1..2" in log.read_text() and log.read_text().startswith("$ python ")
    assert [line["label"] for line in lines(here)] == ["FT", "LTU", "SSD"]

    monkeypatch.delenv("TOY_FAILS")
    assert run("--workers", "2") == 0
    assert [line["label"] for line in lines(here)] == ["FT", "GA", "LTU", "SSD"]
    assert set(ended(here).values()) == {1} and len(ended(here)) == 5  # four cells and their problem
    assert events(here)[0]["name"] == "prepare ltu 0"
    capsys.readouterr()
    assert run("--workers", "2") == 0
    assert capsys.readouterr().err == ""  # no progress: nothing is left to run
    for line in lines(here):
        folder = pathlib.Path(line["command"].split("--workdir ")[1].split()[0])
        assert line["result"] == json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_no_more_jobs_run_than_workers_each_on_its_own_cores(here, monkeypatch):
    monkeypatch.setenv("TOY_SECONDS", "1.5")
    assert run("--workers", "2") == 0
    logged = cells_of(json.loads(line) for line in (here / "toy.log").read_text().splitlines())
    running, most = {}, 0
    for event in logged:
        if event["event"] == "start":
            assert not any(set(event["cores"]) & set(cores) for cores in running.values()) or os.cpu_count() == 1
            running[event["pid"]] = event["cores"]
        else:
            del running[event["pid"]]
        most = max(most, len(running))
    assert most == 2


def test_a_second_sweep_into_one_folder_is_refused_and_runs_nothing(here):
    with locked(here / "out" / "lock"), pytest.raises(ConfigError, match="--out: .* is in use by another process"):
        run()
    assert not (here / "out" / "sweep.json").exists() and not (here / "toy.log").exists()


@pytest.mark.slow
def test_jobs_see_the_gpus_that_the_sweep_sees(here, monkeypatch):
    write_file(rows="1")
    assert run() == 0
    assert {event["cuda"] for event in events(here)} == {None}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    write_file(rows="1", seeds="(1,)")
    assert run() == 0
    assert {event["cuda"] for event in events(here)} == {None, "3"}


@pytest.mark.slow
def test_a_sweep_killed_half_way_goes_on_and_runs_nothing_twice(here):
    write_file(seeds="(0, 1)", rows="3")
    process = start("--workers", "2", TOY_SECONDS="1")
    wait_until(lambda: len(cells_of(events(here))) >= 2 and len(cells_of(events(here, "start"))) > 2)
    process.kill()
    process.wait()
    assert len(lines(here)) < 6
    assert run("--workers", "2") == 0
    assert len(ended(here)) == 2 + 6 and set(ended(here).values()) == {1}
    killed = (here / "out" / "results.jsonl").read_text()
    assert sweep.main(["file.py", "--out", "whole"]) == 0
    assert killed.replace("out/", "whole/") == (here / "whole" / "results.jsonl").read_text()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_sweep_that_is_stopped_leaves_nothing_running_and_goes_on(here, number):
    process = start("--workers", "2", TOY_SECONDS="60")
    wait_until(lambda: cells_of(events(here, "start")))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    errors = pathlib.Path("stderr.txt").read_text()
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert not any(alive(event) for event in events(here, "start"))
    assert not list((here / "out").glob("jobs-*"))
    assert run("--workers", "4") == 0
    assert set(ended(here).values()) == {1}


def test_a_cell_that_waits_for_one_left_behind_can_be_stopped(here):
    write_file(rows="1")
    (here / "out" / "logs").mkdir(parents=True)
    file, runs, cache = map(pathlib.Path, ("file.py", "out/cells", "out/cache"))
    slug = grid.cells(grid.load_sweep(file), runs, cache)[0].job.slug
    with (here / "out" / "logs" / f"{slug}.txt").open("w") as left_behind:
        fcntl.flock(left_behind, fcntl.LOCK_EX)
        process = start()
        wait_until(lambda: ended(here) and len(list((here / "out").glob(f"jobs-*/{slug}.txt"))) == 1)
        time.sleep(1)
        process.terminate()
        assert process.wait(timeout=30) == 143
    assert not cells_of(events(here, "start"))


@pytest.mark.slow
def test_other_settings_run_anew_and_the_rest_is_kept(here):
    assert run("--workers", "4") == 0
    first = lines(here)
    write_file(ltu="{'method.learning_rate': 0.1}")
    assert run("--workers", "4") == 0
    second = lines(here)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, True]
    assert second[2]["result"]["gap"]["mean"] == pytest.approx(2)  # the toy's |log10(0.1) + 3|
    assert sum(ended(here).values()) == 5 + 1


@pytest.mark.slow
def test_what_is_gone_is_made_again(here):
    write_file(rows="2")
    assert run("--workers", "2") == 0
    gone = json.loads((here / "out" / "sweep.json").read_text())["cells"][1]
    (here / "out" / "cells" / gone["slug"] / "result.json").unlink()
    assert run("--workers", "2") == 0
    assert ended(here)[gone["slug"]] == 2 and sum(ended(here).values()) == 3 + 1
    (here / "out" / "cells" / gone["slug"] / "result.json").unlink()
    shutil.rmtree(here / "out" / "cache")
    assert run("--workers", "2") == 0
    assert ended(here)["prepare finetune 0"] == 2 and len(lines(here)) == 2


def test_cells_whose_problem_failed_do_not_run(here, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAILS", "prepare ltu")  # it is the LTU row that asks for most
    assert run() == 1
    errors = capsys.readouterr().err
    assert errors.count("failed: ") == 4 and errors.count("problem-seed0-") == 4
    assert not ended(here) and lines(here) == []


def test_a_dry_run_prints_the_commands_and_writes_nothing(here, capsys):
    assert run("--dry_run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 and "--prepare" in printed[0]
    assert sorted(path.name for path in here.iterdir()) == ["file.py"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["file.py"], "--out"),
        (["file.py", "--out", "out", "--workers", "0"], "--workers: 0"),
        (["file.py", "--out", "out", "--cluster", "cloud"], "cloud"),
        (["nothing.py", "--out", "out"], "nothing.py"),
        (["file.py", "--out", "file.py"], "--out: 'file.py'"),
        (["file.py", "--out", "out", "--cluster", "slurm"], "--cluster slurm.*srun"),
        (["file.py", "--out", "out", "--slurm", "partition"], "--slurm: 'partition'"),
        (["file.py", "--out", "out", "--slurm", "partition=gpu"], "--slurm: 'partition=gpu', but --cluster is 'local'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(here, arguments, named):
    command = [sys.executable, "-m", "ltu_jax.sweep", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": ""})
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(named, line)
    assert not (here / "out" / "cells").exists()


@pytest.mark.parametrize(
    "field", ["method.name", "model.name", "data.name", "logger", "evaluation.measure", "attackers.names"]
)
def test_what_is_ones_own_and_cannot_be_imported_is_told_before_anything_runs(here, field, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "mine_in_the_folder.py").write_text("def build(*given):\n    return None\n")
    named = lambda name: repr({field: ("sorted", name) if field == "attackers.names" else name})  # noqa: E731
    write_file(ltu=named("mine_in_the_folder:build"), rows="3")
    assert len(grid.cells(grid.load_sweep(pathlib.Path("file.py")), here / "runs", here / "cache")) == 3
    write_file(ltu=named("mine_in_the_folder:biuld"), rows="3")
    with pytest.raises(ConfigError, match=f"^row 'LTU': config.{field}: 'mine_in_the_folder:biuld' cannot be imp"):
        run()
    assert not (here / "out").exists() and not events(here)


def test_help_and_a_mistake_do_not_wait_for_jax(here):
    shown = refused.command("ltu_jax.sweep", here, "--help")
    assert shown.returncode == 0 and "--dry_run" in shown.stdout and not refused.imports(shown, "jax", "submitit")
    write_file(ltu="{'method.learning_rat': 0.1}")
    line, done = refused.refusal("ltu_jax.sweep", here, "file.py", "--out", "out")
    assert line.startswith("error: row 'LTU': method.learning_rat: no such field; allowed: ")
    assert not refused.imports(done, "jax", "submitit")


TWO_ROWS = """
from ltu_jax.sweeping import Row, Sweep

SMALL = {
    "data.train_size": 60, "data.test_size": 40, "model.width": 2, "training.epochs": 1, "evaluation.num_retrain": 1,
}

def get_sweep():
    rows = [Row("FT", "finetune"), Row("Mine", "ltu", {"method.name": "mine:build"})]
    return Sweep("digits", rows, (0,), remain_fractions=(1.0,), settings=SMALL)
"""


@pytest.mark.slow
def test_two_rows_are_run_and_set_in_a_table_by_the_commands_alone(tmp_path):
    """In a folder of one's own, as from an installed package, with a method of one's own and no file of a checkout."""
    (tmp_path / "two.py").write_text(TWO_ROWS)
    (tmp_path / "mine.py").write_text("import ltu_jax\n\nbuild = ltu_jax.METHODS['ltu']\n")

    def command(name, *words):
        program = [sys.executable, "-m", f"ltu_jax.{name}", *words]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert command("sweep", "two.py", "--out", "out").startswith("2 of 2 cells: out/results.jsonl")
    table = command("tables", "1", "out/results.jsonl", "--paper")
    assert "| FT, rho 1 |" in table and "| Mine, rho 1 |" in table and "The paper's own Table 1, top" in table
    commands = [line for line in table.splitlines() if "--config digits:" in line]
    assert len(commands) == 2 and all(" -m ltu_jax.unlearn " in line for line in commands)


def test_only_slurm_needs_submitit(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    write_file(rows="1")
    assert run("--workers", "1") == 0 and [line["label"] for line in lines(here)] == ["FT"]
    with pytest.raises(ConfigError, match="^--cluster: 'slurm' needs the package submitit; allowed: after pip install"):
        run("--cluster", "slurm")


SLURM = {
    # What sbatch is given is kept; the tasks of an array all start at once.
    "sbatch": """
cp "$1" "$(dirname "$0")/submitted-$$"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
export SLURM_JOB_ID=$$ SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
[ -n "$last" ] && export SLURM_ARRAY_JOB_ID=$$
for task in $(seq 0 ${last:-0}); do
  SLURM_ARRAY_TASK_ID=$task bash "$(dirname "$0")/submitted-$$" >/dev/null 2>&1 &
done
echo "Submitted batch job $$"
""",
    "srun": 'while [ "${1#-}" != "$1" ]; do case $1 in --output|--error) shift;; esac; shift; done; exec "$@"',
    "sacct": "echo 'JobID|State|NodeList'",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stand-ins for Slurm's commands, which run everything at once."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in SLURM.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_slurm_gets_the_cells_as_one_job_array_of_so_many_at_a_time(here, slurm):
    assert run("--workers", "2", "--cluster", "slurm", "--slurm", "partition=gpu", "gpus_per_node=1") == 0
    assert [line["label"] for line in lines(here)] == ["FT", "GA", "LTU", "SSD"]
    assert set(ended(here).values()) == {1}
    submitted = sorted((path.read_text() for path in slurm.glob("submitted-*")), key=len)
    assert len(submitted) == 2 and "--array" not in submitted[0]  # the problem, then the cells
    assert "#SBATCH --array=0-3%2" in submitted[1]
    assert all("#SBATCH --partition=gpu" in text and "#SBATCH --gpus-per-node=1" in text for text in submitted)
    with pytest.raises(ConfigError, match="--cluster slurm: .*partitions"):
        Pool(here, 2, "slurm", ["partitions=gpu"])
