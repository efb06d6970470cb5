"""A sweep file stands for exactly the runs that it says, and a mistake in it is found before anything runs."""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

import pytest

from ltu_jax.setting import ConfigError
from ltu_jax.sweeping.grid import Row, Sweep, cells, load_sweep

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = str(ROOT / "experiments" / "configs" / "digits.py")
OUT, CACHE = pathlib.Path("out/cells"), pathlib.Path("out/cache")


def sweep(**changes):
    rows = [Row("FT", "finetune"), Row("LTU", "ltu", remain_fraction=0.3)]
    return Sweep(**{"config": DIGITS, "rows": rows, "seeds": (0, 1), **changes})


def made(**changes):
    return cells(sweep(**changes), OUT, CACHE)


def fields_of(cell):
    config = cell.config
    return cell.label, config.data.remain_fraction, config.data.forget_fraction, config.seeds.split


def test_every_row_runs_at_every_seed_rho_and_forget_fraction_and_a_rho_of_its_own_wins():
    runs = made(remain_fractions=(1.0, 0.1), forget_fractions=(0.1, 0.5))
    rhos = {"FT": (1.0, 0.1), "LTU": (0.3,)}
    expected = [(row, r, f, s) for row in rhos for f in (0.1, 0.5) for r in rhos[row] for s in (0, 1)]
    assert [fields_of(run) for run in runs] == expected


def test_three_seeds_given_apart_are_three_seeds():
    (run,) = made(rows=[Row("FT", "finetune")], seeds=[{"train": 4, "split": 5, "unlearn": 6}])
    assert dataclasses.asdict(run.config.seeds) == {"train": 4, "split": 5, "unlearn": 6}


def test_a_run_has_the_settings_of_the_sweep_then_of_the_row_then_the_tuned_ones(tmp_path):
    (tmp_path / "tuned.json").write_text(json.dumps({"rows": {"FT": {"best": {"method.epochs": 3.0}}}}))
    row = Row("FT", "finetune", {"method.epochs": 2.0, "method.momentum": 0.5})
    shared = {"method.epochs": 1.0, "method.momentum": 0.1, "model.width": 4}
    method = made(rows=[row], settings=shared)[0].config.method
    assert (method.epochs, method.momentum) == (2.0, 0.5)
    tuned = made(rows=[row], settings=shared, tuned=str(tmp_path / "tuned.json"))[0].config
    assert (tuned.method.epochs, tuned.method.momentum, tuned.model.width) == (3.0, 0.5, 4)


@pytest.mark.slow
def test_the_program_reads_from_the_command_what_the_sweep_says():
    row = Row("LTU", "ltu", {"method.samplers": ("uniform",), "method.remember": False, "method.learning_rate": 1e-5})
    run = made(rows=[row], seeds=[7], remain_fractions=[0.4], settings={"attackers.names": ["sorted", "metrics"]})[0]
    assert run.job.command[:4] == ["python", "-m", "ltu_jax.unlearn", "--config"]
    command = [sys.executable, *run.job.command[1:], "--dry_run"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)["config"]
    assert printed["method"]["samplers"] == ["uniform"] and printed["attackers"]["names"] == ["sorted", "metrics"]
    assert printed["method"]["remember"] is False and printed["method"]["learning_rate"] == 1e-5
    assert printed["data"]["remain_fraction"] == 0.4 and printed["seeds"] == dict.fromkeys(printed["seeds"], 7)


def test_a_run_is_found_again_whatever_else_stands_in_the_sweep():
    before = {run.job.slug: run.job for run in made()}
    more = made(rows=[Row("GA", "gradient_ascent"), *sweep().rows], seeds=(2, 1, 0))
    assert set(before) < {run.job.slug for run in more}
    assert len({run.job.slug for run in more}) == len(more) == 9
    assert all(before.get(run.job.slug, run.job) == run.job for run in more)


def test_a_run_with_other_settings_has_another_name():
    names = [
        {run.job.slug for run in made(**changes)}
        for changes in ({}, {"settings": {"method.epochs": 2.0}}, {"remain_fractions": (0.5,)}, {"seeds": (3, 4)})
    ]
    assert len(set.union(*names)) == sum(map(len, names)) - 2  # LTU keeps its own rho


def test_names_say_label_fractions_and_seeds():
    slug = made(rows=[Row("NegGrad+ (a/b)", "neggrad_plus")], remain_fractions=(0.5,), forget_fractions=(0.1,))[
        1
    ].job.slug
    assert slug.startswith("neggrad-a-b-forget0.1-rho0.5-seed1-")
    apart = made(seeds=[{"train": 0, "split": 1, "unlearn": 2}])[0].job.slug
    assert apart.startswith("ft-seed0.1.2-")


def test_runs_share_a_problem_unless_data_model_training_or_seeds_differ():
    rows = [Row("FT", "finetune"), Row("wide", "finetune", {"model.width": 4}), Row("LTU", "ltu", remain_fraction=0.3)]
    seeds = [{"train": t, "split": s, "unlearn": u} for t, s in ((0, 0), (0, 1), (1, 0)) for u in (0, 1)]
    runs = made(rows=rows, seeds=seeds, remain_fractions=(1.0, 0.1), forget_fractions=(0.1, 0.2))
    problems = {run.problems[0].slug for run in runs}
    assert len(problems) == 2 * 3 * 2  # widths, pairs of train and split, forget fractions
    assert all(len(run.problems) == 1 for run in runs)


def test_what_is_shared_is_made_by_the_run_that_asks_for_most():
    attackers = {"method.forget_by": "attackers"}
    rows = [Row("Amnesiac", "amnesiac"), Row("FT", "finetune"), Row("LTU", "ltu", attackers, remain_fraction=0.3)]
    amnesiac, plain, ltu = made(rows=rows, seeds=[0])
    shared = amnesiac.problems[0]
    assert (plain.problems, ltu.problems) == ((shared,), (shared,))
    assert shared.command[4] == f"{DIGITS}:ltu" and "--prepare" in shared.command and "--workdir" not in shared.command
    assert made(rows=rows[:2], seeds=[0])[0].problems[0].command[4] == f"{DIGITS}:finetune"
    # The original whose updates are recorded comes afterwards: Retrain is then there already.
    assert amnesiac.problems[1].command[4] == f"{DIGITS}:amnesiac"
    assert "--prepare" in amnesiac.problems[1].command


def test_another_cache_has_to_be_filled_anew():
    slugs = [cells(sweep(), OUT, pathlib.Path(cache))[0].problems[0].slug for cache in ("a", "a", "b")]
    assert slugs[0] == slugs[1] != slugs[2]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": []}, "Sweep.rows"),
        ({"rows": [Row("FT", "finetune"), Row("FT", "finetune")]}, "names one twice"),
        ({"rows": [Row("FT", "finetunes")]}, "did you mean 'finetune'"),
        (
            {"rows": [Row("FT", "finetune", {"method.epoch": 1})]},
            "row 'FT': method.epoch: no such field.*'method.epochs'",
        ),
        ({"rows": [Row("FT", "finetune", {"method.epochs": "many"})]}, "row 'FT'.*many"),
        ({"rows": [Row("FT", "finetune", {"method.epochs": -1.0})]}, "row 'FT': config.method.epochs: -1.0"),
        ({"rows": [Row("FT", "finetune", {"seeds.split": 1})]}, "row 'FT': 'seeds.split'.*Sweep.seeds"),
        ({"settings": {"data.remain_fraction": 0.5}}, "Sweep.remain_fractions"),
        ({"rows": [Row("FT", "finetune", space={"data.forget_fraction": [0.1]})]}, "Sweep.forget_fractions"),
        ({"remain_fractions": (0.0,)}, "config.data.remain_fraction: 0.0"),
        ({"seeds": ()}, "Sweep.seeds"),
        ({"seeds": (1, 1)}, "names one twice"),
        ({"seeds": ({"train": 1},)}, "train, split and unlearn"),
        ({"seeds": (0, {"train": 0, "split": 0, "unlearn": 0})}, "stands in it twice"),
        ({"tuning_seeds": (2, 1)}, "Sweep.tuning_seeds: split seed 1"),
        ({"tuning_seeds": ({"train": 9, "split": 0, "unlearn": 9},)}, "Sweep.tuning_seeds: split seed 0"),
        ({"config": "missing.py"}, "missing.py"),
        ({"tuned": "missing.json"}, "Sweep.tuned: 'missing.json'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_allowed(changes, named):
    with pytest.raises(ConfigError, match=named) as caught:
        made(**changes)
    assert "allowed: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_row_that_was_to_be_tuned_and_was_not_is_refused(tmp_path):
    (tmp_path / "tuned.json").write_text(json.dumps({"rows": {}}))
    tuned = str(tmp_path / "tuned.json")
    assert made(tuned=tuned)  # rows without a space have nothing to tune
    with pytest.raises(ConfigError, match="lacks row 'FT'"):
        made(tuned=tuned, rows=[Row("FT", "finetune", space={"method.epochs": (1.0, 9.0)})])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def get_sweep(: pass", "SyntaxError"),
        ("x = 1", "get_sweep"),
        ("def get_sweep(): return 3", "returned int"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused_in_one_line(tmp_path, text, named):
    (tmp_path / "file.py").write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        load_sweep(tmp_path / "file.py")
    assert "get_sweep() -> Sweep" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"nowhere\.py"):
        load_sweep(tmp_path / "nowhere.py")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "sweeps").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_sweep_of_ours_is_sound(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = cells(load_sweep(path), OUT, CACHE)
    assert all(shlex.join(run.job.command).isascii() for run in runs)


@pytest.mark.parametrize("module", ["grid", "experiments.grid"])
def test_an_older_sweep_file_is_still_read_by_the_path_in_a_checkout(tmp_path, module):
    """Of before this was in the package, and of before experiments/ was one."""
    (tmp_path / "file.py").write_text(
        f"from {module} import Row, Sweep\ndef get_sweep(): return Sweep('digits', [Row('FT', 'finetune')], (0,))\n"
    )
    program = [sys.executable, str(ROOT / "experiments" / "sweep.py"), "file.py", "--out", "out", "--dry_run"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and " --config digits:finetune " in done.stdout, done.stderr


def test_a_configuration_that_comes_with_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name, by_path = made(config="digits"), made()
    assert [run.config for run in by_name] == [run.config for run in by_path]
    assert [run.job.slug for run in by_name] == [run.job.slug for run in by_path]
    assert by_name[0].job.command[4] == "digits:finetune"
