"""Which parameters are convolution kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.config import Model
from ltu_jax.methods.convolutions import on_kernels
from ltu_jax.models.build import build_model
from ltu_jax.setting import ConfigError

PARAMS = {
    "first": {"kernel": np.ones((3, 3, 3, 2)), "bias": np.ones(2)},
    "second": {"kernel": np.ones((5, 1, 2, 4)), "scale": np.ones((1, 1, 1, 4))},
    "head": {"kernel": np.ones((4, 3))},
}


def test_kernels_are_the_leaves_of_four_axes_of_that_name_and_all_else_stays():
    others = jax.tree.map(lambda x: 3 * x, PARAMS)
    found = on_kernels("ct", lambda kernel, other: kernel + other, PARAMS, others)
    for name in ("first", "second"):
        np.testing.assert_array_equal(found[name]["kernel"], 4 * PARAMS[name]["kernel"])
    rest = found["first"]["bias"], found["second"]["scale"], found["head"]["kernel"]
    assert rest[0] is PARAMS["first"]["bias"] and rest[1] is PARAMS["second"]["scale"]
    assert rest[2] is PARAMS["head"]["kernel"]
    found = on_kernels("ct", jnp.negative, PARAMS, channels=3)
    assert (found["first"]["kernel"] == -1).all() and (found["second"]["kernel"] == 1).all()


@pytest.mark.parametrize("name, kernels, first", [("resnet8", 9, "conv1"), ("vit_micro", 1, "patches")])
def test_the_models_of_this_package_have_theirs(name, kernels, first):
    params, _ = jax.eval_shape(build_model(Model(name, patch_size=4), 10, (8, 8, 3)).init, jax.random.key(0))
    changed = []
    on_kernels("ct", lambda x: changed.append(x) or x, params)
    assert len(changed) == kernels
    mark = on_kernels("ct", lambda x: None, params, channels=3)
    gone = set(map(str, jax.tree_util.tree_leaves_with_path(params))) - set(
        map(str, jax.tree_util.tree_leaves_with_path(mark))
    )
    assert len(gone) == 1 and first in gone.pop()


def test_a_model_without_a_convolution_is_refused():
    with pytest.raises(ConfigError, match="config.method.name: 'ct' finds no convolution in the model; allowed: .*"):
        on_kernels("ct", jnp.negative, {"head": PARAMS["head"]})
    with pytest.raises(ConfigError, match="finds no convolution of 4 input channels"):
        on_kernels("negate_first", jnp.negative, PARAMS, channels=4)
