"""IAM against SciPy's Gumbel distribution in loops, and Monte Carlo: a Retrain is not told from Retrains."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, gumbel_r, ks_2samp
from sklearn.metrics import roc_auc_score

from ltu_jax.auditing.iam import confidence, iam, signal
from ltu_jax.auditing.intervals import one_more


def by_hand(unlearned, original, out):
    """Section 3.2 of the paper, step by step and row by row."""

    def scaled(margin):
        low, value, high = (-np.log(0.01 - np.log(p + 1e-5)) for p in (0.0, expit(margin), 1.0))
        return (value - low) / (high - low)

    alphas = [j / 99 for j in range(100)]
    result = np.zeros(len(unlearned))
    for j in range(1, 100):
        v = np.array([scaled(k) + alphas[j - 1] * (scaled(original) - scaled(k)) for k in out])
        beta = np.sqrt(6) * v.std() / np.pi
        for x in range(len(unlearned)):
            mean = np.mean([v[k, x] for k in range(len(out))])
            with np.errstate(over="ignore"):
                below = gumbel_r.cdf(scaled(unlearned[x]), mean - 0.5772 * beta, beta)
            result[x] += alphas[j] * below / sum(alphas)
    return result


def models(rng, rows, count):
    """Margins of models that did not see rows of their own difficulty, and how much the original gained on each."""
    difficulty = rng.normal(0.5, 1.5, rows)
    return difficulty + rng.normal(0, 0.8, (count, rows)), rng.exponential(3.0, rows)


def test_the_signal_goes_from_zero_to_one():
    np.testing.assert_allclose(signal(np.array([-800.0, 800.0])), [0, 1], atol=1e-12)
    rising = signal(np.linspace(-20, 20, 99))
    assert (np.diff(rising) > 0).all()


@pytest.mark.parametrize("count", [1, 3])
def test_the_confidence_is_that_of_the_paper_step_by_step(count):
    rng = np.random.default_rng(0)
    out, gained = models(rng, 8, count + 1)
    unlearned, out, original = out[0], out[1:], out[0] + gained
    np.testing.assert_allclose(confidence(unlearned, original, out), by_hand(unlearned, original, out), rtol=1e-9)
    largest = np.full(8, 800.0)  # offline: what no model exceeds
    np.testing.assert_allclose(confidence(unlearned, None, out), by_hand(unlearned, largest, out), rtol=1e-6)


def test_the_original_is_surer_than_what_is_half_way_and_that_than_a_retrain():
    rng = np.random.default_rng(1)
    out, gained = models(rng, 200, 3)
    original = out[:2].mean(axis=0) + gained
    of = [confidence(one, original, out[:2]).mean() for one in (original, original - gained / 2, out[2])]
    assert of[0] > of[1] + 0.05 > of[2] + 0.1 and min(of) > 0 and max(of) < 1


def test_models_that_answer_all_rows_alike_have_no_spread():
    same = np.zeros(5)
    found = confidence(np.array([-3.0, -1, 0, 1, 3]), same, same[None])
    np.testing.assert_allclose(found, [0, 0, found[2], 1, 1], atol=1e-12)


def test_each_retrain_is_compared_with_the_model_by_the_other_retrains():
    rng = np.random.default_rng(2)
    out, gained = models(rng, 50, 4)
    unlearned, retrains = out[0] + gained / 3, out[1:]
    original = out[0] + gained
    found = iam(unlearned, original, retrains, np.arange(50) % 3, rng, 200)
    aucs, distances = [], []
    for k in range(3):
        others = [retrains[j] for j in range(3) if j != k]
        mine, theirs = (confidence(one, original, np.stack(others)) for one in (unlearned, retrains[k]))
        aucs.append(roc_auc_score(np.repeat([1, 0], 50), np.concatenate([mine, theirs])))
        distances.append(100 * ks_2samp(mine, theirs).statistic)
    assert found.auc is not None and found.auc.value == pytest.approx(np.mean(aucs))
    assert found.ks is not None and found.ks.value == pytest.approx(np.mean(distances))
    np.testing.assert_array_equal(found.of_rows, confidence(unlearned, original, retrains))
    assert found.confidence.value == pytest.approx(found.of_rows.mean())
    assert found.confidence.smallest == pytest.approx(2.8 * found.of_rows.std() / 50**0.5, rel=0.2)
    assert (found.rows, found.references) == (50, 3)


def test_one_retrain_has_nothing_to_compare_with():
    rng = np.random.default_rng(3)
    out, gained = models(rng, 20, 2)
    found = iam(out[0], out[0] + gained, out[1:], np.zeros(20, int), rng, 50)
    assert found.auc is found.ks is None and 0 < found.confidence.low < found.confidence.high < 1


def test_a_retrain_is_accused_at_the_level_and_rows_that_stayed_and_rows_pushed_too_far_are_found():
    rng, outside, found = np.random.default_rng(4), 0, []
    for seed in range(300):
        out, gained = models(rng, 60, 3)
        original = out.mean(axis=0) + gained
        for stays in (0.0,) if seed >= 10 else (0.0, 0.7, -0.7):
            auc = iam(out[0] + stays * gained, original, out[1:], np.zeros(60, int), rng, 50).auc
            assert auc is not None
            if stays:
                found.append(auc.low > 0.5 if stays > 0 else auc.high < 0.5)
            else:
                outside += not auc.low <= 0.5 <= auc.high
    assert binom.ppf(0.0005, 300, 0.06) <= outside <= binom.ppf(0.9995, 300, 0.06)  # 50 resamples: about 6 %
    assert np.mean(found) > 0.8


@pytest.mark.slow
def test_over_seeds_a_retrain_is_accused_at_the_level_where_seeds_move_all_rows_at_once():
    """As ``auditing.run`` tests it: three Retrains, each against the others, say how far one more may lie."""
    rng, rows, accused, by_rows = np.random.default_rng(6), np.zeros(60, int), 0, 0
    for _ in range(300):
        out, gained = models(rng, 60, 4)
        out += rng.normal(0, 0.6, (4, 1))
        original = out.mean(axis=0) + gained
        aucs = []
        for k, others in ((0, [1, 2, 3]), (1, [2, 3]), (2, [1, 3]), (3, [1, 2])):
            aucs.append(iam(out[k], original, out[others], rows, rng, 20 if k == 0 else 2).auc)
        floor, least = np.array([one.value for one in aucs[1:]]), aucs[0].smallest / 2.8 / (4 / 3) ** 0.5
        accused += one_more(aucs[0].value, floor, each_other=True, least=least)[1] <= 0.05
        by_rows += not aucs[0].low <= 0.5 <= aucs[0].high
    assert binom.ppf(0.0005, 300, 0.05) <= accused <= binom.ppf(0.9995, 300, 0.05)
    assert by_rows > 60  # why rows give no p-value here


def test_bad_margins_are_named():
    rng, rows = np.random.default_rng(5), np.zeros(3)
    with pytest.raises(ValueError, match="margins of Retrains: there are none"):
        iam(rows, rows, np.zeros((0, 3)), np.zeros(3, int), rng)
    with pytest.raises(ValueError, match="margins of the original: 1 of 3 are not finite"):
        iam(rows, np.array([0, 1, np.nan]), rows[None], np.zeros(3, int), rng)
