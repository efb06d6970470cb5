"""U-LiRA against double loops that read its definition, its bias, and its resolution on Gaussian margins."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from ltu_jax.auditing import lira
from ltu_jax.auditing.intervals import normal_p_value
from ltu_jax.auditing.lira import efficacy, privacy


def shadows(num_pairs, num_rows, shift=0.0, seed=0):
    """Margins f64[2 * num_pairs, M], masks and pairs; forgotten rows lie ``shift`` sigma off, with a random sign."""
    rng = np.random.default_rng(seed)
    half = rng.random((num_pairs, num_rows)) < 0.5
    masks = np.stack([half, ~half], axis=1).reshape(-1, num_rows)
    pairs = np.arange(2 * num_pairs).reshape(-1, 2)
    order = rng.permutation(len(masks))  # complements need not stand side by side
    sign, centre = rng.choice([-1, 1], num_rows), rng.normal(size=num_rows)
    margins = centre + rng.normal(size=masks.shape) + shift * sign * masks
    return margins[order], masks[order], np.argsort(order)[pairs]


def ratio(x, unlearned, unseen, sigmas):
    return norm.logpdf(x, np.mean(unlearned), sigmas[0]) - norm.logpdf(x, np.mean(unseen), sigmas[1])


def by_definition(margins, masks, pairs, pooled):
    """Every target shadow and every row: U and O without the target and its complement; log ratios and truths."""
    scores, truths, of_row = [], [], []
    for target in range(len(margins)):
        complement = next(b if a == target else a for a, b in pairs if target in (a, b))
        others = [s for s in range(len(margins)) if s not in (target, complement)]
        sides = []
        for row in range(margins.shape[1]):
            sides.append([[margins[s, row] for s in others if masks[s, row] == side] for side in (True, False)])
        for row, (unlearned, unseen) in enumerate(sides):
            variances = [[np.var(of[i], ddof=1) for of in (sides if pooled else [sides[row]])] for i in (0, 1)]
            sigmas = [max(np.sqrt(np.mean(one)), 1e-3) for one in variances]
            scores.append(ratio(margins[target, row], unlearned, unseen, sigmas))
            truths.append(masks[target, row])
            of_row.append(row)
    return np.array(scores), np.array(truths), np.array(of_row)


@pytest.mark.parametrize("pooled", [True, False])
def test_privacy_is_its_definition(pooled):
    margins, masks, pairs = shadows(4, 30, shift=1.0)
    margins[:, 0] = masks[:, 0]  # constant on both sides: sigma is its floor
    found = getattr(privacy(margins, masks, pairs, resamples=2), "pooled" if pooled else "own")
    scores, truths, of_row = by_definition(margins, masks, pairs, pooled)
    np.testing.assert_allclose(np.sort(found.unlearned.ravel()), np.sort(scores[truths]), rtol=1e-9)
    np.testing.assert_allclose(np.sort(found.unseen.ravel()), np.sort(scores[~truths]), rtol=1e-9)
    assert found.auc.value == pytest.approx(roc_auc_score(truths, scores), abs=1e-12)
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truths, scores > 0), abs=1e-12)
    for row in range(30):
        at = of_row == row
        expected = balanced_accuracy_score(truths[at], scores[at] > 0)
        assert found.row_accuracy[row] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_retrains", [4, 8, 3])
def test_efficacy_is_its_definition(num_retrains):
    """Pair k and Retrain k are left out together; of fewer Retrains or pairs some come again."""
    margins, masks, pairs = shadows(4, 20, shift=0.5)
    retrains = np.random.default_rng(9).normal(size=(num_retrains, 20))
    found = efficacy(margins, masks, pairs, retrains, resamples=2)
    scores, truths = [], []
    for k in range(max(4, num_retrains)):
        left, retrain = pairs[k % 4], k % num_retrains
        for row in range(20):
            inside = [s for s in range(8) if masks[s, row] and s not in left]
            unlearned, unseen = margins[inside, row], np.delete(retrains[:, row], retrain)
            target = next(s for s in left if masks[s, row])
            sigmas = [np.std(of, ddof=1) for of in (unlearned, unseen)]
            for x, truth in ((margins[target, row], True), (retrains[retrain, row], False)):
                scores.append(ratio(x, unlearned, unseen, sigmas))
                truths.append(truth)
    assert (found.variant, found.references) == ("efficacy", (3, num_retrains - 1))
    assert found.own.auc.value == pytest.approx(roc_auc_score(truths, scores), abs=1e-12)


def test_the_true_positive_rate_is_the_largest_at_a_measured_rate_of_false_positives(monkeypatch):
    rates = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
    monkeypatch.setattr(lira, "FALSE_POSITIVES", {**dict.fromkeys(rates, 30), 0.9: 31})
    margins, masks, pairs = shadows(4, 30, shift=2.0)
    found = privacy(np.round(margins), masks, pairs, resamples=2).pooled  # with ties
    truths = np.repeat([True, False], found.unseen.size)
    fpr, tpr, _ = roc_curve(truths, np.concatenate([found.unlearned.ravel(), found.unseen.ravel()]))
    assert found.tpr.keys() == set(rates)  # too few rows for .9
    expected = [tpr[fpr <= rate + 1e-12].max() for rate in rates]
    np.testing.assert_allclose([one.value for one in found.tpr.values()], expected, atol=1e-12)


@pytest.mark.parametrize("num_shadows, biased", [(4, 0.41), (8, 0.476), (16, 0.492)])
def test_without_an_effect_the_auc_is_a_half_where_leaving_out_the_target_alone_biases_it(num_shadows, biased):
    pairs, num_rows = num_shadows // 2, 8000
    rng = np.random.default_rng(num_shadows)
    unlearned, unseen = rng.normal(size=(2, pairs, num_rows))
    log_ratio = lambda x, u, o: (x - o.mean(0)) ** 2 - (x - u.mean(0)) ** 2  # noqa: E731, sigma known
    alone = log_ratio(unlearned[0], unlearned[1:], unseen), log_ratio(unseen[0], unlearned, unseen[1:])
    truths = np.repeat([1, 0], num_rows)
    noise = 4 / np.sqrt(6 * num_rows)  # of the AUC at 1/2
    assert roc_auc_score(truths, np.concatenate(alone)) == pytest.approx(biased, abs=noise)
    if num_shadows > 4:
        found = privacy(*shadows(pairs, 1000, seed=num_shadows), resamples=2)
        for one in (found.pooled, found.own):
            assert one.auc.value == pytest.approx(0.5, abs=4 / np.sqrt(6 * 1000 * pairs))


@pytest.mark.parametrize(
    "shift, each, pooled, own", [(1, 2, 0.671, 0.588), (1, 8, 0.740, 0.711), (0.5, 8, 0.596, 0.575)]
)
def test_what_it_resolves(shift, each, pooled, own):
    """Values of the reference's simulation, with so many references a side."""
    found = privacy(*shadows(each + 1, 3000, shift=shift), resamples=2)
    assert found.references == (each, each)
    assert found.pooled.auc.value == pytest.approx(pooled, abs=0.012)
    assert found.own.auc.value == pytest.approx(own, abs=0.012)
    assert found.main is found.pooled


def test_the_interval_holds_a_half_without_an_effect():
    """Rows and targets resampled at once: wider than needed where nothing moves whole models, never narrower."""
    outside = accused = 0
    for seed in range(300):
        auc = privacy(*shadows(4, 40, seed=seed), resamples=30).pooled.auc
        outside += not auc.low <= 0.5 <= auc.high
        accused += normal_p_value(auc, 0.5) <= 0.05
    assert max(outside, accused) <= binom.ppf(0.9995, 300, 0.05)


def test_the_interval_knows_that_targets_differ():
    """One pair of four shows nothing of what it forgot: however many rows there are, another draw of pairs may not."""
    margins, masks, pairs = shadows(4, 2000)
    margins[pairs[1:]] += 4 * masks[pairs[1:]]
    auc = privacy(margins, masks, pairs, resamples=100).own.auc
    assert auc.high - auc.low > 0.1  # of rows alone .02


def test_a_method_that_makes_all_margins_constant_passes():
    _, masks, pairs = shadows(4, 20)
    found = privacy(np.ones(masks.shape), masks, pairs, resamples=2).main
    assert (found.auc.value, found.balanced_accuracy.value) == (pytest.approx(0.5), pytest.approx(0.5))


def test_own_sigmas_are_the_main_reading_of_many_shadows():
    found = privacy(*shadows(33, 5), resamples=2)
    assert found.main is found.own


def test_scores_are_log_ratios_far_out_too():
    """Forty sigma away densities are 0 in 64 bits."""
    margins, masks, pairs = shadows(4, 10)
    found = privacy(np.where(masks, margins + 1000, margins), masks, pairs, resamples=2)
    assert np.isfinite(found.own.unlearned).all() and found.own.auc.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m, k, p: (m, k, p[:, ::-1][:2]), "^pairs: shape"),
        (lambda m, k, p: (m, k, np.tile(p[:1], (4, 1))), "^pairs: shape"),
        (lambda m, k, p: (m, np.ones_like(k), p), "share rows"),
        (lambda m, k, p: (m, k[:, :-1], p), "^masks: shape"),
        (lambda m, k, p: (np.where(k, np.nan, m), k, p), "^margins: .* not finite"),
        (lambda m, k, p: (m[:4], k[:4], np.arange(4).reshape(2, 2)), "^pairs: .* at least 3 pairs"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        privacy(*change(*shadows(4, 10)))


@pytest.mark.parametrize("shape", [(2, 10), (4, 9)])
def test_retrains_of_another_shape_or_too_few_are_refused(shape):
    with pytest.raises(ValueError, match="^retrains: shape"):
        efficacy(*shadows(4, 10), np.zeros(shape))


def test_the_order_of_the_shadows_does_not_matter():
    margins, masks, pairs = shadows(3, 10)
    expected = privacy(margins, masks, pairs, resamples=2).own.auc.value
    for order in itertools.islice(itertools.permutations(range(6)), 5, 700, 100):
        place = np.argsort(order)
        found = privacy(margins[list(order)], masks[list(order)], place[pairs], resamples=2)
        assert found.own.auc.value == pytest.approx(expected, abs=1e-12)
