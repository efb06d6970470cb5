"""What commands share, where it does not need a process of its own."""

import pytest
from absl import flags

from ltu_jax import command
from ltu_jax.setting import ConfigError


def test_a_traceback_in_a_message_is_cut_to_its_last_line():
    error = TypeError("Traceback (most recent call last):\n  File x\nTypeError: no")
    assert command._one_line(error).startswith("--config: TypeError: TypeError: no; allowed:")
    assert command._one_line(ConfigError("a: b; allowed: c")) == "a: b; allowed: c"


def test_the_type_of_a_field_is_said_for_optional_and_tuple_fields_too():
    for text, message in (
        ("flag --config.data.image_size=big: reason", "config.data.image_size: 'big' is no whole number"),
        ("flag --config.data.classes=1,b: reason", "allowed: whole numbers, separated by commas"),
        ("flag --config.method.learning_rate=x: reason", "config.method.learning_rate: 'x' is no number"),
    ):
        assert message in command._one_line(flags.IllegalFlagValueError(text))


def test_overrides_of_another_method_are_checked_against_its_own_fields():
    with pytest.raises(ConfigError, match="config.method.learning_rate: no such field"):
        command._check_overrides(["unlearn", "--config=a.py:retrain", "--config.method.learning_rate=1"])
    command._check_overrides(["unlearn", "--config", "a.py:ltu", "--config.method.learning_rate=1"])
    command._check_overrides(["unlearn", "--config", "a.py:my.module:build", "--config.method.anything=1"])
