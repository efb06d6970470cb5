"""The run's method on another original: what a run of its own makes of it, once."""

import importlib
import sys

import chex
import numpy as np
from progress_recorder import recording
from small import small_config

from ltu_jax.auditing.again import unlearned_again, why_not_again
from ltu_jax.config import LTU, method_config
from ltu_jax.training.jobs import Trainer
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.preparation import original_job
from ltu_jax.unlearning.problem import load_problem, prepare


def test_of_the_runs_own_original_by_its_own_seed_it_makes_the_runs_model_and_only_once(tmp_path):
    config, labels = small_config(), []  # LTU by attackers, fitted on shadows
    loaded = load_problem(config)
    trainer = Trainer(config, loaded.source, loaded.spec, tmp_path, recording([], labels=labels))
    tree = trainer.model(original_job(loaded.splits))
    found = unlearned_again(trainer, loaded.source, loaded.splits, tree, config.seed_for("unlearn"))
    chex.assert_trees_all_equal(found.params, run_problem(prepare(config, cache=tmp_path))[0].params)
    assert labels.count("unlearning") == 1
    again = unlearned_again(trainer, loaded.source, loaded.splits, tree, config.seed_for("unlearn"))
    assert labels.count("unlearning") == 1
    chex.assert_trees_all_equal(found.params, again.params)
    other = unlearned_again(trainer, loaded.source, loaded.splits, tree, 77)
    assert labels.count("unlearning") == 2 and not np.array_equal(other.params["w1"], found.params["w1"])


def test_a_method_that_needs_a_recorded_original_cannot_be_run_again():
    loaded = load_problem(small_config())
    trainers = [
        Trainer(small_config(method=method_config(name)), loaded.source, loaded.spec, None, recording([]))
        for name in ("amnesiac", "finetune")
    ]
    assert "recorded" in why_not_again(trainers[0]) and why_not_again(trainers[1]) is None


EDITED = """
import jax

from ltu_jax import Method


def build(settings, parts):
    def init(key, state, visible):
        return state.replace(params=jax.tree.map(lambda p: p * SCALE, state.params)), None

    return Method(init, lambda *_: None, lambda *_: None, num_steps=lambda visible: 0)
"""


def test_an_edited_method_of_ones_own_is_run_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    scales = []
    for scale in (1.0, 0.5):
        (tmp_path / "edited_method.py").write_text(f"SCALE = {scale}\n{EDITED}")
        sys.modules.pop("edited_method", None)
        importlib.invalidate_caches()
        config = small_config(method=LTU(name="edited_method:build", batch_size=8))
        loaded = load_problem(config)
        trainer = Trainer(config, loaded.source, loaded.spec, tmp_path / "cache", recording([]))
        tree = trainer.model(original_job(loaded.splits))
        found = unlearned_again(trainer, loaded.source, loaded.splits, tree, 0)
        scales.append(float(np.mean(found.params["w1"] / np.asarray(tree["params"]["w1"]))))
    np.testing.assert_allclose(scales, [1.0, 0.5], rtol=1e-5)
