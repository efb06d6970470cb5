"""The README's own words hold: its example runs, its commands exist, its files are there."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.smoke
def test_the_functional_example_forgets_and_remembers():
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)

    def error(params, rows):
        logits = np.asarray(names["apply"](params, names["images"][rows]))
        return 100 * np.mean(logits.argmax(1) != np.asarray(names["labels"][rows]))

    forget, remain, held_out = slice(0, 60), slice(60, 300), slice(300, 1797)
    assert error(names["params"], forget) == error(names["params"], remain) == 0
    assert error(names["unlearned"], forget) > 15
    assert error(names["unlearned"], remain) < 3
    assert abs(error(names["unlearned"], forget) - error(names["unlearned"], held_out)) < 12


@pytest.mark.smoke
def test_every_file_that_the_readme_names_is_there():
    for path in set(re.findall(r"(?:experiments|ltu_jax)/[\w/.]+?\.py", README)):
        assert (ROOT / path).exists(), path


def test_every_method_and_setting_that_the_readme_names_is_there():
    from ltu_jax import config, setting

    for name in re.findall(r"digits\.py:(\w+)", README):
        config.method_config(name)
    every = [config.Config(method=make()) for make in config.METHOD_CONFIGS.values()]
    known = {name for one in every for name, _, _ in setting.settings(one)}
    for group, name in re.findall(r"`(method|data|attackers|training)\.(\w+)`", README):
        assert f"config.{group}.{name}" in known, f"{group}.{name}"
