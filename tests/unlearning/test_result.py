"""result.json: the fields that others read, and their arithmetic."""

import dataclasses
import datetime
import json
import platform
import re
import subprocess
import types

import jax
import mlp
import numpy as np
import pytest
from small import BY_ATTACKERS, small_config

from ltu_jax import config
from ltu_jax.attackers.fit import auc_noise
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.setting import digest, to_dict
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.saving import History
from ltu_jax.types import make_state
from ltu_jax.unlearning import result as module
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import load_problem, prepare
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
    close = result["closeness"]
    assert list(close) == ["unlearned", "original", "retrain"]
    for name in ("forget", "remain", "test"):  # of one Retrain to two, of which one is itself
        for figure in (f"js_{name}", f"margin_{name}"):
            assert close["retrain"][figure] > 0 and np.isclose(close["unlearned"][figure], close["retrain"][figure] / 2)
    assert close["original"] == problem.closeness_of(problem.original)
    blind = [row["name"] for row in result["attackers"] if row["auc_shadow"] <= 0.55]
    assert all(name in result["warnings"][-1] for name in blind)


OWN = """
import numpy as np


def right(problem, state):
    rows = problem.splits.forget
    images = problem.source.images[rows].astype(np.float32) / 255
    logits, _ = state.apply_fn(state.params, state.model_state, images, train=False)
    return {"right": np.mean(np.asarray(logits).argmax(1) == problem.source.labels[rows])}


def broken(problem, state):
    return [1.0]
"""


def test_a_measure_of_ones_own_is_of_the_three_models(problem, cache, tmp_path, monkeypatch):
    """One that is broken is told while the problem is prepared, before anything is unlearned."""
    (tmp_path / "own_measure.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def prepared(name):
        evaluation = dataclasses.replace(problem.config.evaluation, measure=name)
        return prepare(dataclasses.replace(problem.config, evaluation=evaluation), cache=cache)

    def measured_by(name):
        return make_result(prepared(name), problem.retrains[0], History(), now())

    assert "measures" not in measured_by(None)
    result = measured_by("own_measure:right")
    right = {model: figures["right"] for model, figures in result["measures"].items()}
    assert np.isclose(100 * right["unlearned"], 100 - result["scores"]["ua"])
    assert np.isclose(100 * right["original"], 100 - result["original"]["ua"])
    assert np.isclose(100 * right["retrain"], 100 - result["retrain"]["ua"])
    with pytest.raises(
        config.ConfigError, match="config.evaluation.measure: 'own_measure:broken' failed .* allowed: mea"
    ):
        prepared("own_measure:broken")


def test_the_original_and_the_unlearned_model_are_told_apart(problem):
    result = make_result(problem, problem.retrains[0], History(), now())
    retrain = [problem.score(state) for state in problem.retrains]
    for name in ("ua", "ra", "ta", "mi"):
        wanted = abs(getattr(problem.score(problem.original), name) - np.mean([getattr(r, name) for r in retrain]))
        assert np.isclose(result["original_gap"][name], wanted)
    before, after = (problem.attackers_on(state) for state in (problem.original, problem.retrains[0]))
    assert before != after
    assert {row["name"]: row["auc_original"] for row in result["attackers"]} == before
    assert {row["name"]: row["auc_unlearned"] for row in result["attackers"]} == after


def test_a_model_with_batch_statistics_has_its_flops_counted(problem):
    spec = build_model(config.Model("resnet8", width=4), 10, (8, 8, 3))
    original = make_state(spec.apply_fn, *spec.init(jax.random.key(0)), SGD, jax.random.key(1))
    other = dataclasses.replace(problem, spec=spec, original=original)
    once, twice = (module._cost(other, History(cost=Cost(forward=n)._asdict()))["flops"] for n in (50.0, 100.0))
    # Six convolutions of 3x3 and two of 1x1 at 8, 4 and 2 pixels with 4, 8 and 16 channels; a multiply and an add each.
    stages = ((64, 4), (16, 8), (4, 16))
    weights = 64 * 9 * 3 * 4 + sum(p * 9 * (2 if c == 4 else 1.5) * c * c for p, c in stages)
    weights += sum(p * c * c / 2 for p, c in stages[1:]) + 16 * 10
    assert np.isclose(twice, 2 * once) and np.isclose(twice, 100 * 2 * weights, rtol=0.25)


def warnings_at(problem, auc, forget=100, validation=150):
    """The warnings where attackers a and b have these AUCs on the original."""
    rows = tuple(
        {"name": name, "auc_shadow": 0.9, "auc_original": value} for name, value in zip("ab", auc, strict=True)
    )
    splits = dataclasses.replace(problem.splits, forget=problem.splits.train[:1].repeat(forget))
    splits = dataclasses.replace(splits, validation=problem.splits.validation[:1].repeat(validation))
    small = dataclasses.replace(problem, splits=splits, attackers=rows)
    return make_result(small, problem.original, History(), now())["warnings"]


def test_attackers_that_do_not_tell_members_of_the_original_are_warned_of(problem):
    # 100 against 100 rows: 2 sqrt(201 / 120,000) = 0.082
    assert warnings_at(problem, (0.59, 0.99)) == []
    (worse,) = warnings_at(problem, (0.36, 0.8))
    assert worse == (
        "attackers worse than chance: a 0.36 (AUC on the original, 100 forget against 100 validation rows, where chance"
        " makes 0.42 to 0.58); are members and non-members swapped?"
    )
    (nothing,) = warnings_at(problem, (0.43, 0.57))
    assert nothing.startswith("attackers no better than chance: a 0.43, b 0.57 (AUC on the original")
    assert nothing.endswith("; they may have learned nothing")
    assert len(warnings_at(problem, (0.3, 0.5))) == 2
    low = 0.5 - auc_noise(100, 100)  # on the edge of what chance makes: of one kind, not of both
    (edge,) = warnings_at(problem, (low, 0.99))
    assert edge.startswith("attackers no better than chance")
    assert warnings_at(problem, (0.0, 0.5), forget=3) == []  # of three rows chance can make any AUC
    assert warnings_at(problem, (None, None)) == []


@pytest.mark.parametrize(
    "method, told",
    [
        (config.LTU(forget_by="margins"), "ltu takes no attackers; by config.method.forget_by=attackers it does"),
        (config.method_config("random_label"), "random_label takes no attackers"),
    ],
)
def test_own_attackers_that_a_method_goes_without_are_warned_of(problem, method, told):
    def warnings(names, attackers=()):
        settings = dataclasses.replace(problem.config, method=method, attackers=config.Attackers(names=names))
        other = dataclasses.replace(problem, config=settings, attackers=attackers)
        return make_result(other, problem.original, History(), now())["warnings"]

    assert warnings(("sorted", "mine:network")) == [f"config.attackers.names: mine:network is not used: {told}"]
    assert warnings(("sorted", "metrics")) == []
    used = {"name": "mine:network", "auc_shadow": 0.9, "auc_original": None}
    assert warnings(("sorted", "mine:network"), (used,)) == []


SIZES = {"epochs": 35, "batch_size": 50, "query_size": 50}
LTUS = {
    "attackers": config.LTU(**{**BY_ATTACKERS, "learning_rate": 0.1}, **SIZES),
    "margins": config.LTU(forget_by="margins", forget_weight=0.5, optimizer="adam", learning_rate=0.01, **SIZES),
}


@pytest.fixture(scope="module")
def unlearned():
    """LTU's results on noise that is known by heart, three seeds, by what it is told of forgetting."""
    source = mlp.toy_source(num_rows=1600, num_classes=10, num_test=400)
    results = {name: [] for name in LTUS}
    for seed in range(3):
        settings = small_config(
            seed=seed,
            data=config.Data("toy", train_size=400, forget_fraction=0.25),
            training=config.Training(epochs=100, batch_size=50),
            attackers=config.Attackers(names=("labelled", "metrics"), num_shadows=2, epochs=30, draws=1),
            method=LTUS["attackers"],
            evaluation=config.Evaluation(num_retrain=1),
        )
        problem = prepare(settings, loaded=load_problem(settings, source=source))
        for name, of_name in results.items():
            run = run_problem(problem, build_method(LTUS[name], problem.parts))
            of_name.append(make_result(problem, *run, now()))
    return results


@pytest.mark.parametrize("forget_by", LTUS)
def test_ltu_comes_far_nearer_to_retrain_than_the_original_is(unlearned, forget_by):
    """Seeds 0 to 5 had gaps of 2.6 to 12.6 (mean 6.6), by margins of 1.4 to 7.5 (4.2); the original's mean is 19.7."""
    results = unlearned[forget_by]
    gap, before = (np.mean([result[name]["mean"] for result in results]) for name in ("gap", "original_gap"))
    assert before > 15 and gap < before / 2


def test_an_attacker_that_learned_something_knows_the_forget_rows_of_the_original(unlearned):
    for result in unlearned["attackers"]:
        assert not any("worse than chance" in line for line in result["warnings"])
        auc = {row["name"]: row["auc_original"] for row in result["attackers"]}
        assert auc["metrics"] > 0.58


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
    for name in ("retrain", "retrain_spread", "gap", "original_gap", "closeness", "ratio", "attackers_fitted_on"):
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
    file = tmp_path / "ltu_jax" / "unlearning" / "result.py"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(file))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    commit = lambda: provenance("then")["commit"]  # noqa: E731
    assert commit() is None

    def git(*args):
        me = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", "-C", tmp_path, *me, *args], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    file.write_text("1\n")
    (tmp_path / "of_the_project.py").write_text("1\n")
    git("add", "of_the_project.py")
    git("commit", "-qm", "a project whose environment the package is installed in")
    assert commit() is None
    git("add", str(file))
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")[:12]
    (tmp_path / "untracked.txt").write_text("not of the checkout")
    assert commit() == head
    file.write_text("22\n")
    assert commit() == head + "+"
    elsewhere = tmp_path / "third_party" / "ltu_jax" / "unlearning" / "result.py"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("1\n")
    git("add", "third_party")
    monkeypatch.setattr(module, "__file__", str(elsewhere))
    assert commit() is None
    monkeypatch.setattr(module, "__file__", str(file))
    monkeypatch.setenv("PATH", "")  # no git
    assert commit() is None
