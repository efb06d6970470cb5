"""Finished runs are read as they are, and those that do not belong in one table are refused."""

import json
import re
from pathlib import Path

import made_cells
import pytest

from ltu_jax.setting import ConfigError
from ltu_jax.tabling import runs


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (1, {"dataset": "cifar10"}, "dataset: 'digits' and 'cifar10'"),
        (1, {"model": "vit"}, "model: 'resnet8' and 'vit'"),
        (
            1,
            {"forget": {"kind": "random", "sha256": "9f", "count": 500, "fraction": 0.1}},
            "training rows: 300 and 5000",
        ),
        (1, {"retrain": made_cells.RETRAIN | {"ta": 90.1}}, "retrain"),
        (1, {"splits_sha256": "another"}, "splits_sha256: 'split 0' and 'another'"),
        (1, {"retrain": None}, "retrain: 'LTU' has none"),
        (
            3,
            {"forget": {"kind": "class", "sha256": "9f", "count": 30, "fraction": 0.1}},
            "forgotten: '10 %' and 'class'",
        ),
        (
            2,
            {"forget": {"kind": "random", "sha256": "9f", "count": 150, "fraction": 0.5}},
            "forgotten: '10 %' and '50 %'",
        ),
    ],
)
def test_results_that_cannot_stand_in_one_table_are_refused(refusal, number, change, words):
    assert words in refusal(number, [made_cells.cell("FT"), made_cells.cell("LTU", **change)])


def test_a_label_for_two_settings_or_twice_for_one_seed_is_refused(refusal):
    line = refusal(1, [made_cells.cell(rho=0.1), made_cells.cell(rho=0.3, seeds=(1, 1, 1))])
    assert "remain_fraction=0.1" in line and "remain_fraction=0.3" in line and "forget_fraction" not in line
    assert "'FT' twice with seeds (0, 0, 0)" in refusal(1, [made_cells.cell(), made_cells.cell()])


@pytest.mark.parametrize("flag", ["--workdir", "--cache", "--config.seed", "--config.seeds.unlearn"])
@pytest.mark.parametrize("joint", ["=", " "])
def test_commands_of_one_row_may_differ_in_folders_and_seeds_only(flag, joint):
    plain = "python -m ltu_jax.unlearn --config f.py:ltu --config.method.epochs=3"
    assert runs.settings_of(f"{plain} {flag}{joint}'a b' --x=1") == f"{plain} --x=1"


LACKING = made_cells.cell()
del LACKING["result"]["splits_sha256"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"label": "a"}', json.dumps(LACKING)])
def test_a_file_without_a_finished_run_is_refused(tmp_path, text):
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^results: [^\n]+; allowed: [^\n]+$"):
        runs.read([str(path)])


def test_an_audit_of_another_run_is_refused(audited):
    first, second = (Path(folder) / "audit.json" for folder in audited[:2])
    first.write_text(second.read_text())
    words = "run-0' holds no finished run (ValueError('a damaged audit.json (it is of another run)')"
    with pytest.raises(ConfigError, match=re.escape(words)):
        runs.read(audited)
