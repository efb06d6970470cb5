"""A configuration of a sweep is that of the same words on the command line, and refused where that is."""

import pytest
from absl import flags

from ltu_jax.config import resolve
from ltu_jax.overrides import read_command_line
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping.configuring import configure

FIELDS = {
    "method.epochs": 2,
    "method.samplers": ["uniform"],
    "method.remember": False,
    "data.remain_fraction": 1,
    "attackers.names": ("sorted", "metrics"),
    "seed": 7,
}
WORDS = ["method.epochs=2", "method.samplers=uniform", "method.remember=false", "data.remain_fraction=1"]
WORDS += ["attackers.names=sorted,metrics", "seed=7"]


def test_it_is_what_the_command_line_gives():
    words = ["program", "--config=digits:ltu", *(f"--config.{word}" for word in WORDS)]
    made = configure("digits", "ltu", FIELDS)
    assert made == resolve(read_command_line(words, flags.FlagValues()))
    assert type(made.method.epochs) is float and type(made.method.samplers) is tuple


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method.epoch": 1}, "^method.epoch: no such field; .*did you mean 'method.epochs'"),
        ({"method.epochs": "2"}, "^method.epochs: '2' is of the wrong type; allowed: "),
        ({"method.epochs": True}, "^method.epochs: True is of the wrong type; allowed: "),
        ({"method.epochs": -1}, "^config.method.epochs: -1.0 is out of range; allowed: "),
    ],
)
def test_what_a_field_does_not_take_is_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        configure("digits", "ltu", fields)


def test_a_file_that_ignores_the_method_of_a_row_is_refused(tmp_path):
    file = tmp_path / "deaf.py"
    file.write_text("from ltu_jax.config import Config\ndef get_config(method='ltu'):\n    return Config()\n")
    with pytest.raises(
        ConfigError, match="^Sweep.config: '.*deaf.py' was asked for 'salun' and gives 'ltu'; allowed: "
    ):
        configure(str(file), "salun", {})
    assert configure(str(file), "ltu", {}).method.name == "ltu"
