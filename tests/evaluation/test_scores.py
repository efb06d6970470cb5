"""The paper's measures on a model whose predictions are known, and gaps worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numbered import C as CLASSES
from numbered import knows, numbered_source, state_of

from ltu_jax.evaluation.scores import accuracy, evaluate, gap, mean_scores, measure, spread
from ltu_jax.types import Scores, Source, Splits, make_state

pytestmark = pytest.mark.smoke

NUM_CLASSES = 5


def reads_the_answer(params, model_state, images, train):
    """The red byte of the first pixel is what the model answers, the green one how sure it is, in tenths of a nat."""
    assert train is False
    answer = jnp.round(images[:, 0, 0, 0] * 255).astype(jnp.int32)
    sure = images[:, :1, 0, 1] * 25.5
    return params["scale"] * sure * jax.nn.one_hot(answer, NUM_CLASSES), model_state


def made_up(parts):
    """A source and splits of rows ``(label, answer, sureness)``, part by part."""
    rows = [row for part in parts.values() for row in part]
    labels = np.array([label for label, _, _ in rows], np.int32)
    images = np.zeros((len(rows), 2, 2, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = ([row[i] for row in rows] for i in (1, 2))
    ends = np.cumsum([len(part) for part in parts.values()])
    index = {name: np.arange(end - len(parts[name]), end) for name, end in zip(parts, ends, strict=True)}
    index |= {name: np.zeros(0, int) for name in ("validation", "reserve", "test_forgotten") if name not in index}
    ids = np.arange(len(rows)).astype(str)
    return Source("made_up", images, labels, ids, NUM_CLASSES, len(rows)), Splits(**index)


STATE = make_state(reads_the_answer, {"scale": jnp.float32(1)}, {}, optax.identity(), jax.random.key(0))
RIGHT, WRONG = (2, 2, 100), (2, 3, 100)
PARTS = {
    "forget": [RIGHT, RIGHT, RIGHT, WRONG],  # UA 25
    "remain": [(0, 0, 100)] * 9 + [(1, 4, 100)],  # RA 90
    "test": [(3, 3, 100)] * 2 + [(4, 0, 100)] * 3,  # TA 40
    "validation": [WRONG] * 3,
    "reserve": [WRONG] * 3,
}


def score(parts, batch_size=3):
    source, splits = made_up(parts)
    return evaluate(reads_the_answer, STATE, splits, source, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [3, 100])
def test_ua_ra_and_ta_of_known_predictions(batch_size):
    scores = score(PARTS, batch_size)
    np.testing.assert_allclose([scores.ua, scores.ra, scores.ta], [25, 90, 40], rtol=1e-6)
    assert scores.ut_minutes is None and scores.ta_forgotten is None


def test_the_class_that_is_gone_has_a_test_accuracy_of_its_own():
    scores = score({**PARTS, "test_forgotten": [RIGHT, WRONG, WRONG, WRONG]})
    np.testing.assert_allclose([scores.ta, scores.ta_forgotten], [40, 25], rtol=1e-6)


def test_mi_is_the_share_of_forget_rows_that_look_like_test_rows():
    # Sure on what remains, unsure on test: confidences 0.9998 and 0.4, the boundary lies between them.
    parts = {"forget": [RIGHT] * 3 + [(2, 2, 5)], "remain": [RIGHT] * 6, "test": [(1, 1, 10)] * 6}
    assert score(parts).mi == 25
    # Where the model is surer of test than of what remains, the sure ones are the non-members.
    assert score({**parts, "remain": parts["test"], "test": parts["remain"]}).mi == 75


def test_validation_and_reserve_rows_count_for_nothing():
    others = {**PARTS, "validation": [RIGHT] * 7, "reserve": [RIGHT]}
    assert score(others) == score(PARTS)


def test_accuracy_is_a_percentage():
    logits = np.array([[1, 0], [0, 1], [3, 2], [5, 4]])
    assert accuracy(logits, np.array([0, 1, 1, 1])) == 50


A = Scores(ua=10.0, ra=99.0, ta=80.0, mi=20.0, ut_minutes=2.0)
B = Scores(ua=4.0, ra=100.0, ta=83.0, mi=34.0, ut_minutes=4.0)
C = Scores(ua=7.0, ra=98.0, ta=80.0, mi=27.0, ut_minutes=None)


def test_the_gap_is_the_distance_in_points_measure_by_measure_and_their_mean():
    assert gap(A, B) == gap(B, A) == {"ua": 6, "ra": 1, "ta": 3, "mi": 14, "mean": 6}
    assert gap(A, A)["mean"] == 0


def test_the_spread_is_the_mean_gap_over_all_pairs():
    # A-B: 6 1 3 14, A-C: 3 1 0 7, B-C: 3 2 3 7
    expected = {"ua": 4, "ra": 4 / 3, "ta": 2, "mi": 28 / 3, "mean": (4 + 4 / 3 + 2 + 28 / 3) / 4}
    assert spread([A, B, C]) == pytest.approx(expected)
    assert spread([A, B]) == gap(A, B)
    assert spread([A]) is None and spread([]) is None


def test_the_mean_is_measure_by_measure_and_none_where_one_is_missing():
    assert mean_scores([A, B]) == Scores(ua=7, ra=99.5, ta=81.5, mi=27, ut_minutes=3)
    assert mean_scores([A, B, C]) == Scores(ua=7, ra=99, ta=81, mi=27, ut_minutes=None)
    both = [dataclasses.replace(s, ta_forgotten=t) for s, t in ((A, 1.0), (B, 2.0))]
    assert mean_scores(both).ta_forgotten == 1.5


def test_a_model_is_asked_about_the_rows_named():
    source, right = numbered_source(60), np.random.default_rng(0).integers(0, 2, 60)
    index = {"forget": np.arange(7), "remain": np.array([50, 51, 3])}
    found = measure(state_of(knows, right=right), source, index, 5)
    assert list(found) == list(index)
    for name, rows in index.items():
        np.testing.assert_array_equal(found[name].labels, rows % CLASSES)
        np.testing.assert_array_equal(found[name].correct, right[rows])
        # The logits are 1 for one of the classes, and 0 for the others.
        sure = np.where(right[rows], np.e, 1) / (np.e + CLASSES - 1)
        np.testing.assert_allclose(found[name].confidence, sure, rtol=1e-6)
