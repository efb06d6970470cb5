"""The embedded digits against scikit-learn's own table."""

import numpy as np
from sklearn.datasets import load_digits

from ltu_jax.config import Data
from ltu_jax.data.sources import load_source


def test_digits_are_scikit_learns_scaled_to_a_byte_and_have_no_test_part():
    source, bunch = load_source(Data("digits")), load_digits()
    expected = np.floor(bunch.images * 255 / 16 + 0.5)
    assert source.images.shape == (1797, 8, 8, 3) and source.images.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(source.images[..., channel], expected)
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert source.labels.dtype == np.int32 and source.num_classes == 10
    assert source.num_train == 1797 and source.coarse is None
    assert source.class_names == tuple(str(name) for name in bunch.target_names)
    assert source.ids[0] == "digits_0000" and source.ids[-1] == "digits_1796" and len(set(source.ids)) == 1797
