"""The weights to start from are what their descriptions say, and those of today's configurations."""

import hashlib
import json
import re

import jax
import numpy as np
import pytest

from experiments.starters import FOLDER, STARTERS, write_safetensors
from ltu_jax.evaluation.scores import measure
from ltu_jax.interop.weights import load_weights
from ltu_jax.models.build import build_model
from ltu_jax.setting import to_dict
from ltu_jax.sweeping.configuring import configure
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import make_state
from ltu_jax.unlearning.problem import load_problem

IMAGES = {"digits": (10, (8, 8, 3)), "cifar10_jpeg_small": (5, (32, 32, 3))}


@pytest.fixture(params=STARTERS)
def starter(request):
    told = json.loads((FOLDER / f"{request.param}.json").read_text())
    settings = configure(told["config"], "ltu", {"seed": 0})
    spec = build_model(settings.model, *IMAGES[request.param])
    params, model_state = jax.eval_shape(spec.init, jax.random.key(0))
    return told, settings, {"params": params, **model_state}


def test_a_starter_is_its_description_s_and_small_and_of_today_s_settings(starter):
    told, settings, template = starter
    file = FOLDER / told["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == told["sha256"]
    assert file.stat().st_size < 1_000_000 and "/" not in told["file"]
    assert jax.tree.map(lambda x: x.shape, load_weights(file, template)) == jax.tree.map(lambda x: x.shape, template)
    now = to_dict(settings)
    now["data"].pop("data_dir")
    for group, fields in told["settings"].items():  # a field that came later is unset
        assert fields == {name: value for name, value in now[group].items() if name in fields or value is not None}


def test_the_starter_of_digits_knows_its_rows_as_it_says():
    told = json.loads((FOLDER / "digits.json").read_text())
    source, splits, spec, weights = load_problem(
        configure("digits", "ltu", {"seed": 0, "weights": str(FOLDER / told["file"]), "data.held_out": "train"})
    )
    weights = dict(weights)
    state = make_state(spec.apply_fn, weights.pop("params"), weights, SGD, jax.random.key(0))
    found = measure(state, source, {"train": splits.train, "test": splits.test}, 64)
    accuracy = {name: 100 * float(one.correct.mean()) for name, one in found.items()}
    assert accuracy == pytest.approx(told["accuracy_percent"], abs=0.3)  # another processor may round one row away


def test_the_lines_of_the_page_read_the_starter(monkeypatch):
    root = FOLDER.parents[1]
    [code] = re.findall(r"```python\n(.*?)```", (root / "docs" / "reproduce.md").read_text(), re.S)
    names = {}
    monkeypatch.chdir(root)
    exec(compile(code, "reproduce.md", "exec"), names)
    logits, _ = names["model"].apply_fn(
        names["original"].params, names["original"].model_state, np.zeros((2, 8, 8, 3), np.float32), train=False
    )
    assert logits.shape == (2, 10) and np.isfinite(logits).all()


def test_what_is_written_is_what_is_read(tmp_path):
    spec = build_model(configure("digits", "ltu", {}).model, *IMAGES["digits"])
    params, model_state = spec.init(jax.random.key(3))
    weights = {"params": params, **model_state}
    write_safetensors(tmp_path / "new" / "w.safetensors", weights)
    read = load_weights(tmp_path / "new" / "w.safetensors", weights)
    jax.tree.map(lambda a, b: (a == b).all() or pytest.fail("differs"), read, weights)
