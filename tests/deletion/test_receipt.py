"""Seal, signature and files of a receipt: what is changed is found."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ltu_jax.deletion import receipt
from ltu_jax.setting import ConfigError

pytestmark = pytest.mark.smoke
BODY = {
    "schema": 2,
    "request": {"number": 1, "count": 2, "repeated": 0, "ids_sha256": "a", "previous": "b"},
    "model": {"before": {"tree_sha256": "c", "file_sha256": None}, "after": {"salted_sha256": "d"}},
    "method": "ltu",
    "evidence": {"rows": {}, "classes": [], "after": {"attack_auc": [0.5, 0.4, 0.6]}},
    "config_sha256": "e",
    "code": {"sha256": "f"},
    "time": {"finished": "2026-11-28T10:00:00+00:00"},
    "files_salted_sha256": dict.fromkeys(receipt.ALWAYS, "g"),
}
SALT = b"s" * 32


def pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


@pytest.fixture
def key(tmp_path):
    path, private = tmp_path / "key.pem", ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(pem(private))
    return path, private.public_key().public_bytes_raw().hex()


def pae(kind, body):
    """DSSE v1.0.2: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body, lengths in bytes, decimal."""
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(body)).encode(), body])


def test_a_signature_is_dsses_of_the_receipts_body(key):
    """As docs/receipts.md tells it, without a line of this package."""
    path, public = key
    sealed = json.loads(receipt.receipt_text(receipt.seal_receipt(BODY | {"name": "Zoë"}, path)))
    signature = sealed.pop("signature")
    sha256 = sealed.pop("receipt_sha256")
    body = (json.dumps(sealed, indent=2, sort_keys=True) + "\n").encode()
    assert hashlib.sha256(body).hexdigest() == sha256
    kind = "application/vnd.ltu-jax.receipt+json;version=2"
    envelope = {"payloadType": kind, "payload": base64.b64encode(body).decode()}
    envelope["signatures"] = [{"sig": base64.b64encode(bytes.fromhex(signature["signature"])).decode()}]
    signed = pae(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    their_key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    their_key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    assert signature["public_key"] == public
    # the protocol's own example
    example = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == example


def test_the_page_says_how_to_check_a_signature_without_this_package(key, tmp_path, monkeypatch):
    page = pathlib.Path(__file__).parents[2] / "docs" / "receipts.md"
    [code] = re.findall(r"```python\n(receipt = json.*?)```", page.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    text = receipt.receipt_text(receipt.seal_receipt(BODY, key[0]))
    public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key[1]))
    names = {"json": json, "pathlib": pathlib, "public_key": public}
    (tmp_path / "receipt.json").write_text(text)
    exec(code, names)
    assert hashlib.sha256(names["body"]).hexdigest() == names["sha256"]
    (tmp_path / "receipt.json").write_text(text.replace('"count": 2', '"count": 3'))
    with pytest.raises(InvalidSignature):
        exec(code, names)


def test_a_signature_of_other_bytes_or_in_other_words_is_none(key):
    path, public = key
    private, sealed = ed25519.Ed25519PrivateKey, receipt.seal_receipt(BODY, path)
    assert receipt.seal_problems(sealed) == receipt.seal_problems(sealed, public) == []
    signer = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(signer, private)
    body = receipt.body_of(BODY)
    for other in (body, sealed["receipt_sha256"].encode(), pae("application/json", body), pae("", body)):
        signature = sealed["signature"] | {"signature": signer.sign(other).hex()}
        assert receipt.seal_problems(sealed | {"signature": signature}) == ["signature: it does not fit the receipt"]
    written = sealed["signature"]
    for more in ({"note": "x"}, {"signature": written["signature"].upper()}, {"public_key": f" {public}"}):
        again = sealed | {"signature": written | more}
        assert receipt.seal_problems(again) == ["signature: it does not fit the receipt"], more


def test_any_byte_of_a_signed_receipt_that_changes_a_value_is_found(key):
    """Over the text as it is written: what no longer reads as JSON is found by reading it."""
    path, public = key
    text = receipt.receipt_text(receipt.seal_receipt(BODY, path))
    file = path.with_name("receipt.json")
    for place in range(len(text)):
        file.write_text(text[:place] + ("7" if text[place] != "7" else "8") + text[place + 1 :])
        try:
            parsed = receipt.read_receipt(file)
        except ConfigError:
            continue
        assert receipt.seal_problems(parsed, public), place
    file.write_text(text)
    assert receipt.seal_problems(receipt.read_receipt(file), public) == []


AMBIGUOUS = {
    "a key twice": lambda text: text.replace('"count": 2,', '"count": 3,\n    "count": 2,'),
    "a key twice, the same": lambda text: text.replace('"count": 2,', '"count": 2,\n    "count": 2,'),
    "NaN": lambda text: text.replace("0.5", "NaN"),
    "infinity": lambda text: text.replace("0.5", "-Infinity"),
    "a number too large": lambda text: text.replace("0.5", "1e999"),
    "a number with more digits than it has": lambda text: text.replace("0.5", "0.50000000000000001"),
    "another way to write a number": lambda text: text.replace("0.5", "5e-1"),
    "a whole number that readers round": lambda text: text.replace('"count": 2', '"count": 9007199254740993'),
    "a whole number of 5,000 digits": lambda text: text.replace('"count": 2', '"count": ' + "1" * 5000),
    "half a character": lambda text: text.replace('"ltu"', '"\\ud800"'),
    "another way to write a letter": lambda text: text.replace('"ltu"', '"\\u006ctu"'),
    "a letter as it is": lambda text: text.replace("\\u00eb", "ë"),
    "more after the end": lambda text: text + "{}",
    "a blank after the end": lambda text: text + " ",
    "no line break at the end": str.rstrip,
    "two line breaks at the end": lambda text: text + "\n",
    "line breaks of Windows": lambda text: text.replace("\n", "\r\n"),
    "a mark of the byte order": lambda text: "\ufeff" + text,
    "other blanks": lambda text: json.dumps(json.loads(text), sort_keys=True),
    "another order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=2) + "\n",
}


@pytest.mark.parametrize("how", AMBIGUOUS)
def test_a_receipt_has_one_form_byte_by_byte(tmp_path, key, how):
    """Whatever two readers could understand differently is refused, whether it is signed or not."""
    file, body = tmp_path / "receipt.json", BODY | {"name": "Zoë"}
    for sealed in (receipt.seal_receipt(body), receipt.seal_receipt(body, key[0])):
        text = receipt.receipt_text(sealed)
        file.write_text(text)
        assert receipt.read_receipt(file) == sealed
        file.write_bytes(AMBIGUOUS[how](text).encode())
        assert file.read_bytes() != text.encode()
        with pytest.raises(ConfigError, match="receipt: .*allowed: a receipt.json"):
            receipt.read_receipt(file)


def test_figures_that_are_not_finite_are_told_and_not_written():
    with pytest.raises(FloatingPointError, match="the evidence is not finite"):
        receipt.seal_receipt(BODY | {"evidence": {"auc": float("nan")}})


def test_a_receipt_made_up_whole_has_a_seal_but_not_the_signature(key, tmp_path):
    path, public = key
    made_up = receipt.seal_receipt({**BODY, "request": {**BODY["request"], "count": 3}})
    assert receipt.seal_problems(made_up) == []
    assert receipt.seal_problems(made_up, public) == ["signature: there is none"]
    other = tmp_path / "other.pem"
    other.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    assert receipt.seal_problems(receipt.seal_receipt(BODY, other), public) == [
        "signature: it was made with another key"
    ]
    stolen = {**made_up, "signature": receipt.seal_receipt(BODY, path)["signature"]}
    assert receipt.seal_problems(stolen) == ["signature: it does not fit the receipt"]


def test_keys_that_openssl_makes_are_read(tmp_path):
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k.pem"], check=True)
        subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / "k.pem", "-pubout", "-out", tmp_path / "p.pem"], check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl with ed25519 here")
    public = receipt.public_key(tmp_path / "p.pem")
    assert receipt.seal_problems(receipt.seal_receipt(BODY, tmp_path / "k.pem"), public) == []


def test_other_keys_are_refused_in_one_line(tmp_path):
    for name, content in (
        ("none.pem", None),
        ("text.pem", b"hello"),
        ("ec.pem", pem(ec.generate_private_key(ec.SECP256R1()))),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        for read, flag in ((receipt.private_key, "--sign"), (receipt.public_key, "--public_key")):
            with pytest.raises(ConfigError, match=f"{flag}: .*{name}.*allowed: an Ed25519") as caught:
                read(tmp_path / name)
            assert len(str(caught.value).splitlines()) == 1


def test_files_are_hashed_and_altered_missing_and_new_ones_are_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"abc")
    (tmp_path / "result.json").write_bytes(b"{}")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "old").write_bytes(b"abc")
    files = receipt.files_salted_sha256(tmp_path, SALT)

    def salted(content):
        return hmac.new(SALT, b"sha256\n" + hashlib.sha256(content).hexdigest().encode(), hashlib.sha256).hexdigest()

    assert files == {"model/weights": salted(b"abc"), "result.json": salted(b"{}")}
    shutil.rmtree(tmp_path / "work")
    whole = receipt.path_sha256(tmp_path)
    assert receipt.path_sha256(tmp_path / "result.json") == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "receipt.json").write_text("{}")  # is not in itself
    assert receipt.file_problems({"files_salted_sha256": files}, tmp_path, SALT) == []
    assert len(receipt.file_problems({"files_salted_sha256": files}, tmp_path, b"t" * 32)) == 2
    (tmp_path / "model" / "weights").write_bytes(b"abd")
    assert receipt.path_sha256(tmp_path) != whole
    (tmp_path / "result.json").unlink()
    (tmp_path / "more").write_bytes(b"")
    assert receipt.file_problems({"files_salted_sha256": files}, tmp_path, SALT) == [
        "model/weights: it was altered",
        "result.json: it is missing",
        "more: it is not in the receipt",
    ]


def test_links_pipes_and_work_have_no_place_in_a_finished_request(tmp_path):
    folder = tmp_path / "request-1"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"abc")
    assert [*receipt.strange_files(folder)] == []
    (folder / "model" / "more").symlink_to("weights")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "work").mkdir()
    lines = [*receipt.strange_files(folder)]
    assert lines[0].startswith("work: it is there: the request is not finished")
    assert lines[1:] == [
        "gone: it is a link",
        "linked: it is a link",
        "model/more: it is a link",
        "pipe: it is no file",
    ]


def test_what_is_no_receipt_is_refused(tmp_path):
    for content in (None, "{", "[]", '{"schema": 99}'):
        if content is not None:
            (tmp_path / "receipt.json").write_text(content)
        with pytest.raises(ConfigError, match="receipt: .*allowed: a receipt.json"):
            receipt.read_receipt(tmp_path / "receipt.json")
    (tmp_path / "receipt.json").write_text('{"schema": 1, "files": {}}')
    with pytest.raises(ConfigError, match="is of schema 1, .*allowed: schema 2, as the next request writes it"):
        receipt.read_receipt(tmp_path / "receipt.json")


def _without(path):
    parsed = json.loads(json.dumps(receipt.seal_receipt(BODY)))
    *above, last = path
    inner = parsed
    for name in above:
        inner = inner[name]
    del inner[last]
    return parsed


@pytest.mark.parametrize(
    "path",
    [
        ("signature",),
        ("code",),
        ("model", "after"),
        ("model", "before", "tree_sha256"),
        ("request", "number"),
        ("time", "finished"),
        ("files_salted_sha256", "config.json"),
        ("method",),
    ],
    ids=".".join,
)
def test_a_receipt_that_lacks_something_is_none_whatever_its_seal(tmp_path, path):
    file = tmp_path / "receipt.json"
    file.write_text(receipt.receipt_text(receipt.seal_receipt(BODY)))
    assert receipt.read_receipt(file)["request"]["count"] == 2
    parsed = _without(path)
    body = {name: value for name, value in parsed.items() if name not in ("receipt_sha256", "signature")}
    made_up = receipt.seal_receipt(body) if path != ("signature",) else parsed
    file.write_text(receipt.receipt_text(made_up))
    with pytest.raises(ConfigError, match="is no receipt of schema 2"):
        receipt.read_receipt(file)
    file.write_text(receipt.receipt_text(receipt.seal_receipt(BODY) | {"receipt_sha256": 3}))
    with pytest.raises(ConfigError, match="is no receipt of schema 2"):
        receipt.read_receipt(file)


def test_the_code_is_its_python_files(tmp_path, monkeypatch):
    room = tmp_path / "package" / "room"
    room.mkdir(parents=True)
    monkeypatch.setattr(receipt, "__file__", str(room / "receipt.py"))
    (room / "receipt.py").write_text("one = 1\n")
    before = receipt.code_sha256()
    (room / "notes.txt").write_text("a note\n")
    assert receipt.code_sha256() == before
    (room.parent / "more.py").write_text("")
    assert receipt.code_sha256() != before
