"""Shadows: halves of the reserve, others for each; and what the attackers are told of them, or of the original."""

import types

import numpy as np
import pytest
from numbered import numbered_source, state_of, tells
from small import small_config

from ltu_jax import config
from ltu_jax.attackers import shadows
from ltu_jax.attackers.bank import init_bank
from ltu_jax.attackers.shadows import shadow
from ltu_jax.setting import ConfigError
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


def heard(monkeypatch, augment="flip", **attackers):
    """A trainer of models that tell what they are shown, what it trained, and the outputs fitted on and kept."""
    data, attackers = (
        config.Data("numbered", augment=augment),
        config.Attackers(names=("sorted", "metrics"), **attackers),
    )
    trained, outputs = {}, []

    def model(job):
        trained[job.index] = set(job.rows.tolist())
        return {"seconds": 0.0, "index": job.index}

    def fit_bank(fitted_on, settings, num_classes, key):
        outputs.append(told(fitted_on))
        return init_bank(key, settings.names, num_classes)

    monkeypatch.setattr(shadows, "fit_bank", fit_bank)
    monkeypatch.setattr(shadows, "attacker_auc", lambda bank, kept: outputs.append(told(kept)) or {})
    trainer = types.SimpleNamespace(
        config=small_config(data=data, attackers=attackers),
        source=numbered_source(300),
        model=model,
        state_of=lambda model: state_of(tells, own=model["index"]),
    )
    return trainer, trained, outputs


def told(outputs):
    """Of each output: the row, is it mirrored, the model, is it said to be a member; all in training mode."""
    row, mirrored, train, model = np.asarray(outputs.logits).astype(int).T
    assert train.all() and set(mirrored) <= {0, 1}
    np.testing.assert_array_equal(np.asarray(outputs.labels), row % 4)
    return row, mirrored, model, np.asarray(outputs.is_member) == 1


def test_attackers_learn_of_every_shadow_but_the_last_what_it_was_trained_on(monkeypatch):
    trainer, trained, outputs = heard(monkeypatch, num_shadows=3, draws=2)
    reserve = np.arange(100, 180)
    shadows.fit_on_shadows(trainer, reserve)
    fitted, kept = outputs
    for (row, _, model, is_member), models, draws in ((fitted, {0, 1}, 2), (kept, {2}, 1)):
        assert set(model) == models
        np.testing.assert_array_equal(is_member, [r in trained[m] for r, m in zip(row, model, strict=True)])
        for m in models:
            np.testing.assert_array_equal(np.sort(row[model == m]), np.repeat(reserve, draws))


@pytest.mark.parametrize("augment", ["flip", "none"])
def test_attackers_learn_from_outputs_that_are_augmented_as_in_unlearning(monkeypatch, augment):
    trainer, _, outputs = heard(monkeypatch, augment, num_shadows=2, draws=2)
    shadows.fit_on_shadows(trainer, np.arange(100, 180))
    shadows.fit_on_original(trainer, state_of(tells, own=0), np.arange(100), np.arange(200, 300))
    for _, mirrored, _, is_member in outputs:  # a flip in two: within four standard deviations
        for side in (True, False):
            assert abs(mirrored[is_member == side].mean() - 0.5) < 0.45 if augment == "flip" else not mirrored.any()


def test_attackers_of_the_original_learn_from_four_fifths_and_are_measured_on_the_others(monkeypatch):
    trainer, trained, outputs = heard(monkeypatch, draws=2)
    known, held_out = np.arange(50, 100), np.arange(200, 250)
    shadows.fit_on_original(trainer, state_of(tells, own=7), known, held_out)
    fitted, kept = outputs
    for row, _, model, is_member in outputs:
        assert set(model) == {7}
        np.testing.assert_array_equal(is_member, np.isin(row, known))
        assert np.isin(row[~is_member], held_out).all()
    assert not trained and not set(fitted[0]) & set(kept[0])
    assert len(set(fitted[0])) == 80 and len(fitted[0]) == 160 and len(kept[0]) == 20


@pytest.mark.parametrize("known, held_out, named", [(1, 50, "1 remaining rows"), (50, 0, "0 held-out rows")])
def test_fewer_than_two_rows_to_fit_on_are_refused(monkeypatch, known, held_out, named):
    trainer, _, _ = heard(monkeypatch)
    with pytest.raises(ConfigError, match=f"config.attackers.fitted_on: 'original' with {named}.*two or more"):
        shadows.fit_on_original(trainer, state_of(tells, own=7), np.arange(known), np.arange(200, 200 + held_out))
