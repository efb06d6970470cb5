"""Normalisation and the head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.models.classifier import Classifier


class Flat(nn.Module):
    """A backbone that only flattens: the features are the normalised pixels."""

    @nn.compact
    def __call__(self, x, train):
        return jnp.reshape(x, (x.shape[0], -1))


def features(images, **fields):
    module = Classifier(Flat(), 2, **fields)
    variables = module.init(jax.random.key(0), images, False)
    return np.asarray(module.apply(variables, images, False)[1]).reshape(images.shape)


def test_normalisation_is_by_channel_with_the_given_moments():
    images = np.random.default_rng(0).random((2, 3, 4, 3), np.float32)
    mean, std = (0.1, 0.5, 0.9), (0.2, 1.0, 3.0)
    np.testing.assert_allclose(features(images, mean=mean, std=std), (images - mean) / std, rtol=1e-4, atol=1e-5)


def test_normalisation_is_cifar10s_unless_given():
    black, white = features(np.zeros((1, 1, 1, 3), np.float32)), features(np.ones((1, 1, 1, 3), np.float32))
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    np.testing.assert_allclose(black[0, 0, 0], -mean / std, rtol=1e-5)
    np.testing.assert_allclose(white[0, 0, 0], (1 - mean) / std, rtol=1e-5)


def test_the_head_starts_as_pytorchs_linear():
    images = np.zeros((1, 20, 20, 3), np.float32)
    head = Classifier(Flat(), 100).init(jax.random.key(0), images, False)["params"]["head"]
    bound = 1200**-0.5
    for leaf, slack in ((head["kernel"], 0.99), (head["bias"], 0.8)):
        assert slack * bound < float(leaf.max()) <= bound
        assert -bound <= float(leaf.min()) < -slack * bound
