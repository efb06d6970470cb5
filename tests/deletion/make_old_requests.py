"""Writes old_requests.tar.gz: a request as each of two earlier versions carried it out, with its data, model and key.

    python tests/deletion/make_old_requests.py

Needs the history of the repository, and packages that the earlier versions run with; made once with jax 0.10.2 on a
CPU. The versions are the last whose receipts have no claim, and the first whose receipts have one.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import jax
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
ARCHIVE = HERE / "old_requests.tar.gz"
VERSIONS = {"no_claim": "fecb94f", "claim": "d6089fa"}
CONFIG = """
from ltu_jax.config import LTU, Calibration, Config, Data, Model


def get_config(method="ltu"):
    return Config(
        data=Data("arrays", data_dir="photos", remain_fraction=1.0),
        model=Model("mlp:build"),
        weights="model.safetensors",
        method=LTU(batch_size=20, epochs=4.0, learning_rate=0.02),
        calibration=Calibration(trials=2),
    )
"""


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "requests"
        make_problem(folder)
        for version, commit in VERSIONS.items():
            carry_out(folder, version, commit, pathlib.Path(name) / commit)
        (folder / "key.pem").unlink()
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            archive.add(folder, "requests", filter=without_owner)


def make_problem(folder):
    """Noise with a mean of its class, a model that knows it by heart, 30 ids to forget and 25 more, and a key."""
    sys.path.insert(0, str(HERE.parent))
    import mlp

    from ltu_jax.config import Training
    from ltu_jax.training.supervised import train

    source = mlp.toy_source(num_rows=160, num_test=120)
    (folder / "photos").mkdir(parents=True)
    parts = {"train": slice(0, source.num_train), "test": slice(source.num_train, None)}
    for part, rows in parts.items():
        arrays = {"images": source.images[rows], "labels": source.labels[rows], "ids": source.ids[rows]}
        np.savez_compressed(folder / "photos" / f"{part}.npz", **arrays)
    spec = mlp.build(None, source.num_classes, source.images.shape[1:])
    recipe = Training(epochs=150, batch_size=40, learning_rate=0.2, weight_decay=0.0)
    rows = source.rows(np.arange(source.num_train))
    state = train(spec.apply_fn, *spec.init(jax.random.key(0)), rows, recipe, jax.random.key(1)).state
    save_file({f"params.{name}": np.asarray(leaf) for name, leaf in state.params.items()}, folder / "model.safetensors")
    shutil.copy(mlp.__file__, folder)  # the same in both versions
    (folder / "mine.py").write_text(CONFIG)
    for name, ids in {"ids.txt": source.ids[:30], "more.txt": source.ids[30:55]}.items():
        (folder / name).write_text("".join(f"{id}\n" for id in ids))
    for command in ("genpkey -algorithm ed25519 -out key.pem", "pkey -in key.pem -pubout -out public.pem"):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True)


def carry_out(folder, version, commit, checkout):
    """The request by the code of a commit."""
    subprocess.run(["git", "worktree", "add", "-q", "--detach", checkout, commit], cwd=HERE, check=True)
    try:
        words = "-m ltu_jax.unlearn --config mine.py --forget ids.txt --sign key.pem --workdir".split()
        env = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
        cache = ("--cache", checkout.with_name("cache"))  # compiled programs, which are not packed
        done = subprocess.run([sys.executable, *words, version, *cache], cwd=folder, env=env)
        assert done.returncode in (0, 4), done.returncode  # 4: not shown, of so few rows
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", checkout], cwd=HERE, check=True)


def without_owner(member):
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
