"""The programs for machines that are not here work the first time."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "experiments" / "benchmarks"


def run(name, *words):
    done = subprocess.run([sys.executable, BENCHMARKS / name, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_gpu_measures_every_part_and_writes_it_with_its_provenance(tmp_path):
    run("gpu.py", "--backend", "cpu", "--tiny", "--out", tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found) == {"provenance", "rate", "steps", "seeds", "run"} and found["provenance"]["device"]
    cases = [(row["kind"], row["save_memory"]) for row in found["steps"]]
    assert cases == [("plain", False), ("ltu", False), ("ltu", True)]
    for row in found["steps"]:
        assert 0 < row["share_of_rate"] < 2 and row["s"] > 0
    assert [(row["kind"], row["at_once"]) for row in found["seeds"]] == [("plain", 2), ("ltu", 2)]
    assert found["run"][0]["ltu_steps"] == 1 and found["run"][0]["ltu_s"] > 0


@pytest.mark.slow
def test_the_estimate_counts_the_flops_of_vit_b_as_its_authors_do():
    text = run("estimate.py")
    per_image = float(text.split("flops of a gradient, one image")[1].split()[0])
    assert abs(per_image / (3 * 2 * 17.6) - 1) < 0.02  # 17.6 G multiply-adds forward (Dosovitskiy et al., timm)
