"""result.json: the fields that others read, and their arithmetic."""

import dataclasses
import datetime
import json
import platform
import re
import subprocess
import types

import jax
import numpy as np

from ltu_jax.setting import digest, to_dict
from ltu_jax.training.saving import History
from ltu_jax.unlearning import result as module
from ltu_jax.unlearning.result import make_result, now, provenance


def test_the_result_holds_what_the_schema_promises(problem):
    cost = {"forward": 300.0, "backward": 100.0, "remain": 60.0, "forget": 40.0}
    history = History(init_s=3.0, steps_s=57.0, compile_s=9.0, warnings=["w"], rho=0.3, cost=cost)
    result = json.loads(json.dumps(make_result(problem, problem.retrains[0], history, now())))
    assert result["schema_version"] == 2 and result["method"] == "ltu" and result["dataset"] == "digits"
    assert result["seeds"] == {"train": 0, "split": 0, "unlearn": 0} and result["rho"] == 0.3
    assert result["forget"]["kind"] == "random" and result["forget"]["count"] == 16
    assert result["forget"]["fraction"] == 0.2 and result["ratio"] == 1.5
    assert result["scores"]["ut_minutes"] == 1.0
    assert result["cost"]["remain_images"] == 60.0 and result["cost"]["run_s"] == 60.0
    # Two dense layers: a multiply and an add for each weight forward; twice that backward, less the images' gradient.
    forward, backward = (2 * (8 * 8 * 3 * 16 * one + 16 * 10 * two) for one, two in ((1, 1), (1, 2)))
    assert np.isclose(result["cost"]["flops"], 300 * forward + 100 * backward, rtol=0.1)
    assert result["time"]["compile_s"] == 9.0 and result["time"]["unlearn_s"] == 60.0
    assert {"original_s", "attackers_s", "retrain_s"} <= set(result["time"])
    assert {"commit", "versions", "device", "started", "config_sha256"} <= set(result["provenance"])
    assert result["warnings"][0] == "w" and result["audits"] == {}

    one, two = (problem.score(r) for r in problem.retrains)
    assert np.isclose(result["retrain"]["ua"], (one.ua + two.ua) / 2)
    assert np.isclose(result["retrain_spread"]["ta"], abs(one.ta - two.ta))
    for name in ("ua", "ra", "ta", "mi"):  # a Retrain model is half the spread away from the mean of two
        assert np.isclose(result["gap"][name], result["retrain_spread"][name] / 2)
    assert np.isclose(result["gap"]["mean"], np.mean([result["gap"][n] for n in ("ua", "ra", "ta", "mi")]))
    blind = [row["name"] for row in result["attackers"] if row["auc_shadow"] <= 0.55]
    assert all(name in result["warnings"][-1] for name in blind)


def test_scores_stand_beside_those_of_the_original_and_of_the_mean_retrain(problem):
    state = problem.retrains[1]
    result = make_result(problem, state, History(steps=7, best_step=4, rho=0.3), "then")
    for name, models in {"scores": [state], "original": [problem.original], "retrain": problem.retrains}.items():
        for measure in ("ua", "ra", "ta", "mi"):
            mean = np.mean([getattr(problem.score(model), measure) for model in models])
            assert np.isclose(result[name][measure], mean)
        assert "ta_forgotten" not in result[name]
    assert np.isclose(result["retrain"]["ut_minutes"], problem.seconds["retrain_s"] / 60)
    assert result["steps"] == {"taken": 7, "best": 4}
    assert result["attackers_fitted_on"] == "shadows"
    asked = problem.attackers_on(state)
    assert [row["auc_unlearned"] for row in result["attackers"]] == [asked[name] for name in ("sorted", "metrics")]
    assert result["forget"]["sha256"] == digest([str(name) for name in problem.source.ids[problem.splits.forget]])
    assert result["provenance"]["config_sha256"] == digest(to_dict(problem.config))
    assert result["provenance"]["started"] == "then"


def test_what_there_is_nothing_to_compare_with_is_null(problem):
    bare = dataclasses.replace(problem, retrains=(), retrain_scores=(), bank=None, attackers=())
    result = json.loads(json.dumps(make_result(bare, problem.original, History(), now())))
    for name in ("retrain", "retrain_spread", "gap", "original_gap", "ratio", "attackers_fitted_on"):
        assert result[name] is None, name
    images = dict.fromkeys(("forward_images", "backward_images", "remain_images", "forget_images"))
    assert result["cost"] == images | {"flops": None, "compile_s": 0.0, "run_s": 0.0}
    assert result["attackers"] == result["warnings"] == []
    nothing = History(cost={"forward": 9.0, "backward": 9.0, "remain": 9.0, "forget": 0.0})
    assert make_result(bare, problem.original, nothing, now())["ratio"] is None


def test_an_attacker_that_knows_next_to_nothing_is_named(problem):
    attackers = [{"name": name, "auc_shadow": auc, "auc_original": 0.9} for name, auc in (("a", 0.55), ("b", 0.551))]
    result = make_result(dataclasses.replace(problem, attackers=attackers), problem.original, History(), now())
    (warning,) = result["warnings"]
    assert warning.startswith("attackers that know next to nothing (AUC <= 0.55") and warning.endswith("guidance: a")


def test_the_provenance_names_versions_and_the_device(monkeypatch):
    versions = provenance("then")["versions"]
    assert versions["python"] == platform.python_version() and versions["jax"] == jax.__version__
    assert set(versions) == {"python", "ltu-jax", "jax", "jaxlib", "flax", "optax", "numpy"}
    device = lambda platform, kind: types.SimpleNamespace(platform=platform, device_kind=kind)  # noqa: E731
    for devices, name in (
        ([device("cpu", "cpu")], r"CPU, \d+ cores?"),
        ([device("cpu", "cpu")] * 2, "2 x cpu"),
        ([device("gpu", "H200")], "1 x H200"),
    ):
        monkeypatch.setattr(jax, "devices", lambda devices=devices: devices)
        assert re.fullmatch(name, provenance("then")["device"])


def test_now_is_a_time_of_whole_seconds_with_its_zone():
    time = datetime.datetime.fromisoformat(now())
    assert time.utcoffset() == datetime.timedelta(0) and time.microsecond == 0
    assert abs(datetime.datetime.now(datetime.UTC) - time) < datetime.timedelta(minutes=1)


def test_the_commit_is_that_of_the_checkout_with_a_plus_where_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "result.py"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    commit = lambda: provenance("then")["commit"]  # noqa: E731
    assert commit() is None

    def git(*args):
        me = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", "-C", tmp_path, *me, *args], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "result.py").write_text("1\n")
    git("add", "result.py")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")[:12]
    (tmp_path / "untracked.txt").write_text("not of the checkout")
    assert commit() == head
    (tmp_path / "result.py").write_text("22\n")
    assert commit() == head + "+"
    monkeypatch.setenv("PATH", "")  # no git
    assert commit() is None
