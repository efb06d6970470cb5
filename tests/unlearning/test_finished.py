"""The model of a finished run is the one that was saved."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from small import small_config

from ltu_jax import load_model, load_run
from ltu_jax.config import Evaluation
from ltu_jax.models.build import build_model
from ltu_jax.setting import ConfigError, to_dict
from ltu_jax.training.checkpoint import CheckpointError, save_tree

ABOUT = {"num_classes": 10, "image_shape": [8, 8, 3]}


def finished(folder, about=ABOUT):
    config = small_config(evaluation=Evaluation(num_retrain=0))
    spec = build_model(config.model, 10, (8, 8, 3))
    params, model_state = spec.init(jax.random.key(3))
    (folder / "config.json").write_text(json.dumps({**to_dict(config), "at_once": 1}))
    save_tree(folder / "model", {"params": params, "model_state": model_state}, about)
    return spec, params


def test_it_answers_as_the_model_that_was_saved(tmp_path):
    spec, params = finished(tmp_path)
    model, images = load_model(str(tmp_path)), jax.random.uniform(jax.random.key(0), (3, 8, 8, 3))
    found, _ = model.apply_fn(model.params, model.model_state, images, train=False)
    hidden = np.tanh((np.asarray(images) - 0.5).reshape(3, -1) @ np.asarray(params["w1"]))
    np.testing.assert_allclose(found, hidden @ np.asarray(params["w2"]), rtol=1e-4, atol=1e-5)
    assert model.apply_fn is spec.apply_fn


def test_what_is_no_finished_run_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="^workdir: '.*' is no run .*; allowed: the folder of one$"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(small_config())))
    with pytest.raises(ConfigError, match="has no model yet; allowed: the folder of a finished run$"):
        load_model(tmp_path)
    finished(tmp_path, {})
    with pytest.raises(
        ConfigError, match="does not say how its model is built: an older version's, or ltu_jax.forget's; allowed: "
    ):
        load_model(tmp_path)


def test_a_damaged_model_is_not_loaded(tmp_path):
    finished(tmp_path)
    for file in (tmp_path / "model").rglob("*"):
        if file.is_file() and file.stat().st_size > 500:
            file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError):
        load_model(tmp_path)


def test_what_a_run_started_from_is_found_in_its_cache(problem, cache, tmp_path, monkeypatch):
    """As docs/python.md says; nothing is trained."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "python.md").read_text()
    loading = re.findall(r"```python\n(.*?)```", page, re.S)[1]
    folder = tmp_path / "runs" / "digits-ltu-0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**to_dict(problem.config), "at_once": 1}))
    (folder.parent / "cache").symlink_to(cache)
    last = problem.retrains[-1]
    save_tree(folder / "model", {"params": last.params, "model_state": last.model_state}, ABOUT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ltu_jax.training.jobs.finish_trainings", lambda *args, **more: pytest.fail("it was trained"))
    names = {}
    exec(compile(loading, "python.md", "exec"), names)
    found = names["problem"]
    for one, other in zip((found.original, *found.retrains), (problem.original, *problem.retrains), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert names["scores"] == problem.retrain_scores[-1] and len(names["images"]) == len(problem.splits.forget)


def test_what_is_no_run_of_one_seed_is_told(tmp_path):
    with pytest.raises(ConfigError, match="^workdir: '.*' is no run "):
        load_run(tmp_path, None)
    (tmp_path / "config.json").write_text('{"seed": "x"}')
    for load in (load_model, lambda folder: load_run(folder, None)):
        with pytest.raises(ConfigError, match="^workdir: '.*' is no run .*; allowed: the folder of one$"):
            load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**to_dict(small_config()), "at_once": 2}))
    with pytest.raises(
        ConfigError, match="was run with --config.at_once=2, whose .* allowed: a run of one seed a program"
    ):
        load_run(tmp_path, None)
    request = to_dict(small_config())
    request["data"]["forget_kind"] = "ids"
    (tmp_path / "config.json").write_text(json.dumps(request))
    with pytest.raises(ConfigError, match="is a deletion request; allowed: a run"):
        load_run(tmp_path, None)
