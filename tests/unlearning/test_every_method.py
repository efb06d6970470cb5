"""Every method there is, from its published settings to its row of the table."""

import json

import jax
import numpy as np
import pytest
from small import small_config

from ltu_jax import config
from ltu_jax.methods import METHODS, build_method
from ltu_jax.reporting.page import render_report
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.problem import prepare
from ltu_jax.unlearning.result import make_result, now

SEES_ALL = ("retrain", "partial_retrain")


def test_every_method_has_its_settings_by_name():
    assert set(METHODS) <= set(config.METHOD_CONFIGS)
    for name in METHODS:
        assert config.METHOD_CONFIGS[name]().name == name


QUICK = ("ssd",)
"""The steps of each method have tests of their own."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(config.METHOD_CONFIGS)]
)
def test_a_method_runs_at_its_rho_and_its_result_is_a_row(name, cache):
    settings = config.method_config(name)
    if hasattr(settings, "batch_size"):
        settings.batch_size = 16
    if name == "ssd":
        settings.alpha = 0.5  # at the published 10 nothing is dampened on so small a model
    if name == "lotus":
        settings.target_accuracy = 5.0  # it stops below the published one
    # A model with a convolution, for methods that change those.
    model = {"model": config.Model("resnet8", width=4)} if name in ("ct", "msg", "negate_first") else {}
    found = prepare(small_config(method=settings, **model), cache=cache)
    before = jax.tree.map(np.array, (found.original.params, found.original.model_state))
    method = build_method(settings, found.parts)
    state, history = run_unlearning(method, found.original, found.splits, found.source, remain_fraction=0.5)

    jax.tree.map(np.testing.assert_array_equal, before, (found.original.params, found.original.model_state))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[0], jax.tree.map(np.asarray, state.params))
    assert all(np.isfinite(m) for m in jax.tree.leaves(moved)) and max(jax.tree.leaves(moved)) > 0
    result = json.loads(json.dumps(make_result(found, state, history, now())))
    assert result["rho"] == (1.0 if name in SEES_ALL else 0.5)
    assert result["cost"]["flops"] >= 0 and np.isfinite(result["gap"]["mean"])
    assert (result["cost"]["backward_images"] > 0) == (name != "amnesiac")
    assert "<html" in render_report(result, history.rows, {})
