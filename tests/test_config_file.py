"""A Python file of the user's, read; what goes wrong in it is in ``commands/test_command_line.py``."""

import dataclasses
import sys

import pytest

from ltu_jax.config_file import call
from ltu_jax.setting import ConfigError


def read(path, *arguments):
    return call(str(path), "FILE", "get_number(text)", int, *arguments)


def test_it_returns_what_the_function_returns(tmp_path):
    (tmp_path / "any name").write_text("def get_number(text='1'): return int(text)")
    assert read(tmp_path / "any name") == 1 and read(tmp_path / "any name", "7") == 7
    assert [path.name for path in tmp_path.iterdir()] == ["any name"]


def test_a_file_knows_where_it_lies_and_may_define_dataclasses(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nimport dataclasses, pathlib\n"
        "@dataclasses.dataclass\nclass Size:\n    n: dataclasses.KW_ONLY\n    number: int = 3\n"
        "def get_number(text=''): return len(pathlib.Path(__file__).read_text()) * Size().number\n"
    )
    monkeypatch.chdir(tmp_path)
    assert read("mine.py") == 3 * (tmp_path / "mine.py").stat().st_size
    assert dataclasses.is_dataclass(sys.modules["__int_file__"].Size)


def test_a_bad_byte_and_a_name_that_no_file_has_are_refused(tmp_path):
    (tmp_path / "zero.py").write_bytes(b"x = 1\0")
    for path in (tmp_path / "zero.py", "a" * 300, "\0"):
        with pytest.raises(ConfigError, match="^FILE: "):
            read(path)


def test_an_interrupt_is_no_mistake(tmp_path):
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "mine.py")
