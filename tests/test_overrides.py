"""``--config`` and ``--config.FIELD``: every way to write a value."""

import dataclasses
import shutil

import pytest
from absl import flags

from ltu_jax import overrides
from ltu_jax.setting import ConfigError, settings

FILE = """
import dataclasses
from typing import Optional

from ltu_jax.config import Config


@dataclasses.dataclass
class Mine:
    name: str = "mine:build"
    rate: float | None = 0.5
    many: Optional[int] = None
    kind: object = None
    things: tuple = ()


def get_config(method="nothing"):
    return Config(method=Mine(name=f"{method}:build"), seed=3)
"""


@pytest.mark.parametrize("installed", [True, False])
def test_a_configuration_of_the_package_is_found_by_its_name_unless_a_file_has_it(tmp_path, monkeypatch, installed):
    monkeypatch.chdir(tmp_path)
    in_wheel, in_checkout = overrides.SHIPPED
    assert {path.stem for path in in_checkout.glob("*.py")} >= {"digits", "cifar10_resnet18"}
    if installed:
        shutil.copytree(in_checkout, tmp_path / "configs")
        monkeypatch.setattr(overrides, "SHIPPED", (tmp_path / "configs", tmp_path / "nowhere"))
    values = flags.FlagValues()
    assert overrides.read_command_line(["unlearn", "--config=digits_vit:salun"], values).method.name == "salun"
    for name in ("nothing", "digits.py", "../configs/digits", ""):
        assert overrides.shipped(name) == name
    (tmp_path / "digits").touch()
    assert overrides.shipped("digits") == "digits"


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "other.py").write_text(FILE.replace("seed=3", "seed=4"))

    def read(*words):
        values = flags.FlagValues()
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        flags.DEFINE_bool("dry_run", False, "", flag_values=values)
        return overrides.read_command_line(["unlearn", *words], values), values

    return read


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "config.model.name", "resnet8"),
        ("--config mine.py", "config.seed", 3),
        ("--config=mine.py", "config.method.name", "nothing:build"),
        ("-config mine.py:a", "config.method.name", "a:build"),
        ("--config mine.py:a:b", "config.method.name", "a:b:build"),
        ("--config=none.py --config=other.py", "config.seed", 4),
        ("--config=mine.py --config.seed 5", "config.seed", 5),
        ("--config=mine.py -config.seed=5", "config.seed", 5),
        ("--config.seed=5 --config.seed=6", "config.seed", 6),
        ("--config.seed=0x10", "config.seed", 16),
        ("--config.seed -1", "config.seed", -1),
        ("--config.seeds.train=7", "config.seeds.train", 7),
        ("--config.training.learning_rate=1", "config.training.learning_rate", 1.0),
        ("--config.method.augment=false", "config.method.augment", False),
        ("--config.method.augment=F", "config.method.augment", False),
        ("--noconfig.method.augment", "config.method.augment", False),
        ("--config.data.skip_unreadable", "config.data.skip_unreadable", True),
        ("--config.weights=None", "config.weights", "None"),
        ("--config.data.classes=1,2", "config.data.classes", (1, 2)),
        ("--config.data.classes=[1,2]", "config.data.classes", (1, 2)),
        ("--config.data.classes=1", "config.data.classes", (1,)),
        ("--config.data.classes=1 --config.data.classes=2", "config.data.classes", (1, 2)),
        ("--config.data.classes=()", "config.data.classes", ()),
        ("--config.data.class_names=a", "config.data.class_names", ("a",)),
        ("--config.data.class_names=a,b --config.data.class_names=c/d", "config.data.class_names", ("a", "b", "c/d")),
        ("--config.data.class_names='a,b'", "config.data.class_names", ("a,b",)),
        ("--config.data.class_names=3,10", "config.data.class_names", ("3", "10")),
        ("--config.data.class_names=d'or,b", "config.data.class_names", ("d'or", "b")),
        ("--config.data.class_names=()", "config.data.class_names", ()),
        ("--config.data.class_names='a','b'", "config.data.class_names", ("a", "b")),
        ("--config.attackers.names=sorted,metrics", "config.attackers.names", ("sorted", "metrics")),
        ("--config.attackers.names=('sorted','metrics')", "config.attackers.names", ("sorted", "metrics")),
        ("--config=mine.py --config.method.rate=2", "config.method.rate", 2.0),
        ("--config=mine.py --config.method.many=2", "config.method.many", 2),
        ("--config=mine.py --config.method.kind={'a':1}", "config.method.kind", {"a": 1}),
        ("--config=mine.py --config.method.things=1,'a'", "config.method.things", (1, "a")),
    ],
)
def test_a_value_is_read_as_the_type_of_its_field(read, words, name, value):
    config, _ = read(*words.split())
    found = {name: value for name, value, _ in settings(config)}[name]
    assert found == value and type(found) is type(value)


def test_a_models_family_follows_from_its_name_in_either_order_of_the_flags(read):
    """The default file has a width for its ResNet: that one is not taken for an answer to what is asked for here."""
    words = ["--config.model.name=vit_tiny", "--config.model.patch_size=2"]
    first, second = read(*words)[0].model, read(*reversed(words))[0].model
    assert first == second and (first.name, first.patch_size, first.width) == ("vit_tiny", 2, 8)
    assert read("--config.model.width=4")[0].model.width == 4
    own = read("--config.model.patch_size=2", "--config.model.name=mine:build", "--config.model.width=4")[0].model
    assert (own.patch_size, own.width) == (2, 4)


def test_flags_of_the_command_stand_anywhere_between(read):
    config, values = read("--dry_run", "--config", "mine.py", "--workdir", "out", "--config.seed", "8")
    assert (values.dry_run, values.workdir, config.seed) == (True, "out", 8)
    assert overrides.own_flags(values) == ["dry_run", "workdir"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--dry_run=x", "--dry_run: 'x' is neither true nor false; allowed: true or false"),
        ("--config=mine.py --config.seed=5 --config=other.py", "--config: .* comes after --config.seed; allowed: .*"),
        ("--config.data=x", "config.data: no such field; allowed: config.at_once, .*"),
        ("--noconfig.method.augmnt", "noconfig.method.augmnt: no such field; .* did you mean 'config.method.augment'."),
        (
            "--noconfig.method.augment=1",
            "command line: --noconfig.method.augment=1 does not .*; allowed: see --help",
        ),
        (
            "--config.model.patch_size=2",
            "config.model.patch_size: 2, but config.model.name is 'resnet8'; allowed: with config.model.name vit_.*",
        ),
        (
            "--config.model.width=8 --config.model.name=vit_tiny",
            "config.model.width: 8, but config.model.name is 'vit_tiny'; allowed: with config.model.name resnet18 .*",
        ),
        ("--flagfile=nowhere.txt", "command line: .*'nowhere.txt'; allowed: see --help"),
    ],
)
def test_what_cannot_be_parsed_is_refused_in_one_line(read, words, line):
    with pytest.raises(ConfigError, match=f"^{line}$"):
        read(*words.split())


def test_a_file_that_ignores_the_method_it_was_asked_for_is_refused(read, tmp_path):
    (tmp_path / "deaf.py").write_text(
        "from ltu_jax.config import Config, method_config\n"
        "def get_config(method='ltu'):\n    return Config(method=method_config('ltu'))\n"
    )
    with pytest.raises(
        ConfigError, match="^--config: 'deaf.py' was asked for 'random_label' and gives 'ltu'; allowed: "
    ):
        read("--config", "deaf.py:random_label")
    with pytest.raises(ConfigError, match="^--config: 'deaf.py' was asked for 'paper' and gives 'ltu'; allowed: "):
        read("--config", "deaf.py:paper")
    assert read("--config", "deaf.py")[0].method.name == "ltu"


def test_a_preset_that_a_file_changes_in_part_is_still_the_preset(read, tmp_path):
    (tmp_path / "own.py").write_text(
        "import dataclasses\nfrom ltu_jax.config import Config, method_config\n"
        "def get_config(method='ltu'):\n"
        "    return Config(method=dataclasses.replace(method_config(method), epochs=3.0, forget_weight=0.25))\n"
    )
    found = read("--config", "own.py:paper")[0].method
    assert (found.name, found.forget_by, found.epochs, found.forget_weight) == ("ltu", "attackers", 3.0, 0.25)


def test_a_default_is_not_changed_by_the_flag_that_could(read):
    config, _ = read("--config=mine.py")
    assert dataclasses.asdict(config.method) == {
        "name": "nothing:build",
        "rate": 0.5,
        "many": None,
        "kind": None,
        "things": (),
    }
