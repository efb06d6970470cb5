"""Each rule's distribution, by SciPy's Kolmogorov-Smirnov test."""

import jax
import numpy as np
import pytest
from scipy import stats

from ltu_jax.models import initializers


@pytest.mark.parametrize(
    ("init", "shape", "std"),
    [
        (initializers.he_normal, (3, 3, 16, 64), (2 / (9 * 64)) ** 0.5),
        (initializers.he_normal, (1, 1, 64, 32), (2 / 32) ** 0.5),
        (initializers.lecun_normal, (4, 4, 3, 100), (1 / 48) ** 0.5),
        (initializers.normal(0.02), (1, 65, 32), 0.02),
    ],
)
def test_normal_rules_have_the_stated_deviation(init, shape, std):
    draw = np.asarray(init(jax.random.key(0), shape))
    assert draw.shape == shape
    assert stats.kstest(draw.ravel() / std, "norm").pvalue > 0.01


@pytest.mark.parametrize(
    ("init", "shape", "bound"),
    [
        (initializers.xavier_uniform, (32, 128), (6 / 160) ** 0.5),
        (initializers.uniform(0.3), (50, 40), 0.3),
    ],
)
def test_uniform_rules_fill_the_stated_interval(init, shape, bound):
    draw = np.asarray(init(jax.random.key(0), shape))
    assert draw.shape == shape
    assert stats.kstest(draw.ravel() / bound, "uniform", args=(-1, 2)).pvalue > 0.01
