"""Audits of a finished run: what is trained, found and written; a stopped one goes on, the same again."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
from progress_recorder import Killed, recording
from small import small_config

from ltu_jax.auditing.registry import chosen_audits
from ltu_jax.commands import audits, processes, run
from ltu_jax.commands.options import AuditOptions, Options
from ltu_jax.config import Data, method_config
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree, save_tree
from ltu_jax.unlearning.problem import prepare

pytestmark = pytest.mark.usefixtures("labels")
CONFIG = small_config(method=method_config("finetune"))
FEW = {"level": 1, "retrains": 3, "canaries": 0, "shadows": 6, "oracles": 6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def finished(folder, cache, config=CONFIG):
    folder = folder / "run"
    assert run.unlearn([(config, folder)], Options(folder, cache)) == 0
    return folder


def options(workdir, cache, names=None, **changes):
    flags = {**FEW, **changes}
    names = chosen_audits(names, flags["level"])
    return AuditOptions(Options(workdir, cache), names, **flags)


def found(workdir):
    return {one["audit"]: one for one in json.loads((workdir / "audit.json").read_text())["findings"]}


def trained(labels):
    words = ("original", "retrain", "audited", "oracle", "unlearning")
    return [label for label in labels if label.startswith(words)]


def test_every_audit_of_level_1_is_made_or_says_why_not(tmp_path, cache, labels, capsys):
    workdir = finished(tmp_path, cache)
    before = (workdir / "result.json").read_bytes()
    labels.clear()
    assert audits.audit(CONFIG, options(workdir, cache)) == 0
    assert trained(labels)[0] == "retrain 2"  # the run's own were there
    made, outcome = found(workdir), json.loads((workdir / "audit.json").read_text())
    assert [*made] == chosen_audits(None, 1)
    assert {name for name, one in made.items() if one["not_done"]} == {"recalibration", "canaries"}
    assert "fewest" in made["canaries"]["not_done"] and "running averages" in made["recalibration"]["not_done"]
    assert outcome["level"] == 1 and outcome["run"]["method"] == "finetune"
    assert outcome["rows"]["forget"] == 16 and set(outcome["verdict"]) == set(made)
    assert [model["name"] for model in outcome["models"]][:4] == ["original", "retrain 0", "retrain 1", "retrain 2"]
    assert [model["found"] for model in outcome["models"]][:4] == [True, True, True, False]
    assert (workdir / "result.json").read_bytes() == before
    said = capsys.readouterr().out
    assert "4 to be trained" in said and "it would find AUC" in said


def test_the_figures_are_those_of_the_runs_own_model(tmp_path, cache):
    workdir = finished(tmp_path, cache)
    assert audits.audit(CONFIG, options(workdir, cache, ["held_out"], level=0)) == 0
    problem, (tree, _) = prepare(CONFIG, cache=cache), load_tree(workdir / "model")
    shown = {}
    for name, params in (("unlearned", tree["params"]), ("original", problem.original.params)):
        z = [
            np.asarray(problem.spec.apply_fn(params, {}, problem.source.images[rows] / np.float32(255), False)[0])
            for rows in (problem.splits.forget, problem.splits.test)
        ]
        labels = [problem.source.labels[rows] for rows in (problem.splits.forget, problem.splits.test)]
        margins = []
        for logits, own in zip(z, labels, strict=True):
            is_own = np.eye(10, dtype=bool)[own]
            logits = logits.astype(np.float64)
            margins.append(logits[is_own] - np.log(np.where(is_own, 0, np.exp(logits)).sum(axis=1)))
        there = np.isin(labels[0], labels[1])
        forget = np.bincount(labels[0][there], minlength=10)
        weights = (forget / np.maximum(np.bincount(labels[1], minlength=10), 1))[labels[1]]
        won = (margins[0][there][:, None] > margins[1][None]).mean(axis=0)
        shown[name] = np.average(won, weights=weights)
    finding = found(workdir)["held_out"]
    assert finding["unlearned"]["value"] == pytest.approx(shown["unlearned"])
    assert finding["original"]["value"] == pytest.approx(shown["original"])


def test_level_0_trains_nothing(tmp_path, labels):
    workdir = finished(tmp_path, tmp_path / "cache")
    labels.clear()
    assert audits.audit(CONFIG, options(workdir, tmp_path / "cache", level=0)) == 0
    assert not trained(labels) and [*found(workdir)] == ["held_out", "retrain", "recalibration"]


def test_a_dry_run_writes_and_trains_nothing(tmp_path, cache, labels, capsys):
    workdir = finished(tmp_path, cache)
    labels.clear()
    capsys.readouterr()
    before = sorted(path for folder in (workdir, cache) for path in folder.rglob("*"))
    asked = options(workdir, cache, level=2, oracles=7)
    asked = dataclasses.replace(asked, base=dataclasses.replace(asked.base, dry_run=True))
    assert audits.audit(CONFIG, asked) == 0
    assert not trained(labels) and sorted(p for folder in (workdir, cache) for p in folder.rglob("*")) == before
    said = capsys.readouterr().out
    assert "forgetting_quality: " in said and said.splitlines()[0].startswith("20 models, ")  # 4 + 3 + 6 + 7


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("retrain 2", marks=pytest.mark.slow),
        pytest.param("relearning, original", marks=pytest.mark.slow),
        "audited-original, recorded",
        pytest.param("unlearning", marks=pytest.mark.slow),
    ],
)
def test_stopped_and_started_again_it_trains_nothing_twice_and_finds_the_same(tmp_path, labels, monkeypatch, at):
    cache = tmp_path / "cache"
    workdir = finished(tmp_path, cache)
    labels.clear()

    @contextlib.contextmanager
    def stopping(label, total):
        with recording([], labels=labels)(label, total) as advance:
            if label == at:
                raise Killed
            yield advance

    monkeypatch.setattr(processes, "progress", lambda: stopping)
    with pytest.raises(Killed):
        audits.audit(CONFIG, options(workdir, cache))
    assert not (workdir / "audit.json").exists()
    monkeypatch.setattr(processes, "progress", lambda: recording([], labels=labels))
    labels[:] = [label for label in labels if label != at]
    assert audits.audit(CONFIG, options(workdir, cache)) == 0
    models = trained(labels)
    assert len(models) == len(set(models)) == 5  # a Retrain; the second request's original, Retrains, unlearning
    first = found(workdir)
    assert audits.audit(CONFIG, options(workdir, cache)) == 0
    assert found(workdir) == first and len(trained(labels)) == 5


@pytest.mark.parametrize(
    "error", [ValueError("forget margins: 7 of 16 are not finite"), FloatingPointError("diverged")]
)
def test_an_audit_that_fails_is_named_and_the_others_are_made(tmp_path, cache, monkeypatch, capsys, error):
    def fail(run):
        raise error

    monkeypatch.setitem(audits.AUDIT_OF, "held_out", fail)
    workdir = finished(tmp_path, cache)
    assert audits.audit(CONFIG, options(workdir, cache, level=0)) == 1
    made = found(workdir)
    assert made["held_out"]["not_done"] == str(error) and made["retrain"]["not_done"] is None
    assert f"error: held_out: {error}" in capsys.readouterr().err


def test_more_canaries_than_the_forget_set_bears_are_refused_before_anything_is_trained(tmp_path, cache, labels):
    workdir = finished(tmp_path, cache)
    labels.clear()
    with pytest.raises(ConfigError, match="--canaries: of 60 .* are in, and with the strata 16 rows are forgotten"):
        audits.audit(CONFIG, options(workdir, cache, canaries=60))
    assert not trained(labels)


def test_the_second_request_has_one_retrain_less_than_the_run_is_compared_with(tmp_path, cache, labels):
    workdir = finished(tmp_path, cache)
    assert audits.audit(CONFIG, options(workdir, cache, ["strata"], retrains=5)) == 0
    assert len(found(workdir)["strata"]["details"]["hard"]["retrain"]) == 4


def test_a_folder_of_other_rows_is_refused(tmp_path, cache):
    workdir = finished(tmp_path, cache)
    result = json.loads((workdir / "result.json").read_text())
    (workdir / "result.json").write_text(json.dumps({**result, "request_sha256": "0"}))
    with pytest.raises(ConfigError, match="holds a run on other data"):
        audits.audit(CONFIG, options(workdir, cache))


def test_a_model_that_is_one_of_the_retrains_is_refused(tmp_path, cache):
    workdir = finished(tmp_path, cache)
    problem = prepare(CONFIG, cache=cache)
    shutil.rmtree(workdir / "model")
    save_tree(workdir / "model", {"params": problem.retrains[1].params, "model_state": {}}, {})
    with pytest.raises(ConfigError, match="the model is one of the Retrains"):
        audits.audit(CONFIG, options(workdir, cache, level=0))
    assert not (workdir / "audit.json").exists()


def test_where_a_class_is_forgotten_what_chooses_its_rows_says_why_not(tmp_path, cache, labels):
    config = dataclasses.replace(CONFIG, data=Data(train_size=80, forget_kind="class", forget_class=3))
    workdir = finished(tmp_path, cache, config)
    labels.clear()
    assert audits.audit(config, options(workdir, cache, ["canaries", "strata", "lira", "held_out"], level=2)) == 0
    made = found(workdir)
    assert {name for name, one in made.items() if one["not_done"]} == {"canaries", "strata", "lira"}
    assert all("forgets a class" in made[name]["not_done"] for name in ("canaries", "strata", "lira"))
    assert trained(labels) == ["retrain 2"]


def test_a_run_that_forgets_canaries_is_its_own_second_request(tmp_path, cache, labels):
    pytest.importorskip("jax_privacy")
    data = Data(train_size=80, forget_kind="canaries", canaries=40)
    config = dataclasses.replace(CONFIG, data=data)
    workdir = finished(tmp_path, cache, config)
    labels.clear()
    assert audits.audit(config, options(workdir, cache, canaries=None)) == 0  # every audit of level 1
    findings = json.loads((workdir / "audit.json").read_text())["findings"]
    assert [one["audit"] for one in findings] == chosen_audits(None, 1)
    assert "forgets canaries" in found(workdir)["strata"]["not_done"]
    assert trained(labels) == ["retrain 2"]
    made, problem = found(workdir)["canaries"], prepare(config, cache=cache)
    assert made["details"]["canaries"] == 40 and made["details"]["included"] == len(problem.splits.forget)
