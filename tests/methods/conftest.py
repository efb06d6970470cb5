"""Settings for the methods' tests."""

import jax
import pytest


@pytest.fixture
def x64():
    """Float64 inside a test, so that algebra is compared and not rounding."""
    with jax.enable_x64(True):
        yield
