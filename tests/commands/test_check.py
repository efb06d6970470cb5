"""The command that checks receipts, on a receipt made by the command that makes them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.reliability.receipt_attacks import sealed_anew
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
    assert done.returncode == status_of(folder / "out" / "request-1"), done.stderr
    assert "request 1" in done.stdout and "20 rows forgotten by ltu" in done.stdout
    assert "request 1: 20 rows to forget, 24 of 80 remaining rows used; held out: 60 to guide it" in done.stderr
    return folder


def verdict_of(request):
    """Whether the receipt of a request says that forgetting is shown."""
    return json.loads((request / "receipt.json").read_text())["claim"]["shown"]


def status_of(request):
    """That of the command: 4 where it is done, but not shown."""
    return 0 if verdict_of(request) else 4


def said(request):
    """The end of what ``verify`` says where it does not judge anew."""
    words = "shown" if verdict_of(request) else "NOT SHOWN"
    return f"; the receipt says that forgetting is {words} (not judged anew)"


CODE = ("--code", "mlp:build")
OURS = ("--unsigned", *CODE)
"""For a receipt of one's own that nobody signed."""


def run(folder, command, *words):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    line = [sys.executable, "-m", f"ltu_jax.{command}", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_a_request_is_verified_with_hashes_alone_and_with_its_evidence(folder):
    receipt = "out/request-1/receipt.json"
    done = run(folder, "verify", receipt, "--model", "out", "--forget", "ids.txt", *OURS)
    consistent, end = "consistent (nobody vouches for it): ", said(folder / "out" / "request-1") + "\n"
    assert done.stdout == f"{consistent}hashes and evidence of request 1, 20 rows{end}", done.stderr
    assert done.returncode == 0
    done = run(folder, "verify", receipt, "--hashes", "--unsigned")
    assert done.stdout == f"{consistent}hashes of request 1, 20 rows{end}" and not done.returncode, done.stderr
    done = run(folder, "verify", receipt, "--hashes")
    assert done.stdout == (
        "hashes of request 1, 20 rows: the files agree with one another; who wrote them is NOT verified: pass"
        f" --public_key KEY.pem, or --unsigned if you made them yourself{end}"
    )
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("code", [(), ("--code", "mlp:other")])
def test_code_that_a_receipt_names_is_not_run_unless_it_is_named_here_too(folder, code):
    done = run(folder, "verify", "out/request-1/receipt.json", *code)
    message = "checking evidence runs the model's code, 'mlp:build'; allowed: the same name, if you trust that code"
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_the_claim_is_told_with_its_status(folder):
    done = run(folder, "verify", "out/request-1/receipt.json", "--evidence", *OURS)
    lines = done.stdout.splitlines()
    assert done.returncode == (0 if verdict_of(folder / "out" / "request-1") else 1)
    if done.returncode == 0:
        assert lines[0].startswith("the claim's test refused ")  # how often it is wrong
        told = "consistent (nobody vouches for it): hashes, evidence and claim of request 1, 20 rows"
        assert lines[1:] == [told]
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
    done = run(folder, "verify", "out/request-1/receipt.json", "--cache", "nowhere", *OURS)
    assert done.returncode == 0 and "the model before is not there" in done.stderr
    done = run(folder, "verify", "out/request-1/receipt.json", "--cache", "nowhere", "--evidence", *OURS)
    assert done.returncode == 1 and "claim: it cannot be tested without the model before" in done.stdout


@pytest.mark.slow
def test_the_same_request_again_says_when_it_was_done(folder):
    done = run(folder, *REQUEST)
    receipt = json.loads((folder / "out" / "request-1" / "receipt.json").read_text())
    assert done.returncode == status_of(folder / "out" / "request-1"), done.stderr
    assert f"request 1: already done on {receipt['time']['finished']}" in done.stdout
    verdict = "forgetting is shown" if receipt["claim"]["shown"] else "forgetting is NOT SHOWN:"
    assert verdict in done.stdout
    assert all(line[:60] in done.stdout for line in receipt["claim"]["findings"])
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
    here = [receipt, "--data_dir", "other/data", *OURS]
    assert verify.main([*here, "--weights", "other/mine.msgpack"]) == 0
    assert verify.main(here) == 0
    printed = capsys.readouterr()
    not_shown = "; the receipt says that forgetting is NOT SHOWN (not judged anew)"  # of ten rows nothing is
    assert printed.out.splitlines() == [
        "consistent (nobody vouches for it): hashes and evidence of request 1, 10 rows" + not_shown,
        "consistent (nobody vouches for it): hashes and evidence (after) of request 1, 10 rows" + not_shown,
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
    assert verify.main([receipt, "--hashes", "--unsigned"]) == 0


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
    assert done.returncode == status_of(home / "request-2"), done.stderr
    assert not (home / "request-1" / "model").exists() and not list((tmp_path / "cache").glob("original-*"))
    message = "the model was removed when a later request was done, as it should be: the rest is checked\n"
    done = run(tmp_path, "verify", "out/request-1/receipt.json", *OURS)
    consistent = f"consistent (nobody vouches for it): hashes of request 1, 20 rows{said(home / 'request-1')}\n"
    assert (done.returncode, done.stdout) == (0, message + consistent), done.stderr
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
    from ltu_jax.unlearning.problem import model_for

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
    spec, _ = model_for(settings, source)
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
    assert verify.main([receipt, "--hashes", "--unsigned"]) == 0
    assert "theirs" not in sys.modules and not (tmp_path / "imported").exists()
    assert verify.main([receipt, *OURS, "--code", "theirs:read"]) == 0
    assert "theirs" in sys.modules and (tmp_path / "imported").exists()
    assert ": hashes and evidence (after) of request 1" in capsys.readouterr().out.splitlines()[-1]


METHOD = """
import pathlib

import jax
from ltu_jax.methods.base import one_shot

pathlib.Path("imported").touch()


def build(settings, parts):
    def init(key, state, visible):
        return state.replace(params=jax.tree.map(lambda p: 0.9 * p, state.params)), ()

    return one_shot(init)
"""


@pytest.fixture(scope="module")
def own_method(tmp_path_factory):
    """A request by a method of one's own, signed, on an original that was trained here, in a folder of its own."""
    import mlp
    import numpy as np
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ltu_jax import config
    from ltu_jax.data.sources import load_source
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.unlearning.problem import model_for

    folder = tmp_path_factory.mktemp("own_method")
    toy, key = mlp.toy_source(num_rows=60, num_test=30), Ed25519PrivateKey.generate()
    (folder / "data").mkdir()
    for name, rows in (("train", slice(0, 60)), ("test", slice(60, 90))):
        arrays = {"images": toy.images[rows], "labels": toy.labels[rows], "ids": toy.ids[rows]}
        np.savez(folder / "data" / f"{name}.npz", **arrays)
    (folder / "theirs_method.py").write_text(METHOD)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        settings = config.Config(
            data=config.Data("arrays", data_dir="data", held_out="test", remain_fraction=1.0),
            model=config.Model("mlp:build"),
            training=config.Training(epochs=1, batch_size=20),
            method=config.LTU(name="theirs_method:build"),
            calibration=config.Calibration(trials=0),
            attackers=config.Attackers(names=("sorted", "metrics"), epochs=1, draws=1),
        )
        settings = request_config(config.resolve(settings))
        source = load_source(settings.data)
        spec, _ = model_for(settings, source)
        ids = [str(name) for name in source.ids[:10]]
        request = Request(settings, ids, pathlib.Path("out"), pathlib.Path("key.pem"), keep_original=True)
        fulfil(request, source, spec, cache=pathlib.Path("cache"))
        sys.modules.pop("theirs_method")
    (folder / "imported").unlink()
    return folder


@pytest.fixture
def sent(own_method, tmp_path, monkeypatch):
    """What somebody sends of it, in the working directory of who checks it; no data set may be downloaded."""
    import shutil

    from ltu_jax.data import cifar, tiny_imagenet

    folder = shutil.copytree(own_method, tmp_path / "sent")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for module in (cifar, tiny_imagenet):
        for name in ("prepare_cifar", "prepare_tiny_imagenet"):
            monkeypatch.setattr(module, name, lambda *args: pytest.fail("it was fetched"), raising=False)
    return folder


RECEIPT = "out/request-1/receipt.json"


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)}


def test_an_own_methods_request_is_verified_whole_and_its_code_is_not_imported(sent, capsys):
    before = files_of(sent)
    assert verify.main([RECEIPT, "--public_key", "public.pem", *CODE]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("verified: hashes and evidence of request 1, 10 rows, signed by ")  # the original was found
    assert "theirs_method" not in sys.modules and files_of(sent) == before


def test_whose_receipt_it_is_must_be_asked_for(sent, capsys):
    assert verify.main([RECEIPT, "--hashes"]) == 1
    assert "who wrote them is NOT verified: pass --public_key KEY.pem, or --unsigned" in capsys.readouterr().out
    assert verify.main([RECEIPT, "--hashes", "--unsigned"]) == 0
    told = (
        "consistent (nobody vouches for it): hashes of request 1, 10 rows;"
        " the receipt says that forgetting is NOT SHOWN (not judged anew)\n"
    )
    assert capsys.readouterr().out == told  # whoever signed it is not told: it may be anybody


def test_where_a_receipt_has_pixels_mapped_nothing_is_written(sent):
    sealed_anew(sent, lambda settings: settings["data"].update(memory_map=str(sent / "mapped")))
    before = files_of(sent)
    assert verify.main([RECEIPT, *OURS]) == 0
    assert not (sent / "mapped").exists() and files_of(sent) == before


def test_where_the_caller_says_so_pixels_are_mapped(sent, tmp_path):
    assert verify.main([RECEIPT, *OURS, "--memory_map", str(tmp_path / "here")]) == 0
    assert list((tmp_path / "here").rglob("images.u8"))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet"])
def test_data_that_a_receipt_names_are_not_fetched(sent, tmp_path, name):
    sealed_anew(sent, lambda settings: settings["data"].update(name=name, data_dir=None))
    with pytest.raises(ConfigError, match=f"{name!r} is not prepared in .*nothing is fetched or written here; allowed"):
        verify.main([RECEIPT, *OURS])
    assert not (tmp_path / "tfds").exists()


@pytest.mark.parametrize("address", ["gs://bucket/data", "https://host/data", "file:///etc"])
def test_an_address_that_a_receipt_names_is_not_opened(sent, address):
    def elsewhere(settings):
        settings["data"]["data_dir"] = address
        settings["weights"] = f"{address}/model.msgpack"

    sealed_anew(sent, elsewhere)
    with pytest.raises(ConfigError, match="--weights: None, and the receipt names the address .*; allowed: where it"):
        verify.main([RECEIPT, *OURS])
    sealed_anew(sent, lambda settings: settings.update(weights=None))
    with pytest.raises(ConfigError, match="--data_dir: None, and the receipt names the address .*; allowed: where it"):
        verify.main([RECEIPT, *OURS])
    assert verify.main([RECEIPT, *OURS, "--data_dir", "data"]) == 0


def test_names_from_a_receipt_are_shown_plainly(sent, capsys):
    """A file whose name would clear the screen, or write a second line that says verified."""
    (sent / "out" / "request-1" / "\x1b[2Jverified\nx").write_text("")
    assert verify.main([RECEIPT, *OURS]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "\\x1b[2Jverified\\nx: it is not in the receipt"
