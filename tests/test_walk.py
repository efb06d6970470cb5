"""docs/forget-my-data.md, command by command: a folder of real images and PyTorch weights to a verified receipt."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.data.sources import load_source
from ltu_jax.interop import pytorch_file
from ltu_jax.interop.weights import load_weights, save_weights
from ltu_jax.models.build import build_model
from ltu_jax.training.supervised import train

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent / "docs" / "forget-my-data.md"
DATA = HERE.parents[1] / "shared" / "tfds"
CLASSES = {0: "airplane", 1: "automobile", 6: "frog", 8: "ship"}


def commands():
    """The shell lines of the page, without the nightly job's."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
    return [line for block in blocks if "crontab" not in block for line in block.strip().splitlines()]


@pytest.mark.parametrize(
    ("unlearn", "verify", "served"), [(0, 0, True), (4, 0, False), (0, 1, False)], ids=["shown", "not shown", "forged"]
)
def test_the_nightly_job_serves_no_model_whose_forgetting_is_not_shown(tmp_path, unlearn, verify, served):
    [script] = [block for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S) if "crontab" in block]
    stubs = {
        "python": f'case "$*" in *unlearn*--sign*) exit {unlearn};; *--public_key*) exit {verify};; esac; exit 9',
        "serve.sh": "touch served",
        "nightly.sh": script,
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(text if name == "nightly.sh" else f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "out" / "request-1").mkdir(parents=True)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    night = lambda: subprocess.run(["sh", "./nightly.sh"], cwd=tmp_path, env=env).returncode  # noqa: E731
    assert night() == 0  # no queue
    queue = [f"train/cat/{i:04}.png\n" for i in range(20)]
    (tmp_path / "queue.txt").write_text("".join(queue[:19]))
    assert night() == 0 and (tmp_path / "queue.txt").exists() and not (tmp_path / "served").exists()
    (tmp_path / "queue.txt").write_text("".join(queue))
    for _ in range(1 if served else 2):  # the next night too
        assert night() == (unlearn or verify)
    assert (tmp_path / "served").exists() == served and (tmp_path / "tonight.txt").exists() != served


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """photos/, model.pth, ids.txt, more.txt and mine.py, as the page says they are there."""
    if not DATA.is_dir():
        pytest.skip("no cifar10_jpeg here")
    from PIL import Image

    folder = tmp_path_factory.mktemp("walk")
    source = load_source(config.Data("cifar10_jpeg", data_dir=str(DATA), classes=tuple(CLASSES)))
    parts = {"train": (np.arange(source.num_train), 200), "test": (np.arange(source.num_train, len(source.ids)), 150)}
    for part, (rows, count) in parts.items():
        for label, name in enumerate(CLASSES.values()):
            (folder / "photos" / part / name).mkdir(parents=True)
            for row in rows[source.labels[rows] == label][:count]:
                Image.fromarray(source.images[row]).save(folder / "photos" / part / name / f"{source.ids[row]}.png")
    [python] = re.findall(r"```python\n(from ltu_jax.config.*?)```", PAGE.read_text(), re.S)
    (folder / "mine.py").write_text(python)

    photos = load_source(config.Data("folder", data_dir=str(folder / "photos")))
    model = config.Model("resnet18", width=8, stem="cifar")
    spec = build_model(model, photos.num_classes, photos.images.shape[1:])
    params, state = spec.init(jax.random.key(0))
    recipe = config.Training(epochs=15, batch_size=50, learning_rate=0.1)
    rows = photos.rows(np.arange(photos.num_train))
    trained = train(spec.apply_fn, params, state, rows, recipe, jax.random.key(1), augment="flip").state
    weights = {"params": trained.params, **trained.model_state}
    save_weights(HERE / "resnet18_width8.pth", folder / "model.pth", weights)
    ids = photos.ids[np.random.default_rng(0).permutation(photos.num_train)]
    (folder / "ids.txt").write_text("\n".join(ids[:80]) + "\n")
    (folder / "more.txt").write_text("\n".join(ids[75:100]) + "\n")
    return folder


def run(folder, line):
    words = line.split()
    if words[0] == "openssl" and not shutil.which("openssl"):
        pytest.skip("no openssl here")
    words = [sys.executable if word == "python" else word for word in words]
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)


def handed_out(folder):
    """What a person got of the request, with one token and their own image, and nothing else."""
    sent = folder / "sent"
    sent.mkdir(exist_ok=True)
    for name in ("out/request-1/receipt.json", "out/request-1/report.html", "public.pem"):
        shutil.copy(folder / name, sent)
    for token in sorted((folder / "tokens").glob("*"))[:1]:
        shutil.copy(token, sent / "token.json")
        shutil.copy(folder / "photos" / json.loads(token.read_text())["id"], sent / "mine.png")
    return sent


@pytest.mark.slow
def test_the_page_leads_from_pytorch_weights_to_a_verified_receipt(folder):
    lines, start = commands(), time.monotonic()
    assert [line.split()[2] for line in lines if line.startswith("python")] == [
        "ltu_jax.unlearn",
        "ltu_jax.unlearn",
        *["ltu_jax.verify"] * 5,
        "ltu_jax.unlearn",
    ]
    outputs = []
    for line in lines:
        begun = time.monotonic()
        done = run(handed_out(folder) if " receipt.json " in line else folder, line)
        few = "more.txt" in line  # of its 20 images little can be shown: status 4 is an honest end
        assert done.returncode in ((0, 4) if few else (0,)), f"{line}\n{done.stdout}{done.stderr[-2000:]}"
        outputs.append(done.stdout)
        print(f"{time.monotonic() - begun:.0f} s: {line}")
        if "--dry_run" in line:
            assert not (folder / "out").exists()
    print(f"the walk took {time.monotonic() - start:.0f} s")
    assert "verified: hashes and evidence of request 1, 80 rows, signed by" in outputs[-6]
    assert "verified: receipt with its report of request 1, 80 rows, signed by" in outputs[-5]
    assert outputs[-3].startswith("your image, ") and "verified: receipt of request 1, 80 rows" in outputs[-3]
    assert outputs[-2].startswith("found: none of 80 (")
    # It knows what request 2 forgot; but where that is not shown, it stays the one to serve.
    assert (folder / "out" / "request-1" / "weights").exists() == (done.returncode == 4)

    receipt = json.loads((folder / "out" / "request-1" / "receipt.json").read_text())
    second = json.loads((folder / "out" / "request-2" / "receipt.json").read_text())
    assert second["request"] == {**second["request"], "number": 2, "count": 20, "repeated": 5}
    before, after = receipt["evidence"]["before"], receipt["evidence"]["after"]
    assert after["attack_auc"][0] < before["attack_auc"][0]
    assert after["forget_accuracy"][0] < before["forget_accuracy"][0]


@pytest.mark.slow
def test_the_unlearned_file_is_one_that_the_old_ones_server_loads(folder):
    """Same names in the same order, same types and shapes, other numbers; and they are the model that was scored."""
    if not (folder / "out" / "request-2").exists():
        pytest.skip("the walk did not get there")
    from ltu_jax.training.checkpoint import load_tree

    old, new = (
        pytorch_file.read_state_dict(path, "x")
        for path in (folder / "model.pth", folder / "out/request-2/weights/model.pth")
    )
    assert list(old) == list(new)
    assert all((old[n].dtype, old[n].shape) == (new[n].dtype, new[n].shape) for n in old)
    assert not np.array_equal(old["conv1.weight"], new["conv1.weight"])
    tree, _ = load_tree(folder / "out" / "request-2" / "model")
    saved = {"params": tree["params"], **tree["model_state"]}
    read = load_weights(folder / "out/request-2/weights/model.pth", saved)
    jax.tree.map(np.testing.assert_array_equal, read, jax.tree.map(np.asarray, saved))
