"""The run's method on another original: what a run of its own makes of it, once."""

import chex
import numpy as np
from progress_recorder import recording
from small import small_config

from ltu_jax.auditing.again import can_be_run_again, unlearned_again
from ltu_jax.config import method_config
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
    assert "recorded" in can_be_run_again(trainers[0]) and can_be_run_again(trainers[1]) is None
