"""What the report shows of the forget rows."""

import dataclasses

import numpy as np

from ltu_jax.unlearning.evidence import changed_most, forget_confidence


def test_before_is_the_original_and_after_the_state_that_is_shown(problem):
    shown = forget_confidence(problem, problem.retrains[1])
    states = {"before": problem.original, "after": problem.retrains[1], "Retrain": problem.retrains[0]}
    rows = problem.splits.forget
    for name, state in states.items():
        logits = problem.spec.apply_fn(state.params, {}, problem.source.images[rows] / np.float32(255), False)[0]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shown[name], p[np.arange(16), problem.source.labels[rows]], rtol=1e-4)


def test_the_evidence_is_of_the_forget_rows_and_the_largest_change_comes_first(problem):
    confidence = forget_confidence(problem, problem.retrains[1])
    assert set(confidence) == {"before", "after", "Retrain"}
    assert all(c.shape == (16,) and (0 <= c).all() and (c <= 1).all() for c in confidence.values())
    changed = changed_most(problem, confidence, num=5)
    sizes = [abs(after - before) for *_, before, after in changed]
    assert sizes == sorted(sizes, reverse=True)
    assert np.isclose(sizes[0], np.abs(confidence["after"] - confidence["before"]).max())
    forgotten = set(problem.source.ids[problem.splits.forget])
    assert all(name in forgotten and image.shape == (8, 8, 3) for name, image, *_ in changed)


def test_an_image_comes_with_its_id_its_label_and_its_confidence_before_and_after(problem):
    rows = problem.splits.forget
    before, after = np.linspace(0.2, 0.8, 16), np.full(16, 0.5)
    before[[3, 9, 14]], after[[3, 9, 14]] = [0.1, 0.9, 0.9], [0.9, 0.1, 0.0]
    shown = changed_most(problem, {"before": before, "after": after})
    assert len(shown) == 12
    for place, (name, image, label, *pair) in zip((14, 3, 9), shown, strict=False):  # ties stay in order
        assert (name, label) == (problem.source.ids[rows[place]], problem.source.labels[rows[place]])
        assert pair == [before[place], after[place]]
        np.testing.assert_array_equal(image, problem.source.images[rows[place]])


def test_images_that_changed_alike_come_in_their_order(problem):
    """Of very many a sort that is not stable would mix them."""
    rows = np.arange(300) % len(problem.source.ids)
    many = dataclasses.replace(problem, splits=dataclasses.replace(problem.splits, forget=rows))
    after = np.tile([0.25, 0.5], 150)
    shown = changed_most(many, {"before": np.zeros(300), "after": after}, num=120)
    assert [name for name, *_ in shown] == problem.source.ids[rows[1:240:2]].tolist()
