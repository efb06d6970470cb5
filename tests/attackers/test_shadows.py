"""Shadows: halves of the reserve, others for each; for what is fitted on them see unlearning/test_preparation."""

import numpy as np
from small import small_config

from ltu_jax.attackers.shadows import shadow
from ltu_jax.training.jobs import SHADOWS

RESERVE = np.arange(100, 161)


def test_a_shadow_is_trained_on_a_half_of_the_reserve_and_asked_about_the_other():
    config = small_config()
    for index in range(3):
        one = shadow(config, RESERVE, index)
        assert sorted([*one.members, *one.others]) == list(RESERVE) and len(one.members) - len(one.others) == 1
        np.testing.assert_array_equal(one.job.rows, np.sort(one.members))
        assert (one.job.stream, one.job.index, one.job.kind) == (SHADOWS, index, "shadow")


def test_shadows_differ_by_their_index_and_the_training_seed():
    halves = {tuple(shadow(small_config(seed=seed), RESERVE, i).job.rows) for seed in (0, 1) for i in range(3)}
    assert len(halves) == 6
    again = shadow(small_config(), RESERVE, 1)
    np.testing.assert_array_equal(again.members, shadow(small_config(), RESERVE, 1).members)
