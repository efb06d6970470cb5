"""Who gets receipt and report alone: what the page tells them to type works there, and finds what was edited."""

import hashlib
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from ltu_jax import verify
from ltu_jax.deletion.receipt import receipt_text, seal_receipt
from ltu_jax.setting import ConfigError


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """An operator's folder: a signed request on images in files, 110 of 160 to be forgotten."""
    import mlp
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from PIL import Image

    from ltu_jax import config
    from ltu_jax.data.sources import load_source
    from ltu_jax.deletion.fulfil import fulfil
    from ltu_jax.deletion.plan import Request, request_config
    from ltu_jax.unlearning.problem import model_for

    folder, toy = tmp_path_factory.mktemp("operator"), mlp.toy_source(num_rows=160, num_test=60)
    for row, (pixels, label) in enumerate(zip(toy.images, toy.labels, strict=True)):
        path = folder / "photos" / ("train" if row < 160 else "test") / f"c{label}" / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    key, plain, pem = Ed25519PrivateKey.generate(), serialization.NoEncryption(), serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(pem, form))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = config.Config(
            data=config.Data("folder", data_dir="photos", held_out="test", remain_fraction=1.0),
            model=config.Model("mlp:build"),
            training=config.Training(epochs=5, batch_size=20),
            attackers=config.Attackers(names=("sorted", "metrics"), epochs=1, draws=1, fitted_on="original"),
            method=config.LTU(epochs=1, batch_size=10, query_size=10, num_queries=1, order="none"),
            calibration=config.Calibration(trials=1, evaluations=2),
        )
        settings = request_config(config.resolve(settings))
        source = load_source(settings.data)
        spec, _ = model_for(settings, source)
        ids = [str(name) for name in source.ids[:110]]
        (folder / "ids.txt").write_text("\n".join(ids) + "\n")
        request = Request(settings, ids, pathlib.Path("out"), pathlib.Path("key.pem"), True)
        fulfil(request, source, spec, cache=pathlib.Path("cache"))
    return folder


@pytest.fixture
def sent(theirs, tmp_path, monkeypatch):
    """A recipient's folder, which is the working directory."""
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("out/request-1/receipt.json", "out/request-1/report.html", "public.pem"):
        shutil.copy(theirs / name, folder)
    monkeypatch.chdir(folder)
    return folder


def commands(page):
    return [
        html.unescape(one) for one in re.findall(r"<pre class='command'><code>(.*?)</code>", page.read_text(), re.S)
    ]


def words(command):
    assert command.startswith("python -m ltu_jax.verify ")
    return command.split()[3:]


def resigned(folder, key, change):
    """An operator who has the key changes a receipt, and signs it again."""
    body = json.loads((folder / "receipt.json").read_text())
    change(body)
    for name in ("receipt_sha256", "signature"):
        del body[name]
    (folder / "receipt.json").write_text(receipt_text(seal_receipt(body, key)))


def test_the_first_command_of_the_page_verifies_it_with_the_two_files_and_the_key(sent, capsys):
    first = commands(sent / "report.html")[0]
    assert first == "python -m ltu_jax.verify receipt.json --report report.html --public_key public.pem"
    assert sorted(path.name for path in sent.iterdir()) == ["public.pem", "receipt.json", "report.html"]
    assert verify.main(words(first)) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("not checked, for it needs the operator's files and data: the model, the ids, ")
    assert told[1].startswith("verified: receipt with its report of request 1, 110 rows, signed by ") and len(told) == 2


def test_it_loads_no_jax(sent):
    code = f"import sys; from ltu_jax import verify; s = verify.main({words(commands(sent / 'report.html')[0])!r}); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(s or 9 * ('jax' in sys.modules))"], env={**os.environ}
    )
    assert done.returncode == 0


def test_the_operators_command_of_the_page_works_in_the_folder_of_requests(theirs, tmp_path, monkeypatch, capsys):
    home = shutil.copytree(theirs / "out", tmp_path / "out")
    shutil.copy(theirs / "public.pem", home)
    monkeypatch.chdir(home)
    assert verify.main(words(commands(home / "request-1" / "report.html")[2])) == 0
    assert capsys.readouterr().out.startswith("verified: hashes of request 1, 110 rows, signed by ")


ASKED = ["receipt.json", "--report", "report.html", "--public_key", "public.pem"]


def test_a_report_edited_and_signed_again_is_not_verified(theirs, sent, capsys):
    text = (sent / "report.html").read_text()
    (sent / "report.html").write_text(text.replace("forget 110 images", "forget 111 images"))
    assert verify.main(ASKED) == 1  # its hash
    sha256 = hashlib.sha256((sent / "report.html").read_bytes()).hexdigest()
    resigned(sent, theirs / "key.pem", lambda body: body["report"].update(sha256=sha256))
    capsys.readouterr()
    assert verify.main(ASKED) == 1
    told = capsys.readouterr().out.splitlines()
    assert "has '" in told[0] and "111 images" in told[0] and "and the receipt gives" in told[0]
    assert told[1] == "NOT verified: 1 finding"
    resigned(sent, theirs / "key.pem", lambda body: body["code"].update(sha256="0" * 64))
    assert verify.main(ASKED) == 3
    told = capsys.readouterr().out
    assert (
        "the figures of its report are NOT compared: it was made by another version" in told and "verified" not in told
    )
    assert verify.main(ASKED[:3]) == 1  # and whose it is was not asked


@pytest.mark.parametrize("change", [("count", 109), ("number", 2), ("repeated", 1)])
def test_a_figure_of_the_receipt_changed_and_signed_again_is_not_verified(theirs, sent, change):
    name, value = change

    def later(body):
        body["request"][name] = value
        if name == "number":  # else it has not the form of receipts
            body["model"]["before"] = {"salted_sha256": "0" * 64}

    resigned(sent, theirs / "key.pem", later)
    assert verify.main(ASKED) == 1


def test_whose_receipt_it_is_must_be_asked_for(sent, capsys):
    assert verify.main(ASKED[:3]) == 1
    assert "who wrote them is NOT verified" in capsys.readouterr().out
    assert verify.main([*ASKED[:3], "--unsigned"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("consistent (nobody vouches for it): receipt with its ")


def test_a_damaged_folder_of_an_operator_is_not_verified_and_no_recipients_check(theirs, tmp_path, capsys):
    """All is lost but what is handed out: only who asks for a recipient's check gets one."""
    home = tmp_path / "out"
    (home / "request-1").mkdir(parents=True)
    for name in ("receipt.json", "report.html"):
        shutil.copy(theirs / "out" / "request-1" / name, home / "request-1")
    public = ["--public_key", str(theirs / "public.pem")]
    for more in ([], ["--hashes"], ["--model", str(home)]):
        assert verify.main([str(home / "request-1" / "receipt.json"), *public, *more]) == 1
        printed = capsys.readouterr()
        assert "NOT verified: " in printed.out and "checks them by --report report.html" in printed.err


def made_tokens(theirs, folder, *more):
    """Tokens for two ids, and where they are by id."""
    ids = (theirs / "ids.txt").read_text().split()[:2]
    (folder / "two.txt").write_text("\n".join(ids) + "\n")
    asked = [str(theirs / "out/request-1/receipt.json"), "--forget", str(folder / "two.txt"), "--tokens"]
    assert verify.main([*asked, str(folder / "tokens"), *more]) == 0
    return ids, {json.loads(path.read_text())["id"]: path for path in (folder / "tokens").iterdir()}


def test_the_second_command_of_the_page_finds_the_own_image_and_no_other(theirs, sent, tmp_path, capsys):
    (one, two), found = made_tokens(theirs, tmp_path, "--data_dir", str(theirs / "photos"))
    out = capsys.readouterr().out
    assert out == f"2 tokens in {tmp_path / 'tokens'}: hand each to the owner of its image, and to nobody else\n"
    shutil.copy(found[one], sent / "token.json")
    shutil.copy(theirs / "photos" / one, sent / "IMAGE.png")
    command = words(commands(sent / "report.html")[1])
    assert verify.main(command) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"your image, {one!r}, is among those that the receipt tells of"
    assert told[-1].startswith("verified: receipt of request 1, 110 rows, signed by ")
    assert verify.main([*ASKED, "--token", "token.json"]) == 0  # with the report at once
    assert "the image of the token, " in capsys.readouterr().out
    shutil.copy(found[two], sent / "token.json")  # another's
    assert verify.main(command) == 1
    assert capsys.readouterr().out.startswith("image: it is not the one of the token")
    text, secret = found[two].read_text(), (theirs / "out" / "salt").read_text().strip()
    assert one not in text and secret not in text


def test_tokens_are_made_when_the_images_are_gone(theirs, sent, tmp_path, capsys):
    (one, _), found = made_tokens(theirs, tmp_path, "--data_dir", str(tmp_path / "gone"))
    printed = capsys.readouterr()
    assert "the images are not there: config.data.data_dir: " in printed.err
    assert "2 of them have no hash of the image: their owners need a copy of it (--image)" in printed.out
    asked = ["receipt.json", "--public_key", "public.pem", "--token", str(found[one])]
    with pytest.raises(ConfigError, match="--image: None, and the token has no hash"):
        verify.main(asked)
    assert verify.main([*asked, "--image", str(theirs / "photos" / one)]) == 0


def test_tokens_of_strangers_are_not_made_and_none_lie_in_the_folder_of_requests(theirs, tmp_path):
    asked = [str(theirs / "out/request-1/receipt.json"), "--forget", str(tmp_path / "ids.txt"), "--tokens"]
    (tmp_path / "ids.txt").write_text("train/c0/nobody.png\n")
    with pytest.raises(ConfigError, match="--forget, 1 of 1 ids are not of request 1: 'train/c0/nobody.png'; allowed"):
        verify.main([*asked, str(tmp_path / "tokens")])
    with pytest.raises(ConfigError, match="--tokens: .* lies in the folder of requests, which names no id"):
        verify.main([*asked, str(theirs / "out" / "request-1" / "tokens")])
    assert not (tmp_path / "tokens").exists()


def test_the_whole_check_compares_the_tokens_with_the_images(theirs, tmp_path, monkeypatch, capsys):
    """An operator who promises other people that their images were forgotten."""
    from ltu_jax.deletion import ledger

    folder = shutil.copytree(theirs, tmp_path / "theirs")
    monkeypatch.chdir(folder)
    asked = ["out/request-1/receipt.json", "--public_key", "public.pem", "--code", "mlp:build"]
    assert verify.main(asked) == 0
    request = folder / "out" / "request-1"
    resigned(request, folder / "key.pem", lambda body: body["tokens"].__setitem__(0, "0" * 64))
    [entry] = ledger.read_ledger(folder / "out")
    (folder / "out" / "ledger.jsonl").unlink()
    sealed = json.loads((request / "receipt.json").read_text())
    ledger.append(folder / "out", entry._replace(receipt_sha256=sealed["receipt_sha256"]))
    capsys.readouterr()
    assert verify.main(asked) == 1
    assert capsys.readouterr().out.startswith("tokens: they are not those of the images forgotten")


def test_the_file_of_pictures_may_be_deleted_and_not_altered(theirs, tmp_path):
    home = shutil.copytree(theirs / "out", tmp_path / "out")
    asked = [str(home / "request-1" / "receipt.json"), "--hashes", "--public_key", str(theirs / "public.pem")]
    pictures = home / "request-1" / "images.html"
    assert "<img" in pictures.read_text() and "<img" not in (home / "request-1" / "report.html").read_text()
    pictures.write_text("")
    assert verify.main(asked) == 1
    pictures.unlink()
    assert verify.main(asked) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--report", "none.html"], "--report: 'none.html' cannot be read"),
        (["--report", "report.html", "--model", "out"], "--model: --report and --token check without it"),
        (["--report", "report.html", "--evidence"], "--evidence: --report and --token check without it"),
        (["--token", "t.json", "--code", "a:b"], "--code: --report and --token check without it"),
        (["--image", "a.png"], "--token: None, but --image is compared with it"),
        (["--tokens", "dir"], "--forget: None, but --tokens needs ids"),
    ],
)
def test_a_mistake_is_one_line(sent, more, message):
    with pytest.raises(ConfigError, match=message) as caught:
        verify.main(["receipt.json", "--unsigned", *more])
    assert len(str(caught.value).splitlines()) == 1
