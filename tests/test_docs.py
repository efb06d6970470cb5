"""What the pages of docs/ show works as they say."""

import dataclasses
import importlib
import pathlib
import re
import sys
import tomllib
import types

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from small import small_config

import ltu_jax
from ltu_jax import config, tune
from ltu_jax.auditing.registry import AUDITS
from ltu_jax.data.sources import load_source
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.methods import METHODS, build_method
from ltu_jax.methods.registry import BUILT_IN
from ltu_jax.models.build import build_model
from ltu_jax.sweeping.grid import cells, load_sweep
from ltu_jax.unlearning.loop import run_unlearning
from ltu_jax.unlearning.problem import prepare
from ltu_jax.unlearning.result import make_result, now

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def own_method():
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "own_method.md").read_text(), re.S)
    return code


def test_the_method_of_ones_own_is_about_thirty_lines():
    assert len(own_method().splitlines()) <= 36
    names = {}
    exec(compile(own_method(), "own_method.md", "exec"), names)
    assert callable(names["build"])


@pytest.mark.slow
def test_the_method_of_ones_own_runs(tmp_path, monkeypatch):
    code = own_method()
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    settings = small_config(
        method=config.LTU(name="mine:build", batch_size=8), evaluation=config.Evaluation(num_retrain=0)
    )
    found = prepare(settings)
    state, history = run_unlearning(
        build_method(settings.method, found.parts), found.original, found.splits, found.source, remain_fraction=0.3
    )
    assert int(state.step) == 10 and len(history.rows) == 10
    assert np.abs(np.asarray(state.params["w1"]) - np.asarray(found.original.params["w1"])).max() > 0


def test_the_data_set_of_ones_own_is_read_as_its_files_say(tmp_path, monkeypatch):
    code, configuration = re.findall(r"```python\n(.*?)```", (DOCS / "own_data.md").read_text(), re.S)
    names = {}
    exec(compile(configuration, "my_config.py", "exec"), names)
    assert config.resolve(names["get_config"]()).data.name == "my_data:read"
    (tmp_path / "own_scans.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 9), np.uint8)
    names = ["a/1_train_2", "a/2_test_0", "a/3_train_1", "b/1_test_3", "b/2_train_0", "b/3_train_3"]
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "scans" / f"{name}.png")
    source = load_source(config.Data("own_scans:read", data_dir=str(tmp_path / "scans")))
    order = [0, 2, 4, 5, 1, 3]
    assert source.ids.tolist() == [f"{names[i]}.png" for i in order] and source.num_train == 4
    assert source.labels.tolist() == [int(names[i][-1]) for i in order]
    assert source.class_names == ("none", "left", "right", "both")
    np.testing.assert_array_equal(source.images, np.repeat(pixels[order][..., None], 3, -1))


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1, 2], ids=["nnx", "linen", "plain"])
def test_models_of_ones_own_are_unlearned_and_their_weights_come_back(tmp_path, monkeypatch, which):
    code = re.findall(r"```python\n(.*?)```", (DOCS / "own_model.md").read_text(), re.S)[which]
    (tmp_path / f"mine{which}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    spec = build_model(config.Model(f"mine{which}:build"), 10, (8, 8, 3))
    params, model_state = spec.init(jax.random.key(0))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "trained", {"params": params, **model_state, "step": 3})
    settings = small_config(
        model=config.Model(f"mine{which}:build"),
        weights=str(tmp_path / "trained"),
        data=dataclasses.replace(small_config().data, held_out="train"),
        evaluation=config.Evaluation(num_retrain=0),
    )
    found = prepare(settings)
    state, _ = run_unlearning(
        build_method(settings.method, found.parts), found.original, found.splits, found.source, remain_fraction=0.3
    )
    save_weights(tmp_path / "trained", tmp_path / "weights", {"params": state.params, **state.model_state})
    with ocp.StandardCheckpointer() as checkpointer:
        old, new = (checkpointer.restore(tmp_path / name) for name in ("trained", "weights"))
    assert jax.tree.structure(new) == jax.tree.structure(old) and new["step"] == 3
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max() > 0, new["params"], old["params"])
    assert all(jax.tree.leaves(moved))


def test_a_request_in_a_pipeline_begins_with_arrays_and_a_file_of_weights(tmp_path, monkeypatch):
    """As the page says it, with a smaller model in a file of another kind."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "forget-my-data.md").read_text(), re.S)
    (code,) = [block for block in blocks if "build_model" in block]
    code = code.replace('"resnet18", width=8', '"resnet8", width=4').replace(".pth", ".msgpack")
    code = code.replace("if done.shown:", "if not done.shown:")  # of five rows nothing is
    spec = build_model(config.Model("resnet8", width=4), 4, (8, 8, 3))
    params, model_state = spec.init(jax.random.key(0))
    trained = jax.tree.map(np.asarray, {"params": params, **model_state})
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    logits, _ = spec.apply_fn(params, model_state, images / np.float32(255), False)
    (tmp_path / "model.msgpack").write_bytes(flax.serialization.msgpack_serialize(trained))
    monkeypatch.chdir(tmp_path)
    ids = np.array([f"id{i}" for i in range(60)])
    given = {
        "images": images,
        "labels": np.asarray(logits.argmax(axis=1), np.int32),  # an untrained model that knows all of them
        "ids": ids,
        "num_train": 40,
        "to_forget": ids[:5].tolist(),
        "config": config.Config(method=config.LTU(epochs=1.0), calibration=config.Calibration(trials=0)),
    }
    exec(compile(code, "forget-my-data.md", "exec"), given)
    assert given["done"].receipt["request"]["count"] == 5
    new = load_weights(tmp_path / "unlearned.msgpack", trained)
    jax.tree.map(np.testing.assert_array_equal, new["params"], jax.tree.map(np.asarray, given["done"].params))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(trained), strict=True))


def test_the_configuration_of_the_page_on_requests_takes_the_method_it_is_asked_for():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "forget-my-data.md").read_text(), re.S)
    names = {}
    exec(compile(blocks[0], "mine.py", "exec"), names)
    assert names["get_config"]().method == config.LTU(batch_size=20)
    for method in ("random_label", "salun", "scrub", "retrain"):
        assert names["get_config"](method).method == config.method_config(method)


def test_a_table_is_unlearned_as_the_page_says(tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.S)[2]
    (tmp_path / "my_table.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    problem, unlearned, by_attackers = importlib.import_module("my_table").main()
    assert problem.source.images.shape == (569, 30) and problem.original_scores.ta > 90
    assert problem.score(unlearned).ta > 90 and problem.score(by_attackers).ra > 80
    for state in (unlearned, by_attackers):
        assert np.abs(np.asarray(state.params["w1"]) - np.asarray(problem.original.params["w1"])).max() > 0


def test_the_logger_for_wandb_hands_each_row_on(monkeypatch, tmp_path):
    code = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.S)[3]
    seen = []
    run = types.SimpleNamespace(log=lambda data, step=None, commit=None: seen.append((data, step)))
    stub = types.ModuleType("wandb")

    def init(entity=None, project=None, dir=None, id=None, name=None, config=None, reinit=None):  # wandb's
        seen.append({"config": config})
        return run

    stub.init = init
    monkeypatch.setitem(sys.modules, "wandb", stub)
    names = {}
    exec(compile(code, "python.md", "exec"), names)
    names["make"](tmp_path, {"seed": 3})({"step": 2, "loss": 0.5})
    assert seen[0]["config"] == {"seed": 3} and seen[1] == ({"step": 2, "loss": 0.5}, 2)


def test_a_measure_and_an_attacker_of_ones_own_run_as_the_page_says(tmp_path, monkeypatch):
    measure, attacker = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.S)[4:6]
    (tmp_path / "my_figures.py").write_text(measure)
    (tmp_path / "my_attacker.py").write_text(attacker)
    monkeypatch.syspath_prepend(tmp_path)
    settings = small_config(
        attackers=config.Attackers(names=("sorted", "my_attacker:network"), num_shadows=2, epochs=2, draws=1),
        evaluation=config.Evaluation(num_retrain=1, measure="my_figures:measure"),
    )
    found = prepare(settings)
    assert [row["name"] for row in found.attackers] == ["sorted", "my_attacker:network"]
    ended = run_unlearning(build_method(settings.method, found.parts), found.original, found.splits, found.source)
    measures = make_result(found, *ended, now())["measures"]
    rows = found.splits.test
    images = jnp.asarray(found.source.images[rows]) / 255
    logits = found.original.apply_fn(found.original.params, {}, images, train=False)[0]
    by_bin = {}
    for answer, label in zip(np.asarray(jax.nn.softmax(logits)), found.source.labels[rows], strict=True):
        by_bin.setdefault(min(int(answer.max() * 10), 9), []).append((answer.argmax() == label, answer.max()))
    error = sum(abs(sum(right - sure for right, sure in one)) for one in by_bin.values()) / len(rows)
    assert np.isclose(measures["original"]["calibration error"], error, atol=1e-4)
    assert set(measures) == {"unlearned", "original", "retrain"}


def test_the_sweep_of_the_page_is_the_runs_that_it_says_and_can_be_tuned(tmp_path, monkeypatch):
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "comparing.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sweep.py").write_text(code)
    sweep = load_sweep(pathlib.Path("my_sweep.py"))
    runs = cells(sweep, tmp_path / "cells", tmp_path / "cache")
    rho = {"FT": 1.0, "SalUn": 1.0, "LTU": 0.3}
    wanted = [(label, rho[label], seed) for label in rho for seed in range(3)]
    assert [(run.label, run.config.data.remain_fraction, run.config.seed) for run in runs] == wanted
    assert [row.label for row in tune.tuning(sweep).rows] == ["FT", "SalUn"]


def test_every_method_has_its_line_and_its_paragraph():
    text = (DOCS / "methods.md").read_text()
    for name in METHODS:
        assert f"| `{name}` |" in text, name
        assert text.count(f"`{name}`") >= 2, name
    for name in set(config.METHOD_CONFIGS) - set(METHODS):
        assert f"`{name}`" in text, name
    paragraphs = " ".join(text.split())
    for name, method in BUILT_IN.items():
        assert f"*{method.sentence}*" in paragraphs, name


def test_every_dependency_stands_in_the_list_of_licences():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        name for group in ("audit", "experiments", "test") for name in project["optional-dependencies"][group]
    ]
    names = {re.match(r"[\w.-]+", one)[0] for one in wanted} - {"ltu-jax"}
    listed = (DOCS / "promises.md").read_text().split("Licences of what is installed")[1].split("What these need")[0]
    assert names <= set(re.findall(r"[a-z][\w.-]+", listed))


def test_the_table_of_audits_has_them_all_with_their_levels_and_its_flags_exist():
    page = (DOCS / "audits.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d)", page, re.M)
    assert rows == [(name, str(audit.level)) for name, audit in AUDITS.items()]
    source = (DOCS.parent / "ltu_jax" / "audit.py").read_text() + (
        DOCS.parent / "ltu_jax" / "difficulty.py"
    ).read_text()
    known = {*re.findall(r'flags.DEFINE_\w+\(\s*"(\w+)"', source), "config", "evidence"}
    assert set(re.findall(r"(?<![\w-])--(\w+)", page)) <= known


def test_the_api_page_has_every_public_name_and_no_other():
    shown = re.findall(r"^\.\. auto(?:function|class|data):: ltu_jax\.(\w+)$", (DOCS / "api.md").read_text(), re.M)
    assert sorted([*shown, "METHODS"]) == sorted(ltu_jax.__all__)


def test_the_contents_of_the_site_are_all_pages(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS)
    import conf

    trees = conf.contents((DOCS / "index.md").read_text())
    listed = {line.removeprefix("/docs/") for line in trees.splitlines() if line.startswith("/docs/")}
    assert listed == {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")} - {"index.md"}
