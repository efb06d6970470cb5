"""The one list of methods: a new one is a file and an entry, one import for a configuration file, no stranger."""

import dataclasses

import pytest
from copied import add_entry, copy_package, printed

from ltu_jax import config
from ltu_jax.methods import registry
from ltu_jax.methods.registry import METHOD_CONFIGS, method_config
from ltu_jax.setting import ConfigError


def test_the_paper_preset_is_eq_4_and_eq_5_as_they_stand():
    paper = method_config("paper")
    assert (paper.tune_weight, paper.forget_weight, paper.momentum, paper.schedule) == (1.0, 1.0, 0.0, "constant")
    assert paper.name == "ltu" and (paper.order, paper.combine) == ("second", "harmonize")


def test_a_configuration_file_finds_every_methods_settings_in_config():
    for name, value in vars(registry).items():
        if dataclasses.is_dataclass(value) or name in ("METHOD_CONFIGS", "method_config"):
            assert getattr(config, name) is value


def test_a_method_that_there_is_not_is_named_beside_the_nearest():
    with pytest.raises(ConfigError, match="method 'finetun' is unknown; allowed: .*; did you mean 'finetune'"):
        method_config("finetun")


def test_every_call_gives_settings_of_its_own():
    for name in METHOD_CONFIGS:
        assert method_config(name) == method_config(name) and method_config(name) is not method_config(name)


METHOD = """
import jax

from ltu_jax.methods.base import OneShot


class Halve(OneShot):
    cost = None

    def init(self, key, state, visible):
        return state.replace(params=jax.tree.map(lambda p: self.settings.factor * p, state.params)), None
"""
SETTINGS = """
@dataclasses.dataclass
class Halve:
    needs: ClassVar[frozenset[str]] = frozenset()
    name: str = setting("halve", "the method")
    factor: float = setting(0.5, "what weights are multiplied with", above=0, high=1)


"""
ENTRY = """
    "halve": BuiltIn(Halve, "ltu_jax.methods.halve:Halve", "Its weights were halved."),
"""
USE = """
import sys

from ltu_jax.config import Config, method_config, resolve

settings = resolve(Config(method=method_config("halve"))).method
assert "jax" not in sys.modules

from read_notice import rendered

from ltu_jax import METHODS, Parts, build_method

for build in (build_method, METHODS["halve"]):
    print(build(settings, Parts(None, 4)))
print("Its weights were halved. The method is called halve." in " ".join(rendered(method="halve").split()))
"""


def test_a_new_method_is_a_file_and_one_entry(tmp_path):
    """In a copy of the package: nothing else of it is touched, and every place that names methods knows it."""
    methods = copy_package(tmp_path) / "methods"
    (methods / "halve.py").write_text(METHOD)
    add_entry(methods / "registry.py", "BUILT_IN", ENTRY, SETTINGS, "class BuiltIn(")
    shown = printed(tmp_path, "-m", "ltu_jax.unlearn", "--help", "--config=mine.py:halve")
    assert "methods, --config FILE.py:METHOD: halve, ltu," in shown and "--config.method.factor=0.5" in shown
    built, by_name, is_same = printed(tmp_path, "-c", USE).splitlines()
    assert built == by_name and built.startswith("Halve(settings=Halve(name='halve', factor=0.5)") and is_same == "True"
