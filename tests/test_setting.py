"""One setting: its bounds are kept, its names are matched, equal ones have equal digests."""

import dataclasses

import pytest

from ltu_jax.config import Config
from ltu_jax.setting import (
    ConfigError,
    allowed_names,
    check,
    describe,
    digest,
    import_reference,
    plain,
    setting,
    to_dict,
)


@dataclasses.dataclass
class Made:
    rate: float = setting(0.5, "a rate", above=0, high=1)
    count: int = setting(3, "a count", low=1)
    kinds: tuple[str, ...] = setting(("a",), "kinds", choices=("a", "b"))
    model: str = setting("a", "a model", choices=("a", "b"), custom=True)
    size: int | None = setting(None, "a size", low=1)
    file: str | None = setting(None, "a file", path=True)
    name: str = setting("a", "a name", within=True)


FIELDS = {field.name: field for field in dataclasses.fields(Made)}


@pytest.mark.parametrize(
    "name, value",
    [
        *[("rate", 1), ("rate", 1e-9), ("count", 1), ("count", 10**40), ("size", None), ("size", 3)],
        *[("kinds", ("b", "a")), ("model", "mine:build"), ("file", None), ("file", "../é" * 60), ("name", "a/b..c")],
    ],
)
def test_what_is_allowed_passes(name, value):
    check(f"config.{name}", value, FIELDS[name])


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("rate", 0.0, "config.rate: 0.0 is out of range; allowed: > 0 and <= 1"),
        ("rate", 1.5, "config.rate: 1.5 is out of range; allowed: > 0 and <= 1"),
        ("rate", float("nan"), "config.rate: nan is out of range; allowed: > 0 and <= 1"),
        ("rate", float("inf"), "config.rate: inf is out of range; allowed: > 0 and <= 1"),
        ("rate", "half", "config.rate: 'half' is no number; allowed: a number"),
        ("rate", True, "config.rate: True is no number; allowed: a number"),
        ("count", 3.0, "config.count: 3.0 is no whole number; allowed: a whole number"),
        ("count", None, "config.count: None is no whole number; allowed: a whole number"),
        ("count", -(10**400), f"config.count: {-(10**400)} is out of range; allowed: >= 1"),
        ("kinds", ["a"], "config.kinds: ['a'] is no tuple of names; allowed: a tuple of names"),
        ("size", 2.5, "config.size: 2.5 is no whole number or None; allowed: a whole number or None"),
        ("file", "", "config.file: '' is no path; allowed: the path of a file or folder, in UTF-8"),
        ("file", "a\0b", "config.file: 'a\\x00b' has control characters or broken UTF-8; allowed: plain text"),
        ("file", "\udcff", "config.file: '\\udcff' has control characters or broken UTF-8; allowed: plain text"),
        (
            "file",
            "é" * 128,
            f"config.file: {'é' * 128!r} is too long; allowed: 4095 bytes, 255 between two slashes",
        ),
        (
            "name",
            "../x",
            "config.name: '../x' leaves its folder; allowed: names with a / between them, none of them ..",
        ),
        ("name", "/x", "config.name: '/x' leaves its folder; allowed: names with a / between them, none of them .."),
        ("count", 0, "config.count: 0 is out of range; allowed: >= 1"),
        ("kinds", ("a", "c"), "config.kinds: 'c' is unknown; allowed: a, b"),
        ("kinds", ("mine:build",), "config.kinds: 'mine:build' is unknown; allowed: a, b"),
    ],
)
def test_what_is_not_is_named_with_its_value_and_what_is_allowed(name, value, message):
    with pytest.raises(ConfigError) as found:
        check(f"config.{name}", value, FIELDS[name])
    assert str(found.value) == message


def test_a_number_that_python_does_not_write_is_refused_too():
    with pytest.raises(ConfigError, match="^config.count: a number of thousands of digits is out of range"):
        check("config.count", -(10**5000), FIELDS["count"])


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


def test_a_message_is_one_line_whatever_it_quotes():
    error = ConfigError("a: b\nc\x1b[31m\u2028\udcff; allowed: é")
    assert str(error) == "a: b\\nc\\x1b[31m\\u2028\\udcff; allowed: é"
    assert plain("x" * 10**6 + "; allowed: y").endswith("x; allowed: y") and len(plain("x" * 10**6)) < 2000


@pytest.mark.parametrize("reference", ["..:x", ":x", "json:", "this is:no", "antigravity.x:y"])
def test_no_reference_is_a_traceback(reference):
    with pytest.raises(ConfigError, match="cannot be imported"):
        import_reference(reference, "config.model.name")


def test_a_reference_that_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match="config.model.name: 'no_such_module:build' cannot be imported"):
        import_reference("no_such_module:build", "config.model.name")


def test_a_module_that_raises_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "it_raises.py").write_text("import json\n\njson.loads('')\n")
    (tmp_path / "it_ends.py").write_text("raise SystemExit")
    with pytest.raises(ConfigError, match=r"imported \('.*it_raises.py', line 3: JSONDecodeError: .*\); allowed: "):
        import_reference("it_raises:build", "config.model.name")
    with pytest.raises(ConfigError, match=r"imported \('.*it_ends.py', line 1: SystemExit\)"):
        import_reference("it_ends:build", "config.model.name")
