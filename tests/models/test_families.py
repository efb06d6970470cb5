"""The one list of models: a new family is a file and an entry, and a setting of another family is refused."""

import dataclasses

import pytest
from copied import add_entry, copy_package, printed

from ltu_jax import config
from ltu_jax.models.families import FAMILIES, Model, check_given
from ltu_jax.setting import ConfigError

FIELDS = {field.name: field for field in dataclasses.fields(Model)}


def test_every_setting_of_a_family_is_there_says_of_which_family_it_is_and_is_of_one():
    every = [name for family in FAMILIES.values() for name in family.settings]
    assert len(set(every)) == len(every)
    for kind, family in FAMILIES.items():
        for name in family.settings:
            assert FIELDS[name].metadata["doc"].startswith(f"of a {kind}: ")
    assert not [name for name in FIELDS if name not in every and FIELDS[name].metadata["doc"].startswith("of a ")]


def test_a_configuration_file_finds_the_settings_in_config():
    assert config.Model is Model
    assert [field.name for field in dataclasses.fields(Model)][:4] == ["name", "width", "stem", "patch_size"]


def test_a_setting_of_another_family_is_refused_where_it_is_given_by_itself():
    message = "config.model.patch_size: 2, but config.model.name is 'resnet8'; allowed: with config.model.name vit_base"
    with pytest.raises(ConfigError, match=message):
        check_given(Model("resnet8", patch_size=2), ["name", "patch_size"])
    message = "config.model.width: 8, but config.model.name is 'vit_tiny'; allowed: with config.model.name resnet18 or"
    with pytest.raises(ConfigError, match=message):
        check_given(Model("vit_tiny", width=8), ["width"])


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Model("resnet18", width=8, patch_size=2), ["width", "stem", "dtype", "mean"]),  # the patches are the file's
        (Model("vit_micro", patch_size=2), ["patch_size"]),
        (Model("mine:build", width=8, patch_size=2), ["width", "patch_size", "stem"]),  # its own affair
        (Model("vit_tniy", width=8), ["name", "width"]),  # that there is no such model is said instead
    ],
)
def test_what_a_model_may_read_is_not_refused(model, given):
    check_given(model, given)


FAMILY = """
import flax.linen as nn


class Tanh(nn.Module):
    dim: int
    slope: float

    @nn.compact
    def __call__(self, images, train):
        return nn.tanh(self.slope * nn.Dense(self.dim)(images.reshape(len(images), -1)))


def backbone(model, sizes, image_shape, dtype):
    return Tanh(*sizes, model.slope)
"""
ENTRY = """    "Tanh": Family("ltu_jax.models.tanh:backbone", {"tanh_small": (7,)}, ("slope",)),"""
SETTING = """    slope: float = setting(0.5, "of a Tanh: how steep it is", above=0, high=9)
"""
USE = """
import sys

from ltu_jax.config import Config, Model, resolve

model = resolve(Config(model=Model("tanh_small", slope=2.0))).model
assert "jax" not in sys.modules

import jax

from ltu_jax.models.build import build_model

spec = build_model(model, 5, (8, 8, 3))
params, model_state = spec.init(jax.random.key(0))
print(spec.features(params, model_state, jax.numpy.ones((2, 8, 8, 3))).shape, params["head"]["kernel"].shape)
"""


def test_a_new_family_is_a_file_and_one_entry(tmp_path):
    """In a copy of the package: nothing else of it is touched, with a setting of its own beside the entry."""
    models = copy_package(tmp_path) / "models"
    (models / "tanh.py").write_text(FAMILY)
    add_entry(models / "families.py", "FAMILIES", ENTRY, SETTING, "    dtype: str = setting(")
    shown = printed(tmp_path, "-m", "ltu_jax.unlearn", "--help")
    assert "tanh_small" in shown and "of a Tanh: how steep it is [> 0 and <= 9]" in shown
    assert printed(tmp_path, "-c", USE) == "(2, 7) (7, 5)\n"
