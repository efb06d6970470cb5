"""A population: who is trained on what and forgets what, and that the audits read the right models."""

import dataclasses

import numpy as np
import pytest
from progress_recorder import recording
from small import small_config

from ltu_jax.auditing import klom, lira, population
from ltu_jax.auditing.forgetting_quality import forgetting_quality
from ltu_jax.auditing.population import Cut, Population, cut, jobs, populate, population_audits
from ltu_jax.config import method_config
from ltu_jax.training.jobs import AUDITED_SHADOW, FIT, ORACLE, SHADOWS, Trainer
from ltu_jax.types import Splits
from ltu_jax.unlearning.problem import load_problem

PARTS = [np.arange(i, j) for i, j in ((0, 20), (20, 100), (100, 110), (120, 150), (110, 120), (150, 160))]
SPLITS = Splits(*PARTS)


def a_cut(shadows=6):
    return cut(SPLITS, shadows, np.random.default_rng(0))


def test_each_pair_halves_the_candidates_which_are_the_forget_rows_and_as_many_others():
    made = a_cut()
    assert set(SPLITS.forget) < set(made.candidates) and len(made.candidates) == 40
    assert sorted([*made.candidates, *made.common]) == [*range(100)]
    for one, other in made.pairs:
        assert (made.masks[one] != made.masks[other]).all() and made.masks[one].sum() == 20
    assert len({mask.tobytes() for mask in made.masks}) == 6


def test_shadows_are_trained_on_common_rows_and_their_half_and_oracles_on_common_rows():
    made = a_cut()
    of_shadows, of_oracles = jobs(made, 4)
    for mask, job in zip(made.masks, of_shadows, strict=True):
        assert set(job.rows) == {*made.common, *made.candidates[mask]} and len(job.rows) == 80
    assert all(job.rows.tolist() == made.common.tolist() for job in of_oracles)
    names = [(job.stream, job.index) for job in (*of_shadows, *of_oracles)]
    assert len(set(names)) == 10
    assert {job.stream for job in of_shadows} == {AUDITED_SHADOW} and {job.stream for job in of_oracles} == {ORACLE}
    assert not {AUDITED_SHADOW, ORACLE} & {SHADOWS, FIT}  # no model of an audit by the keys of what guides runs


@pytest.mark.parametrize("shadows, forget", [(5, 20), (6, 50)])
def test_what_cannot_be_halved_is_refused(shadows, forget):
    splits = dataclasses.replace(SPLITS, forget=np.arange(forget), remain=np.arange(forget, 100))
    with pytest.raises(ValueError, match="an even number of shadows, and more rows that remain"):
        cut(splits, shadows, np.random.default_rng(0))


def made_up(rng, shift):
    """A population whose unlearned rows lie ``shift`` from those never seen."""
    made = a_cut(16)
    unlearned = rng.normal(size=(16, 40)) + shift * made.masks
    before = unlearned + 2 * made.masks
    return Population(made, before, unlearned, rng.normal(size=(16, 40)), rng.normal(size=(16, 20)) + shift)


def test_findings_are_those_of_the_audits_on_the_right_models():
    models = made_up(np.random.default_rng(3), 1.0)
    made, names = models.cut, ["lira", "klom", "forgetting_quality"]
    found = {one.audit: one for one in population_audits(models, names)}
    wanted = lira.privacy(models.unlearned, made.masks, made.pairs)
    assert found["lira"].unlearned == wanted.pooled.auc
    assert found["lira"].original == lira.privacy(models.before, made.masks, made.pairs).pooled.auc
    assert found["klom"].original.value > found["klom"].unlearned.value
    forgot = np.stack([models.unlearned[made.masks[:, m], m] for m in range(40)], axis=1)  # [8, 40], any order
    assert found["klom"].details["of_all_models"] == (8, 16)
    of_all = klom.klom(forgot, models.oracles).unlearned_to_oracle.mean.value
    assert found["klom"].details["unlearned_to_oracle_of_all"]["mean"].value == pytest.approx(of_all)
    oracles = models.oracles[:, made.masks[0]]
    of_all = forgetting_quality(models.of_one, oracles).quality
    assert found["forgetting_quality"].details["of_all"] == of_all


def test_figures_and_floors_are_of_as_many_models_and_a_population_of_oracles_is_within_its_floor():
    rng = np.random.default_rng(0)
    made = a_cut(32)
    same = Population(made, *(rng.normal(size=(32, rows)) for rows in (40, 40, 40, 20)))
    for one in population_audits(same, ["klom", "forgetting_quality"]):
        assert one.details["models"] == (16, 16)
        low, high = one.floor
        width = 4 * (one.unlearned.smallest / 2.8)
        assert low < high and low - width < one.unlearned.value < high + width, one.audit
    moved = same._replace(unlearned=same.unlearned + 3 * made.masks, of_one=same.of_one + 3)
    klom_found, quality_found = population_audits(moved, ["klom", "forgetting_quality"])
    assert klom_found.unlearned.low > klom_found.floor[1] and quality_found.unlearned.high < quality_found.floor[0]


def test_only_what_is_named_is_made():
    models = made_up(np.random.default_rng(3), 1.0)
    assert [one.audit for one in population_audits(models, ["klom"])] == ["klom"]


def test_a_shift_is_found_and_none_is_not():
    p_values = [
        population_audits(made_up(np.random.default_rng(seed), shift), ["lira"])[0].p_value
        for shift in (0.0, 1.5)
        for seed in range(5)
    ]
    assert min(p_values[:5]) > 0.05 / 5 and max(p_values[5:]) < 0.001


def test_a_population_is_trained_once_and_each_shadow_forgets_its_own_half(tmp_path, monkeypatch):
    config, labels = small_config(method=method_config("finetune")), []
    loaded = load_problem(config)
    trainer = Trainer(config, loaded.source, loaded.spec, tmp_path, recording([], labels=labels))
    made = cut(loaded.splits, 6, np.random.default_rng(1))
    asked, states, real = [], [], population.unlearned_again

    def unlearned_again(*args):
        asked.append(args)
        states.append(real(*args))
        return states[-1]

    monkeypatch.setattr(population, "unlearned_again", unlearned_again)
    first = populate(trainer, loaded.splits, made, 3)
    for i, (_, _, splits, original, seed) in enumerate(asked):
        shadow = i if i < 6 else 0
        assert splits.forget.tolist() == made.candidates[made.masks[shadow]].tolist()
        assert splits.remain.tolist() == made.common.tolist()
        assert splits.test is loaded.splits.test and len(splits.visible) == round(0.3 * len(made.common))
        assert seed == config.seed_for("unlearn") + 1 + i
        assert original is asked[shadow][3]
    assert sum(label.startswith("audited-shadow") for label in labels) == 6
    assert sum(label.startswith("oracle") for label in labels) == 3
    assert sum(label == "unlearning" for label in labels) == 6 + 3
    again = populate(trainer, loaded.splits, made, 3)
    assert len(labels) == 18
    for one, other in zip(first[1:], again[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    shadow, oracle = (trainer.state_of(trainer.model(of[2])) for of in jobs(made, 3))
    forgot = made.candidates[made.masks[0]]
    for found, one, rows in (
        (first.before[2], shadow, made.candidates),
        (first.unlearned[3], states[3], made.candidates),
        (first.oracles[2], oracle, made.candidates),
        (first.of_one[1], states[7], forgot),
    ):
        z = np.asarray(one.apply_fn(one.params, {}, loaded.source.images[rows] / np.float32(255), False)[0], np.float64)
        is_own = np.eye(10, dtype=bool)[loaded.source.labels[rows]]
        wanted = z[is_own] - np.log(np.where(is_own, 0, np.exp(z)).sum(axis=1))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert first.unlearned.shape == (6, 32) and first.oracles.shape == (3, 32) and first.of_one.shape == (3, 16)
    assert not np.array_equal(first.of_one[0], first.of_one[1])  # another seed of the unlearning each time
    assert isinstance(first.cut, Cut)
