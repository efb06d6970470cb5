"""A whole problem, made once for all tests of the room."""

import pytest
from small import small_config

from ltu_jax.unlearning.problem import prepare


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def problem(cache):
    return prepare(small_config(), cache=cache)
