"""The second request: who is trained on what, and the figures of canaries and strata against NumPy."""

import dataclasses
import math

import jax
import mlp
import numpy as np
import pytest
from progress_recorder import recording
from scipy.stats import t
from small import small_config

from ltu_jax.auditing import second_request
from ltu_jax.auditing.difficulty import Strata, difficulty
from ltu_jax.auditing.second_request import Models, Second
from ltu_jax.config import method_config
from ltu_jax.data.splits import Canaries
from ltu_jax.evaluation.likeness import predictions
from ltu_jax.training.jobs import AUDITED_ORIGINAL, AUDITED_RETRAIN, FIT, SHADOWS, Trainer
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Splits, make_state
from ltu_jax.unlearning.problem import load_problem

SOURCE = mlp.toy_source()
SPLITS = Splits(*(np.arange(i, j) for i, j in ((0, 30), (30, 100), (100, 110), (120, 150), (110, 120), (150, 160))))
SPEC, CONFIG = mlp.build(None, 4, (4, 4, 3)), small_config()


def state(seed):
    return make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(seed)), SGD, jax.random.key(9))


def logits_of(seed, source, rows):
    z, _ = SPEC.apply_fn(SPEC.init(jax.random.key(seed))[0], {}, source.images[rows] / np.float32(255), False)
    return np.asarray(z, np.float64)


def test_canaries_alone_have_wrong_labels_and_those_that_are_out_are_not_trained_on():
    second = second_request.second_request(SOURCE, SPLITS, 40, seed=3)
    rows, coins = second.canaries.rows, second.canaries.is_in
    assert set(rows) < set(SPLITS.train) and 10 < coins.sum() < 30
    changed = np.flatnonzero(second.source.labels != SOURCE.labels)
    assert changed.tolist() == rows.tolist()
    assert second.train.tolist() == sorted(set(SPLITS.train) - set(rows[~coins]))
    other = second_request.second_request(SOURCE, SPLITS, 40, seed=4)
    assert other.canaries.rows.tolist() != rows.tolist()


def test_without_canaries_it_is_trained_on_all_rows():
    second = second_request.second_request(SOURCE, SPLITS, 0, seed=3)
    assert second.train.tolist() == SPLITS.train.tolist()
    np.testing.assert_array_equal(second.source.labels, SOURCE.labels)


@pytest.mark.parametrize(
    "train, forget, count", [(900, 90, 18), (5000, 500, 100), (45_000, 4500, 500), (5000, 2500, 100), (100, 4, 0)]
)
def test_default_canaries_are_a_fiftieth_of_the_rows_and_at_most_a_tenth_of_those_to_forget(train, forget, count):
    empty = np.zeros(0, int)
    splits = Splits(np.arange(forget), np.arange(forget, train), empty, empty, empty, empty)
    assert second_request.default_canaries(splits) == count


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A second request of seconds, its models, and the labels of what was trained for it."""
    config, labels = small_config(method=method_config("finetune")), []
    loaded, folder = load_problem(config), tmp_path_factory.mktemp("cache")
    trainer = Trainer(config, loaded.source, loaded.spec, folder, recording([], labels=labels))
    second = second_request.second_request(loaded.source, loaded.splits, 10, seed=0)
    before = second_request.planned(trainer, loaded.splits, second, 8.0, 2)
    asked, real = [], second_request.unlearned_again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second_request, "unlearned_again", lambda *args: asked.append(args) or real(*args))
        models = second_request.models_of(trainer, loaded.splits, second, 2)
    [(_, source, splits, original, seed)] = asked
    assert source is second.source and splits is models.splits and seed != config.seed_for("unlearn")
    np.testing.assert_array_equal(original["params"]["w1"], models.original.params["w1"])
    first = list(labels)
    again = second_request.models_of(trainer, loaded.splits, second, 2)
    after = second_request.planned(trainer, loaded.splits, second, 8.0, 2)
    return trainer, loaded.splits, second, models, again, first, labels, (before, after)


def test_it_forgets_strata_and_the_canaries_that_are_in_as_many_rows_as_the_run(made):
    _, splits, second, models, *_ = made
    included = second.canaries.rows[second.canaries.is_in]
    size = (len(splits.forget) - len(included)) // 3
    assert [len(rows) for rows in models.strata] == [size] * 3
    assert models.splits.forget.tolist() == sorted([*np.concatenate(models.strata), *included])
    assert len(set(models.splits.forget)) == 3 * size + len(included) <= len(splits.forget)
    assert sorted([*models.splits.forget, *models.splits.remain]) == second.train.tolist()
    assert models.splits.test is splits.test and set(models.splits.visible) < set(models.splits.remain)


def test_strata_are_chosen_by_the_losses_of_its_own_original(made):
    trainer, _, second, models, *_ = made
    own = dataclasses.replace(trainer, source=second.source)
    losses = np.asarray(own.traced(second_request.original_job(second))["losses"], np.float64)
    of_row = dict(zip(second.train.tolist(), losses.T, strict=True))
    ordinary = [row for row in second.train if row not in second.canaries.rows]
    spread = {row: np.subtract(*np.quantile(of_row[row], [0.75, 0.25])) for row in ordinary}
    assert set(models.strata.hard) == set(sorted(ordinary, key=lambda row: -spread[row])[: len(models.strata.hard)])
    sure = {row: np.exp(-of_row[row]).mean() for row in ordinary if row not in models.strata.hard}
    assert set(models.strata.easy) == set(sorted(sure, key=lambda row: -sure[row])[: len(models.strata.easy)])


def test_its_models_are_trained_once_by_streams_of_their_own(made):
    trainer, splits, second, models, again, first, labels, (before, after) = made
    trained = ["audited-original, recorded", "unlearning", "audited-retrain 0", "audited-retrain 1"]
    assert [label for label in first if not label.startswith("reading")] == trained and labels == first
    np.testing.assert_array_equal(models.unlearned.params["w1"], again.unlearned.params["w1"])
    streams = {
        second_request.original_job(second).stream,
        *(j.stream for j in second_request.retrain_jobs(second.train, 2)),
    }
    assert streams == {AUDITED_ORIGINAL, AUDITED_RETRAIN} and not streams & {SHADOWS, FIT}
    retrain = trainer.initial(second_request.retrain_jobs(models.splits.remain, 2)[1])
    assert not np.allclose(retrain[0][0]["w1"], trainer.initial(second_request.original_job(second))[0][0]["w1"])
    assert [model.found for model in before] == [False] * 3 and after[0].found
    assert before[0].seconds == pytest.approx(8.0 * len(second.train) / len(splits.train)) and after[0].seconds == 0


def test_a_canarys_score_is_the_margin_of_its_wrong_label_less_that_of_retrains(monkeypatch):
    pytest.importorskip("jax_privacy")
    rng = np.random.default_rng(0)
    drawn = Canaries(np.arange(60), ((SOURCE.labels[:60] + 1) % 4).astype(np.int32), rng.random(60) < 0.5)
    labels = SOURCE.labels.copy()
    labels[:60] = drawn.labels
    source = dataclasses.replace(SOURCE, labels=labels)
    asked, real = [], second_request.one_run
    monkeypatch.setattr(second_request, "one_run", lambda *args: asked.append(args) or real(*args))
    finding = second_request.canary_audit(CONFIG, source, drawn, state(0), state(1), [state(2), state(3)])

    def margins(seed):
        z, own = logits_of(seed, source, drawn.rows), np.eye(4, dtype=bool)[drawn.labels]
        return z[own] - np.log(np.where(own, 0, np.exp(z)).sum(axis=1))

    scores = margins(0) - (margins(2) + margins(3)) / 2
    np.testing.assert_allclose(finding.details["scores"]["in"], scores[drawn.is_in], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(finding.details["scores"]["out"], scores[~drawn.is_in], rtol=1e-3, atol=1e-4)
    of = {seed: margins(seed) for seed in range(4)}
    both = (of[2] + of[3]) / 2
    for (found, coins, _), wanted in zip(asked, (scores, of[1] - both, of[2] - of[3], of[3] - of[2]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        assert coins is drawn.is_in
    epsilons = [real(*args[:2], np.random.default_rng(29)).epsilon for args in asked]
    assert (finding.unlearned, finding.original) == tuple(epsilons[:2])
    assert finding.floor == (min(e.value for e in epsilons[2:]), max(e.value for e in epsilons[2:]))


def test_strata_are_accuracies_beside_those_of_retrains():
    chosen = Strata(np.arange(0, 10), np.arange(10, 20), np.arange(20, 30))
    models = Models(SPLITS, chosen, state(1), state(0), (state(2), state(3)))
    nothing = Canaries(np.zeros(0, int), np.zeros(0, np.int32), np.zeros(0, bool))
    finding = second_request.strata_audit(CONFIG, Second(SOURCE, nothing, SPLITS.train), models)
    for name, rows in chosen._asdict().items():
        right = [100.0 * (logits_of(seed, SOURCE, rows).argmax(axis=1) == SOURCE.labels[rows]) for seed in range(4)]
        found = finding.details[name]
        np.testing.assert_allclose(
            [found["unlearned"], found["original"], *found["retrain"]], [one.mean() for one in right]
        )
        apart = right[0] - (right[2] + right[3]) / 2
        assert found["difference"].value == pytest.approx(apart.mean())
        error = apart.std(ddof=1) / np.sqrt(10)
        assert found["difference"].smallest == pytest.approx(2.8 * error, rel=0.1)
        own, _, *theirs = (  # the unlearned model is the first
            predictions(logits_of(seed, SOURCE, rows), SOURCE.labels[rows]).margin for seed in range(4)
        )
        spread = np.std([one.mean() for one in theirs], ddof=1), (np.var(theirs, axis=0, ddof=1).mean() / 10) ** 0.5
        statistic = (own.mean() - np.mean(theirs)) / max(spread) / 1.5**0.5
        assert found["p_value"] == pytest.approx(2 * t.sf(abs(statistic), 1), rel=1e-3)
    assert math.isnan(finding.unlearned.smallest)  # what is tested are margins
    assert finding.tested == pytest.approx(finding.details["hard"]["margin_over_seeds"].value)
    assert finding.unlearned.value == finding.details["hard"]["difference"].value
    assert finding.original.value == finding.details["hard"]["of_original"].value
    one, other = finding.details["hard"]["retrain"]
    assert finding.floor == (-abs(one - other), abs(one - other))


def test_difficulty_is_of_rows_that_are_no_canaries():
    assert difficulty(np.array([[1.0, 2], [3, 2]])).iqr.tolist() == [1.0, 0.0]
