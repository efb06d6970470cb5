"""Files and JSON from outside: what has no end, no bottom or no sense is refused as an error that callers know."""

import json
import os

import pytest

from ltu_jax import safe_reading
from ltu_jax.safe_reading import DEEPEST, parse_json, read_bytes, read_json, read_text, reason


def test_what_is_there_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"é": [1, null]}', encoding="utf-8")
    assert parse_json('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert parse_json('{"a": {"a": 7}, "b": 7.0}', parse_int=str) == {"a": {"a": "7"}, "b": 7.0}
    assert read_json(tmp_path / "a.json") == {"é": [1, None]} == json.loads(read_text(tmp_path / "a.json"))


def test_what_has_no_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_bytes(path)


def test_what_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_reading, "LARGEST", 10)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "a") == b"0123456789"
    (tmp_path / "a").write_bytes(b"0123456789a")
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "a")


@pytest.mark.parametrize("path", ["none", ".", "a\0b", "x" * 300, "\ud800"])
def test_what_is_no_file_is_an_error_with_a_reason(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError)) as caught:
        read_text(path)
    assert reason(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{",
        '{"a": ' * 10**5,
        "[" * 10**6,
        '{"a": "\\uD800"}',
        '{"\\udcff": 1}',
        '{"a": 1' + "0" * 5000 + "}",
        '{"a": 1, "b": [{"c": 1, "c": 1}]}',
        '{"a": 1, "\\u0061": 2}',
    ],
)
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_is_walked_to_the_bottom():
    nested = lambda depth: '{"a": ' * depth + "1" + "}" * depth  # noqa: E731
    assert parse_json(nested(DEEPEST))
    with pytest.raises(ValueError, match="nested deeper than 64"):
        parse_json(nested(DEEPEST + 1))


def test_what_json_does_not_know_is_kept_or_what_the_caller_makes_of_it():
    assert parse_json('{"a": [NaN, -Infinity]}', lambda _: None) == {"a": [None, None]}
    assert parse_json('{"a": -Infinity}') == {"a": float("-inf")}
