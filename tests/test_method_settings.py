"""The settings of methods by name: the paper's own, one import for a configuration file, and no stranger."""

import dataclasses

import pytest

from ltu_jax import config, method_settings
from ltu_jax.method_settings import METHOD_CONFIGS, method_config
from ltu_jax.setting import ConfigError


def test_the_paper_preset_is_eq_4_and_eq_5_as_they_stand():
    paper = method_config("paper")
    assert (paper.tune_weight, paper.forget_weight, paper.momentum, paper.schedule) == (1.0, 1.0, 0.0, "constant")
    assert paper.name == "ltu" and (paper.order, paper.combine) == ("second", "harmonize")


def test_a_configuration_file_finds_every_methods_settings_in_config():
    for name, value in vars(method_settings).items():
        if dataclasses.is_dataclass(value) or name in ("METHOD_CONFIGS", "method_config"):
            assert getattr(config, name) is value


def test_a_method_that_there_is_not_is_named_beside_the_nearest():
    with pytest.raises(ConfigError, match="method 'finetun' is unknown; allowed: .*; did you mean 'finetune'"):
        method_config("finetun")


def test_every_call_gives_settings_of_its_own():
    for name in METHOD_CONFIGS:
        assert method_config(name) == method_config(name) and method_config(name) is not method_config(name)
