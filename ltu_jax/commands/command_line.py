"""What every command shares: flags from a configuration file, ``--help``, and one line for a mistake.

A mistake names the field, the value and what is allowed, on standard error, with exit status 2.
"""

import argparse
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from absl import app, flags

from ltu_jax import config, config_file, overrides, setting
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError, allowed_names, plain, printable


def run(define: Callable[[], None], main: Callable[[Config], int], usage: str) -> NoReturn:
    """Parses the command line, runs ``main`` on the resolved configuration, and exits.

    Exit status: what ``main`` returns; 2 for a mistake of the user's, which is one line.

    Args:
      define: defines the command's own flags.
      main: the command.
      usage: what ``--help`` says first.
    """

    def parse(argv: Sequence[str]) -> Config:
        define()
        if any(word in ("--help", "-help", "-h") for word in argv[1:]):
            try:
                print(_help(usage, argv))
            except ConfigError as error:
                fail(error)
            raise SystemExit(0)
        try:
            return config.resolve(overrides.read_command_line(argv))
        except ConfigError as error:
            fail(error)

    def guarded(config: Config) -> int:
        try:
            return main(config)
        except ConfigError as error:
            fail(error)

    notes, handler = logging.getLogger("ltu_jax"), logging.StreamHandler()  # of damage, of waiting for another process
    handler.setFormatter(_Plain("note: %(message)s"))
    notes.addHandler(handler)
    notes.setLevel(logging.WARNING)  # absl's verbosity is that of the root
    notes.propagate = False
    app.run(guarded, argv=sys.argv, flags_parser=parse)
    raise SystemExit(0)  # app.run exits by itself; this line is for the type checker


class _Plain(logging.Formatter):
    """A line of a log, which may hold words from outside."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What a command line without a configuration says; the parser must have ``exit_on_error=False``.

    Raises:
      ConfigError: if a flag is unknown or lacks its value, or there is a word too many.
    """
    try:
        given, rest = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}; allowed: see --help") from None
    if rest and not rest[0].startswith("-"):
        raise ConfigError(f"{rest[0]!r}: one word too many; allowed: see --help")
    if rest:
        flag = rest[0].partition("=")[0].lstrip("-")
        raise ConfigError(f"--{flag}: no such flag; {allowed_names(flag, ['help', *vars(given)])}")
    return given


def fail(error: ConfigError) -> NoReturn:
    """Prints a mistake as one line on standard error and exits with status 2."""
    print(plain(f"error: {error}"), file=sys.stderr)
    raise SystemExit(2)


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines that are to be copied; a reader that wants no more of them, such as ``head``, is no mistake."""
    try:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it ends


def _help(usage: str, argv: Sequence[str]) -> str:
    lines = [usage.strip(), "", "flags:"]
    lines += _entry("--config", overrides.CONFIG_HELP, None)
    for name in overrides.own_flags():
        lines += _entry(f"--{name}", flags.FLAGS[name].help or "", None)
    lines += [
        "",
        *textwrap.wrap(f"methods, --config FILE.py:METHOD: {', '.join(config.METHOD_CONFIGS)};", 100),
        "with --help each shows its own fields",
        "",
        "fields of the configuration, as --config.FIELD=VALUE:",
    ]
    shown = ""
    for name, value, field in setting.settings(Config(method=_shown_method(argv))):
        group = name.rpartition(".")[0]
        if group != shown:
            lines += ["", f"{group}:"]
            shown = group
        lines += _entry(f"--{name}", setting.describe(field), value)
    return "\n".join(lines)


def _shown_method(argv: Sequence[str]) -> Any:
    """The settings of the method that a command line names, of which ``--help`` shows the fields; else LTU's.

    Raises:
      ConfigError: neither this package nor the configuration file knows a method of this name.
    """
    try:
        file, _, method = overrides.given(argv).partition(":")
    except ConfigError:  # whoever asks for help may have stopped there
        file, method = "", ""
    if method in ("", *config.METHOD_CONFIGS):
        return config.METHOD_CONFIGS[method or "ltu"]()
    return config_file.call(overrides.shipped(file), "--config", "get_config(method)", Config, method).method


def _entry(flag: str, text: str, default: Any) -> list[str]:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    head = f"  {flag}" if default is None or default == () else f"  {flag}={shown}"
    return [head, *textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)]
