"""What can be wrong with a request: each is one line that names it, status 2, and nothing is written."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.commands.request import still_there

TESTS = pathlib.Path(__file__).parents[1]
CONFIG = """
from ltu_jax import config

def get_config(method="ltu"):
    return config.Config(
        data=config.Data("table", table="rows.csv", num_classes=4),
        model=config.Model("mlp:build"),
        weights="mine.msgpack",
        attackers=config.Attackers(names=("sorted", "metrics"), epochs=1, draws=1),
        method=config.method_config(method),
    )
"""
FORGET = ["ltu_jax.unlearn", "--config", "mine.py", "--forget", "ids.txt", "--workdir", "out"]


def changed(*more, **replaced):
    """The command with flags replaced, and more of them."""
    words = list(FORGET)
    for name, value in replaced.items():
        words[words.index(f"--{name}") + 1] = value
    return [*words, *more]


BAD = {
    "no file of ids": (changed(forget="none.txt"), "--forget: 'none.txt' cannot be read"),
    "an empty file of ids": (changed(forget="empty.txt"), "--forget: 'empty.txt' holds no id"),
    "ids that are no text": (changed(forget="mine.msgpack"), "--forget: 'mine.msgpack' cannot be read"),
    "an unknown id": (
        changed(forget="unknown.txt"),
        "--forget: 1 of 2 ids are not in the training set: 'nobody' (unknown)",
    ),
    "an id never trained on": (
        changed(forget="test.txt"),
        "--forget: 1 of 1 ids are not in the training set: 'id70' (held out)",
    ),
    "rho that leaves one row": (
        changed("--config.data.remain_fraction=0.001", "--config.method.forget_by=attackers"),
        "config.data.remain_fraction: 0.001 leaves 1 of",
    ),
    "all ids": (changed(forget="all.txt"), "all training rows are to be forgotten"),
    "no key": (changed("--sign", "none.pem"), "--sign: 'none.pem' cannot be read"),
    "a key that is none": (changed("--sign", "ids.txt"), "--sign: 'ids.txt' cannot be read"),
    "a key without a request": (["ltu_jax.unlearn", "--sign", "k.pem"], "--sign: it signs the receipt of a request"),
    "an original kept without a request": (
        ["ltu_jax.unlearn", "--keep_original"],
        "--keep_original: a run keeps its original in any case",
    ),
    "several seeds": (changed("--config.num_seeds=2"), "--forget: a request is one run"),
    "only to prepare": (changed("--prepare"), "--forget: a request is one run"),
    "a folder of something else": (changed(workdir="."), "--workdir: '.' holds"),
    "a method without a rate": (
        changed(config="mine.py:ssd"),
        "config.calibration.trials: 6, but ssd has no learning rate",
    ),
    "no weights": (changed("--config.weights=none.msgpack"), "config.weights: 'none.msgpack' is not there"),
    "weights that are none": (changed("--config.weights=ids.msgpack"), "config.weights: 'ids.msgpack' cannot be read"),
    "weights of another model": (changed("--config.model.name=resnet8"), "config.weights: 'mine.msgpack' "),
    "weights that were not trained": (
        changed("--config.weights=untrained.msgpack"),
        "config.weights: the model 'untrained.msgpack' knows ",
    ),
    "labels in another order": (
        changed("--config.data.table=shifted.csv"),
        "if its outputs are 1,2,3,0; allowed: the classes in the order of its outputs",
    ),
    "labels in another order, dry": (
        changed("--config.data.table=shifted.csv", "--dry_run"),
        "if its outputs are 1,2,3,0; allowed: the classes in the order of its outputs",
    ),
    "a negative tolerance": (
        changed("--config.calibration.tolerance=-1"),
        "config.calibration.tolerance: -1.0 is out of range",
    ),
    "a sampler of no name": (changed("--config.method.samplers=near"), "config.method.samplers: 'near' is unknown"),
    "no held-out rows": (
        changed("--config.data.table=train.csv", "--config.data.held_out=test"),
        "has 0 rows in its test part",
    ),
    "a table without labels": (changed("--config.data.table=columns.csv"), "config.data.table: 'columns.csv'"),
    "an id twice": (changed("--config.data.table=twice.csv"), "config.data.table: 'twice.csv'"),
    "a label outside the range": (changed("--config.data.num_classes=3"), "config.data.table: 'rows.csv'"),
    "images that are not there": (changed("--config.data.table=missing.csv"), "config.data.table: 'missing.csv'"),
    "an image outside of its folder": (changed("--config.data.table=outside.csv"), "config.data.table: 'outside.csv'"),
    "an image that cannot be read": (changed("--config.data.table=broken.csv"), "config.data.skip_unreadable"),
    "an unreadable image to forget": (
        changed("--config.data.table=broken.csv", "--config.data.skip_unreadable=True", forget="broken.txt"),
        "--forget: 1 of 1 ids are not in the training set: 'broken' (unreadable)",
    ),
    "no receipt": (["ltu_jax.verify", "none.json"], "receipt: 'none.json' cannot be read"),
    "a receipt that is none": (["ltu_jax.verify", "ids.txt"], "receipt: 'ids.txt' cannot be read"),
    "no public key": (
        ["ltu_jax.verify", "ids.txt", "--public_key", "none.pem"],
        "--public_key: 'none.pem' cannot be read",
    ),
    "a flag that is none": (["ltu_jax.verify", "ids.txt", "--sgin"], "--sgin: no such flag"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import flax.serialization
    import jax
    import jax.numpy as jnp
    import mlp
    from PIL import Image

    from ltu_jax import config
    from ltu_jax.training.supervised import train
    from ltu_jax.types import Rows

    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    images = rng.integers(0, 256, (100, 8, 8, 3), np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    (folder / "images" / "broken.png").write_bytes(b"no image")
    head = "path,label,id,part"
    rows = [f"images/{i}.png,{i % 4},id{i},{'train' if i < 70 else 'test'}" for i in range(100)]
    tables = {
        "rows": [head, *rows],
        "train": [head, *rows[:70]],
        "copies": [head, *rows, "images/3.png,3,again,train"],
        "shifted": [head, *(f"images/{i}.png,{(i + 1) % 4},id{i},{'train' if i < 70 else 'test'}" for i in range(100))],
        "columns": ["path,id", "images/1.png,a"],
        "twice": [head, *rows, rows[5]],
        "missing": [head, *rows, "images/none.png,1,none,train"],
        "outside": [head, *rows, "../other.png,1,other,train"],
        "broken": [head, *rows, "images/broken.png,1,broken,train"],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    texts = {
        "ids": ["id3", "id5"],
        "empty": ["", " "],
        "unknown": ["id3", "nobody"],
        "test": ["id70"],
        "all": [f"id{i}" for i in range(70)],
        "broken": ["broken"],
    }
    for name, lines in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "ids.msgpack").write_text("id3\n")
    spec = mlp.build(None, 4, (8, 8, 3))
    params, _ = spec.init(jax.random.key(0))
    recipe = config.Training(epochs=150, batch_size=35, learning_rate=0.2, weight_decay=0.0)
    rows = Rows(jnp.asarray(images[:70]), jnp.arange(70) % 4)
    trained = train(spec.apply_fn, params, {}, rows, recipe, jax.random.key(1)).state.params
    for name, one in (("mine", trained), ("untrained", params)):
        weights = flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, one)})
        (folder / f"{name}.msgpack").write_bytes(weights)
    (folder / "mine.py").write_text(CONFIG)
    return folder


def run(folder, words):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))}
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def answers(folder):
    """How the command ended for each bad request."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(BAD, pool.map(lambda case: run(folder, case[0]), BAD.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_it_is_said_in_one_line_and_nothing_is_written(folder, answers, case):
    done, expected = answers[case], BAD[case][1]
    # progress, and the files that --config.data.skip_unreadable left out, are no errors
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("reading ", "left out, "))]
    assert done.returncode == 2, done.stderr[-2000:]
    assert len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0], done.stderr[-2000:]
    assert not (folder / "out").exists() and not (folder / "cache").exists() and not (folder / "runs").exists()


@pytest.mark.slow
def test_the_command_itself_is_right(folder):
    """Else every case above could fail for a reason that the command itself has."""
    done = run(folder, changed("--dry_run"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"forget": 2' in done.stdout and not (folder / "out").exists()
    said = json.loads(done.stdout)
    assert said["warnings"][0].startswith("2 rows are too few to show anything of")
    assert next(iter(said["seconds"])) == "ltu" and "random_label" in said["seconds"]
    given = said["given_model"]
    assert given["rows"] == {"remain": 68, "forget": 2, "held_out": 30} and given["remain_accuracy"] == 100
    assert "copies" not in done.stderr


def test_what_still_knows_the_images_is_listed(tmp_path):
    for name in ("model.pth", "photos/train/a/1.png", "photos/train/a/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    data = config.Data("folder", data_dir=str(tmp_path / "photos"), memory_map="pixels")
    ids = ["train/a/1.png", "train/a/2.png", "train/a/gone.png"]
    settings = config.Config(data=data, weights=str(tmp_path / "model.pth"))
    assert "- out/request-1: a model from before" in still_there(settings, ids, [pathlib.Path("out/request-1")])
    first, *lines = still_there(settings, ids)
    assert first == "still there, and yours to delete once the receipt is checked:"
    assert lines[0].startswith(f"- {tmp_path / 'model.pth'}: the model from before (config.weights)")
    assert lines[1] == f"- the 2 images in {tmp_path / 'photos'}"
    assert not [name for name in ids if name in " ".join(lines)]  # a nightly job keeps what is printed
    assert lines[2].startswith("- pixels (config.data.memory_map)") and "--leftovers" in lines[3]
    (tmp_path / "model.pth").unlink()
    lines = still_there(config.Config(data=config.Data("digits"), weights=str(tmp_path / "model.pth")), ids)
    assert lines[1] == "- the 3 images of 'digits', where they are not gone" and len(lines) == 3


@pytest.mark.slow
def test_a_dry_run_names_copies(folder):
    done = run(folder, changed("--dry_run", "--config.data.table=copies.csv"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["copies"]["remain"] == {"identical": 1, "near": 0, "first": [["again", "id3"]]}
    assert "warning: a few images that stay, fewer than 5, are copies of those to forget;" in done.stderr
    assert "id3" not in done.stderr
