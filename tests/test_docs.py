"""What the pages of docs/ show works as they say."""

import pathlib
import re

import numpy as np
from small import small_config

from ltu_jax import config
from ltu_jax.methods import METHODS, build_method
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.problem import prepare

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_the_method_of_ones_own_is_about_thirty_lines_and_runs(tmp_path, monkeypatch):
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "own_method.md").read_text(), re.S)
    assert len(code.splitlines()) <= 36
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    settings = small_config(method=config.LTU(name="mine:build", batch_size=8))
    found = prepare(settings)
    state, history = run_unlearning(
        build_method(settings.method, found.parts), found.original, found.splits, found.source, remain_fraction=0.3
    )
    assert int(state.step) == 10 and len(history.rows) == 10
    assert np.abs(np.asarray(state.params["w1"]) - np.asarray(found.original.params["w1"])).max() > 0


def test_every_method_has_its_line_and_its_paragraph():
    text = (DOCS / "methods.md").read_text()
    for name in METHODS:
        assert f"| `{name}` |" in text, name
        assert text.count(f"`{name}`") >= 2, name
    for name in set(config.METHOD_CONFIGS) - set(METHODS):
        assert f"`{name}`" in text, name
