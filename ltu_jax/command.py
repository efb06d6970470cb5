"""What every command shares: flags from a configuration file, ``--help``, and one line for a mistake.

``ml_collections.config_flags`` parses; its own errors are tracebacks, so each is turned into one line
that names the field, the value and what is allowed, on standard error, with exit status 2.
"""

import difflib
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import config_flags

from ltu_jax import config, setting
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError

DEFAULT = str(Path(__file__).with_name("default.py"))
CONFIG_HELP = "configuration file, FILE.py or FILE.py:METHOD; unset: LTU on the embedded digits"


def run(define: Callable[[], None], main: Callable[[Config], int], usage: str) -> NoReturn:
    """Parses the command line, runs ``main`` on the resolved configuration, and exits.

    Exit status: what ``main`` returns; 2 for a mistake of the user's, told in one line.

    Args:
      define: defines the command's own flags.
      main: the command.
      usage: what ``--help`` says first.
    """

    def parse(argv: Sequence[str]) -> Config:
        define()
        if any(word in ("--help", "-help", "-h") for word in argv[1:]):
            print(_help(usage, _method_given(argv)))
            raise SystemExit(0)
        try:
            return config.resolve(_parse(list(argv)))
        except Exception as error:  # config_flags raises KeyError, OSError, TypeError ... for user mistakes
            fail(error)

    def guarded(config: Config) -> int:
        try:
            return main(config)
        except ConfigError as error:
            fail(error)

    told, handler = logging.getLogger("ltu_jax"), logging.StreamHandler()  # of damage, of waiting for another process
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    told.addHandler(handler)
    told.setLevel(logging.WARNING)  # absl's verbosity is that of the root
    told.propagate = False
    app.run(guarded, argv=sys.argv, flags_parser=parse)
    raise SystemExit(0)  # app.run exits by itself; this line is for the type checker


def fail(error: Exception) -> NoReturn:
    """Prints a mistake as one line on standard error and exits with status 2."""
    print(f"error: {_one_line(error)}", file=sys.stderr)
    raise SystemExit(2)


def _parse(argv: list[str]) -> Config:
    _check_overrides(argv)
    # Defining the flag reads the overrides of sys.argv already, so it too can raise.
    holder = config_flags.DEFINE_config_file("config", DEFAULT, CONFIG_HELP)
    rest = flags.FLAGS(argv)
    value = holder.value
    getattr(value, "seed", None)  # a file that could not be loaded is noticed only now
    if rest[1:]:
        raise ConfigError(f"argument {rest[1]!r} is unexpected; allowed: flags that start with --")
    if not isinstance(value, Config):
        raise ConfigError(f"--config: get_config returned {type(value).__name__}; allowed: ltu_jax.config.Config")
    return value


def _check_overrides(argv: list[str]) -> None:
    """Finds overrides that no field answers to: config_flags would raise without naming the nearest one.

    Fields of a method are known beforehand only where a built-in one is named; a file may bring its own.
    """
    method = _method_given(argv)
    own = method not in config.METHOD_CONFIGS
    default = Config(method=config.METHOD_CONFIGS.get(method, config.LTU)())
    known = [name for name, _, _ in setting.settings(default)]
    for word in argv[1:]:
        name = word.partition("=")[0].lstrip("-")
        if not word.startswith("-") or not name.startswith("config.") or name in known:
            continue
        if not (own and name.startswith("config.method.")):
            raise _no_such_field(name, known)


def _method_given(argv: Sequence[str]) -> str:
    """The method after the colon of ``--config``."""
    given = _values(argv, "--config")
    return given[0].partition(":")[2] if given else "ltu"


def _no_such_field(name: str, known: Iterable[str]) -> ConfigError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    group = ", ".join(sorted(n for n in known if n.rpartition(".")[0] == name.rpartition(".")[0]))
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"{name}: no such field; allowed: {group or 'see --help'}{hint}")


def _values(argv: Sequence[str], flag: str) -> list[str]:
    """The values given to a flag, as ``--flag=value`` or ``--flag value``."""
    joined = [word.partition("=")[2] for word in argv if word.startswith(f"{flag}=")]
    return joined + [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == flag]


def _one_line(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if isinstance(error, ConfigError):
        return text
    if missing := re.match(r"Field (\w+) not found on dataclass <class '(?:\w+\.)*(\w+)'>", text):
        fields = getattr(getattr(config, missing[2], None), "__dataclass_fields__", {})
        return str(_no_such_field(f"config.method.{missing[1]}", [f"config.method.{name}" for name in fields]))
    if isinstance(error, flags.UnrecognizedFlagError):
        known = ["config", *_own_flags()]
        return f"--{error.flagname}: no such flag; {setting.allowed_names(error.flagname, known)}"
    if isinstance(error, flags.IllegalFlagValueError):
        return _illegal_value(text)
    if type(error).__name__ == "FlagOrderError":
        return f"--config: {text}; allowed: --config before every --config.FIELD"
    last = text.splitlines()[-1].strip() if text else type(error).__name__
    if isinstance(error, OSError):  # config_flags wraps why the file could not be loaded
        return f"--config: {last}; allowed: a Python file with get_config(method) -> Config"
    return f"--config: {type(error).__name__}: {last}; allowed: a Python file with get_config(method) -> Config"


def _illegal_value(text: str) -> str:
    """``flag --config.a.b=x: reason`` with the type that the field has."""
    flag, _, reason = text.removeprefix("flag --").partition(": ")
    name, _, value = flag.partition("=")
    if name == "config":  # an error inside get_config carries its whole traceback
        last = text.splitlines()[-1].removeprefix("ltu_jax.setting.ConfigError: ")
        return f"--config: {value!r}: {last}"
    method = config.METHOD_CONFIGS.get(_method_given(sys.argv), config.LTU)()
    types = {n: f.type for n, _, f in setting.settings(Config(method=method))}
    kind = types.get(name)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    for candidate, word in words.items():
        if kind is candidate or candidate in getattr(kind, "__args__", ()):
            bare = word.removeprefix("a ")
            allowed = f"{bare}s, separated by commas" if "tuple" in str(kind) else word
            return f"{name}: {value!r} is no {bare}; allowed: {allowed}"
    return f"{name}: {value!r} is refused ({reason}); allowed: see --help"


def _own_flags() -> list[str]:
    """The command's flags, without those that absl and its friends define."""
    modules = flags.FLAGS.flags_by_module_dict()
    own = [f.name for name, group in modules.items() for f in group if not name.startswith(("absl", "ml_collections"))]
    return sorted(name for name in own if not name.startswith("config"))


def _help(usage: str, method: str) -> str:
    lines = [usage.strip(), "", "flags:"]
    lines += _entry("--config", CONFIG_HELP, None)
    for name in _own_flags():
        lines += _entry(f"--{name}", flags.FLAGS[name].help or "", None)
    lines += [
        "",
        *textwrap.wrap(f"methods, --config FILE.py:METHOD: {', '.join(config.METHOD_CONFIGS)};", 100),
        "with --help each shows its own fields",
        "",
        "fields of the configuration, as --config.FIELD=VALUE:",
    ]
    shown = ""
    shown_method = config.METHOD_CONFIGS.get(method, config.LTU)()
    for name, value, field in setting.settings(Config(method=shown_method)):
        group = name.rpartition(".")[0]
        if group != shown:
            lines += ["", f"{group}:"]
            shown = group
        lines += _entry(f"--{name}", setting.describe(field), value)
    return "\n".join(lines)


def _entry(flag: str, text: str, default: Any) -> list[str]:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    head = f"  {flag}" if default is None or default == () else f"  {flag}={shown}"
    return [head, *textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)]
