"""The command that checks receipts, on a receipt made by the command that makes them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from ltu_jax import verify
from ltu_jax.setting import ConfigError

TESTS = pathlib.Path(__file__).parents[1]
CONFIG = """
from ltu_jax import config

def get_config(method="ltu"):
    return config.Config(
        data=config.Data(train_size=100, forget_fraction=0.2, reserve_size=60),
        model=config.Model("mlp:build"),
        training=config.Training(epochs=60, batch_size=20),
        attackers=config.Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original"),
        method=config.method_config(method),
        calibration=config.Calibration(trials=2, evaluations=3),
    )
"""


REQUEST = ("unlearn", "--config", "mine.py", "--forget", "ids.txt", "--workdir", "out")


def trained_ids(count):
    """Ids of rows that the model of ``CONFIG`` is trained on."""
    from ltu_jax import config
    from ltu_jax.unlearning.problem import load_problem

    settings = config.Config(data=config.Data(train_size=100, reserve_size=60), model=config.Model("mlp:build"))
    loaded = load_problem(config.resolve(settings))
    return "\n".join(loaded.source.ids[loaded.splits.train][:count])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A request of 20 ids on a model that was trained here."""
    folder = tmp_path_factory.mktemp("check")
    (folder / "mine.py").write_text(CONFIG)
    (folder / "ids.txt").write_text(trained_ids(20))
    done = run(folder, *REQUEST, "--keep_original")
    assert done.returncode == 0, done.stderr
    assert "request 1" in done.stdout and "20 rows forgotten by ltu" in done.stdout
    assert "request 1: 20 rows to forget, 24 of 80 remaining rows used; held out: 60 for the attackers" in done.stderr
    return folder


CODE = ("--code", "mlp:build")


def run(folder, command, *words):
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    line = [sys.executable, "-m", f"ltu_jax.{command}", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_a_request_is_verified_with_hashes_alone_and_with_its_evidence(folder):
    receipt = "out/request-1/receipt.json"
    done = run(folder, "verify", receipt, "--model", "out", "--forget", "ids.txt", *CODE)
    assert (done.returncode, done.stdout) == (0, "verified: hashes and evidence of request 1, 20 rows\n"), done.stderr
    done = run(folder, "verify", receipt, "--hashes")
    assert (done.returncode, done.stdout) == (0, "verified: hashes of request 1, 20 rows\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("code", [(), ("--code", "mlp:other")])
def test_code_that_a_receipt_names_is_not_run_unless_it_is_named_here_too(folder, code):
    done = run(folder, "verify", "out/request-1/receipt.json", *code)
    message = "checking evidence runs the model's code, 'mlp:build'; allowed: the same name, if you trust that code"
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_the_claim_is_told_with_its_status(folder):
    done = run(folder, "verify", "out/request-1/receipt.json", "--evidence", *CODE)
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        assert lines[:-1] == ["verified: hashes, evidence and claim of request 1, 20 rows"]
        assert lines[-1].startswith("the claim's test refused ")  # how often it is wrong
    else:
        assert done.returncode == 1 and lines[-1].startswith("NOT verified: ")
        assert all(line.startswith("claim: ") for line in lines[:-1]) and len(lines) > 1


@pytest.mark.slow
def test_what_differs_is_said_with_status_1(folder):
    config = folder / "out" / "request-1" / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"seed": 0', '"seed": 1', 1))
    done = run(folder, "verify", "out/request-1/receipt.json", *CODE)
    config.write_text(whole)
    assert done.returncode == 1
    assert done.stdout == "config.json: it was altered\nNOT verified: 1 finding\n"


@pytest.mark.slow
def test_without_the_original_the_figures_before_are_passed_over_and_the_claim_is_not_tested(folder):
    done = run(folder, "verify", "out/request-1/receipt.json", "--cache", "nowhere", *CODE)
    assert done.returncode == 0 and "the model before is not there" in done.stderr
    done = run(folder, "verify", "out/request-1/receipt.json", "--cache", "nowhere", "--evidence", *CODE)
    assert done.returncode == 1 and "claim: it cannot be tested without the model before" in done.stdout


@pytest.mark.slow
def test_the_same_request_again_says_when_it_was_done(folder):
    done = run(folder, *REQUEST)
    receipt = json.loads((folder / "out" / "request-1" / "receipt.json").read_text())
    assert done.returncode == 0 and f"request 1: already done on {receipt['time']['finished']}" in done.stdout
    assert not (folder / "out" / "request-2").exists()


@pytest.mark.slow
def test_a_receipt_is_checked_where_the_files_lie_now(tmp_path, monkeypatch, capsys):
    """Made in one place with paths from there, checked in another; and the old weights, then the images, are gone."""
    import flax.serialization
    import jax
    import mlp
    import numpy as np

    from ltu_jax import config
    from ltu_jax.data.sources import load_source
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, load_given_model, request_config

    toy, first = mlp.toy_source(num_rows=60, num_test=30), tmp_path / "first"
    (first / "data").mkdir(parents=True)
    for name, rows in (("train", slice(0, 60)), ("test", slice(60, 90))):
        arrays = {"images": toy.images[rows], "labels": toy.labels[rows], "ids": toy.ids[rows]}
        np.savez(first / "data" / f"{name}.npz", **arrays)
    params, _ = mlp.build(None, 4, (4, 4, 3)).init(jax.random.key(0))
    weights = flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, params)})
    (first / "mine.msgpack").write_bytes(weights)
    settings = config.Config(
        data=config.Data("arrays", data_dir="data", remain_fraction=1.0),
        model=config.Model("mlp:build"),
        weights="mine.msgpack",
        attackers=config.Attackers(names=("sorted", "metrics"), epochs=1, draws=1),
        method=config.LTU(epochs=1, batch_size=5, query_size=5, num_queries=1, order="none"),
        calibration=config.Calibration(trials=0),
    )
    monkeypatch.chdir(first)
    settings = request_config(config.resolve(settings))
    source = load_source(settings.data)
    request = Request(settings, [str(name) for name in toy.ids[:10]], pathlib.Path("out"))
    fulfil(request, source, *load_given_model(settings, source, request.home))

    other = (tmp_path / "first").rename(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    receipt = "other/out/request-1/receipt.json"
    with pytest.raises(ConfigError, match="config.data.data_dir: 'data'"):
        verify.main([receipt, *CODE])
    here = [receipt, "--data_dir", "other/data", *CODE]
    assert verify.main([*here, "--weights", "other/mine.msgpack"]) == 0
    assert verify.main(here) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "verified: hashes and evidence of request 1, 10 rows",
        "verified: hashes and evidence (after) of request 1, 10 rows",
    ]
    assert "the model before is not there" in printed.err
    with pytest.raises(ConfigError, match="--weights: 'none' is not there"):
        verify.main([*here, "--weights", "none"])
    (other / "mine.msgpack").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert verify.main([*here, "--weights", "other/mine.msgpack"]) == 1
    assert "other/mine.msgpack: it is not the file of the receipt" in capsys.readouterr().out
    arrays = dict(np.load(other / "data" / "train.npz"))
    np.savez(other / "data" / "train.npz", **{name: value[10:] for name, value in arrays.items()})
    with pytest.raises(ConfigError, match="receipt: 10 of the 10 forget rows .* are no longer in the data"):
        verify.main(here)
    assert verify.main([receipt, "--hashes"]) == 0


@pytest.mark.slow
def test_after_the_next_request_the_rest_is_verified(folder, tmp_path):
    """The model of a request goes with the next one: this is printed, and is no finding."""
    import shutil

    for name in ("out", "cache"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "mine.py").write_text(CONFIG)
    from ltu_jax.deletion import ledger

    home, taken = tmp_path / "out", set((folder / "ids.txt").read_text().split())
    salt, rows = ledger.read_salt(home), json.loads((home / "request-1" / "rows.json").read_text())
    assert salt is not None
    names = [f"digits_{row:04d}" for row in range(1797)]
    stay = [n for n, h in zip(names, ledger.salted(salt, names), strict=True) if h in rows["measured"]["remain"]]
    (tmp_path / "ids.txt").write_text("\n".join([n for n in stay if n not in taken][:20]))
    done = run(tmp_path, *REQUEST)
    assert done.returncode == 0, done.stderr
    assert not (home / "request-1" / "model").exists() and not list((tmp_path / "cache").glob("original-*"))
    message = "the model was removed when a later request was done, as it should be: the rest is checked\n"
    done = run(tmp_path, "verify", "out/request-1/receipt.json", *CODE)
    assert (done.returncode, done.stdout) == (0, message + "verified: hashes of request 1, 20 rows\n"), done.stderr
    done = run(tmp_path, "verify", "out/request-1/receipt.json", "--evidence", *CODE)
    assert done.returncode == 1 and "claim: it cannot be tested: its model was removed when a later" in done.stdout
    done = run(tmp_path, "verify", "out/request-2/receipt.json", "--evidence", *CODE)
    assert done.returncode == 1 and "without the model before: " in done.stdout and "--keep_original" in done.stdout
    shutil.rmtree(home / "request-2" / "model")  # of the last request it is missing
    done = run(tmp_path, "verify", "out/request-2/receipt.json", "--hashes")
    assert done.returncode == 1 and "it is missing" in done.stdout


THEIRS = """
import pathlib

import mlp
from ltu_jax.data.records import Example, Records

pathlib.Path("imported").touch()


def read(data):
    toy = mlp.toy_source(num_rows=60, num_test=30)
    rows = zip(toy.images, toy.labels, toy.ids, strict=True)
    return Records((Example(image, label, str(name)) for image, label, name in rows), 4, 60, 30)
"""


def test_code_of_a_data_set_that_a_receipt_names_is_not_even_imported_unless_it_is_named_here_too(
    tmp_path, monkeypatch, capsys
):
    import jax

    from ltu_jax import config
    from ltu_jax.data.sources import load_source
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.unlearning.problem import load_model

    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = config.Config(
        data=config.Data("theirs:read", held_out="test", remain_fraction=1.0),
        model=config.Model("mlp:build"),
        attackers=config.Attackers(names=("sorted", "metrics"), epochs=1, draws=1, fitted_on="original"),
        method=config.LTU(epochs=1, batch_size=5, query_size=5, num_queries=1, order="none"),
        calibration=config.Calibration(trials=0),
    )
    settings = request_config(config.resolve(settings))
    source = load_source(settings.data)
    spec, _ = load_model(settings, source)
    params, _ = spec.init(jax.random.key(0))
    request = Request(settings, [str(name) for name in source.ids[:10]], pathlib.Path("out"))
    fulfil(request, source, spec, {"params": params})

    (tmp_path / "imported").unlink()
    monkeypatch.delitem(sys.modules, "theirs")
    receipt = "out/request-1/receipt.json"
    for named in (CODE, ("--code", "theirs:other", *CODE), (*CODE, "--code", "theirs")):
        message = "runs the data set's code, 'theirs:read'; allowed: the same name, if you trust that code"
        with pytest.raises(ConfigError, match=message):
            verify.main([receipt, *named])
    with pytest.raises(ConfigError, match="runs the model's code, 'mlp:build'"):
        verify.main([receipt, "--code", "theirs:read"])
    assert verify.main([receipt, "--hashes"]) == 0
    assert "theirs" not in sys.modules and not (tmp_path / "imported").exists()
    assert verify.main([receipt, *CODE, "--code", "theirs:read"]) == 0
    assert "theirs" in sys.modules and (tmp_path / "imported").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("verified: hashes and evidence")
