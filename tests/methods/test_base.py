"""A method of the user's own is a further row: found by name, run by the same loop."""

import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest

from ltu_jax.config import LTU, ConfigError
from ltu_jax.methods import METHODS, build_method
from ltu_jax.methods.base import Method
from ltu_jax.training.schedule import SGD
from ltu_jax.types import Parts, Splits, make_state
from ltu_jax.unlearning.loop import run_unlearning

SPEC = mlp.build(None, 4, (4, 4, 3))


def shrink(settings, parts):
    """A one-shot method: does its work in init and runs zero steps."""

    def init(key, state, visible):
        return state.replace(params=jax.tree.map(lambda p: 0.5 * p, state.params)), ()

    return Method(init, lambda *a: (), lambda s, c, d: (s, {}), lambda visible: 0)


def test_a_one_shot_method_of_ones_own_runs_in_the_loop():
    method = build_method(LTU(name="test_base:shrink"), Parts(SPEC.apply_fn, 4))
    source, empty = mlp.toy_source(), np.arange(0)
    splits = Splits(np.arange(10), np.arange(10, 50), np.arange(60, 90), np.arange(120, 160), empty, empty)
    original = make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(0)), SGD, jax.random.key(0))
    state, history = run_unlearning(method, original, splits, source)
    np.testing.assert_array_equal(state.params["w1"], 0.5 * jnp.asarray(original.params["w1"]))
    assert history.rows == [] and history.init_s > 0 and int(state.step) == 0


def test_what_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match="config.method.name: 'test_base:nothing' cannot be imported"):
        build_method(LTU(name="test_base:nothing"), Parts(SPEC.apply_fn, 4))
    assert set(METHODS) == {"ltu", "retrain"}
