"""The sweeps of the study do what its plan says."""

import dataclasses
import json
import pathlib

import pytest

from experiments.sweeps import study, study_parts, study_parts_fixed, study_relatives
from ltu_jax.config import method_config
from ltu_jax.sweeping.grid import cells, forget_sets, load_sweep

ROOT = pathlib.Path(__file__).parents[2]

PLAN = (ROOT / "experiments" / "results" / "PLAN.md").read_text()
LATER = [
    "study_amun",
    "study_class",
    "study_fractions",
    "study_hard",
    "study_inner",
    "study_parts",
    "study_parts_fixed",
    "study_relatives",
    "study_rho",
    "study_vit",
]


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """A search in which the gap grows along the rows, but for SalUn, which is the nearest; NoT found a rate."""
    gaps = {row.label: float(i) for i, row in enumerate(study.rows())} | {"SalUn": -1.0}
    rows = {label: {"gap": gap, "best": {}} for label, gap in gaps.items()}
    del rows["MSG"]  # every trial of it diverged
    rows["LTU"]["best"] = {"method.learning_rate": 0.002}
    monkeypatch.setattr(study, "TUNED", tmp_path / "tuned.json")
    (tmp_path / "tuned.json").write_text(json.dumps({"rows": rows}))


def test_the_plan_names_every_row_and_all_seeds():
    named = PLAN[PLAN.index("- Rows") : PLAN.index("## Decision")].replace("\n  ", " ")
    for row in study.rows():
        assert row.label in named
    sweep = study.get_sweep()
    assert (list(sweep.tuning_seeds), list(sweep.seeds)) == ([30, 31, 32], [*range(3, 10)])
    assert "seeds 30, 31, 32" in PLAN and "seeds 3 to 9 of A" in PLAN


def test_every_row_is_searched_and_ltu_began_and_ended_at_its_defaults():
    assert all(row.space for row in study.rows())
    ltu, found = study.rows()[-1], json.loads((ROOT / study.TUNED).read_text())["rows"]["LTU"]
    assert ltu.label == "LTU" and not ltu.settings
    defaults = dataclasses.asdict(method_config("ltu"))
    assert all(defaults[name.removeprefix("method.")] == value for name, value in found["best"].items())


@pytest.mark.parametrize("name", LATER)
def test_no_later_part_uses_a_tuning_seed(name, tmp_path):
    sweep = load_sweep(ROOT / "experiments" / "sweeps" / f"{name}.py")
    assert not {30, 31, 32} & forget_sets(sweep.seeds)
    assert all(cell.config.evaluation.num_retrain == 2 for cell in cells(sweep, tmp_path, tmp_path))


def test_the_nearest_are_those_of_the_search_at_its_settings(tuned):
    labels = [row.label for row in study.nearest(3)]
    assert labels == ["SalUn", "FT", "RandL", "LTU"]
    assert [row.label for row in study.nearest(99)][-2:] == ["MSG", "LTU"]
    assert study.nearest(3)[-1].settings == {"method.learning_rate": 0.002}


def test_what_a_search_found_takes_the_place_of_a_rows_own(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"rows": {"UAM": {"best": {"method.inner_learning_rate": 5.0}}}}))
    before = next(row for row in study_relatives.rows() if row.label == "UAM")
    after = study.searched([before], path)[0]
    assert after.settings == {**before.settings, "method.inner_learning_rate": 5.0} != before.settings
    assert not after.space


def test_the_parts_at_ltus_settings_do_not_take_those_of_a_search(tmp_path, monkeypatch):
    found = {row.label: {"best": {"method.learning_rate": 0.5}} for row in study_parts.rows()}
    (tmp_path / "tuned.json").write_text(json.dumps({"rows": found}))
    monkeypatch.setattr(study_parts, "TUNED", tmp_path / "tuned.json")
    searched, fixed = (
        {cell.label: cell.config.method.learning_rate for cell in cells(sweep.get_sweep(), tmp_path, tmp_path)}
        for sweep in (study_parts, study_parts_fixed)
    )
    assert set(searched.values()) == {0.5}
    assert set(fixed.values()) == {method_config("ltu").learning_rate} and fixed.keys() == searched.keys()
