"""Settings: every field has a meaning and a range, and a mistake is one line that names it."""

import dataclasses
import json
import re
import subprocess
import sys
import typing

import pytest

from ltu_jax import config
from ltu_jax.config import Config, resolve
from ltu_jax.setting import ConfigError, settings, to_dict

pytestmark = pytest.mark.smoke


def test_every_field_has_a_meaning_and_every_number_two_bounds():
    for method in config.METHOD_CONFIGS.values():
        for name, value, field in settings(Config(method=method())):
            assert field.metadata["doc"], name
            numbers = {int, float} & {field.type, *typing.get_args(field.type)}
            if numbers and not isinstance(value, bool):
                assert field.metadata["low"] is not None or field.metadata["above"] is not None, name
                assert field.metadata["high"] is not None, name


def test_whatever_names_a_file_is_checked_as_a_path():
    paths = {name for name, _, field in settings(Config()) if field.metadata["path"] or field.metadata["within"]}
    data = {f"config.data.{name}" for name in ("name", "data_dir", "table", "memory_map", "forget_ids", "difficulty")}
    assert paths == {"config.weights", *data}


def test_the_defaults_are_in_their_own_ranges():
    for name in config.METHOD_CONFIGS:
        resolve(Config(method=config.method_config(name)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.remain_fraction", 0.0, "config.data.remain_fraction: 0.0 is out of range; allowed: > 0 and <= 1"),
        ("data.remain_fraction", 1.5, "config.data.remain_fraction: 1.5 is out of range; allowed: > 0 and <= 1"),
        ("data.remain_fraction", float("nan"), "config.data.remain_fraction: nan is out of range"),
        ("training.epochs", 0, "config.training.epochs: 0 is out of range; allowed: >= 1 and <= 10000"),
        ("training.epochs", "many", "config.training.epochs: 'many' is no whole number; allowed: a whole number"),
        ("training.epochs", None, "config.training.epochs: None is no whole number"),
        ("training", None, "config.training: None; allowed: ltu_jax.config.Training"),
        ("method", "ltu", "config.method: 'ltu'; allowed: a dataclass with the method's name"),
        ("seed", 2**32, "config.seed: 4294967296 is out of range; allowed: >= 0 and <= 4294967295"),
        ("data.name", "../x", r"config.data.name: '../x' leaves its folder"),
        ("method.order", "secnd", "config.method.order: 'secnd' is unknown; allowed: .*; did you mean 'second'"),
        ("method.samplers", ("uniform", "nearst_label"), "'nearst_label' is unknown; .* did you mean 'nearest_label'"),
        ("method.name", "lt", "config.method.name: 'lt' is unknown; allowed: amnesiac, .*, ssd; did you mean 'ltu'"),
        ("method.name", "retrain", "config.method.name: 'retrain' has settings of its own"),
        ("model.name", "resnet19", "config.model.name: 'resnet19' is unknown; .* did you mean 'resnet18'"),
        ("attackers.names", ("sorted",), "config.attackers.names: .* leaves no pair; allowed: two or more"),
        (
            "model.mean",
            (0.5, 0.5),
            r"config.model.mean: \(0.5, 0.5\) has 2 numbers; allowed: 3 numbers and >= 0 and <= 1",
        ),
        ("model.std", (0.2, 0.2, 0.0), "config.model.std: 0.0 is out of range; allowed: 3 numbers and >= 1e-06"),
        ("data.forget_kind", "ids", "config.data.forget_ids: None; allowed: a file with one id a line"),
        ("data.forget_kind", "easy", "config.data.difficulty: None; allowed: .*ltu_jax.difficulty wrote, with forget_"),
        ("data.canaries", 19, "config.data.canaries: 19 is out of range; allowed: >= 20 and <= "),
    ],
)
def test_a_mistake_is_one_line_with_field_value_and_what_is_allowed(path, value, message):
    wrong = Config()
    holder, _, name = path.rpartition(".")
    setattr(getattr(wrong, holder) if holder else wrong, name, value)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size, shorter", [(None, 256), (224, 223)])
def test_a_middle_larger_than_what_it_is_cut_from_is_refused(size, shorter):
    data = config.Data("digits", image_size=size, shorter_side=shorter)
    with pytest.raises(ConfigError, match=f"^config.data.shorter_side: {shorter} with image_size {size}; allowed: "):
        config.resolve(config.Config(data=data))


def test_a_field_that_came_later_and_is_unset_moves_no_hash():
    settings = to_dict(config.resolve(config.Config()))
    asked = config.asked_for(settings)
    assert "shorter_side" not in asked["data"] and "image_size" in asked["data"]
    settings["data"]["shorter_side"] = 256
    assert config.asked_for(settings)["data"]["shorter_side"] == 256


@pytest.mark.parametrize("holder, name", [("method", "lr"), ("data", "forget_klass"), ("", "sed"), ("seeds", "trian")])
def test_a_field_that_is_none_is_refused_and_the_nearest_named(holder, name):
    wrong = Config()
    setattr(getattr(wrong, holder) if holder else wrong, name, 3)
    dotted = ".".join(filter(None, ["config", holder, name]))
    nearest = {"forget_klass": "'forget_class'", "sed": "'seed'", "trian": "'train'"}.get(name, "")
    with pytest.raises(ConfigError, match=f"^{dotted}: no such field; allowed: .*{nearest}") as caught:
        resolve(wrong)
    assert ("did you mean" in str(caught.value)) == bool(nearest)


def test_a_method_of_ones_own_may_keep_what_is_no_setting():
    @dataclasses.dataclass
    class Mine:
        name: str = "mine:build"

        def __post_init__(self):
            self.half = 0.5

    resolve(Config(method=Mine()))


def test_a_class_is_named_only_where_one_is_forgotten():
    for kind in ("class", "subclass"):
        assert resolve(Config(data=config.Data(forget_kind=kind, forget_class=3))).data.forget_class == 3
    message = "config.data.forget_class: 3, but config.data.forget_kind is 'random'; allowed: with forget_kind class"
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve(Config(data=config.Data(forget_class=3)))


def test_given_weights_saw_no_canaries():
    with pytest.raises(ConfigError, match="^config.weights: 'a.pth' saw no canaries in training; allowed: unset, with"):
        resolve(Config(data=config.Data(forget_kind="canaries"), weights="a.pth"))


def test_what_a_result_is_a_function_of_has_new_fields_only_where_they_are_set():
    """So the hash of a run from before they were there is what it was."""
    asked = lambda **data: config.asked_for(to_dict(Config(data=config.Data(**data))))["data"]  # noqa: E731
    assert not {"difficulty", "canaries"} & set(asked()) and "forget_ids" in asked()
    assert "logger" not in config.asked_for(to_dict(Config(logger="tensorboard")))
    assert asked(difficulty="a.csv")["difficulty"] == "a.csv" and asked(canaries=50)["canaries"] == 50
    for measure in (None, "own:measure"):
        evaluation = config.asked_for(to_dict(Config(evaluation=config.Evaluation(measure=measure))))["evaluation"]
        wanted = {"num_retrain": 1, "batch_size": 500} | ({} if measure is None else {"measure": measure})
        assert evaluation == wanted


@pytest.mark.parametrize("order", ["second", "naive", "first"])
def test_an_order_that_takes_an_inner_step_needs_random_labels(order):
    wrong = Config(method=config.LTU(relabel="never", order=order))
    message = (
        f"config.method.relabel: 'never' leaves order '{order}' no support set; allowed: step, once, or order none"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        resolve(wrong)
    for method in (config.LTU(relabel="never", order="none"), config.LTU(relabel="once", order=order)):
        resolve(Config(method=method))


def test_ltu_needs_attackers_where_they_say_what_is_forgotten_and_only_there():
    assert config.needs(config.LTU(forget_by="attackers")) == config.needs(config.method_config("paper")) == {"bank"}
    assert config.needs(config.LTU(forget_by="margins")) == set()


def test_seeds_follow_the_one_seed_unless_given():
    seeds = resolve(Config(seed=5, seeds=config.Seeds(split=2))).seeds
    assert dataclasses.astuple(seeds) == (5, 2, 5)


def test_settings_import_no_jax():
    code = "import sys, ltu_jax, ltu_jax.config; assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_configuration_comes_back_from_its_json():
    for name in config.METHOD_CONFIGS:
        wanted = resolve(Config(data=config.Data(classes=(3, 1)), method=config.method_config(name), weights="a.pth"))
        stored = json.loads(json.dumps(to_dict(wanted)))
        found = config.from_dict(stored)
        assert to_dict(found) == stored and found.data.classes == (3, 1)
        # presets share a class, so it is the class and not the preset that comes back
        assert type(found.method) is type(wanted.method)


def test_a_json_from_before_a_field_was_there_leaves_it_unset():
    stored = to_dict(resolve(Config()))
    del stored["data"]["difficulty"], stored["data"]["canaries"]
    assert to_dict(config.from_dict(stored)) == to_dict(resolve(Config()))


def test_a_method_of_ones_own_comes_back_as_what_it_said():
    stored = to_dict(resolve(Config(method=config.LTU(name="mine:build", epochs=3.0))))
    found = vars(config.from_dict(stored).method)
    assert {**found, "samplers": list(found["samplers"])} == stored["method"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda stored: stored.pop("seed"), "config.seed: no such field on one side"),
        (lambda stored: stored["data"].update(more=1), "config.data.more: no such field on one side"),
        (lambda stored: stored.pop("method"), "config.method: not there"),
        (lambda stored: stored.update(method=[]), "config.method: not there"),
        (lambda stored: stored["method"].update(name={}), "config.method"),
        (lambda stored: stored.update(data=3), "config.data: 3; allowed: fields of its own"),
        (lambda stored: stored.update(seed={}), "config.seed: {}; allowed: no fields of its own"),
        (lambda stored: stored["data"].update(name="../x"), "config.data.name: '../x' leaves its folder"),
    ],
)
def test_a_json_of_another_version_is_refused(change, message):
    stored = to_dict(resolve(Config()))
    change(stored)
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.from_dict(stored)


def test_attackers_learn_from_shadows_unless_the_weights_come_from_outside():
    assert resolve(Config()).attackers.fitted_on == "shadows"
    assert resolve(Config(weights="a.pth")).attackers.fitted_on == "original"
    given = config.Attackers(fitted_on="shadows")
    assert resolve(Config(weights="a.pth", attackers=given)).attackers.fitted_on == "shadows"
