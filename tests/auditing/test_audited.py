"""What may be compared: rows that guide runs are not scored, and no model is its own reference."""

import dataclasses

import jax
import mlp
import numpy as np
import pytest
from small import small_config

from ltu_jax.auditing.audited import Audited, RuleError, scored
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Splits, make_state

SOURCE, SPEC, CONFIG = mlp.toy_source(), mlp.build(None, 4, (4, 4, 3)), small_config()
PARTS = [np.arange(i, j) for i, j in ((0, 20), (20, 100), (100, 110), (120, 150), (110, 120), (150, 160))]
SPLITS = Splits(*PARTS)


def state(seed):
    return make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(seed)), SGD, jax.random.key(9))


def audited(unlearned=0, original=1, retrains=(2, 3), splits=SPLITS):
    return Audited(CONFIG, SOURCE, splits, state(unlearned), state(original), tuple(map(state, retrains)))


def test_held_out_rows_are_test_rows_those_of_a_forgotten_class_too():
    rows = scored(SPLITS)
    assert rows["test"].tolist() == [*range(120, 160)]
    assert rows["forget"].tolist() == [*range(20)] and rows["remain"].tolist() == [*range(20, 100)]


@pytest.mark.parametrize("guiding", ["reserve", "validation"])
@pytest.mark.parametrize("of", ["forget", "remain", "test"])
def test_no_row_that_guides_a_run_is_scored(guiding, of):
    shared = getattr(SPLITS, of)[:3]
    with pytest.raises(RuleError, match=f"3 {of} rows are in reserve or validation"):
        audited(splits=dataclasses.replace(SPLITS, **{guiding: shared}))


@pytest.mark.parametrize("unlearned, retrains", [(2, (2, 3)), (0, (3, 3))])
def test_a_model_is_none_of_its_references_and_these_differ(unlearned, retrains):
    with pytest.raises(RuleError, match="one of the Retrains"):
        audited(unlearned, retrains=retrains)
    audited(0, retrains=(2, 3))


def test_the_untouched_original_may_be_audited():
    assert audited(1, 1).of_retrains == ["retrain 0", "retrain 1"]


def test_outputs_are_those_of_each_model():
    run = audited()
    for name, seed in {"unlearned": 0, "original": 1, "retrain 1": 3}.items():
        for of, rows in {**scored(SPLITS), "held_out": scored(SPLITS)["test"]}.items():
            z, _ = SPEC.apply_fn(SPEC.init(jax.random.key(seed))[0], {}, SOURCE.images[rows] / np.float32(255), False)
            np.testing.assert_allclose(run.outputs[name].logits[of], z, rtol=1e-4, atol=1e-5)
            own, z = np.eye(4, dtype=bool)[SOURCE.labels[rows]], np.asarray(z, np.float64)
            wanted = z[own] - np.log(np.where(own, 0, np.exp(z)).sum(axis=1))
            np.testing.assert_allclose(run.outputs[name].rows[of].margin, wanted, rtol=1e-3, atol=1e-4)
    answered = run.answered
    assert [one.name for one in (answered.target, *answered.references, answered.original)] == [
        "unlearned",
        "retrain 0",
        "retrain 1",
        "original",
    ]
    assert not answered.is_random or CONFIG.data.forget_kind == "random"
