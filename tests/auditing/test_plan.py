"""What is said before anything is trained, against formulas written out here."""

import numpy as np
import pytest
from progress_recorder import recording
from scipy.stats import binom
from small import small_config

from ltu_jax.auditing.plan import planned, resolution, resolution_of_canaries
from ltu_jax.training.jobs import ORIGINAL, RETRAIN, Trainer, TrainingJob, train_or_find
from ltu_jax.unlearning.problem import load_problem


def test_the_smallest_auc_is_that_of_hanley_and_mcneil_with_held_out_rows_weighted():
    forget, held_out = np.repeat([0, 1], [60, 30]), np.repeat([0, 1], [50, 250])
    shares = np.array([60 / 50, 30 / 250])[held_out]
    rows = shares.sum() ** 2 / (shares**2).sum()
    apart = 2.8 * np.sqrt((90 + rows + 1) / (12 * 90 * rows))
    found = resolution(["held_out", "rmia", "retrain", "relearning"], forget, held_out, is_random=True)
    assert found["held_out"] == found["rmia"] == f"AUC {0.5 - apart:.3f} or {0.5 + apart:.3f}"
    assert found["relearning"].startswith(found["rmia"]) and "retrain" not in found
    assert not resolution(["held_out", "rmia"], forget, held_out, is_random=False)  # they are tested over Retrains


@pytest.mark.parametrize("canaries", [60, 100, 400])
def test_so_many_canaries_find_that_epsilon_in_four_of_five_cases(canaries):
    epsilon, guesses = float(resolution_of_canaries(canaries).split()[1]), canaries // 4
    needed = next(v for v in range(guesses + 1) if binom.sf(v - 1, guesses, 0.5) <= 0.025)
    for sure, is_enough in ((epsilon + 0.06, True), (epsilon - 0.06, False)):
        assert (binom.sf(needed - 1, guesses, 1 / (1 + np.exp(-sure))) >= 0.8) == is_enough


def test_a_model_in_the_cache_costs_nothing_and_others_what_their_rows_do(tmp_path):
    config = small_config()
    loaded = load_problem(config)
    trainer = Trainer(config, loaded.source, loaded.spec, tmp_path, recording([]))
    jobs = [
        (TrainingJob("original", loaded.splits.train, ORIGINAL), "all"),
        (TrainingJob("retrain 0", loaded.splits.remain, RETRAIN), "some"),
    ]
    train_or_find(trainer, [jobs[0][0]])
    one, other = planned(trainer, jobs, 10.0, len(loaded.splits.train))
    assert (one.found, one.seconds, one.rows) == (True, 0, 80)
    assert (other.found, other.seconds, other.trained_on) == (False, pytest.approx(8.0), "some")
