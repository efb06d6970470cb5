"""The flags ``--config`` and ``--config.FIELD``: one of each field that the configuration file returns."""

import ast
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ltu_jax import config_file, setting
from ltu_jax.config import METHOD_CONFIGS, Config, Data, Model, check_forget_class
from ltu_jax.models.families import check_given
from ltu_jax.setting import ConfigError, allowed_names, settings

DEFAULT = str(Path(__file__).with_name("default.py"))
SHIPPED = (Path(__file__).with_name("configs"), Path(__file__).parents[1] / "experiments" / "configs")
"""Where configurations that come with this package lie: installed, and in a checkout."""
CONFIG_HELP = (
    "configuration file, FILE.py or FILE.py:METHOD, or the name of one that comes with the package, such as digits;"
    " unset: LTU on the embedded digits"
)
LISTS: dict[Any, str] = {
    int: "whole numbers, separated by commas",
    float: "numbers, separated by commas",
    str: "names, separated by commas",
}


def read_command_line(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> Config:
    """The configuration that a command line asks for, not yet resolved.

    Args:
      argv: the command line, its first word the program.
      values: the command's own flags; those of the configuration are added.

    Returns:
      What the file returns, with the fields that are given by themselves.

    Raises:
      ConfigError: one line about the first mistake.
    """
    file, colon, method = given(argv).partition(":")
    config = asked_config(file, "--config", *([method] if colon else []))
    for name in sorted(values):
        if kind := {"int": int, "float": float, "bool": bool}.get(values[name].flag_type()):
            values[name].parser = _Parser(f"--{values[name].name}", kind)
    fields = {name: _flag(name, field) for name, _, field in settings(config)}
    for flag in (_first(list(fields.values())), *fields.values()):
        flags.DEFINE_flag(flag, values)
    _parse(argv, values, list(fields))
    for name, flag in fields.items():
        if flag.present:
            _set(config, name, flag.value)
    if isinstance(config.model, Model):
        check_given(config.model, [name.removeprefix("config.model.") for name, flag in fields.items() if flag.present])
    if isinstance(config.data, Data):
        check_forget_class(config.data, is_given=fields["config.data.forget_class"].present > 0)
    return config


def asked_config(file: str, field: str, *method: str) -> Config:
    """What the ``get_config`` of a configuration file, or of one that comes with the package, returns.

    Args:
      file: its path or its name.
      field: for messages.
      *method: the method that is asked for; none takes the file's own.

    Raises:
      ConfigError: if the file cannot be read, or gives another method.
    """
    file = shipped(file)
    config = config_file.call(file, field, "get_config(method)", Config, *method)
    if method and method[0] in METHOD_CONFIGS and not _is_asked_for(config.method, METHOD_CONFIGS[method[0]]()):
        raise ConfigError(
            f"{field}: {file!r} was asked for {method[0]!r} and gives {getattr(config.method, 'name', None)!r};"
            " allowed: a get_config(method) that says method=method_config(method)"
        )
    return config


def _is_asked_for(found: Any, asked: Any) -> bool:
    """Whether a file gave the method that it was asked for; a preset if any of its own settings is as the preset's."""
    if getattr(found, "name", None) != asked.name:
        return False
    usual = type(asked)()
    own = [
        field.name for field in dataclasses.fields(asked) if getattr(asked, field.name) != getattr(usual, field.name)
    ]
    return not own or any(getattr(found, name, None) == getattr(asked, name) for name in own)


def shipped(name: str) -> str:
    """The file of a configuration that comes with the package, by its name; any other word is a path already."""
    files = [folder / f"{name}.py" for folder in SHIPPED if name.isidentifier() and not Path(name).exists()]
    return next((str(file) for file in files if file.is_file()), name)


def given(argv: Sequence[str]) -> str:
    """The last value of ``--config``, found before the other flags are known.

    Raises:
      ConfigError: no value is given.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("config", DEFAULT, CONFIG_HELP, flag_values=values)
    values.set_gnu_getopt()  # the value of a flag that is not known here is no reason to stop
    try:
        values(argv, known_only=True)
    except flags.Error as error:
        raise _mistake(error, argv, values) from error
    return values.config


def own_flags(values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """The command's own flags, without ``--config`` and those that absl defines."""
    modules = values.flags_by_module_dict()
    own = [flag.name for name, group in modules.items() for flag in group if not name.startswith("absl")]
    return sorted(name for name in own if name.partition(".")[0] != "config")


class _Parser(flags.ArgumentParser):
    """Reads a value as the type of its field or flag; it raises our own messages."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name, self.kind = name, kind

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):  # a default
            return argument
        if self.kind is tuple or typing.get_origin(self.kind) is tuple:
            return self._tuple(argument)
        if self.kind in (str, object):
            return argument if self.kind is str else _literal(argument)
        read = {int: flags.IntegerParser, float: flags.FloatParser, bool: flags.BooleanParser}.get(self.kind)
        if read is None:
            raise ConfigError(f"{self.name}: its type has no flag; allowed: to set it in the configuration file")
        try:
            return read().parse(argument)
        except ValueError:
            allowed = setting.TYPES[self.kind]
            what = "neither true nor false" if self.kind is bool else f"no {allowed.removeprefix('a ')}"
            raise ConfigError(f"{self.name}: {argument!r} is {what}; allowed: {allowed}") from None

    def _tuple(self, text: str) -> tuple:
        value, kind = _literal(text), next(iter(typing.get_args(self.kind)), object)
        # Names without quotes or brackets are names, those of digits too; in quotes one may have a comma.
        if kind is str and (value == text or not any(sign in text for sign in "'\"()[]{}")):
            value = [name.strip() for name in text.split(",")]
        items = tuple(value) if isinstance(value, (tuple, list, set)) else (value,)
        if not all(setting.is_of(item, kind) for item in items):
            allowed = LISTS.get(kind, "a tuple")
            raise ConfigError(f"{self.name}: {text!r} is no tuple of {allowed.partition(',')[0]}; allowed: {allowed}")
        return items


class _Tuple(flags.Flag):
    """Given several times, its values are joined."""

    def parse(self, argument: Any) -> None:
        before = self.value or ()
        super().parse(argument)
        self.value = (*before, *(self.value or ()))


def _flag(name: str, field: dataclasses.Field) -> flags.Flag:
    """The flag of a field; its value is None until it is given."""
    kind = field.type
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else kind
    parser = _Parser(name, kind)
    flag = _Tuple if kind is tuple or typing.get_origin(kind) is tuple else flags.Flag
    return flag(parser, None, name, None, field.metadata.get("doc"), boolean=kind in (bool, object))


def _first(fields: Sequence[flags.Flag]) -> flags.Flag:
    """The flag ``--config``, which takes no value once a field has one."""

    class First(flags.Flag):
        def parse(self, argument: Any) -> None:
            if before := [field.name for field in fields if field.present]:
                raise ConfigError(
                    f"--config: {argument!r} comes after --{before[0]}; allowed: --config before every --config.FIELD"
                )
            super().parse(argument)

    return First(flags.ArgumentParser(), None, "config", None, CONFIG_HELP)


def _literal(text: str) -> Any:
    """The number, tuple or quoted text that is written there; else the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except Exception:  # ValueError, SyntaxError, TypeError, RecursionError, MemoryError: each says that it is none
        return text


def _parse(argv: Sequence[str], values: flags.FlagValues, fields: Sequence[str]) -> None:
    try:
        rest = values(argv)
    except ConfigError:
        raise
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        if name.removeprefix("no").startswith("config."):
            raise _no_such_field(name, fields) from error
        raise ConfigError(f"--{name}: no such flag; {allowed_names(name, ['config', *own_flags(values)])}") from error
    except (flags.Error, ValueError) as error:
        raise _mistake(error, argv, values) from error
    if rest[1:]:
        raise ConfigError(f"argument {rest[1]!r} is unexpected; allowed: flags that start with --")


def _mistake(error: Exception, argv: Sequence[str], values: flags.FlagValues) -> ConfigError:
    """What is wrong with a command line that absl cannot parse."""
    if isinstance(error.__context__, ConfigError):  # of _Parser
        return error.__context__
    name = argv[-1].lstrip("-")
    if argv[-1].startswith("-") and name in values and not values[name].boolean:
        return ConfigError(f"--{name}: no value given; allowed: --{name}=VALUE")
    return ConfigError(f"command line: {error}; allowed: see --help")


def _no_such_field(name: str, known: Sequence[str]) -> ConfigError:
    """The mistake that no field has this dotted name, with the nearest and with its neighbours."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    group = ", ".join(sorted(n for n in known if n.rpartition(".")[0] == name.rpartition(".")[0]))
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"{name}: no such field; allowed: {group or 'see --help'}{hint}")


def _set(config: Config, name: str, value: Any) -> None:
    *groups, last = name.split(".")[1:]
    try:
        setattr(functools.reduce(getattr, groups, config), last, value)
    except dataclasses.FrozenInstanceError:
        raise ConfigError(f"{name}: its dataclass is frozen; allowed: to set it in the configuration file") from None
