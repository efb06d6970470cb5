"""Mistakes on a command line, and the exact line that each is answered with."""

from collections.abc import Iterator
from pathlib import Path

from ltu_jax.methods.registry import METHOD_CONFIGS

FILES = {
    "good.py": (
        "from ltu_jax.config import Config, method_config\n\n"
        "def get_config(method='ltu'):\n    return Config(method=method_config(method))\n"
    ),
    "none_of_it.py": "x = 1\n",
    "raises.py": "def half(x):\n    return x / 0\n\n\ndef get_config(method='ltu'):\n    return half(1)\n",
    "several_lines.py": "def get_config():\n    raise RuntimeError('first\\nTraceback (most recent):\\nlast')\n",
    "ends.py": "import sys\n\nsys.exit(3)\n",
    "says_nothing.py": "assert False\n",
    "syntax.py": "x = 1\ndef get_config(:\n",
    "imports.py": "import os\nimport no_module_of_this_name\n",
    "imports_raising.py": "import raising\n",
    "raising.py": "import json\n\njson.loads('')\n",
    "broken_module.py": "def build(\n",
    "refuses.py": (
        "from ltu_jax.setting import ConfigError\n\n"
        "def get_config(method='ltu'):\n    raise ConfigError('size: 3 is odd; allowed: even numbers')\n"
    ),
    "other_type.py": "def get_config(method='ltu'):\n    return {}\n",
    "no_method.py": "from ltu_jax.config import Config\n\ndef get_config():\n    return Config()\n",
    "own.py": (
        "import dataclasses\n\nfrom ltu_jax.config import Config\n\n"
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    name: str = 'own:build'\n    table: dict = None\n\n"
        "def get_config(method='mine'):\n    return Config(method=Mine())\n"
    ),
}
METHODS = ", ".join(sorted(METHOD_CONFIGS))
FILE = "allowed: a Python file with get_config(method) -> Config"
FLAGS = (
    "cache, config, coordinator, debug, deterministic, distributed, dry_run, forget, keep_original, num_processes,"
    " operator, prepare, process_id, show_images, sign, workdir"
)
NUMBERS, WHOLE = "numbers, separated by commas", "whole numbers, separated by commas"

ANSWERS: dict[tuple[str, ...], str] = {
    ("--help", "--config", "good.py:finetun"): (
        f"--config: method 'finetun' is unknown; allowed: {METHODS}; did you mean 'finetune'?"
    ),
    ("--config.data.forget_class=0",): (
        "config.data.forget_class: 0, but config.data.forget_kind is 'random'; allowed: with forget_kind class or"
        " subclass"
    ),
    # The configuration file.
    ("--config", "good.py:slun"): f"--config: method 'slun' is unknown; allowed: {METHODS}; did you mean 'salun'?",
    ("--config=good.py:zzzz",): f"--config: method 'zzzz' is unknown; allowed: {METHODS}",
    ("--config=raises.py",): f"--config: 'raises.py', line 2: ZeroDivisionError: division by zero; {FILE}",
    ("--config=several_lines.py",): f"--config: 'several_lines.py', line 2: RuntimeError: first; {FILE}",
    ("--config=ends.py",): f"--config: 'ends.py', line 3: SystemExit: 3; {FILE}",
    ("--config=says_nothing.py",): f"--config: 'says_nothing.py', line 1: AssertionError; {FILE}",
    ("--config=syntax.py:ltu",): f"--config: 'syntax.py', line 2: SyntaxError: invalid syntax; {FILE}",
    ("--config=imports.py",): (
        f"--config: 'imports.py', line 2: ModuleNotFoundError: No module named 'no_module_of_this_name'; {FILE}"
    ),
    ("--config=imports_raising.py",): (
        f"--config: 'imports_raising.py', line 1: JSONDecodeError: Expecting value: line 1 column 1 (char 0); {FILE}"
    ),
    ("--config=refuses.py",): "--config: size: 3 is odd; allowed: even numbers",
    ("--config=none_of_it.py",): f"--config: 'none_of_it.py' has no get_config; {FILE}",
    ("--config=other_type.py",): f"--config: 'other_type.py': get_config returned dict; {FILE}",
    ("--config=no_method.py:ltu",): (
        f"--config: 'no_method.py': TypeError: get_config() takes 0 positional arguments but 1 was given; {FILE}"
    ),
    ("--config", "nowhere.py"): f"--config: 'nowhere.py' cannot be read (No such file or directory); {FILE}",
    ("--config", "."): f"--config: '.' cannot be read (Is a directory); {FILE}",
    ("--config", "/dev/zero"): f"--config: '/dev/zero' cannot be read (not a regular file); {FILE}",
    ("--config=",): "--config: '' is no path; allowed: the path of a file or folder, in UTF-8",
    ("--config",): "--config: no value given; allowed: --config=VALUE",
    # Values.
    ("--config.training.epochs=many",): "config.training.epochs: 'many' is no whole number; allowed: a whole number",
    ("--config.training.epochs", "1e3"): "config.training.epochs: '1e3' is no whole number; allowed: a whole number",
    ("--config.training.momentum=x",): "config.training.momentum: 'x' is no number; allowed: a number",
    ("--config.method.augment=maybe",): (
        "config.method.augment: 'maybe' is neither true nor false; allowed: true or false"
    ),
    ("--config.model.stem=none",): "config.model.stem: 'none' is unknown; allowed: cifar, imagenet",
    ("--config.data.image_size=big",): "config.data.image_size: 'big' is no whole number; allowed: a whole number",
    ("--config.data.classes=1,b",): f"config.data.classes: '1,b' is no tuple of whole numbers; allowed: {WHOLE}",
    ("--config.data.classes=1.5",): f"config.data.classes: '1.5' is no tuple of whole numbers; allowed: {WHOLE}",
    ("--config.model.mean=0,x,1",): f"config.model.mean: '0,x,1' is no tuple of numbers; allowed: {NUMBERS}",
    ("--config.model.mean=0,1",): "config.model.mean: (0, 1) has 2 numbers; allowed: 3 numbers and >= 0 and <= 1",
    ("--config.data.class_names=(3,4)",): (
        "config.data.class_names: '(3,4)' is no tuple of names; allowed: names, separated by commas"
    ),
    ("--config.method.samplers=uniform,near",): (
        "config.method.samplers: 'near' is unknown; allowed: nearest_feature, nearest_label, uniform"
    ),
    ("--config.data.train_size=1",): "config.data.train_size: 1 is out of range; allowed: >= 2 and <= 2147483647",
    ("--num_processes=two",): "--num_processes: 'two' is no whole number; allowed: a whole number",
    ("--prepare=maybe",): "--prepare: 'maybe' is neither true nor false; allowed: true or false",
    # Names.
    ("--config.evaluation.num_retrian=1",): (
        "config.evaluation.num_retrian: no such field; allowed: config.evaluation.batch_size,"
        " config.evaluation.measure, config.evaluation.num_retrain; did you mean 'config.evaluation.num_retrain'?"
    ),
    ("--config=good.py:retrain", "--config.method.learning_rate=1"): (
        "config.method.learning_rate: no such field; allowed: config.method.name;"
        " did you mean 'config.training.learning_rate'?"
    ),
    ("--config=own.py", "--config.method.tabel=1"): (
        "config.method.tabel: no such field; allowed: config.method.name, config.method.table;"
        " did you mean 'config.method.table'?"
    ),
    ("--config=own.py", "--config.method.table=1"): (
        "config.method.table: its type has no flag; allowed: to set it in the configuration file"
    ),
    ("--config=own.py", "--config.method.name=x:y"): (
        "config.method.name: its dataclass is frozen; allowed: to set it in the configuration file"
    ),
    ("--frget", "ids.txt"): f"--frget: no such flag; allowed: {FLAGS}; did you mean 'forget'?",
    ("--config.seed=1", "stray"): "argument 'stray' is unexpected; allowed: flags that start with --",
    ("stray", "--config=good.py"): "argument 'stray' is unexpected; allowed: flags that start with --",
    ("--config.seed=1", "--config=good.py"): (
        "--config: 'good.py' comes after --config.seed; allowed: --config before every --config.FIELD"
    ),
    ("--workdir",): "--workdir: no value given; allowed: --workdir=VALUE",
    ("--config.seed",): "--config.seed: no value given; allowed: --config.seed=VALUE",
}

REFERENCES: dict[tuple[str, ...], str] = {
    ("--dry_run", "--config.model.name=raising:build"): (
        "config.model.name: 'raising:build' cannot be imported ('FOLDER/raising.py', line 3: JSONDecodeError:"
        " Expecting value: line 1 column 1 (char 0)); allowed: module:attribute"
    ),
    ("--dry_run", "--config.model.name=broken_module:build"): (
        "config.model.name: 'broken_module:build' cannot be imported ('FOLDER/broken_module.py', line 1: SyntaxError:"
        " '(' was never closed); allowed: module:attribute"
    ),
    ("--dry_run", "--config.model.name=none_of_it:build"): (
        "config.model.name: 'none_of_it:build' cannot be imported (AttributeError: module 'none_of_it' has no"
        " attribute 'build'); allowed: module:attribute"
    ),
}
"""Found only when the model is built, some seconds later."""


def make_files(folder: Path) -> None:
    """Writes the files that the command lines name."""
    for name, text in FILES.items():
        (folder / name).write_text(text)


def answers(folder: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """The arguments of ``python -m ltu_jax.unlearn`` for each mistake, and the line that it prints.

    Args:
      folder: where ``make_files`` wrote its files, and where the command runs.
    """
    for words, line in (ANSWERS | REFERENCES).items():
        yield words, f"error: {line.replace('FOLDER', str(folder))}"
