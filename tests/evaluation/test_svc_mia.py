"""MI against scikit-learn's SVC called by hand, on cases worked out here."""

import numpy as np
import pytest
from sklearn.svm import SVC

from ltu_jax.evaluation.svc_mia import confidence, svc_mia

pytestmark = pytest.mark.smoke


def by_hand(members, others, forget):
    """MIA-efficacy of SalUn's evaluation on exactly these rows: TN / |D_f|."""
    features = np.array([*members, *others])[:, None]
    attacker = SVC(C=3, gamma=1.0, kernel="rbf").fit(features, [1] * len(members) + [0] * len(others))
    return 100 * (attacker.predict(np.array(forget)[:, None]) == 0).sum() / len(forget)


def test_confidence_is_the_probability_of_the_true_label():
    logits = np.array([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]], np.float32)
    # e^2 / (e^1 + e^2 + e^0.5) and e^-1 / (e^-1 + 1 + e^3)
    np.testing.assert_allclose(confidence(logits, np.array([1, 0])), [0.62853172, 0.01714783], rtol=1e-6)


def test_confidence_of_extreme_logits_is_finite_and_keeps_float64():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0], [-20.0, 0.0]], np.float32)
    out = confidence(logits, np.zeros(3, int))
    np.testing.assert_allclose(out, [1, 0, np.exp(-20) / (1 + np.exp(-20))], rtol=1e-12)
    # 1 - 1e-9 is 1 in float32, and the SVC would see no difference
    assert confidence(np.array([[20.7, 0.0]], np.float32), np.zeros(1, int))[0] < 1


def test_a_symmetric_pair_is_split_in_the_middle():
    # One member at 0.9 and one other at 0.1: the boundary is 0.5, three of five lie below it.
    assert svc_mia(np.array([0.9]), np.array([0.1]), np.array([0.55, 0.7, 0.45, 0.2, 0.0])) == 60


def test_a_worked_case_with_overlap_equals_scikit_learn_called_by_hand():
    remain = np.array([0.99, 0.97, 0.95, 0.90, 0.88, 0.60])
    test = np.array([0.98, 0.70, 0.55, 0.40, 0.30, 0.10])
    forget = np.array([0.99, 0.93, 0.85, 0.75, 0.62, 0.50, 0.35, 0.05])
    # the attacker draws the line between 0.75 and 0.62: four of eight are called non-members
    assert by_hand(remain, test, forget) == svc_mia(remain, test, forget) == 50


@pytest.mark.parametrize("longer", ["remain", "test"])
def test_the_longer_side_is_cut_to_the_shorter_by_rows_spread_evenly(longer):
    # 8 rows against 4: rows 0, 2, 5, 7 (of 0, 2.33, 4.67, 7). Two 0.9 and two 0.2; the first four are all 0.9.
    long, short = np.array([0.9, 0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2]), np.array([0.5, 0.55, 0.6, 0.65])
    forget = np.linspace(0, 1, 41)
    spread = [0.9, 0.9, 0.2, 0.2]
    sides = (lambda x: (x, short)) if longer == "remain" else (lambda x: (short, x))
    assert svc_mia(*sides(long), forget) == pytest.approx(by_hand(*sides(spread), forget))
    assert by_hand(*sides(spread), forget) != pytest.approx(by_hand(*sides(long[:4]), forget))


def test_random_confidences_of_any_sizes_equal_scikit_learn_on_balanced_rows():
    rng = np.random.default_rng(0)
    for num_remain, num_test in ((90, 40), (40, 90), (41, 40), (30, 30)):
        remain, test, forget = rng.beta(5, 1, num_remain), rng.beta(2, 1, num_test), rng.beta(3, 1, 50)
        size = min(num_remain, num_test)
        pick = lambda x, size=size: [x[round(i * (len(x) - 1) / (size - 1))] for i in range(size)]  # noqa: E731
        assert svc_mia(remain, test, forget) == pytest.approx(by_hand(pick(remain), pick(test), forget))


def test_a_model_that_tells_nothing_apart_and_one_that_tells_everything():
    sure, unsure = np.linspace(0.9, 1, 30), np.linspace(0, 0.3, 30)
    assert svc_mia(sure, unsure, sure) == 0  # nothing forgotten
    assert svc_mia(sure, unsure, unsure) == 100
