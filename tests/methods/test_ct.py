"""CT: twice is the identity; what it sees is the image transposed; then FT, step by step."""

import dataclasses

import chex
import jax
import numpy as np
from by_hand import VISIBLE, convolved, is_finite, parts, poisoned, run_all, started

from ltu_jax.config import Model, method_config
from ltu_jax.methods import build_method
from ltu_jax.models.build import build_model
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import make_state

SETTINGS = dataclasses.replace(method_config("ct"), epochs=1.0, batch_size=20)
METHOD = build_method(SETTINGS, parts())


def test_twice_is_the_identity_and_once_is_not():
    once, _ = started(METHOD, start=convolved())
    twice, _ = started(METHOD, start=once)
    chex.assert_trees_all_equal(twice.params, convolved().params)
    kernel = np.asarray(convolved().params["kernel"])
    for height, width in np.ndindex(3, 3):
        np.testing.assert_array_equal(once.params["kernel"][height, width], kernel[width, height])
    assert not np.array_equal(once.params["kernel"], kernel)


def test_kernels_that_are_not_square_stay():
    start = convolved()
    start = start.replace(params={**start.params, "kernel": start.params["kernel"][:1]})
    chex.assert_trees_all_equal(started(METHOD, start=start)[0].params, start.params)


def test_a_resnet_sees_each_image_transposed():
    spec = build_model(Model("resnet8", width=4), 5, (8, 8, 3))
    start = make_state(spec.apply_fn, *spec.init(jax.random.key(0)), SGD, jax.random.key(1))
    images = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)
    logits = lambda state, images: spec.apply_fn(state.params, state.model_state, images, train=False)[0]  # noqa: E731
    wanted = logits(start, images.swapaxes(1, 2))
    np.testing.assert_allclose(logits(started(METHOD, start=start)[0], images), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted - logits(start, images)).max() > 1e-2


def test_then_it_is_fine_tuning():
    tuned = build_method(dataclasses.replace(SETTINGS, name="finetune"), parts())
    turned, _ = started(METHOD, start=convolved())
    chex.assert_trees_all_equal(run_all(METHOD, VISIBLE, convolved()).params, run_all(tuned, VISIBLE, turned).params)
    assert is_finite(run_all(METHOD, poisoned("forget"), convolved()))  # no forget row is ever read


def test_its_settings_are_the_published_ones():
    found = method_config("ct")
    assert (found.epochs, found.batch_size, found.learning_rate, found.schedule) == (3.0, 64, 1e-3, "cosine")
    assert (found.optimizer, found.momentum, found.weight_decay, found.augment) == ("sgd", 0.9, 5e-4, False)
