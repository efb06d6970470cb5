"""One setting: its bounds are kept, its names are matched, equal ones have equal digests."""

import dataclasses

import pytest

from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, allowed_names, check, describe, digest, import_reference, setting, to_dict

pytestmark = pytest.mark.smoke


@dataclasses.dataclass
class Made:
    rate: float = setting(0.5, "a rate", above=0, high=1)
    count: int = setting(3, "a count", low=1)
    kinds: tuple[str, ...] = setting(("a",), "kinds", choices=("a", "b"))
    model: str = setting("a", "a model", choices=("a", "b"), custom=True)


FIELDS = {field.name: field for field in dataclasses.fields(Made)}


@pytest.mark.parametrize(
    "name, value", [("rate", 1), ("rate", 1e-9), ("count", 1), ("kinds", ("b", "a")), ("model", "mine:build")]
)
def test_what_is_allowed_passes(name, value):
    check(f"config.{name}", value, FIELDS[name])


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("rate", 0.0, "config.rate: 0.0 is out of range; allowed: > 0 and <= 1"),
        ("rate", 1.5, "config.rate: 1.5 is out of range; allowed: > 0 and <= 1"),
        ("rate", float("nan"), "config.rate: nan is out of range; allowed: > 0 and <= 1"),
        ("count", float("inf"), "config.count: inf is out of range; allowed: >= 1"),
        ("count", 0, "config.count: 0 is out of range; allowed: >= 1"),
        ("kinds", ("a", "c"), "config.kinds: 'c' is unknown; allowed: a, b"),
        ("kinds", ("mine:build",), "config.kinds: 'mine:build' is unknown; allowed: a, b"),
    ],
)
def test_what_is_not_is_named_with_its_value_and_what_is_allowed(name, value, message):
    with pytest.raises(ConfigError) as found:
        check(f"config.{name}", value, FIELDS[name])
    assert str(found.value) == message


def test_a_field_tells_its_meaning_and_what_is_allowed():
    assert describe(FIELDS["rate"]) == "a rate [> 0 and <= 1]"
    assert describe(FIELDS["kinds"]) == "kinds [a, b]"


def test_the_nearest_name_is_offered():
    assert allowed_names("flip", ["none", "flips"]) == "allowed: flips, none; did you mean 'flips'?"
    assert allowed_names("zzz", ["none", "flips"]) == "allowed: flips, none"


def test_equal_settings_have_equal_digests_and_others_do_not():
    made = lambda **kwargs: digest(to_dict(Config(**kwargs)))  # noqa: E731
    assert made() == made() != made(seed=1)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_reference_that_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match="config.model.name: 'no_such_module:build' cannot be imported"):
        import_reference("no_such_module:build", "config.model.name")
